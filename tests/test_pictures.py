"""One reader for every picture: what the file says is what is meant, and what cannot be read is one kind of error."""

from __future__ import annotations

import io
import struct
import zlib
from contextlib import suppress

import numpy as np
import pytest
from PIL import Image, ImageCms
from PIL.PngImagePlugin import PngInfo

from ditail_ext import pictures
from ditail_ext.pictures import UnreadablePictureError, as_mask, normal, open_picture

RAMP = np.linspace(0, 255, 16).astype(np.uint8)[None].repeat(8, 0)
"""Grey from black to white, 16x8."""


def file_of(picture: Image.Image, kind: str = "PNG", **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def grey(picture: Image.Image) -> np.ndarray:
    return np.asarray(picture.convert("L"), dtype=np.int32)


DEEP = {
    "16 bits PNG": (Image.fromarray(RAMP.astype(np.uint16) * 257), "PNG"),
    "16 bits TIFF": (Image.fromarray(RAMP.astype(np.uint16) * 257), "TIFF"),
    "32 bits TIFF": (Image.fromarray(RAMP.astype(np.int32) * 257), "TIFF"),
    "float TIFF to 1": (Image.fromarray(RAMP.astype(np.float32) / 255), "TIFF"),
    "float TIFF to 255": (Image.fromarray(RAMP.astype(np.float32)), "TIFF"),
}


@pytest.mark.parametrize("name", DEEP)
def test_deep_grey_is_its_8_bit_twin(name: str):
    picture, kind = DEEP[name]
    read = open_picture(file_of(picture, kind))
    assert read.mode == "L"
    assert abs(grey(read) - RAMP).max() <= 1
    assert abs(grey(as_mask(open_picture(file_of(picture, kind)))) - RAMP).max() <= 1


def test_dark_16_bits_stay_dark():
    """Not stretched: its largest value is far below white."""
    read = open_picture(file_of(Image.fromarray(RAMP.astype(np.uint16))))
    assert grey(read).max() <= 1


COLOURED = Image.merge("RGB", [Image.fromarray(channel) for channel in (RAMP, RAMP[:, ::-1].copy(), RAMP // 2)])


@pytest.mark.parametrize("mode", ["CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_colours_are_the_same_colours(mode: str):
    if mode == "LAB":
        profiles = ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB")
        picture = ImageCms.applyTransform(COLOURED, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        picture = COLOURED.convert(mode)
    kind = "TIFF" if mode in ("CMYK", "LAB") else None
    read = open_picture(file_of(picture, kind)) if kind else normal(picture)
    assert read.mode == "RGB"
    assert np.abs(np.asarray(read, np.int32) - np.asarray(COLOURED, np.int32)).mean() < 3
    assert as_mask(picture).mode == "L"


@pytest.mark.parametrize("mode", ["RGBA", "LA", "RGBa", "La"])
def test_opacity_is_kept(mode: str):
    picture = Image.new("RGBA", (4, 4), (200, 10, 10, 255))
    picture.putalpha(Image.fromarray(np.full((4, 4), 128, np.uint8)))
    converted = picture.convert("LA").convert("La") if mode == "La" else picture.convert(mode)
    read = normal(converted)
    assert read.mode == "RGBA"
    assert read.getchannel("A").getextrema() == (128, 128)
    assert as_mask(converted).getextrema() == (128, 128)


def test_the_camera_s_orientation():
    picture = Image.new("RGB", (8, 4))
    exif = Image.Exif()
    exif[0x0112] = 6
    assert open_picture(file_of(picture, "JPEG", exif=exif)).size == (4, 8)


def broken_exif() -> bytes:
    """A PNG whose eXIf chunk is nonsense."""
    whole = file_of(Image.new("RGB", (8, 8)))
    content = b"eXIf" + b"MM\x00*\xff\xff\xff\xff\x00"
    chunk = struct.pack(">I", len(content) - 4) + content + struct.pack(">I", zlib.crc32(content))
    return whole[:33] + chunk + whole[33:]


def eps() -> bytes:
    return file_of(Image.new("RGB", (8, 8)), "EPS")


REFUSED = {
    "nothing": b"",
    "a text": b"no picture at all",
    "cut off": file_of(COLOURED)[:-30],
    "EPS": eps(),
    "a web page": b"<html><svg></svg></html>",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_picture(name: str):
    with pytest.raises(UnreadablePictureError, match="no picture that can be read; save it as PNG or JPEG"):
        open_picture(REFUSED[name])


def test_a_broken_orientation_is_no_crash():
    with suppress(UnreadablePictureError):
        assert open_picture(broken_exif()).size == (8, 8)


@pytest.mark.parametrize("limit", ["Pillow's", "none"])
def test_too_many_pixels(monkeypatch: pytest.MonkeyPatch, limit: str):
    """Other scripts switch Pillow's own limit off."""
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None if limit == "none" else 10**6)
    huge = file_of(Image.new("1", (20_000, 20_000)))
    with pytest.raises(UnreadablePictureError, match="at most 67 megapixels"):
        open_picture(huge)
    monkeypatch.setattr(pictures, "LARGEST", 31)
    with pytest.raises(UnreadablePictureError, match="8x4 pixels"):
        open_picture(file_of(Image.new("L", (8, 4))))


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "PPM", "TGA"])
def test_the_usual_formats(kind: str):
    read = open_picture(file_of(COLOURED, kind))
    assert read.size == (16, 8)
    assert read.mode in ("RGB", "P", "RGBA")


def test_a_text_chunk_does_no_harm():
    info = PngInfo()
    info.add_text("parameters", "x" * 100_000)
    assert open_picture(file_of(COLOURED, pnginfo=info)).size == (16, 8)
