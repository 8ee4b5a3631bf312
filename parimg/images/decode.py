"""Bytes to array, with limits.

Runs on the engines, once for every image: reads the bytes of a path or URL, has `headers` look at the size
before any pixel is allocated and make sure that the file is whole, and lets OpenCV decode it. Whatever is
wrong comes out as an `ImageError` with its reason, never as an error of OpenCV, Pillow or tifffile.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, Literal, get_args

import cv2
import numpy as np

from parimg.errors import (
    ImageEmptyError,
    ImageError,
    ImageFormatError,
    ImageMissingError,
    ImageTooLargeError,
    ImageTruncatedError,
)
from parimg.images.formats import (
    DamagedError,
    UnsuitableError,
    check_whole,
    identify,
    image_size,
    npy_header,
    still_png,
    tiff_page,
)
from parimg.images.tiff import decode_pages, tiff_pages

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt
    import tifffile

ColorMode = Literal["gray", "color", "unchanged", "stack"]
"""What a task wants to be given: 8 bit gray, 8 bit RGB, what the file holds, or gray levels of all its pages."""

DEFAULT_MAX_PIXELS = 2**28
"""Height times width above which an image is refused: 16 384 by 16 384, 256 MB as 8 bit gray."""


def read_bytes(uri: str) -> bytes:
    """Read a whole file from a local path or an fsspec URL.

    Parameters
    ----------
    uri : str
        Local path, or a URL of any protocol that fsspec knows and that is installed (``file://``,
        ``https://``, ``s3://``, ``memory://``, ...). Credentials and endpoints are fsspec's configuration.

    Returns
    -------
    bytes
        At least one byte.

    Raises
    ------
    ImageMissingError
        There is no such file or object.
    ImageEmptyError
        It has no bytes.
    ImageError
        It is a folder, must not be read, or the other side failed.

    Examples
    --------
    >>> import fsspec
    >>> fsspec.filesystem("memory").pipe("/doctest/a.txt", b"abc")
    >>> read_bytes("memory://doctest/a.txt")
    b'abc'
    """
    try:
        data = _read_url(uri) if "://" in uri else _read_file(uri)
    except (FileNotFoundError, NotADirectoryError):
        raise ImageMissingError(f"{uri!r} does not exist; is it reachable from the engine's host?") from None
    except IsADirectoryError:
        raise ImageError(f"{uri!r} is a folder, wanted an image file; give it as a source instead") from None
    except PermissionError:
        raise ImageError(f"{uri!r} may not be read by this user; check its permissions") from None
    except ImportError as error:
        raise ImageError(f"{uri!r} needs a package that this engine lacks: {error}") from error
    except Exception as error:
        # Every fsspec backend has errors of its own (aiohttp, botocore, ...) without a common base.
        raise ImageError(f"{uri!r} could not be read: {type(error).__name__}: {error}") from error
    if not data:
        raise ImageEmptyError(f"{uri!r} has 0 bytes; was it written to the end?")
    return data


def decode(
    data: bytes, color: ColorMode = "gray", *, max_pixels: int = DEFAULT_MAX_PIXELS, name: str = ""
) -> npt.NDArray[Any]:
    """Decode the bytes of one image file.

    Parameters
    ----------
    data : bytes
        The whole file: PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, AVIF, PBM/PGM/PPM/PFM/PAM, Radiance HDR or
        Sun raster, as far as the installed OpenCV has them, and in ``"unchanged"`` mode NumPy's ``.npy``. Of
        several frames or pages the first is taken, but of TIFF in ``"stack"`` mode.
    color : {"gray", "color", "unchanged", "stack"}
        ``"gray"``: uint8, shape (h, w), exactly ``cv2.imread(path, cv2.IMREAD_GRAYSCALE)``. ``"color"``:
        uint8, shape (h, w, 3), channels in the order red, green, blue, as scikit-image and matplotlib have
        them and OpenCV has not. Both turn the image as its EXIF orientation says and drop alpha.
        ``"unchanged"``: dtype and channels as stored, shape (h, w) or (h, w, channels), in the order red,
        green, blue, alpha; not turned. Palettes are resolved, and gray with alpha comes as four channels.
        TIFF is read by tifffile where it is stored plain or deflated, otherwise by OpenCV, which multiplies
        alpha into 8 bit RGBA and turns what has an orientation. ``"stack"``: gray levels, as stored where TIFF,
        PNG or ``.npy`` hold gray, shape (h, w), or (pages, h, w) for TIFF of several pages, and ``.npy`` of three
        axes as it is; everything else as in ``"gray"`` mode.
    max_pixels : int
        Largest height times width, of a stack times pages. It is compared with the header, before memory for
        pixels is allocated.
        Where only OpenCV can read the header, its own limit of 2**30 pixels comes first, and this one after
        decoding.
    name : str
        What error messages call the image, usually its URI.

    Returns
    -------
    ndarray
        Contiguous, writable, native byte order.

    Raises
    ------
    ImageEmptyError
        `data` is empty.
    ImageFormatError
        The bytes are of no known format, or hold what `color` cannot be made of.
    ImageTooLargeError
        The header tells more than `max_pixels`.
    ImageTruncatedError
        The format is recognised, but the file ends too early or is damaged. Flipped bits are found in PNG,
        which has checksums; in most other formats they can go unnoticed.
    MemoryError
        The pixels do not fit into memory.
    ValueError
        `color` is none of the four, or `max_pixels` below 1.

    Examples
    --------
    >>> import cv2, numpy as np
    >>> red = np.zeros((2, 3, 3), np.uint8)
    >>> red[..., 2] = 200  # OpenCV writes blue, green, red
    >>> png = cv2.imencode(".png", red)[1].tobytes()
    >>> decode(png, "color")[0, 0].tolist()
    [200, 0, 0]
    >>> decode(png).shape
    (2, 3)
    >>> decode(png[:-1], name="a.png")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    parimg.errors.ImageTruncatedError: 'a.png' (PNG, ... bytes) is truncated or damaged: ...
    """
    if color not in get_args(ColorMode):
        raise ValueError(f"color must be one of {', '.join(map(repr, get_args(ColorMode)))} (got {color!r})")
    if max_pixels < 1:
        raise ValueError(f"max_pixels must be at least 1 (got {max_pixels!r})")
    what = repr(name) if name else "the image"
    if not data:
        raise ImageEmptyError(f"{what} has 0 bytes; was it written to the end?")
    image_format = identify(data)
    label = f"{what} ({image_format.name if image_format else 'unknown format'}, {len(data)} bytes)"
    try:
        if image_format is not None:
            if size := image_size(image_format, data):
                _check_pixels(*size, max_pixels, label)
            check_whole(image_format, data)
        if color == "stack":
            return _decode_stack(image_format.name if image_format else "", data, max_pixels, label)
        image = _DECODERS.get(image_format.name if image_format else "", _decode_with_opencv)(data, color)
    except DamagedError as error:
        if image_format is None:
            raise ImageFormatError(
                f"{what} is no image that can be read: its {len(data)} bytes begin with {data[:16]!r}"
            ) from None
        raise ImageTruncatedError(f"{label} is truncated or damaged: {error}; copy or write it again") from None
    except UnsuitableError as error:
        raise ImageFormatError(f"{label} {error}") from None
    except _BeyondLimitError as error:
        raise ImageTooLargeError(f"{label} {error}") from None
    except MemoryError:
        raise MemoryError(f"{label} {_NO_MEMORY}") from None
    _check_pixels(image.shape[1], image.shape[0], max_pixels, label)
    return image


def read_image(uri: str, color: ColorMode = "gray", *, max_pixels: int = DEFAULT_MAX_PIXELS) -> npt.NDArray[Any]:
    """Read and decode one image: `decode` of `read_bytes`.

    Parameters
    ----------
    uri : str
        Local path or fsspec URL, see `read_bytes`.
    color : {"gray", "color", "unchanged", "stack"}
        See `decode`.
    max_pixels : int
        See `decode`.

    Returns
    -------
    ndarray
        Shape (h, w), (h, w, channels) or (pages, h, w), see `decode`.

    Raises
    ------
    ImageError
        One of its subclasses, see `read_bytes` and `decode`.

    Examples
    --------
    >>> import cv2, fsspec, numpy as np
    >>> png = cv2.imencode(".png", np.full((2, 3), 7, np.uint8))[1].tobytes()
    >>> fsspec.filesystem("memory").pipe("/doctest/seven.png", png)
    >>> read_image("memory://doctest/seven.png").tolist()
    [[7, 7, 7], [7, 7, 7]]
    """
    return decode(read_bytes(uri), color, max_pixels=max_pixels, name=uri)


# -- bytes -------------------------------------------------------------------------------------------------


def _read_file(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _read_url(url: str) -> bytes:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    # One request; `open` would first ask for the size.
    data: bytes = filesystem.cat_file(path)
    return data


def _check_pixels(width: int, height: int, max_pixels: int, label: str) -> None:
    if width * height > max_pixels:
        raise ImageTooLargeError(
            f"{label} has {width} x {height} = {width * height} pixels, above the limit of {max_pixels}; "
            "set a larger max_pixels if it is meant to be that large"
        )


# -- OpenCV ------------------------------------------------------------------------------------------------


class _BeyondLimitError(Exception):
    """A limit of OpenCV's own; the message is the reason alone."""


_NO_MEMORY = "does not fit into the memory that this engine may have"


class _QuietOpenCV:
    """Silences OpenCV's logger while any thread decodes: what it would print is in our message.

    The level is one for the process, so it is put back by the last thread that leaves.
    """

    def __init__(self) -> None:
        # OpenCV 4 has the function at the top, OpenCV 5 does not.
        set_level = getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel
        self._set_level: Callable[[int], int] = set_level
        self._lock = threading.Lock()
        self._inside = 0
        self._level_before = 0

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._level_before = self._set_level(0)
            self._inside += 1

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                self._set_level(self._level_before)


_quiet_opencv = _QuietOpenCV()

_READ_FLAGS = {"gray": cv2.IMREAD_GRAYSCALE, "color": cv2.IMREAD_COLOR, "unchanged": cv2.IMREAD_UNCHANGED}


def _decode_with_opencv(data: bytes, color: ColorMode) -> npt.NDArray[Any]:
    try:
        with _quiet_opencv:
            # `imdecode` refuses files that `imread` gives half filled.
            image: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), _READ_FLAGS[color])
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise _BeyondLimitError(
                "is above OpenCV's own limits (2**30 pixels, 2**20 a side); if it is meant to be that large, "
                "set OPENCV_IO_MAX_IMAGE_PIXELS (or _WIDTH, _HEIGHT) in the environment of the engines"
            ) from None
        if error.code == cv2.Error.StsNoMem:
            raise MemoryError from None
        raise DamagedError(f"OpenCV {cv2.__version__} could not decode it ({error.err})") from None
    if image is None:
        raise DamagedError(f"OpenCV {cv2.__version__} could not decode it")
    if image.ndim == 2:
        return image
    if color == "gray":
        # OpenCV before 5.0 gives Radiance HDR three channels whatever it is asked for.
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if color == "color":
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.ascontiguousarray(image[..., [2, 1, 0, *range(3, image.shape[2])]])


