"""Pictures as they come from anywhere, in base64: good, odd and broken."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib

import numpy as np
from PIL import Image

SIZES = ((64, 64), (72, 64), (1, 1), (3, 200), (130, 66))
MODES = ("RGB", "RGBA", "L", "1", "P", "CMYK", "LAB", "I;16", "F", "LA")
FORMATS = {"LAB": "TIFF", "CMYK": "TIFF", "F": "TIFF", "I;16": "PNG"}


def hostile(seed: int) -> str:
    """One of many pictures, good or not, by a number."""
    choose = random.Random(seed)
    kinds = (_good, _good, _good, _cut, _flipped, _bomb, _other_file, _broken_orientation, _with_blanks, _not_base64)
    return choose.choice(kinds)(choose)


def _good(choose: random.Random) -> str:
    return _text(_file(choose))


def _file(choose: random.Random) -> bytes:
    mode = choose.choice(MODES)
    noise = np.random.default_rng(choose.randrange(2**32)).integers(0, 256, (*choose.choice(SIZES)[::-1], 3), np.uint8)
    picture = Image.fromarray(noise)
    if mode == "I;16":
        picture = Image.fromarray(noise[..., 0].astype(np.uint16) * 257)
    elif mode == "LAB":
        picture = Image.frombytes("LAB", picture.size, picture.tobytes())
    elif mode == "LA":
        picture = picture.convert("L").convert("LA")
    else:
        picture = picture.convert(mode)
    buffer = io.BytesIO()
    picture.save(buffer, FORMATS.get(mode, "PNG"))
    return buffer.getvalue()


def _cut(choose: random.Random) -> str:
    file = _file(choose)
    return _text(file[: choose.randrange(len(file))])


def _flipped(choose: random.Random) -> str:
    file = bytearray(_file(choose))
    for _ in range(choose.randrange(1, 9)):
        file[choose.randrange(len(file))] ^= 1 << choose.randrange(8)
    return _text(bytes(file))


def _bomb(choose: random.Random) -> str:
    """A few hundred bytes that say they are many pixels."""
    side = choose.choice((9_000, 20_000, 2**31 - 1))
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0))
    return _text(b"\x89PNG\r\n\x1a\n" + header + _chunk(b"IDAT", zlib.compress(bytes(1000))) + _chunk(b"IEND", b""))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _other_file(choose: random.Random) -> str:
    others = (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 64\nshowpage\n",
        b"<svg/>",
        b"%PDF-1.4",
        b"",
        b"MZ" * 99,
    )
    return _text(choose.choice(others))


def _broken_orientation(choose: random.Random) -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(buffer, "PNG", exif=b"Exif\x00\x00" + choose.randbytes(20))
    return _text(buffer.getvalue())


def _with_blanks(choose: random.Random) -> str:
    text = _text(_file(choose))
    return "data:image/png;base64," + "\n".join(text[at : at + 76] for at in range(0, len(text), 76))


def _not_base64(choose: random.Random) -> str:
    return choose.choice(("%%%", "data:", "data:image/png;base64", "é" * 40, "a", "/etc/passwd", "http://127.0.0.1/"))


def _text(file: bytes) -> str:
    return base64.b64encode(file).decode("ascii")
