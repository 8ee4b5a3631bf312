"""What the bytes of an image file say of themselves, without decoding a pixel.

`identify` knows a file's format by its signature; `image_size` then reads the header, and `check_whole` finds
out whether bytes are missing. Called by `decode` for every image, before OpenCV allocates anything.

The formats of nearly all images are read here, in microseconds. Pillow would tell the size too, but warns of
large images by itself and does not look at a file's end, and OpenCV before 5.0 fills with gray what a cut
JPEG lacks.
"""

from __future__ import annotations

import io
import math
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Jpeg2KImagePlugin

from parimg.images.damage import (
    JPEG_FRAMES,
    DamagedError,
    UnsuitableError,
    check_jpeg,
    check_png,
    check_webp,
    jpeg_segments,
)

if TYPE_CHECKING:
    from collections.abc import Callable


class Format(NamedTuple):
    """One image file format: how it is known, how large the image is, whether the file is whole."""

    name: str
    signature: re.Pattern[bytes]
    read_size: Callable[[bytes], tuple[int, int] | None]
    """Width and height, or None where only the decoder can tell."""
    find_damage: Callable[[bytes], None] | None = None
    """Raises `DamagedError`; None where OpenCV finds by itself that a file is cut."""


def identify(data: bytes) -> Format | None:
    """Tell the format of a file by its first bytes.

    Examples
    --------
    >>> identify(b"GIF89a...").name
    'GIF'
    >>> identify(b"<!DOCTYPE html>") is None
    True
    """
    return next((known for known in _FORMATS if known.signature.match(data)), None)


def image_size(image_format: Format, data: bytes) -> tuple[int, int] | None:
    """Read width and height from the header; None where only the decoder can tell.

    Raises
    ------
    DamagedError
        The header is cut, or makes no sense.
    UnsuitableError
        It is the header of something else than an image.
    """
    try:
        return image_format.read_size(data)
    except struct.error:
        raise DamagedError("the file ends within its header") from None


def check_whole(image_format: Format, data: bytes) -> None:
    """Raise `DamagedError` if the file's own structure says that bytes are missing or changed."""
    if image_format.find_damage is not None:
        try:
            image_format.find_damage(data)
        except struct.error:
            raise DamagedError("the file ends within one of its headers") from None


# Each `_..._size` gives (width, height), each `_check_...` finds cut files; both may let `struct.error` out
# where a header itself is cut.

# -- read here ---------------------------------------------------------------------------------------------


def _png_size(data: bytes) -> tuple[int, int]:
    kind, width, height = struct.unpack_from(">4sII", data, 12)
    if kind == b"CgBI":
        raise UnsuitableError(
            "is Apple's own kind of PNG (CgBI), which other programs cannot read; convert it by "
            "`pngcrush -revert-iphone-optimizations`"
        )
    if kind != b"IHDR":
        raise DamagedError(f"its first chunk is {kind!r}, not IHDR")
    return width, height


def _jpeg_size(data: bytes) -> tuple[int, int]:
    for marker, position in jpeg_segments(data):
        if marker in JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
    raise DamagedError("there is no frame header")


def _gif_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from("<HH", data, 6)
    return width, height


def _bmp_size(data: bytes) -> tuple[int, int]:
    (header_size,) = struct.unpack_from("<I", data, 14)
    # The OS/2 header of 12 bytes has 16 bit sizes; in the others a negative height means top row first.
    width, height = struct.unpack_from("<HH" if header_size == 12 else "<ii", data, 18)
    return abs(width), abs(height)


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        low_width, high_width, low_height, high_height = struct.unpack_from("<HBHB", data, 24)
        return (low_width | high_width << 16) + 1, (low_height | high_height << 16) + 1
    if kind == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, 21)
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if kind == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, 26)
        return width & 0x3FFF, height & 0x3FFF
    raise DamagedError(f"its first chunk is {kind!r}")


def _sun_size(data: bytes) -> tuple[int, int]:
    width, height = struct.unpack_from(">II", data, 4)
    return width, height


_TEXT_SIZES = {
    "PNM": re.compile(rb"P[1-6Ff](?:\s|#[^\n]*\n)+(?P<width>\d+)(?:\s|#[^\n]*\n)+(?P<height>\d+)\s"),
    "PAM": re.compile(rb"(?ms)(?=.*?^WIDTH\s+(?P<width>\d+)\s)(?=.*?^HEIGHT\s+(?P<height>\d+)\s)"),
    "HDR": re.compile(rb"(?ms).*?^[-+]Y\s+(?P<height>\d+)\s+[-+]X\s+(?P<width>\d+)\s"),
}


