"""TIFF files: size, damage, and pixels of one page or of a stack, from directories that are read once.

Called by `decode`. tifffile decodes what is stored plain or deflated, OpenCV (libtiff) the rest. The two differ in
what they make of tags, so these are set to what both leave alone, and one convention follows, whoever decoded:

- the larger a level, the brighter: integers of MinIsWhite files are inverted;
- alpha is given as stored and colours are not multiplied by it;
- unchanged images and stacks are not turned, 8 bit gray and colour are;
- palettes, YCbCr and CMYK become 8 bit red, green, blue; one bit becomes 0 and 255.
"""

from __future__ import annotations

import io
import math
import struct
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import tifffile

from parimg.images.damage import BeyondLimitError, DamagedError, UnsuitableError
from parimg.images.frames import note_frames
from parimg.images.losses import Stored, note_losses
from parimg.images.opencv import decode_pages_with_opencv, decode_with_opencv

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import numpy.typing as npt

_PHOTOMETRIC, _ORIENTATION, _EXTRA_SAMPLES = 262, 274, 338
_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB, _CMYK = 0, 1, 2, 5
_ASSOCIATED, _UNASSOCIATED = 1, 2
_SEPARATE = 2
# None, deflate by its two numbers: what tifffile reads by itself.
_PLAIN_OR_DEFLATED = (1, 8, 32946)
# None, three of CCITT, LZW, JPEG, deflate by its two numbers, PackBits: what libtiff has in every OpenCV.
_READ_BY_OPENCV = frozenset((1, 2, 3, 4, 5, 7, 8, 32946, 32773))
_INTEGERS_UP_TO_16_BIT = tuple(map(np.dtype, ("u1", "i1", "u2", "i2")))
_INTEGER_TYPES: dict[int, str] = {
    tifffile.DATATYPE.BYTE: "B",
    tifffile.DATATYPE.SHORT: "H",
    tifffile.DATATYPE.LONG: "I",
}
_NOT_DEPTH = {"C": "channels", "T": "times", "A": "angles", "P": "phases", "R": "tiles", "V": "views"}


def decode_tiff(
    data: bytes, color: str, check_pixels: Callable[[int, int], None], *, is_turned: bool = True
) -> npt.NDArray[Any]:
    """Decode a TIFF file as `parimg.images.decode.decode` says.

    Parameters
    ----------
    data : bytes
        The whole file.
    color : {"gray", "color", "unchanged", "stack"}
    check_pixels : callable
        Raises if so much width and height is above the limit; called before memory for pixels is taken.
    is_turned : bool
        Whether 8 bit gray and colour are turned as the file's orientation says.

    Raises
    ------
    DamagedError
        The file is cut, or cannot be decoded.
    UnsuitableError
        It holds what `color` cannot be made of.
    MemoryError
        It does not fit.

    Examples
    --------
    >>> import io, numpy as np, tifffile
    >>> file = io.BytesIO()
    >>> tifffile.imwrite(file, np.array([[0, 200]], np.uint8), photometric="miniswhite")
    >>> decode_tiff(file.getvalue(), "unchanged", lambda width, height: None)
    array([[255,  55]], dtype=uint8)
    """
    file, page = _open(data)
    # Hundreds of deflated bands are as good a bomb as pixels; four are what any colour image may have.
    check_pixels(page.imagewidth, page.imagelength * page.imagedepth * max(1, page.samplesperpixel // 4))
    _check_pixels_are_there(data, [page])
    if color == "stack":
        return _decode_stack(data, file, page, check_pixels)
    note_frames(_count_planes(file, page))
    is_signed = page.dtype is not None and page.dtype.kind == "i" and page.dtype in _INTEGERS_UP_TO_16_BIT
    if is_signed or page.bitspersample in (10, 12, 14):
        image = _upper_byte(_decode_page(data, page, "unchanged"), color)
    else:
        image = _decode_page(data, page, color, is_turned=is_turned)
    note_losses(_stored(page), color)
    return image


# -- directories ---------------------------------------------------------------------------------------------


def _open(data: bytes) -> tuple[tifffile.TiffFile, tifffile.TiffPage]:
    """Read the first directory."""
    order, is_big = _layout(data)
    try:
        (offset,) = struct.unpack_from(order + ("Q" if is_big else "I"), data, 8 if is_big else 4)
    except struct.error:
        raise DamagedError("the file ends within its header") from None
    # Many writers put the directory last. Seen here, tifffile need not log a warning.
    if offset >= len(data):
        raise DamagedError(f"its directory is at byte {offset}")
    try:
        file = tifffile.TiffFile(io.BytesIO(data))
        page = file.pages.first
        sizes = (page.imagewidth, page.imagelength, page.imagedepth, page.samplesperpixel)
        tile = (page.tilewidth, page.tilelength)
        ends = [offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False)]
    except Exception as error:
        # tifffile lets out whatever a damaged directory leads to: TypeError, KeyError, ZeroDivisionError, ...
        reason = f"{type(error).__name__}: {error}"
        raise DamagedError(f"tifffile could not read its directory ({reason:.300})") from None
    # tifffile gives what the tags hold, be it text.
    if not all(isinstance(size, int) for size in (*sizes, *tile)) or min(sizes) < 1:
        raise DamagedError(f"its directory tells a size of {' x '.join(map(str, sizes)):.80}")
    # A tile may reach beyond the image, but is allocated whole.
    if any(tile_side > max(4096, 2 * side) for tile_side, side in zip(tile, sizes, strict=False)):
        raise DamagedError(f"its tiles of {tile[0]} x {tile[1]} are much larger than the image")
    if not all(isinstance(end, int) for end in ends):
        raise DamagedError("its directory does not tell where the pixels are")
    return file, page


def _layout(data: bytes) -> tuple[str, bool]:
    """Byte order for `struct`, and whether offsets have 64 bits."""
    return "<" if data[:2] == b"II" else ">", data[2:4] in (b"+\0", b"\0+")


def _check_pixels_are_there(data: bytes, pages: Iterable[tifffile.TiffPage]) -> None:
    for page in pages:
        for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False):
            if offset + count > len(data):
                raise DamagedError(f"a strip or tile ends at byte {offset + count}")


