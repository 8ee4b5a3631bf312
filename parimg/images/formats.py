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
import zlib
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import tifffile
from PIL import Jpeg2KImagePlugin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class DamagedError(Exception):
    """The format is known, but the bytes are cut or damaged; the message is the reason alone."""


class UnsuitableError(Exception):
    """The file is whole, but holds what is not given as an image; the message is the reason alone."""


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
    if kind != b"IHDR":
        raise DamagedError(f"its first chunk is {kind!r}, not IHDR")
    return width, height


def _png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
    """Give kind, begin and end of each chunk, up to the end of the image."""
    position = 8
    kind = b""
    while kind != b"IEND":
        if position + 12 > len(data):
            raise DamagedError("there is no IEND chunk")
        length, kind = struct.unpack_from(">I4s", data, position)
        end = position + 12 + length
        if end > len(data):
            raise DamagedError(f"the chunk at byte {position} ends at byte {end}")
        yield kind, position, end
        position = end


def _check_png(data: bytes) -> None:
    view = memoryview(data)
    for kind, begin, end in _png_chunks(data):
        # libpng finds it too, but prints to stderr; this adds 0.05 to 4.7 ms. A damaged ancillary chunk
        # (lower case) does not stop libpng either.
        if kind[0] < 0x60:
            (checksum,) = struct.unpack_from(">I", data, end - 4)
            if zlib.crc32(view[begin + 4 : end - 4]) != checksum:
                raise DamagedError(f"the checksum of the chunk at byte {begin} is wrong")


def still_png(data: bytes) -> bytes:
    """Leave out of a PNG file what makes it an animation.

    Examples
    --------
    >>> import io, PIL.Image
    >>> file = io.BytesIO()
    >>> frames = [PIL.Image.new("L", (3, 2), level) for level in (0, 9)]
    >>> frames[0].save(file, "PNG", save_all=True, append_images=frames[1:])
    >>> getattr(PIL.Image.open(io.BytesIO(still_png(file.getvalue()))), "n_frames", 1)
    1
    """
    animation = (b"acTL", b"fcTL", b"fdAT")
    kept = [data[begin:end] for kind, begin, end in _png_chunks(data) if kind not in animation]
    return data[:8] + b"".join(kept)


# A marker is FF and one byte more. Left out are those within compressed data (00, restarts D0 to D7), TEM
# (01), which has no length, and FF, which pads.
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_JPEG_START, _JPEG_END = 0xD8, 0xD9
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
    """Give each marker with the position behind it, up to the end of the image.

    Segments are stepped over by their length: an EXIF thumbnail has markers of its own.
    """
    position = 2
    while found := _JPEG_MARKER.search(data, position):
        marker = data[found.end() - 1]
        if marker == _JPEG_START:
            raise DamagedError(f"another image begins within it, at byte {found.start()}")
        yield marker, found.end()
        if marker == _JPEG_END:
            return
        (length,) = struct.unpack_from(">H", data, found.end())
        position = found.end() + length
    raise DamagedError("there is no end-of-image marker")


def _jpeg_size(data: bytes) -> tuple[int, int]:
    for marker, position in _jpeg_segments(data):
        if marker in _JPEG_FRAMES:
            height, width = struct.unpack_from(">HH", data, position + 3)
            return width, height
    raise DamagedError("there is no frame header")


def _check_jpeg(data: bytes) -> None:
    for _ in _jpeg_segments(data):
        pass


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


def _check_webp(data: bytes) -> None:
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise DamagedError(f"its header tells {length + 8} bytes")


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


# -- TIFF --------------------------------------------------------------------------------------------------


def tiff_page(data: bytes) -> tifffile.TiffPage:
    """Read the first directory of a TIFF file.

    Raises
    ------
    DamagedError
        The directory lies behind the end of the file, or cannot be read.

    Examples
    --------
    >>> import io, numpy as np, tifffile
    >>> file = io.BytesIO()
    >>> tifffile.imwrite(file, np.zeros((2, 3), np.float32))
    >>> tiff_page(file.getvalue()).shape
    (2, 3)
    """
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    (offset,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    # Many writers put the directory last. Seen here, tifffile need not log a warning.
    if offset >= len(data):
        raise DamagedError(f"its directory is at byte {offset}")
    try:
        page = tifffile.TiffFile(io.BytesIO(data)).pages.first
        sizes = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel)
        tile = (page.tilewidth, page.tilelength)
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    except Exception as error:
        # tifffile lets out whatever a damaged directory leads to: TypeError, KeyError, ZeroDivisionError, ...
        reason = f"{type(error).__name__}: {error}"
        raise DamagedError(f"tifffile could not read its directory ({reason})") from None
    # tifffile gives what the tags hold, be it text.
    if not all(isinstance(size, int) for size in (*sizes, *tile)) or min(sizes) < 1:
        raise DamagedError(f"its directory tells a size of {' x '.join(map(str, sizes))}")
    # A tile may reach beyond the image, but is allocated whole.
    if any(tile_side > max(4096, 2 * side) for tile_side, side in zip(tile, sizes, strict=False)):
        raise DamagedError(f"its tiles of {tile[0]} x {tile[1]} are much larger than the image")
    if not all(isinstance(end, int) for end in ends):
        raise DamagedError("its directory does not tell where the pixels are")
    return page


def _tiff_size(data: bytes) -> tuple[int, int]:
    page = tiff_page(data)
    # Hundreds of deflated bands are as good a bomb as pixels; four are what any colour image may have.
    return page.imagewidth, page.imagelength * page.imagedepth * max(1, page.samplesperpixel // 4)


def _check_tiff(data: bytes) -> None:
    page = tiff_page(data)
    for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
        if offset + count > len(data):
            raise DamagedError(f"a strip or tile ends at byte {offset + count}")


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


# -- the table ---------------------------------------------------------------------------------------------


def _signature(pattern: bytes) -> re.Pattern[bytes]:
    return re.compile(pattern, re.DOTALL)


_FORMATS = (
    Format("PNG", _signature(rb"\x89PNG\r\n\x1a\n"), _png_size, _check_png),
    Format("JPEG", _signature(rb"\xff\xd8\xff"), _jpeg_size, _check_jpeg),
    Format("TIFF", _signature(rb"II[*+]\0|MM\0[*+]"), _tiff_size, _check_tiff),
    Format("WebP", _signature(rb"RIFF....WEBP"), _webp_size, _check_webp),
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
