"""TIFF files of several pages as one array of three axes.

Called by `decode` where a task wants stacks. All pages are looked at before one is decoded: their number and
sizes are checked against the limit, and whether the file is whole.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

from parimg.images.formats import DamagedError, UnsuitableError, tiff_page

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


def tiff_pages(data: bytes) -> list[tifffile.TiffPage]:
    """Read the directories of a TIFF file, without those of thumbnails and smaller copies.

    Raises
    ------
    DamagedError
        A directory or pixels lie behind the end of the file, or a directory cannot be read.
    UnsuitableError
        There are several, but their images differ in size or type, or are no gray levels.

    Examples
    --------
    >>> import io, numpy as np, tifffile
    >>> file = io.BytesIO()
    >>> tifffile.imwrite(file, np.zeros((4, 8, 9)), photometric="minisblack")
    >>> len(tiff_pages(file.getvalue()))
    4
    """
    first = tiff_page(data)
    _check_chain(data)
    try:
        listed = cast(Iterable[tifffile.TiffPage], tifffile.TiffFile(io.BytesIO(data)).pages)
        pages = [page for page in listed if page.index == 0 or not page.is_reduced]
        kinds = {(page.shape, page.dtype) for page in pages}
        ends = [
            offset + count
            for page in pages
            for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)
        ]
    except Exception as error:
        # tifffile lets out whatever a damaged directory leads to.
        raise DamagedError(
            f"tifffile could not read one of its directories ({type(error).__name__}: {error})"
        ) from None
    if len(pages) > 1 and (len(kinds) > 1 or len(first.shape) != 2):
        shapes = ", ".join(sorted({f"{dtype} of shape {shape}" for shape, dtype in kinds}))
        raise UnsuitableError(f"has {len(pages)} pages that are no stack of gray images of one size: {shapes}")
    if max(ends, default=0) > len(data):
        raise DamagedError(f"the pixels of a page end at byte {max(ends)}")
    return pages


def _check_chain(data: bytes) -> None:
    """Follow the directories from one to the next: of those behind the end tifffile would only leave a note."""
    order = "<" if data[:2] == b"II" else ">"
    is_big = data[2:4] in (b"+\0", b"\0+")
    count, pointer, entry_size = ("Q", "Q", 20) if is_big else ("H", "I", 12)
    position, seen = 8 if is_big else 4, set()
    try:
        while offset := struct.unpack_from(order + pointer, data, position)[0]:
            if offset in seen:
                raise DamagedError(f"its directories lead back to byte {offset}")
            seen.add(offset)
            n_entries = struct.unpack_from(order + count, data, offset)[0]
            position = offset + struct.calcsize(count) + n_entries * entry_size
    except struct.error:
        raise DamagedError(f"the directory behind byte {position} lies behind its end") from None


def decode_pages(
    data: bytes, pages: list[tifffile.TiffPage], is_read: Callable[[tifffile.TiffPage], bool]
) -> npt.NDArray[Any]:
    """Decode pages of one size into an array of shape (pages, height, width).

    Parameters
    ----------
    data : bytes
        The file.
    pages : list of TiffPage
    is_read : callable
        Whether tifffile reads a page everywhere, without codecs that may be missing; otherwise OpenCV has to.

    Raises
    ------
    DamagedError
        A page cannot be decoded.
    MemoryError
        It does not fit.
    """
    first = pages[0]
    stack = np.empty((len(pages), *first.shape), np.dtype(first.dtype).newbyteorder("="))
    if not all(is_read(page) for page in pages):
        decoded = _decode_with_opencv(data, len(pages))
    else:
        decoded = (page.asarray(maxworkers=1) for page in pages)  # type: ignore[assignment]
    try:
        for number, image in enumerate(decoded):
            if image.shape != first.shape:
                raise DamagedError(f"page {number} decodes to shape {image.shape}, wanted {first.shape}")
            stack[number] = image
    except (DamagedError, MemoryError):
        raise
    except Exception as error:
        raise DamagedError(f"tifffile could not decode a page ({type(error).__name__}: {error})") from None
    return stack


def _decode_with_opencv(data: bytes, n_pages: int) -> list[npt.NDArray[Any]]:
    import cv2

    try:
        is_decoded, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DamagedError(f"OpenCV {cv2.__version__} could not decode its pages ({error.err})") from None
    if not is_decoded or len(images) < n_pages:
        raise DamagedError(f"OpenCV {cv2.__version__} decoded {len(images)} of {n_pages} pages")
    return list(images[:n_pages])