def _check_chain(data: bytes) -> None:
    """Follow the directories from one to the next: of those behind the end tifffile would only leave a note."""
    order, is_big = _layout(data)
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


def _full_pages(file: tifffile.TiffFile) -> list[tifffile.TiffPage]:
    """All pages but thumbnails, smaller copies and masks."""
    try:
        # Not `pages[:]`, which leaves out the tags of all but the first.
        pages = cast("list[tifffile.TiffPage]", [file.pages.get(index) for index in range(len(file.pages))])
        return [page for page in pages if page.index == 0 or not (page.is_reduced or page.is_mask)]
    except Exception as error:
        raise DamagedError(
            f"tifffile could not read one of its directories ({type(error).__name__}: {error!s:.300})"
        ) from None


def _series(file: tifffile.TiffFile) -> tifffile.TiffPageSeries | None:
    """What belongs together by the file's own account; None where that cannot be understood."""
    try:
        return file.series[0]
    except Exception:
        return None


def _n_planes(series: tifffile.TiffPageSeries | None, page: tifffile.TiffPage) -> int:
    """Images that one directory stands for, as in ImageJ's files above 4 GB."""
    n_values = math.prod(page.shape)
    whole = n_values if series is None else math.prod(series.shape)
    return page.imagedepth * (whole // n_values if n_values and whole % n_values == 0 else 1)


def _hide_planes(file: tifffile.TiffFile, pages: list[tifffile.TiffPage]) -> bool:
    """Whether one of several directories stands for more than one image."""
    try:
        n_told = sum(math.prod(series.shape) for series in file.series)
    except Exception:
        n_told = 0
    if n_told > sum(math.prod(page.shape) for page in pages):  # or there are thumbnails
        every = cast("list[tifffile.TiffPage]", [file.pages.get(index) for index in range(len(file.pages))])
        return n_told > sum(math.prod(page.shape) for page in every)
    return any(page.imagedepth > 1 for page in pages)


def _count_planes(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int:
    try:
        n_pages = len(_full_pages(file))
    except DamagedError:  # behind the page that is wanted
        return 2
    return n_pages if n_pages > 1 else _n_planes(_series(file), page)


# -- one page ------------------------------------------------------------------------------------------------


def _tifffile_reads(page: tifffile.TiffPage) -> bool:
    """Whether tifffile needs none of its optional codecs, so that every engine gives the same."""
    return (
        page.compression in _PLAIN_OR_DEFLATED
        and page.predictor in (1, 2)  # none, horizontal
        and page.bitspersample in (8, 16, 32, 64)
        and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB)
        and page.axes in ("YX", "YXS", "SYX", "ZYX")
    )


def _decode_page(data: bytes, page: tifffile.TiffPage, color: str, *, is_turned: bool = True) -> npt.NDArray[Any]:
    if color == "unchanged" and _tifffile_reads(page):
        image = _decode_with_tifffile(page)
    else:
        if page.imagedepth > 1 or (color == "unchanged" and page.samplesperpixel == 2):
            what = "a volume in one piece" if page.imagedepth > 1 else "gray with alpha"
            raise UnsuitableError(
                f"holds {what} in compression {_compression(page)}, which cannot be read as {color!r}; save it "
                "plain or deflated, and read it with color='stack' or 'unchanged'"
            )
        is_turned = is_turned and color in ("gray", "color")
        try:
            plain = _in_strips(data, page, color, keep_orientation=is_turned)
            if plain is None:
                plain = _without_meanings(data, [page], keep_orientation=is_turned)
            image = decode_with_opencv(plain, color)
        except DamagedError:
            if unsuitable := _why_undecoded(page, color):
                raise unsuitable from None
            raise
        if page.photometric == _CMYK and image.ndim == 3:
            image = np.ascontiguousarray(image[..., :3])  # the fourth is an alpha of 255
    return _bright_is_large(image, page)


def _as_array(part: tifffile.TiffPage | tifffile.TiffPageSeries) -> npt.NDArray[Any]:
    """Pixels as tifffile decodes them, its many errors as one."""
    try:
        stored: npt.NDArray[Any] = part.asarray(maxworkers=1)
    except MemoryError:
        raise
    except Exception as error:
        raise DamagedError(f"tifffile could not decode it ({type(error).__name__}: {error!s:.300})") from None
    return stored


def _decode_with_tifffile(page: tifffile.TiffPage) -> npt.NDArray[Any]:
    stored = _as_array(page)
    if stored.shape != page.shape:
        raise DamagedError(f"tifffile made {stored.shape} of what should be of shape {page.shape}")
    if page.axes == "SYX":
        stored = np.moveaxis(stored, 0, -1)
    if page.axes == "ZYX":
        stored = stored[0]
    return np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))


