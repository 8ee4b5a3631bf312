"""An array to the bytes of an image file: which format holds which image, and how it is written.

Used by tasks that make images, on engines, and by `plots`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from parimg.errors import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

ImageFormat = Literal["png", "jpeg", "webp", "bmp", "tiff", "npy", "ome-tiff", "ome-zarr"]
"""How an image is written; the last two in tiles, with smaller levels."""

_DTYPES: dict[str, tuple[str, ...]] = {
    "png": ("uint8", "uint16"),
    "jpeg": ("uint8",),
    "webp": ("uint8",),
    "bmp": ("uint8",),
    "tiff": (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64", "bool"
    ),
    "npy": (),  # any
    "ome-tiff": ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float32", "float64"),
    "ome-zarr": (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64", "bool"
    ),
}  # fmt: skip
EXTENSIONS: dict[str, str] = {
    "png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif", "npy": ".npy",
    "ome-tiff": ".ome.tif", "ome-zarr": ".ome.zarr",
}  # fmt: skip
_CHANNELS = {"png": (1, 3, 4), "jpeg": (1, 3), "webp": (1, 3, 4), "bmp": (1, 3)}
IMAGE_FORMATS = tuple(_DTYPES)


def format_for(dtype: npt.DTypeLike, channels: int | None = 1, *, pages: bool = False) -> ImageFormat:
    """The format that is taken where none is asked for: PNG where it holds the image, else TIFF or NumPy's."""
    return fitting_format(("png", "tiff", "npy"), dtype, channels, pages=pages)


def fitting_format(
    formats: tuple[ImageFormat, ...], dtype: npt.DTypeLike, channels: int | None, *, pages: bool
) -> ImageFormat:
    """The first of some formats that holds an image; the last, if none before does."""
    return next((one for one in formats[:-1] if _misfit(one, dtype, channels, pages) is None), formats[-1])


def check_format(
    image_format: str, dtype: npt.DTypeLike | None = None, channels: int | None = None, *, pages: bool = False
) -> None:
    """Refuse a format that is unknown or does not hold an image.

    Parameters
    ----------
    image_format : str
    dtype, channels : optional
        Of the image, where they are known.
    pages : bool
        Whether there are several images, for one file.

    Raises
    ------
    TaskError
    """
    if image_format not in _DTYPES:
        raise TaskError(f"format must be one of {', '.join(map(repr, IMAGE_FORMATS))} (got {image_format!r})")
    if misfit := _misfit(image_format, dtype, channels, pages):
        raise TaskError(f"format {image_format!r} holds {misfit}, take 'tiff' or 'npy'")


def _misfit(image_format: str, dtype: npt.DTypeLike | None, channels: int | None, pages: bool) -> str | None:
    """What the format holds instead, if it does not hold an image."""
    if dtype is not None and _DTYPES[image_format] and np.dtype(dtype).name not in _DTYPES[image_format]:
        return f"{', '.join(_DTYPES[image_format])}; the image is {np.dtype(dtype)}"
    held = _CHANNELS.get(image_format)
    if held is None:
        return None
    if pages:
        return "one image (got several for one file, such as the results of a filter that returns a tuple)"
    if channels is not None and channels not in held:
        return f"{', '.join(map(str, held[:-1]))} or {held[-1]} channels (got {channels})"
    return None


def channels_of(image: npt.NDArray[Any], *, pages: bool = False) -> int:
    """Number of channels of ``(height, width[, channels])``, behind an axis of pages if there is one."""
    return image.shape[-1] if image.ndim == 3 + pages else 1


def save_image(file: BinaryIO, image: npt.NDArray[Any], image_format: ImageFormat, *, pages: bool = False) -> None:
    """Write an image to an open file.

    Parameters
    ----------
    file : binary file
    image : ndarray, shape (height, width) or (height, width, channels)
        Gray, red-green-blue, or these with alpha; any channels as TIFF and ``.npy``.
    image_format : {"png", "jpeg", "webp", "bmp", "tiff", "npy"}
        JPEG is written at quality 95, WebP, PNG, BMP and TIFF without loss.
    pages : bool
        The first axis counts images, each of which becomes a page of a TIFF.

    Raises
    ------
    TaskError
        If the format does not hold the image.

    Examples
    --------
    >>> import io
    >>> from parimg.images.decode import decode
    >>> file = io.BytesIO()
    >>> save_image(file, np.array([[0, 1000]], np.uint16), "png")
    >>> decode(file.getvalue(), "unchanged")
    array([[   0, 1000]], dtype=uint16)
    """
    channels = channels_of(image, pages=pages)
    check_format(image_format, image.dtype, channels, pages=pages)
    if image_format == "npy":
        np.save(file, image, allow_pickle=False)
    elif image_format == "tiff":
        _save_tiff(file, image if pages else image[None], channels)
    else:
        import cv2

        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(channels)  # OpenCV writes blue, green, red
        pixels = image if order is None else image[..., order]
        # 101 of WebP means without loss.
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if image_format == "webp" else []
        is_encoded, data = cv2.imencode(EXTENSIONS[image_format], pixels, options)
        if not is_encoded:
            raise TaskError(f"OpenCV could not encode {image.dtype} of shape {image.shape} as {image_format!r}")
        file.write(data.tobytes())


def _save_tiff(file: BinaryIO, images: npt.NDArray[Any], channels: int) -> None:
    """Write images, each as a page: what tifffile guesses from the shape of all is wrong for narrow ones."""
    import tifffile

    is_color = channels in {3, 4}
    with tifffile.TiffWriter(file) as writer:
        for image in images:
            writer.write(
                np.ascontiguousarray(image.reshape(image.shape[:2]) if channels == 1 else image),
                photometric="rgb" if is_color else "minisblack",
                planarconfig=None if channels == 1 else "contig",
                extrasamples=["unassalpha"] if channels in {2, 4} else None,
                compression="zlib",
                metadata=None,
                contiguous=False,
            )
