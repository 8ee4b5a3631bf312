"""Any image as people can look at it: three bytes a pixel, no larger than a screen.

For pictures only: levels are stretched, pages and channels that a screen does not show are left out. Tasks,
plots and reports call it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_MOST_CHANNELS = 4


def displayed(image: npt.NDArray[Any], longest: int | None = None) -> npt.NDArray[np.uint8]:
    """An image as red, green and blue bytes.

    Parameters
    ----------
    image : ndarray
        Numbers or bools; of shape (height, width), (height, width, channels) with up to four channels, or with
        more axes in front, of which the largest level is shown. Bytes stay as they are, other levels are stretched
        from the lowest to the highest finite one.
    longest : int, optional
        Larger images are scaled down until no side has more pixels.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)

    Examples
    --------
    >>> import numpy as np
    >>> displayed(np.array([[0, 1000], [500, 250]]))[..., 0].tolist()
    [[0, 255], [128, 64]]
    """
    import cv2
    import numpy as np

    flat = _without_pages(np.asarray(image))
    if not flat.size:
        return np.full((1, 1, 3), 128, np.uint8)
    if longest is not None:
        step = max(1, max(flat.shape[:2]) // (4 * longest))  # 3 ms in place of 100 for 10 000 x 10 000 pixels
        flat = flat[::step, ::step]
    levels: npt.NDArray[np.uint8] = flat if flat.dtype == np.uint8 else stretched(flat)
    if longest is not None and max(levels.shape[:2]) > longest:
        scale = longest / max(levels.shape[:2])
        height, width = (max(1, round(side * scale)) for side in levels.shape[:2])
        smaller = cv2.resize(np.ascontiguousarray(levels), (width, height), interpolation=cv2.INTER_AREA)
        levels = np.asarray(smaller, np.uint8)
    if levels.ndim == 2 or levels.shape[2] < 3:
        gray = levels if levels.ndim == 2 else levels[:, :, 0]
        levels = np.repeat(gray[:, :, None], 3, axis=2)
    return np.ascontiguousarray(levels[:, :, :3])


def stretched(levels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Levels from the lowest to the highest finite one as bytes from 0 to 255."""
    import numpy as np

    values = np.abs(levels) if levels.dtype.kind == "c" else np.asarray(levels, np.float64)
    finite = values[np.isfinite(values)]
    lowest, highest = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
    scale = 255 / (highest - lowest) if highest > lowest else 0.0
    above = np.clip(np.nan_to_num(values, nan=lowest), lowest, highest) - lowest
    return np.asarray(np.rint(above * scale), np.uint8)


def encoded(image: npt.NDArray[Any], longest: int) -> bytes:
    """A small JPEG file of an image."""
    import cv2

    picture = displayed(image, longest)
    return bytes(cv2.imencode(".jpg", picture[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])[1])


def _without_pages(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The axes of one picture: rows, columns, and perhaps channels."""
    while image.ndim > 3 or (image.ndim == 3 and not 1 <= image.shape[2] <= _MOST_CHANNELS):
        if not image.shape[0]:
            return image[..., :0].reshape(0, 0)
        image = image.max(axis=0)
    return image if image.ndim > 1 else image.reshape(1, -1)