def _in_strips(data: bytes, page: tifffile.TiffPage, color: str, *, keep_orientation: bool) -> bytes | None:
    """A file of a page in one piece, without meanings, where OpenCV does not read its tiles or planes; else None.

    Made 8 bit, 16 bit tiles come as noise where they reach beyond the image (OpenCV 5.0), as do those of two
    samples; plain ones are refused unless their bytes are a multiple of 1024. Planes are rounded otherwise.
    """
    is_usual = page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK, _RGB) and page.samplesperpixel <= 4
    if not (page.is_tiled or page.planarconfig == _SEPARATE) or not is_usual:
        return None
    if page.compression in _PLAIN_OR_DEFLATED and page.axes in ("YX", "YXS", "SYX"):
        stored = _decode_with_tifffile(page)
    elif page.bitspersample == 16 and page.samplesperpixel != 2 and color != "unchanged":
        stored = decode_with_opencv(_without_meanings(data, [page]), "unchanged")
    else:
        return None
    strips = io.BytesIO()
    turned = page.tags.valueof(_ORIENTATION, 1) if keep_orientation else 1
    tifffile.imwrite(
        strips,
        stored,
        photometric="rgb" if page.photometric == _RGB else "minisblack",
        planarconfig="contig" if stored.ndim == 3 else None,
        extrasamples=[_ASSOCIATED if extra == _UNASSOCIATED else extra for extra in page.extrasamples] or None,
        metadata=None,
        extratags=[(_ORIENTATION, 3, 1, turned, True)],
    )
    return strips.getvalue()


def _upper_byte(stored: npt.NDArray[Any], color: str) -> npt.NDArray[Any]:
    """What OpenCV does not make 8 bit, or makes 255 of -80: as it is, or its upper byte, black below 0."""
    if color == "unchanged":
        return stored
    if stored.ndim != 2:
        raise UnsuitableError(f"holds {stored.dtype} of shape {stored.shape}; use color='unchanged'")
    gray = (np.maximum(stored, 0) >> 8 * (stored.dtype.itemsize - 1)).astype(np.uint8)
    return gray if color == "gray" else np.dstack([gray] * 3)


