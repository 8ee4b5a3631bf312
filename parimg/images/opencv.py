"""OpenCV as a decoder: its answers with red first, its errors as ours, and not a word printed.

Called by `decode` and `tiff`.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from parimg.images.damage import BeyondLimitError, DamagedError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt


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

_READ_FLAGS = {
    "gray": cv2.IMREAD_GRAYSCALE,
    "color": cv2.IMREAD_COLOR,
    "unchanged": cv2.IMREAD_UNCHANGED,
    "stack": cv2.IMREAD_GRAYSCALE | cv2.IMREAD_IGNORE_ORIENTATION,
}


def decode_with_opencv(data: bytes, color: str, *, is_turned: bool = True) -> npt.NDArray[Any]:
    """Decode one image as a colour mode wants it; of several the first.

    Gray and colour are turned as EXIF says, unless `is_turned` is false; other modes are not.

    Raises
    ------
    DamagedError
        OpenCV cannot decode it.
    BeyondLimitError
        It is above OpenCV's own limits.
    MemoryError
        It does not fit.
    """
    try:
        with _quiet_opencv:
            # `imdecode` refuses files that `imread` gives half filled.
            flags = _READ_FLAGS[color] if is_turned else _READ_FLAGS[color] | cv2.IMREAD_IGNORE_ORIENTATION
            image: npt.NDArray[Any] | None = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error as error:
        if "CV_IO_MAX_IMAGE" in str(error):
            raise BeyondLimitError(
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
    if color in ("gray", "stack"):
        # OpenCV before 5.0 gives Radiance HDR three channels whatever it is asked for.
        return cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    if color == "color":
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB, dst=image)
    return np.ascontiguousarray(image[..., [2, 1, 0, *range(3, image.shape[2])]])


def decode_pages_with_opencv(data: bytes, n_pages: int) -> list[npt.NDArray[Any]]:
    """Decode the first pages of a file as they are stored.

    Raises
    ------
    DamagedError
        OpenCV decodes fewer.
    """
    try:
        with _quiet_opencv:
            is_decoded, images = cv2.imdecodemulti(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error as error:
        raise DamagedError(f"OpenCV {cv2.__version__} could not decode its pages ({error.err})") from None
    if not is_decoded or len(images) < n_pages:
        raise DamagedError(f"OpenCV {cv2.__version__} decoded {len(images)} of {n_pages} pages")
    return list(images[:n_pages])
