"""Images as files: which format holds which dtype, how one is encoded, and what is told of it.

Used by tasks that make images, on engines; `feature_files.write_file` puts the bytes in their place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from parimg.errors import TaskError
from parimg.tasks.feature_files import write_file

if TYPE_CHECKING:
    import numpy.typing as npt

ImageFormat = Literal["png", "jpeg", "webp", "bmp", "tiff", "npy"]
"""How an image is written."""

_DTYPES: dict[str, tuple[str, ...]] = {
    "png": ("uint8", "uint16"),
    "jpeg": ("uint8",),
    "webp": ("uint8",),
    "bmp": ("uint8",),
    "tiff": (
        "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float32", "float64", "bool"
    ),
    "npy": (),  # any
}  # fmt: skip
_EXTENSIONS = {
    "png": ".png", "jpeg": ".jpg", "webp": ".webp", "bmp": ".bmp", "tiff": ".tif", "npy": ".npy"
}  # fmt: skip
_CHANNELS = {"png": (1, 3, 4), "jpeg": (1, 3), "webp": (1, 3, 4), "bmp": (1, 3)}
IMAGE_FORMATS = tuple(_DTYPES)
STATISTICS = ("min", "max", "mean", "std")


def format_for(dtype: npt.DTypeLike, ndim: int = 2) -> ImageFormat:
    """The format that is taken where none is asked for: PNG where it holds the image, else TIFF or NumPy's."""
    name = np.dtype(dtype).name
    return "png" if ndim <= 3 and name in _DTYPES["png"] else "tiff" if name in _DTYPES["tiff"] else "npy"


def check_format(image_format: str, dtype: npt.DTypeLike | None = None, ndim: int = 2) -> None:
    """Refuse a format that is unknown, does not hold a dtype, or no array of more than three axes.

    Raises
    ------
    TaskError
    """
    if image_format not in _DTYPES:
        raise TaskError(f"format must be one of {', '.join(map(repr, IMAGE_FORMATS))} (got {image_format!r})")
    if dtype is not None and _DTYPES[image_format] and np.dtype(dtype).name not in _DTYPES[image_format]:
        held = ", ".join(_DTYPES[image_format])
        raise TaskError(
            f"format {image_format!r} holds {held}; the image is {np.dtype(dtype)}, take 'tiff' or 'npy'"
        )
    if ndim > 3 and image_format not in {"tiff", "npy"}:
        raise TaskError(f"format {image_format!r} holds one image (got {ndim} axes); take 'tiff' or 'npy'")


def write_image(folder: str, key: str, image: npt.NDArray[Any], image_format: ImageFormat | None = None) -> str:
    """Write the file of an image that was made of a job's image, and give its path.

    Parameters
    ----------
    folder, key : str
        See `parimg.tasks.feature_files.write_file`.
    image : ndarray
        See `save_image`.
    image_format : optional
        By default the one that `format_for` gives.

    Raises
    ------
    TaskError
        If the format does not hold it, or its place is taken by something else.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = write_image(folder, "views/a.jpg", np.zeros((4, 6), np.uint8))
    >>> path.removeprefix(folder)
    '/views/a.jpg.png'
    """
    chosen = image_format or format_for(image.dtype, image.ndim)
    return write_file(folder, key, _EXTENSIONS[chosen], lambda file: save_image(file, image, chosen))


def statistics(image: npt.NDArray[Any]) -> dict[str, object]:
    """Columns ``min``, ``max``, ``mean`` and ``std`` of an image, as floats; None for one without pixels."""
    if not image.size:
        return dict.fromkeys(STATISTICS)
    return {
        "min": float(image.min()),
        "max": float(image.max()),
        "mean": float(image.mean(dtype="float64")),
        "std": float(image.std(dtype="float64")),
    }


def save_image(file: BinaryIO, image: npt.NDArray[Any], image_format: ImageFormat) -> None:
    """Write an image to an open file.

    Parameters
    ----------
    file : binary file
    image : ndarray, shape (height, width) or (height, width, channels)
        Gray, red-green-blue, or these with alpha; any channels and several images as TIFF and ``.npy``.
    image_format : {"png", "jpeg", "webp", "bmp", "tiff", "npy"}
        JPEG is written at quality 95, WebP, PNG, BMP and TIFF without loss.

    Raises
    ------
    TaskError
        If the format does not hold the image's dtype or channels.

    Examples
    --------
    >>> import io
    >>> from parimg.images.decode import decode
    >>> file = io.BytesIO()
    >>> save_image(file, np.array([[0, 1000]], np.uint16), "png")
    >>> decode(file.getvalue(), "unchanged")
    array([[   0, 1000]], dtype=uint16)
    """
    check_format(image_format, image.dtype, image.ndim)
    channels = image.shape[2] if image.ndim == 3 else 1
    if channels not in _CHANNELS.get(image_format, (channels,)):
        raise TaskError(f"format {image_format!r} holds {_CHANNELS[image_format]} channels (got {channels})")
    if image_format == "npy":
        np.save(file, image, allow_pickle=False)
    elif image_format == "tiff":
        _save_tiff(file, image)
    else:
        import cv2

        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(channels)  # OpenCV writes blue, green, red
        pixels = image if order is None else image[..., order]
        # 101 of WebP means without loss.
        options = [cv2.IMWRITE_WEBP_QUALITY, 101] if image_format == "webp" else []
        is_encoded, data = cv2.imencode(_EXTENSIONS[image_format], pixels, options)
        if not is_encoded:
            raise TaskError(f"OpenCV could not encode {image.dtype} of shape {image.shape} as {image_format!r}")
        file.write(data.tobytes())


def _save_tiff(file: BinaryIO, image: npt.NDArray[Any]) -> None:
    import tifffile

    is_color = image.ndim >= 3 and image.shape[-1] in {3, 4}
    tifffile.imwrite(
        file,
        np.ascontiguousarray(image),
        photometric="rgb" if is_color else "minisblack",
        planarconfig="contig" if image.ndim == 3 or is_color else None,
        compression="zlib",
        metadata=None,
    )
