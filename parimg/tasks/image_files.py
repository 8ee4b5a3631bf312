"""Images that tasks make, as files: which formats there are, and what they hold. Used by tasks that filter."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from parimg.errors import TaskError
from parimg.tasks.feature_files import write_file

if TYPE_CHECKING:
    import numpy.typing as npt

_TIFF = (".tif", ".tiff")
# What each format keeps without loss of range; JPEG and WebP lose detail, as their users know.
_DTYPES = {
    ".png": ("uint8", "uint16"),
    ".jpg": ("uint8",),
    ".jpeg": ("uint8",),
    ".bmp": ("uint8",),
    ".webp": ("uint8",),
    ".tif": (
        "bool",
        "int8",
        "int16",
        "int32",
        "int64",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "float32",
        "float64",
    ),
}
EXTENSIONS = (*_DTYPES, ".tiff", ".npy")
"""Formats that images are written in."""


def check_format(extension: str, dtype: np.dtype[Any], ndim: int) -> None:
    """Refuse a format that cannot hold an image.

    Parameters
    ----------
    extension : str
    dtype : dtype
    ndim : int
        2 for gray, 3 with channels, 4 for several images with channels.

    Raises
    ------
    TaskError
        If the format is unknown or holds no such dtype, or no more than one image.
    """
    if extension not in EXTENSIONS:
        raise TaskError(f"the format must be one of {', '.join(EXTENSIONS)} (got {extension!r})")
    if extension == ".npy":
        return
    dtypes = _DTYPES[".tif" if extension in _TIFF else extension]
    if dtype.name not in dtypes:
        raise TaskError(
            f"{extension} files hold {', '.join(dtypes)} (got {dtype.name}); choose another dtype, or .npy"
        )
    if ndim > 3 and extension not in _TIFF:
        raise TaskError(f"{extension} files hold one image (got an array of {ndim} axes); choose .tif or .npy")


def write_image(folder: str, key: str, array: npt.NDArray[Any], extension: str) -> str:
    """Write the image that belongs to an image of a job, which appears under its name once it is complete.

    Parameters
    ----------
    folder : str
    key : str
        See `parimg.tasks.feature_files.write_file`.
    array : ndarray, shape (height, width) or (height, width, channels)
        Gray, RGB or RGBA; any array for ``".npy"``.
    extension : str
        One of `EXTENSIONS`.

    Returns
    -------
    str
        Its path.

    Raises
    ------
    TaskError
        If the format cannot hold the array.
    OSError
        If the file cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = write_image(folder, "views/a.png", np.zeros((4, 6), np.uint8), ".png")
    >>> path.removeprefix(folder)
    '/views/a.png.png'
    """
    check_format(extension, array.dtype, array.ndim)
    return write_file(folder, key, extension, partial(_encode, array=array, extension=extension))


def _encode(file: BinaryIO, *, array: npt.NDArray[Any], extension: str) -> None:
    if extension == ".npy":
        np.save(file, array, allow_pickle=False)
    elif extension in _TIFF:
        import tifffile

        photometric = "rgb" if array.ndim >= 3 and array.shape[-1] in {3, 4} else "minisblack"
        tifffile.imwrite(file, array, photometric=photometric)
    else:
        import cv2

        if array.ndim == 3 and array.shape[2] in {3, 4}:
            order = cv2.COLOR_RGB2BGR if array.shape[2] == 3 else cv2.COLOR_RGBA2BGRA
            array = cv2.cvtColor(np.ascontiguousarray(array), order)
        try:
            done, data = cv2.imencode(extension, array)
        except cv2.error as error:
            raise TaskError(f"an array of shape {array.shape} is no image for {extension}: {error.err}") from None
        if not done:
            raise TaskError(f"OpenCV cannot write an array of shape {array.shape} as {extension}")
        file.write(data.tobytes())