def _without_meanings(data: bytes, pages: Iterable[tifffile.TiffPage], *, keep_orientation: bool = False) -> bytes:
    """The file with tags that keep decoders from inverting, turning, or multiplying by alpha."""
    order, _ = _layout(data)
    changed: bytearray | None = None
    for page in pages:
        wanted = {_PHOTOMETRIC: {_MIN_IS_WHITE: _MIN_IS_BLACK}, _EXTRA_SAMPLES: {_UNASSOCIATED: _ASSOCIATED}}
        if not keep_orientation:
            wanted[_ORIENTATION] = dict.fromkeys(range(2, 9), 1)
        for code, replacements in wanted.items():
            tag = page.tags.get(code)
            if tag is None or tag.dtype not in _INTEGER_TYPES:
                continue
            layout = _INTEGER_TYPES[tag.dtype]
            values = tag.value if isinstance(tag.value, tuple) else (tag.value,)
            replaced = [replacements.get(value, value) for value in values]
            if replaced != list(values) and tag.valueoffset + 4 * len(replaced) <= len(data):
                changed = bytearray(data) if changed is None else changed
                struct.pack_into(f"{order}{len(replaced)}{layout}", changed, tag.valueoffset, *replaced)
    return data if changed is None else bytes(changed)


def _bright_is_large(image: npt.NDArray[Any], page: tifffile.TiffPage) -> npt.NDArray[Any]:
    """Invert integers of a MinIsWhite page, not its alpha; floats have no white, and stay as they are."""
    if page.tags.get(_PHOTOMETRIC) is None or page.photometric != _MIN_IS_WHITE or image.dtype.kind not in "iu":
        return image
    n_gray = max(1, page.samplesperpixel - len(page.extrasamples)) if image.ndim == 3 else 1
    levels = image[..., :n_gray] if image.ndim == 3 and image.shape[2] == page.samplesperpixel else image
    np.invert(levels, out=levels)
    if page.bitspersample in (10, 12, 14):  # OpenCV puts them into the upper bits of 16
        levels &= 0xFFFF << 16 - page.bitspersample & 0xFFFF
    return image


def _compression(page: tifffile.TiffPage) -> str:
    return str(getattr(page.compression, "name", page.compression))


def _stored(page: tifffile.TiffPage) -> Stored:
    """What a page holds; signed levels have one bit more than those that are not, which go up to 255."""
    is_signed = page.dtype is not None and page.dtype.kind == "i"
    has_colours = page.photometric not in (_MIN_IS_WHITE, _MIN_IS_BLACK)
    return Stored(page.bitspersample + is_signed, has_colours, bool(page.extrasamples))


def _why_undecoded(page: tifffile.TiffPage, color: str) -> UnsuitableError | None:
    """What OpenCV does not read in a file that is whole; None if only damage explains it."""
    what = f"holds {page.dtype} of shape {page.shape}"
    if color in ("gray", "color") and (page.dtype not in _INTEGERS_UP_TO_16_BIT or page.samplesperpixel > 4):
        return UnsuitableError(
            f"{what}, which OpenCV does not turn into 8 bit; use color='unchanged' where there is the choice, or "
            "save it as 8 or 16 bit"
        )
    is_read = page.compression in _READ_BY_OPENCV and page.dtype not in (None, np.float16)
    if not is_read or page.bitspersample in (2, 4) or (page.photometric == _CMYK and page.bitspersample != 8):
        return UnsuitableError(
            f"{what} in {page.bitspersample} bits, compression {_compression(page)}, {_photometric(page)}, which "
            "OpenCV does not read; save it plain or deflated, in 8 or 16 bits"
        )
    return None


def _photometric(page: tifffile.TiffPage) -> str:
    return str(getattr(page.photometric, "name", page.photometric))


# -- stacks --------------------------------------------------------------------------------------------------


