"""What one pass of the source latents through the target UNet recorded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from torch import Tensor

from ...errors import InjectionError


class FeatureBank:
    """Recorded outputs by site name, each with one row for every source picture."""

    def __init__(self, values: Mapping[str, Tensor] | None = None) -> None:
        """Start with recordings that are nobody else's, or empty."""
        self._values: dict[str, Tensor] = dict(values or {})

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def __len__(self) -> int:
        return len(self._values)

    @property
    def nbytes(self) -> int:
        """Memory that the recorded tensors take, in bytes."""
        return sum(value.numel() * value.element_size() for value in self._values.values())

    def store(self, name: str, output: Tensor) -> None:
        """Keep a copy of a site's output: some attention kernels scale theirs in place afterwards."""
        self._values[name] = output.detach().clone()

    def items(self) -> Iterable[tuple[str, Tensor]]:
        """Site names and recordings, in the order in which they were recorded."""
        return self._values.items()

    def recorded(self, name: str) -> Tensor:
        """A site's recording, one row a source picture.

        Raises:
            InjectionError: there is none.
        """
        if name not in self._values:
            raise InjectionError(f"Nothing was recorded for {name}; record a source pass before replaying it.")
        return self._values[name]

    def for_rows(self, name: str, shape: tuple[int, ...], sources: Tensor | None) -> Tensor:
        """A site's recording for rows of a shape, in the recorded precision; do not write into it.

        Args:
            name: the site's name.
            shape: what the site computes for the rows being generated, (rows, ...).
            sources: for each row the index of its source picture, (rows,); ``None`` when there is one source
                for all, however many rows the host's call happens to have.

        Raises:
            InjectionError: nothing was recorded for the site, or it does not fit the rows.
        """
        recorded = self.recorded(name)
        if tuple(recorded.shape[1:]) != shape[1:]:
            raise InjectionError(
                f"{name} recorded values of shape {tuple(recorded.shape[1:])} but now computes {shape[1:]}; switch "
                "off whatever changes the number of tokens (token merging) or use a source of the "
                "picture's size."
            )
        if sources is not None:
            if len(sources) != shape[0] or int(sources.min()) < 0 or int(sources.max()) >= recorded.shape[0]:
                raise InjectionError(
                    f"The UNet was called with {shape[0]} rows, but sources were named for {len(sources)} "
                    f"of {recorded.shape[0]} recorded pictures."
                )
            recorded = recorded.index_select(0, sources.to(recorded.device))
        elif recorded.shape[0] != 1:
            raise InjectionError(
                f"{recorded.shape[0]} source pictures were recorded, so each row must name the one it belongs to."
            )
        return recorded.expand(shape)
