"""Images as files: which format holds which dtype, and how one is encoded.

Used by tasks that write images, on engines; `feature_files.write_file` puts the bytes in their place.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from parimg.errors import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

ImageFormat = Literal["png", "jpeg", "tiff", "npy"]
"""How an image is written."""

_DTYPES: dict[str, tuple[str, ...]] = {
    "png": ("uint8", "uint16"),
    "jpeg": ("uint8",),
    "tiff": ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float32", "float64"),
    "npy": (),  # any
}
_EXTENSIONS = {"png": ".png", "jpeg": ".jpg", "tiff": ".tif", "npy": ".npy"}
_CHANNELS = {"png": (1, 3, 4), "jpeg": (1, 3)}
IMAGE_FORMATS = tuple(_DTYPES)


def image_extension(image_format: ImageFormat) -> str:
    """Extension of the files of a format."""
    return _EXTENSIONS[image_format]


def format_for(dtype: npt.DTypeLike) -> ImageFormat:
    """The format that is taken where none is asked for: PNG where it holds the dtype, else TIFF or NumPy's."""
    name = np.dtype(dtype).name
    return "png" if name in _DTYPES["png"] else "tiff" if name in _DTYPES["tiff"] else "npy"


def check_format(image_format: str, dtype: npt.DTypeLike | None) -> None:
    """Refuse a format that is unknown or does not hold a dtype.

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


def make_image_folder(folder: str) -> None:
    """Make the folder that images are written to.

    Raises
    ------
    TaskError
        If it cannot be made, or may not be written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise TaskError(f"the output folder cannot be made: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TaskError(f"the output folder {folder!r} may not be written by this user")


def save_image(file: BinaryIO, image: npt.NDArray[Any], image_format: ImageFormat) -> None:
    """Write an image to an open file.

    Parameters
    ----------
    file : binary file
    image : ndarray, shape (height, width) or (height, width, channels)
        Gray, red-green-blue, or these with alpha; any channels as TIFF and ``.npy``.
    image_format : {"png", "jpeg", "tiff", "npy"}
        JPEG is written at quality 95, PNG and TIFF without loss.

    Raises
    ------
    TaskError
        If the format does not hold the image's dtype or channels.

    Examples
    --------
    >>> import io
    >>> from parimg.decode import decode
    >>> file = io.BytesIO()
    >>> save_image(file, np.array([[0, 1000]], np.uint16), "png")
    >>> decode(file.getvalue(), "unchanged")
    array([[   0, 1000]], dtype=uint16)
    """
    check_format(image_format, image.dtype)
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
        is_encoded, data = cv2.imencode(_EXTENSIONS[image_format], image if order is None else image[..., order])
        if not is_encoded:
            raise TaskError(f"OpenCV could not encode {image.dtype} of shape {image.shape} as {image_format!r}")
        file.write(data.tobytes())


def _save_tiff(file: BinaryIO, image: npt.NDArray[Any]) -> None:
    import tifffile

    is_color = image.ndim == 3 and image.shape[2] in {3, 4}
    tifffile.imwrite(
        file,
        np.ascontiguousarray(image),
        photometric="rgb" if is_color else "minisblack",
        planarconfig="contig" if image.ndim == 3 else None,
        compression="zlib",
        metadata=None,
    )
