"""Feature maps as files: where the map of an image is put, how it is written, how it is read back.

A file is named after its image, below the folder that the user chose and nowhere else, whatever the image is
called. Used by `FeatureMap` and `SkeletonGraph` on engines, and by whoever reads maps.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from parimg.errors import ImageFormatError, TaskError
from parimg.files.atomic import write_whole
from parimg.images.read import read_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

MapDtype = Literal["float32", "float16", "uint8"]
"""How the values of a map are stored."""

_LONGEST_NAME = 200  # bytes; file systems take 255, and unfinished files have a longer name
_UNSAFE = re.compile(r'[\x00-\x1f\x7f%\\:*?"<>|\ud800-\udfff]')
_LARGEST_BYTE = 255


def file_of(folder: str, key: str, extension: str) -> str:
    """Path of the file that belongs to an image, below `folder`.

    Parameters
    ----------
    folder : str
    key : str
        The image's key: a relative or absolute path, a URL, any name.
    extension : str
        Appended to the image's own one: images that differ in it have different files.

    Returns
    -------
    str
        Different keys have different paths. What could lead out of the folder, or what file systems do not
        take, is replaced: ``..`` by ``%2E%2E``, an empty part, such as that before a leading slash, by ``%``.

    Examples
    --------
    >>> file_of("maps", "views/a.png", ".npy")
    'maps/views/a.png.npy'
    >>> file_of("maps", "/etc/../a.png", ".npy")
    'maps/%/etc/%2E%2E/a.png.npy'
    """
    *folders, name = key.split("/")
    return "/".join([folder, *(_safe(part) for part in folders), _safe(name, extension)])


def write_file(folder: str, key: str, extension: str, write: Callable[[BinaryIO], None]) -> str:
    """Write the file that belongs to an image, which appears under its name once it is complete.

    Parameters
    ----------
    folder : str
        Created if it does not exist. It may be a symbolic link; below it none is followed.
    key, extension : str
        See `file_of`.
    write : callable
        Called with the open file.

    Returns
    -------
    str
        Its path. A file of that name is replaced.

    Raises
    ------
    TaskError
        If something below `folder` is a symbolic link or a file where a folder is needed.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = write_file(folder, "views/a.png", ".txt", lambda file: file.write(b"a"))
    >>> path.removeprefix(folder)
    '/views/a.png.txt'
    """
    path = file_of(folder, key, extension)
    os.makedirs(folder, exist_ok=True)
    place = folder
    for part in os.path.dirname(path).removeprefix(folder).split("/")[1:]:
        place = f"{place}/{part}"
        with suppress(FileExistsError):
            os.mkdir(place)
        if os.path.islink(place) or not os.path.isdir(place):
            kind = "a symbolic link, which is not followed" if os.path.islink(place) else "a file"
            raise TaskError(f"{place!r} is {kind}; wanted a folder for the file of image {key!r}")
    write_whole(path, write)
    return path


def make_folder(folder: str) -> None:
    """Make the folder that files of images go to, and make sure that it can be written.

    Raises
    ------
    TaskError
        If it cannot be made or written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise TaskError(f"the output folder cannot be made: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TaskError(f"the output folder {folder!r} may not be written by this user")


def map_extension(dtype: MapDtype) -> str:
    """Extension of the file of a map: bytes come with their scale."""
    return ".npz" if dtype == "uint8" else ".npy"


def save_feature_map(file: BinaryIO, feature_map: npt.NDArray[np.float32], dtype: MapDtype = "float32") -> None:
    """Write a map to an open file.

    Parameters
    ----------
    file : binary file
    feature_map : ndarray of float32, shape (channels, height, width)
    dtype : {"float32", "float16", "uint8"}
        ``"float16"``: relative error up to 2**-11. ``"uint8"``: the range of the map and zero in 255 steps,
        zero exactly, others up to half a step off.

    Raises
    ------
    TaskError
        If `dtype` cannot hold the values.

    Notes
    -----
    The file is NumPy's ``.npy``, for ``"uint8"`` its ``.npz`` with three entries: ``feature_map``, and ``scale``
    and ``zero_point``, with which values are ``(feature_map - zero_point) * scale``.

    Examples
    --------
    >>> import io
    >>> file = io.BytesIO()
    >>> save_feature_map(file, np.array([[[0, 3, 6]]], np.float32), "uint8")
    >>> np.load(io.BytesIO(file.getvalue()))["feature_map"]
    array([[[  0, 128, 255]]], dtype=uint8)
    """
    if dtype == "uint8":
        quantised, scale, zero_point = _quantise(feature_map)
        np.savez(file, feature_map=quantised, scale=scale, zero_point=zero_point)
    else:
        np.save(file, as_dtype(feature_map, dtype), allow_pickle=False)


def as_dtype(
    feature_map: npt.NDArray[np.float32], dtype: Literal["float32", "float16"]
) -> npt.NDArray[np.floating]:
    """A map in a narrower dtype.

    Raises
    ------
    TaskError
        If `dtype` cannot hold the values.
    """
    with np.errstate(over="ignore"):
        narrow = feature_map.astype(dtype, copy=False)
    if dtype == "float16" and np.isinf(narrow).any():
        raise TaskError(
            f"float16 holds values up to 65504, the feature map has {np.abs(feature_map).max():g}; use float32"
        )
    return narrow


def load_feature_map(path: str | os.PathLike[str]) -> npt.NDArray[np.float32]:
    """Read a map that `FeatureMap` wrote, or any ``.npy`` file of one.

    Parameters
    ----------
    path : str or path
        A path or URL.

    Returns
    -------
    ndarray of float32, shape (channels, height, width)
        With the scale of ``uint8`` undone.

    Raises
    ------
    ImageError
        If it cannot be read; `ImageFormatError` if it holds something else than a map, or is damaged.

    Examples
    --------
    >>> import tempfile
    >>> path = tempfile.mkdtemp() + "/map.npz"
    >>> with open(path, "wb") as file:
    ...     save_feature_map(file, np.array([[[0, 3, 6]]], np.float32), "uint8")
    >>> load_feature_map(path).round(2)
    array([[[0.  , 3.01, 6.  ]]], dtype=float32)
    """
    name = os.fspath(path)
    data = read_bytes(name)
    try:
        loaded = np.load(io.BytesIO(data), allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            values, scale, zero_point = loaded, None, None
        else:
            values, scale, zero_point = (loaded[entry] for entry in ("feature_map", "scale", "zero_point"))
    except MemoryError:
        raise
    except Exception as error:  # a damaged header is parsed as Python, and fails in more ways than are documented
        raise ImageFormatError(f"{name!r} holds no feature map: {type(error).__name__}: {error}") from None
    if values.ndim != 3 or not values.size or values.dtype.kind not in "biuf":
        raise ImageFormatError(
            f"{name!r} holds no feature map: {values.dtype} of shape {values.shape}, wanted real numbers of shape "
            "(channels, height, width)"
        )
    feature_map: npt.NDArray[np.float32] = values.astype(np.float32, copy=False)
    if scale is not None:
        feature_map -= np.float32(zero_point)
        feature_map *= np.float32(scale)
    return feature_map


def _quantise(feature_map: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.uint8], np.float32, np.uint8]:
    lowest, highest = (float(limit) for limit in (feature_map.min(), feature_map.max()))
    if not np.isfinite([lowest, highest]).all():
        raise TaskError(
            f"uint8 holds no infinity and no NaN, the feature map has values from {lowest} to {highest}"
        )
    lowest, highest = min(lowest, 0.0), max(highest, 0.0)
    scale = np.float32((highest - lowest) / _LARGEST_BYTE)
    if not scale > 0:  # all zero, or as good as
        scale = np.float32(1)
    zero_point = round(-lowest / float(scale))
    steps = np.rint(feature_map / scale) + np.float32(zero_point)
    return np.clip(steps, 0, _LARGEST_BYTE).astype(np.uint8), scale, np.uint8(zero_point)


def _safe(part: str, extension: str = "") -> str:
    """A part of a path that means nothing to a file system, told from all others."""
    if part in {".", ".."}:
        safe = part.replace(".", "%2E")
    else:
        safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part) or "%"
    encoded = safe.encode()
    if len(encoded) + len(extension) > _LONGEST_NAME:
        digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kept = encoded[: _LONGEST_NAME - len(extension) - len(digest) - 2].decode("utf-8", "ignore")
        safe = f"{kept}%~{digest}"
    return safe + extension
