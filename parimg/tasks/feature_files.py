"""Feature maps as files: how one is written, how it is read back.

Used by `FeatureMap` on engines, and by whoever reads maps.
"""

from __future__ import annotations

import io
import os
from typing import TYPE_CHECKING, BinaryIO, Literal

import numpy as np

from parimg.errors import ImageFormatError, TaskError
from parimg.images.read import read_bytes

if TYPE_CHECKING:
    import numpy.typing as npt

MapDtype = Literal["float32", "float16", "uint8"]
"""How the values of a map are stored."""

_LARGEST_BYTE = 255


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