# -- TIFF --------------------------------------------------------------------------------------------------


_STORED_AS_GRAY = frozenset({"TIFF", "PNG", "NumPy array"})
_INTEGERS_UP_TO_16_BIT = tuple(map(np.dtype, ("u1", "i1", "u2", "i2")))


def _tifffile_reads(page: tifffile.TiffPage) -> bool:
    """Whether tifffile needs none of its optional codecs, so that every engine gives the same."""
    return (
        page.compression in (1, 8, 32946)  # none, deflate by its two numbers
        and page.predictor in (1, 2)  # none, horizontal
        and page.bitspersample in (8, 16, 32, 64)
        and page.photometric in (0, 1, 2)  # gray either way round, RGB
        and page.axes in ("YX", "YXS", "SYX")
    )


def _decode_tiff(data: bytes, color: ColorMode) -> npt.NDArray[Any]:
    if color == "unchanged" and _tifffile_reads(page := tiff_page(data)):
        try:
            stored: npt.NDArray[Any] = page.asarray(maxworkers=1)
        except MemoryError:
            raise
        except Exception as error:
            raise DamagedError(f"tifffile could not decode it ({type(error).__name__}: {error})") from None
        if stored.shape != page.shape:
            raise DamagedError(f"tifffile made {stored.shape} of what should be of shape {page.shape}")
        if page.axes == "SYX":
            stored = np.moveaxis(stored, 0, -1)
        return np.ascontiguousarray(stored, stored.dtype.newbyteorder("="))
    try:
        return _decode_with_opencv(data, color)
    except DamagedError:
        page = tiff_page(data)
        if color != "unchanged" and (page.dtype not in _INTEGERS_UP_TO_16_BIT or page.samplesperpixel > 4):
            raise UnsuitableError(
                f"holds {page.dtype} of shape {page.shape}, which OpenCV does not turn into 8 bit; "
                "use color='unchanged'"
            ) from None
        raise


