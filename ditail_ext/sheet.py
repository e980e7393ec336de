"""The contact sheet: pictures side by side, each with its caption."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_MARGIN = 12
_CAPTION = 22


def contact_sheet(panels: Sequence[tuple[str, Image.Image]]) -> Image.Image:
    """Captioned pictures of one size in a row."""
    width, height = panels[0][1].size
    sheet = Image.new(
        "RGB", ((width + _MARGIN) * len(panels) + _MARGIN, height + _CAPTION + 2 * _MARGIN), (246, 246, 244)
    )
    draw = ImageDraw.Draw(sheet)
    font = ImageFont.load_default()
    for index, (caption, picture) in enumerate(panels):
        left = _MARGIN + index * (width + _MARGIN)
        sheet.paste(picture, (left, _MARGIN))
        draw.text((left + 2, height + _MARGIN + 6), caption, fill=(40, 40, 40), font=font)
    return sheet