def _text_size(kind: str) -> Callable[[bytes], tuple[int, int]]:
    def read_size(data: bytes) -> tuple[int, int]:
        # Comments can be long; no writer makes 64 KB of them.
        found = _TEXT_SIZES[kind].match(data[:65536])
        if found is None:
            raise DamagedError("there is no size in its header")
        # More than 12 digits are no size, and Python takes its time with a million of them.
        return int(found["width"][:12]), int(found["height"][:12])

    return read_size


# -- read by Pillow ----------------------------------------------------------------------------------------
# The plugins are called themselves, since `PIL.Image.open` warns of large images or refuses them. They raise
# SyntaxError, OSError, ValueError and more, also where a build of Pillow lacks the format: OpenCV has the
# last word.


def _jpeg2000_size(data: bytes) -> tuple[int, int] | None:
    try:
        return Jpeg2KImagePlugin.Jpeg2KImageFile(io.BytesIO(data)).size
    except Exception:
        return None


def _avif_size(data: bytes) -> tuple[int, int] | None:
    try:
        from PIL.AvifImagePlugin import AvifImageFile  # since Pillow 11.3

        return AvifImageFile(io.BytesIO(data)).size
    except Exception:
        return None


# -- NumPy -------------------------------------------------------------------------------------------------


def npy_header(data: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    """Read the header of a NumPy file: shape, whether in Fortran order, dtype, and where the values begin.

    Raises
    ------
    DamagedError
        NumPy cannot read it.
    UnsuitableError
        It is not of shape (h, w) or (h, w, channels), or holds no numbers.

    Examples
    --------
    >>> import io, numpy as np
    >>> file = io.BytesIO()
    >>> np.save(file, np.zeros((2, 3), "<f4"))
    >>> npy_header(file.getvalue())
    ((2, 3), False, dtype('float32'), 128)
    """
    file = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(file)
        read_header = (
            np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        )
        shape, is_fortran, dtype = read_header(file)
    except Exception as error:
        raise DamagedError(f"NumPy could not read its header ({error})") from None
    if dtype.kind not in "biufc" or len(shape) not in (2, 3):
        raise UnsuitableError(
            f"holds {dtype} of shape {shape}, wanted numbers of shape (h, w) or (h, w, channels)"
        )
    return shape, is_fortran, dtype, file.tell()


def _npy_size(data: bytes) -> tuple[int, int]:
    shape = npy_header(data)[0]
    return shape[1], shape[0]


def _check_npy(data: bytes) -> None:
    shape, _, dtype, start = npy_header(data)
    end = start + math.prod(shape) * dtype.itemsize
    if end > len(data):
        raise DamagedError(f"its header tells {end} bytes")


def _unknown_size(data: bytes) -> None:
    del data


# -- the table ---------------------------------------------------------------------------------------------


def _signature(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


_FORMATS = (
    Format("PNG", _signature(rb"\x89PNG\r\n\x1a\n"), _png_size, check_png),
    Format("JPEG", _signature(rb"\xff\xd8\xff"), _jpeg_size, check_jpeg),
    Format("TIFF", _signature(rb"II[*+]\0|MM\0[*+]"), _unknown_size),  # `tiff` reads its directories, once
    Format("WebP", _signature(rb"RIFF....WEBP"), _webp_size, check_webp),
    Format("BMP", _signature(rb"BM"), _bmp_size),
    Format("GIF", _signature(rb"GIF8[79]a"), _gif_size),
    Format("JPEG 2000", _signature(rb"\0\0\0\x0cjP  \r\n\x87\n|\xff\x4f\xff\x51"), _jpeg2000_size),
    Format("AVIF", _signature(rb"....ftypavi[fs]"), _avif_size),
    Format("PNM", _signature(rb"P[1-6Ff]\s"), _text_size("PNM")),
    Format("PAM", _signature(rb"P7\s"), _text_size("PAM")),
    Format("Radiance HDR", _signature(rb"#\?(RADIANCE|RGBE)"), _text_size("HDR")),
    Format("Sun raster", _signature(rb"\x59\xa6\x6a\x95"), _sun_size),
    Format("NumPy array", _signature(rb"\x93NUMPY"), _npy_size, _check_npy),
)
