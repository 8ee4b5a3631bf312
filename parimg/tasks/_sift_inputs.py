"""What `MatchSIFT` is given once for all images: a reference, an image or its descriptors, and a mask."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal

from parimg.errors import ImageError, TaskError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

DESCRIPTOR_WIDTH = 128


def named(value: object) -> str:
    shape = getattr(value, "shape", None)
    return repr(os.fspath(value)) if shape is None else f"array of shape {shape}"  # type: ignore[call-overload]


def read_as(path: str | os.PathLike[str], name: str, color: Literal["gray", "unchanged"]) -> npt.NDArray[Any]:
    from parimg.images.decode import read_image

    try:
        return read_image(os.fspath(path), color)
    except ImageError as error:
        raise TaskError(f"the {name} cannot be read: {error}") from error


def where_to_look(mask: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """255 where a mask is not 0, as it is stored: made gray or cut to bytes first, small levels would be 0."""
    import numpy as np

    if mask.ndim not in {2, 3} or mask.dtype.kind not in "biuf" or 0 in mask.shape[2:]:
        raise TaskError(
            f"mask must have shape (height, width), or channels behind (got {mask.dtype}, {mask.shape})"
        )
    is_set = mask != 0
    if mask.ndim == 3 and mask.shape[2] in {2, 4}:  # with alpha: what is transparent is not there
        colored, opaque = is_set[..., :-1].any(axis=2), is_set[..., -1]
        is_set = colored & opaque if colored.any() else opaque
    elif mask.ndim == 3:
        is_set = is_set.any(axis=2)
    return np.ascontiguousarray(is_set, np.uint8) * np.uint8(255)


def are_descriptors(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds descriptors and is no image of the same width.

    SIFT gives each descriptor a length of 512, give or take rounding; rows of an image have any.
    """
    import numpy as np

    if array.ndim != 2 or array.shape[1] != DESCRIPTOR_WIDTH:
        return False
    if array.dtype != np.uint8:
        return True
    length = np.linalg.norm(array.astype(np.float32), axis=1)
    return bool(((length > 500) & (length < 525)).all())


def as_gray(array: npt.NDArray[Any], name: str) -> npt.NDArray[np.uint8]:
    import cv2
    import numpy as np

    if (
        array.dtype != np.uint8
        or array.ndim not in {2, 3}
        or (array.ndim == 3 and array.shape[2] not in {1, 3, 4})
    ):
        raise TaskError(
            f"{name} must be a uint8 image of shape (h, w) or (h, w, 3), or descriptors of shape (n, "
            f"{DESCRIPTOR_WIDTH}) (got {array.dtype}, shape {array.shape})"
        )
    array = np.ascontiguousarray(array)
    if array.ndim == 2:
        return array
    if array.shape[2] == 1:
        return array[:, :, 0]
    code = cv2.COLOR_RGB2GRAY if array.shape[2] == 3 else cv2.COLOR_RGBA2GRAY
    return np.asarray(cv2.cvtColor(array, code), np.uint8)


def as_bytes(descriptors: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    import numpy as np

    narrow = descriptors.astype(np.uint8)
    if not np.array_equal(narrow, descriptors):
        raise TaskError(
            f"reference descriptors must be integers from 0 to 255, as OpenCV's SIFT gives them (got "
            f"{descriptors.dtype} from {descriptors.min()} to {descriptors.max()})"
        )
    return np.ascontiguousarray(narrow)