def _decode_stack(
    data: bytes, file: tifffile.TiffFile, page: tifffile.TiffPage, check_pixels: Callable[[int, int], None]
) -> npt.NDArray[Any]:
    """Gray levels of all pages, shape (pages, height, width), or of one image."""
    _check_chain(data)
    pages = _full_pages(file)
    _check_pixels_are_there(data, pages)
    series = _series(file)
    n_planes = len(pages) if len(pages) > 1 else _n_planes(series, page)
    if n_planes == 1:
        is_gray = page.samplesperpixel == 1 and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK)
        image = _decode_page(data, page, "unchanged" if is_gray else "stack")
        note_losses(_stored(page), "stack", keeps_gray=True)
        return image
    _check_kind_of_stack(pages, series, n_planes)
    if len(pages) > 1 and _hide_planes(file, pages):
        raise UnsuitableError(
            f"has {n_planes} directories, of which one stands for several planes; save each volume in a file "
            "of its own"
        )
    height, width = page.shape[-2:]
    check_pixels(width, height * n_planes)
    try:
        if len(pages) == 1:
            return _bright_is_large(_decode_planes(data, page, series), page)
        return _decode_pages(data, pages)
    except MemoryError:
        raise BeyondLimitError("does not fit into the memory that this engine may have") from None


def _check_kind_of_stack(
    pages: list[tifffile.TiffPage], series: tifffile.TiffPageSeries | None, n_planes: int
) -> None:
    kinds = {(page.shape, page.dtype) for page in pages}
    is_gray = all(
        page.samplesperpixel == 1 and page.photometric in (_MIN_IS_WHITE, _MIN_IS_BLACK) for page in pages
    )
    if len(kinds) > 1 or not is_gray:
        shapes = ", ".join(sorted({f"{dtype} of shape {shape}" for shape, dtype in kinds}))
        raise UnsuitableError(f"has {n_planes} pages that are no stack of gray images of one size: {shapes:.300}")
    if series is None:
        return
    above = [(axis, n) for axis, n in zip(series.axes, series.shape, strict=True) if axis not in "YX" and n > 1]
    named = [f"{n} {_NOT_DEPTH[axis]}" for axis, n in above if axis in _NOT_DEPTH]
    if named or len(above) > 1:
        raise UnsuitableError(
            f"has axes {series.axes} of {' x '.join(map(str, series.shape))}"
            + (f"; {' and '.join(named)} are no depth of a volume" if named else ", more than a volume has")
            + ": save each volume in a file of its own, its axes written as ZYX"
        )


def _decode_planes(
    data: bytes, page: tifffile.TiffPage, series: tifffile.TiffPageSeries | None
) -> npt.NDArray[Any]:
    """A stack behind one directory."""
    if series is None or not _tifffile_reads(page):
        raise UnsuitableError(
            f"is a stack in one piece in compression {_compression(page)}, of which only the first plane could be "
            "read; save it with a directory for each page"
        )
    n_bytes = math.prod(series.shape) * page.dtype.itemsize if page.dtype is not None else 0
    if series.dataoffset is not None and series.dataoffset + n_bytes > len(data):
        raise DamagedError(f"its planes end at byte {series.dataoffset + n_bytes}")
    stored = _as_array(series)
    planes = stored.reshape(-1, *page.shape[-2:])
    return np.array(planes, stored.dtype.newbyteorder("="), order="C")


def _decode_pages(data: bytes, pages: list[tifffile.TiffPage]) -> npt.NDArray[Any]:
    first = pages[0]
    if all(map(_tifffile_reads, pages)):
        decoded: Iterable[npt.NDArray[Any]] = map(_decode_with_tifffile, pages)
    elif all(page.is_tiled and page.compression in _PLAIN_OR_DEFLATED for page in pages):
        in_strips = (_in_strips(data, page, "unchanged", keep_orientation=False) for page in pages)
        decoded = (decode_with_opencv(strips or b"", "unchanged") for strips in in_strips)
    else:
        found = decode_pages_with_opencv(_without_meanings(data, pages), 1 + max(page.index for page in pages))
        decoded = (found[page.index] for page in pages)
    stack: npt.NDArray[Any] | None = None
    for number, (image, page) in enumerate(zip(decoded, pages, strict=True)):
        if stack is None:
            stack = np.empty((len(pages), *first.shape), image.dtype)
        if image.shape != first.shape or image.dtype != stack.dtype:
            raise DamagedError(f"page {number} decodes to shape {image.shape}, wanted {first.shape}")
        stack[number] = _bright_is_large(image, page)
    assert stack is not None, "there is a page"  # noqa: S101
    return stack
