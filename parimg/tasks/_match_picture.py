"""Pictures of matches, for `MatchSIFT` and `plots`: two images side by side, lines that can be told apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

LineColors = Literal["random", "distance"]
MOST_LINES = 200  # more of them are a slab of colour
_OUTLIER = (205, 60, 60)
_SIDE_A_LINE = 1500  # px of the picture's longer side for each of a line's width
_SHIFT = 4  # bits of OpenCV's coordinates behind the point


def match_picture(
    images: tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]],
    points: tuple[npt.NDArray[Any], npt.NDArray[Any]],
    distances: npt.NDArray[Any],
    inliers: npt.NDArray[np.bool_] | None = None,
    *,
    color: LineColors = "random",
    most: int = MOST_LINES,
) -> npt.NDArray[np.uint8]:
    """Draw matches as lines between two images.

    Parameters
    ----------
    images : pair of ndarray of uint8, shape (height, width)
    points : pair of ndarray, shape (matches, 2)
        x and y of each match in either image.
    distances : ndarray, shape (matches,)
        Of their descriptors.
    inliers : ndarray of bool, shape (matches,), optional
        The others are drawn below them, thin and red.
    color : {"random", "distance"}
        Of lines: any, the same for the same place among the matches, or from blue, the nearest, to yellow.
    most : int, default 200
        Draw at most so many inliers, and so many outliers, evenly chosen.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        Red, green, blue.
    """
    import cv2
    import numpy as np

    left, right = images
    picture = np.zeros((max(len(left), len(right)), left.shape[1] + right.shape[1], 3), np.uint8)
    picture[: len(left), : left.shape[1]] = left[:, :, None]
    picture[: len(right), left.shape[1] :] = right[:, :, None]
    thickness = max(1, round(max(picture.shape) / _SIDE_A_LINE))
    colors = _colors(distances, color)
    ends = np.stack([points[0], points[1] + np.array([left.shape[1], 0])], axis=1)
    ends = np.rint(ends * 2**_SHIFT).astype(int)
    is_drawn = np.ones(len(ends), bool) if inliers is None else inliers
    for is_outlier, chosen in ((True, _evenly(~is_drawn, most)), (False, _evenly(is_drawn, most))):
        for place in chosen.tolist():
            paint = _OUTLIER if is_outlier else colors[place]
            first, second = ends[place].tolist()
            cv2.line(picture, first, second, paint, 1 if is_outlier else thickness, cv2.LINE_AA, _SHIFT)
            for end in (first, second) if not is_outlier else ():
                cv2.circle(picture, end, (2 * thickness + 1) << _SHIFT, paint, thickness, cv2.LINE_AA, _SHIFT)
    return picture


def shrunk(image: npt.NDArray[np.uint8], longest: int | None) -> tuple[npt.NDArray[np.uint8], float]:
    """An image with no side longer than that, and its pixels for each of the original."""
    import cv2
    import numpy as np

    if longest is None or max(image.shape) <= longest:
        return image, 1.0
    scale = longest / max(image.shape)
    height, width = (max(1, round(side * scale)) for side in image.shape)
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8), scale


def _evenly(is_one: npt.NDArray[np.bool_], most: int) -> npt.NDArray[np.int64]:
    import numpy as np

    found = np.flatnonzero(is_one)
    return found if len(found) <= most else found[np.linspace(0, len(found) - 1, most).round().astype(int)]


def _colors(distances: npt.NDArray[Any], color: LineColors) -> list[tuple[int, ...]]:
    import cv2
    import numpy as np

    n = len(distances)
    if not n:
        return []
    if color == "distance":
        rank = np.argsort(np.argsort(distances, kind="stable"), kind="stable")
        levels = np.rint(60 + rank * (195 / max(n - 1, 1))).astype(np.uint8)  # below, they are too dark
        shades = cv2.applyColorMap(levels[:, None], cv2.COLORMAP_VIRIDIS)[:, 0, ::-1]
    else:
        # Steps of the golden ratio: neighbours in the list, which often are neighbours in the image, differ.
        # OpenCV's hues go to 180; red, around 0, is that of outliers.
        hues = (20 + np.arange(n) * 0.618034 % 1 * 135).astype(np.uint8)
        bright = np.stack([hues, np.full(n, 200, np.uint8), np.full(n, 255, np.uint8)], axis=1)
        shades = cv2.cvtColor(bright[:, None], cv2.COLOR_HSV2RGB)[:, 0]
    return [tuple(shade) for shade in shades.tolist()]
