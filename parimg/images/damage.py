"""Files that are cut or changed: what their own structure says of it, without decoding a pixel.

Called by `formats`. OpenCV before 5.0 fills with gray what a cut JPEG lacks, and libpng prints to stderr what it
finds, so both are read here, in microseconds.
"""

from __future__ import annotations

import re
import struct
import zlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class DamagedError(Exception):
    """The format is known, but the bytes are cut or damaged; the message is the reason alone."""


class UnsuitableError(Exception):
    """The file is whole, but holds what is not given as an image; the message is the reason alone."""


class BeyondLimitError(Exception):
    """A limit of the decoder or of this engine; the message is the reason alone."""


def png_chunks(data: bytes) -> Iterator[tuple[bytes, int, int]]:
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


def check_png(data: bytes) -> None:
    """Follow the chunks of a PNG file and their checksums."""
    view = memoryview(data)
    for kind, begin, end in png_chunks(data):
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
    kept = [data[begin:end] for kind, begin, end in png_chunks(data) if kind not in animation]
    return data[:8] + b"".join(kept)


# A marker is FF and one byte more. Left out are those within compressed data (00, restarts D0 to D7), TEM
# (01), which has no length, and FF, which pads.
_JPEG_MARKER = re.compile(rb"\xff[\x02-\xcf\xd8-\xfe]")
_JPEG_START, _JPEG_END = 0xD8, 0xD9
JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}


def jpeg_segments(data: bytes) -> Iterator[tuple[int, int]]:
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


def check_jpeg(data: bytes) -> None:
    """Follow the segments of a JPEG file to its end."""
    for _ in jpeg_segments(data):
        pass


def check_webp(data: bytes) -> None:
    """Compare a WebP file with the length that it tells."""
    (length,) = struct.unpack_from("<I", data, 4)
    if length + 8 > len(data):
        raise DamagedError(f"its header tells {length + 8} bytes")