def _decode_stack(kind: str, data: bytes, max_pixels: int, label: str) -> npt.NDArray[Any]:
    """Gray levels, of all pages where there are several."""
    if kind == "TIFF" and len(pages := tiff_pages(data)) > 1:
        height, width = pages[0].shape
        _check_pixels(width, height * len(pages), max_pixels, label)
        try:
            with _quiet_opencv:
                return decode_pages(data, pages, _tifffile_reads)
        except MemoryError:
            raise _BeyondLimitError(_NO_MEMORY) from None
    decoder = _DECODERS.get(kind, _decode_with_opencv)
    stored = decoder(data, "unchanged") if kind in _STORED_AS_GRAY else None
    image = stored if stored is not None and (stored.ndim == 2 or kind == "NumPy array") else decoder(data, "gray")
    _check_pixels(image.shape[-1], image.size // max(1, image.shape[-1]), max_pixels, label)
    return image


# -- NumPy -------------------------------------------------------------------------------------------------


def _decode_npy(data: bytes, color: ColorMode) -> npt.NDArray[Any]:
    shape, is_fortran, dtype, start = npy_header(data)
    if color != "unchanged":
        raise UnsuitableError(f"is an array, which is not turned into {color!r}; use color='unchanged'")
    values = np.frombuffer(data, dtype, math.prod(shape), start)
    stored = values.reshape(shape, order="F" if is_fortran else "C")
    return np.array(stored, dtype.newbyteorder("="), order="C")


# -- PNG -----------------------------------------------------------------------------------------------------


def _decode_png(data: bytes, color: ColorMode) -> npt.NDArray[Any]:
    # Of animations `imdecode` makes a gray that is up to one level off that of `imread`.
    return _decode_with_opencv(still_png(data) if b"acTL" in data else data, color)


_DECODERS: dict[str, Callable[[bytes, ColorMode], npt.NDArray[Any]]] = {
    "PNG": _decode_png,
    "TIFF": _decode_tiff,
    "NumPy array": _decode_npy,
}
