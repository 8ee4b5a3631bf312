"""Bytes to array, with limits.

Runs on the engines, once for every image: `formats` looks at the size before any pixel is allocated and makes
sure that the file is whole, then OpenCV, tifffile or NumPy decodes it. Whatever is wrong comes out as an
`ImageError` with its reason, never as an error of OpenCV, Pillow or tifffile.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from parimg.errors import ImageEmptyError, ImageFormatError, ImageTooLargeError, ImageTruncatedError
from parimg.images.damage import BeyondLimitError, DamagedError, UnsuitableError, still_png
from parimg.images.formats import check_whole, identify, image_size, npy_header
from parimg.images.frames import count_frames, note_frames
from parimg.images.losses import note_losses_of_file
from parimg.images.opencv import decode_with_opencv
from parimg.images.tiff import decode_tiff
from parimg.options import DEFAULT_MAX_PIXELS, DEFAULT_READING, Orientation, Reading

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from parimg.images.formats import Format

ColorMode = Literal["gray", "color", "unchanged", "stack"]
"""What a task wants to be given: 8 bit gray, 8 bit RGB, what the file holds, or gray levels of all its pages."""


def decode(
    data: bytes,
    color: ColorMode = "gray",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    name: str = "",
    orientation: Orientation | None = None,
) -> npt.NDArray[Any]:
    """Decode the bytes of one image file.

    Parameters
    ----------
    data : bytes
        The whole file: PNG, JPEG, TIFF, BMP, WebP, GIF, JPEG 2000, AVIF, PBM/PGM/PPM/PFM/PAM, Radiance HDR or
        Sun raster, as far as the installed OpenCV has them, and in ``"unchanged"`` and ``"stack"`` mode NumPy's
        ``.npy``. Of several frames or pages the first is taken, with a warning, but of TIFF in ``"stack"`` mode.
    color : {"gray", "color", "unchanged", "stack"}
        ``"gray"``: uint8, shape (h, w), as ``cv2.imread(path, cv2.IMREAD_GRAYSCALE)``. ``"color"``:
        uint8, shape (h, w, 3), channels in the order red, green, blue, as scikit-image and matplotlib have
        them and OpenCV has not. Both drop alpha.
        ``"unchanged"``: dtype and channels as stored, shape (h, w) or (h, w, channels), in the order red,
        green, blue, alpha. Palettes are resolved, and gray with alpha comes as four channels,
        of TIFF as two. ``"stack"``: gray levels, as stored where TIFF, PNG or ``.npy`` hold gray, shape (h, w),
        or (pages, h, w) for TIFF of several pages, and ``.npy`` of three axes as it is; everything else as in
        ``"gray"`` mode. What TIFF files can mean by their tags comes out as `parimg.images.tiff`
        says, in all modes and compressions.
    max_pixels : int
        Largest height times width, of a stack times pages. It is compared with the header, before memory for
        pixels is allocated.
        Where only OpenCV can read the header, its own limit of 2**30 pixels comes first, and this one after
        decoding.
    name : str
        What error messages call the image, usually its URI.
    orientation : {"stored", "upright"}, optional
        Whether the image is turned as its EXIF or TIFF orientation says; by default in the modes ``"gray"`` and
        ``"color"``, not in the others.

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

    def check_pixels(width: int, height: int) -> None:
        if width * height > max_pixels:
            raise ImageTooLargeError(
                f"{label} has {width} x {height} = {width * height} pixels, above the limit of {max_pixels}; "
                "set a larger max_pixels if it is meant to be that large"
            )

    try:
        image = _decode(image_format, data, color, check_pixels, orientation)
    except DamagedError as error:
        if image_format is None:
            raise ImageFormatError(
                f"{what} is no image that can be read: its {len(data)} bytes begin with {data[:16]!r}"
            ) from None
        raise ImageTruncatedError(f"{label} is truncated or damaged: {error}; copy or write it again") from None
    except UnsuitableError as error:
        raise ImageFormatError(f"{label} {error}") from None
    except BeyondLimitError as error:
        raise ImageTooLargeError(f"{label} {error}") from None
    except MemoryError:
        raise MemoryError(f"{label} does not fit into the memory that this engine may have") from None
    # Where only the decoder knew the size, and of arrays that are stacks.
    height, width = image.shape[:2] if color != "stack" else (image.size // image.shape[-1], image.shape[-1])
    check_pixels(width, height)
    return image


def read_image(
    uri: str,
    color: ColorMode = "gray",
    *,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    reading: Reading = DEFAULT_READING,
) -> npt.NDArray[Any]:
    """Read and decode one image, or a part of a file: the pixels of `parimg.images.described.read_described`.

    Parameters
    ----------
    uri : str
        Local path or fsspec URL, see `read_bytes`, behind ``#`` the part.
    color : {"gray", "color", "unchanged", "stack"}
        See `decode`.
    max_pixels : int
        See `decode`.
    reading : Reading
        Which channel, which depth, which gray levels.

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
    from parimg.images.described import read_described  # not at the top: it builds on this

    return read_described(uri, color, max_pixels=max_pixels, reading=reading).pixels


def _decode(
    image_format: Format | None,
    data: bytes,
    color: ColorMode,
    check_pixels: Callable[[int, int], None],
    orientation: Orientation | None,
) -> npt.NDArray[Any]:
    kind = image_format.name if image_format else ""
    is_turned_here = color in ("gray", "color") and kind != "AVIF"  # which OpenCV leaves as it is stored
    is_upright = color in ("gray", "color") if orientation is None else orientation == "upright"
    image = _decode_stored(kind, image_format, data, color, check_pixels, is_turned=is_upright)
    if is_upright and not is_turned_here and kind != "NumPy array":
        return _turn(image, data)
    return image


def _turn(image: npt.NDArray[Any], data: bytes) -> npt.NDArray[Any]:
    """An image or stack as the file's orientation says."""
    from parimg.images.readers.exif import file_orientation, turned  # loads Pillow's reading of EXIF

    turn = file_orientation(data)
    return image if turn == 1 else turned(image, turn, is_stack=image.ndim == 3 and image.shape[2] > 4)


def _decode_stored(
    kind: str,
    image_format: Format | None,
    data: bytes,
    color: ColorMode,
    check_pixels: Callable[[int, int], None],
    *,
    is_turned: bool,
) -> npt.NDArray[Any]:
    """Decode, and turn if the decoder does so by itself and `is_turned`."""
    if kind == "TIFF":
        return decode_tiff(data, color, check_pixels, is_turned=is_turned)
    if image_format is not None:
        if size := image_size(image_format, data):
            check_pixels(*size)
        check_whole(image_format, data)
    if kind == "NumPy array":
        return _decode_npy(data, color)
    note_frames(count_frames(kind, data))
    if kind == "PNG":
        if b"acTL" in data:
            # Of animations `imdecode` makes a gray that is up to one level off that of `imread`.
            data = still_png(data)
        if color == "stack" and (stored := decode_with_opencv(data, "unchanged")).ndim == 2:
            return stored
    image = decode_with_opencv(data, color, is_turned=is_turned)
    note_losses_of_file(kind, data, color)
    return image


def _decode_npy(data: bytes, color: ColorMode) -> npt.NDArray[Any]:
    shape, is_fortran, dtype, start = npy_header(data)
    if color not in ("unchanged", "stack"):
        raise UnsuitableError(
            f"is an array, which is not turned into {color!r}; use color='unchanged' where there is the "
            "choice, or save it as an image"
        )
    values = np.frombuffer(data, dtype, math.prod(shape), start)
    stored = values.reshape(shape, order="F" if is_fortran else "C")
    return np.array(stored, dtype.newbyteorder("="), order="C")
