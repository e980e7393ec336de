"""A question about a picture in one of the tabs: the picture as it would be prepared, and what it shows."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from ...errors import PictureError, SettingsError
from ...settings import Settings
from ..host.preparation import PreparedPicture, fitted
from ..source.prompts import InversionPrompts, inversion_prompts


@dataclass(frozen=True)
class Question:
    """What is asked.

    Attributes:
        picture: as it would be prepared.
        prompts: what the picture shows.
        size: width and height.
    """

    picture: PreparedPicture
    prompts: InversionPrompts
    size: tuple[int, int]

    @classmethod
    def of(
        cls,
        picture: Image.Image | None,
        prompts: tuple[str, str],
        size: tuple[int, int],
        settings: Settings | None = None,
    ) -> Question:
        """A question about a picture from the page.

        Args:
            picture: of the tab.
            prompts: the main prompt and the negative one.
            size: width and height of the generation.
            settings: the panel's; the inversion may have prompts of its own.

        Raises:
            PictureError: there is none.
            SettingsError: there is no prompt: what the picture shows decides what noise a model sees in it.
        """
        if picture is None:
            raise PictureError("There is no picture to look at; give one.")
        told = inversion_prompts(settings or Settings(), *prompts)
        if not told.positive:
            raise SettingsError("prompt", "The prompt is empty; say what the picture shows.")
        return cls(fitted(picture, size), told, size)
