"""Pictures of matched pairs, for notebooks and reports: one pair with its lines, and all pairs as a matrix."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, cast

import numpy as np

from parimg.errors import TaskError
from parimg.pairs.feature_task import gray_as_stored
from parimg.tasks._match_picture import MOST_LINES, match_picture, shrunk

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.pairs.pair_job import PairJob

    Gray = npt.NDArray[np.uint8]

_LEAST_CELL, _MOST_CELL = 1, 16  # px of a pair
_MARGIN = 46  # px left of the matrix and above it, for numbers
_LETTER = 0.38  # of OpenCV's font
_INK = (60, 60, 60)
_UNMATCHED = (236, 236, 236)


def plot_pair(
    job: PairJob | str | os.PathLike[str],
    first: str | int,
    second: str | int,
    *,
    images: tuple[Gray, Gray] | None = None,
    max_matches: int = MOST_LINES,
    longest: int | None = 1000,
) -> Gray:
    """Draw two images side by side, with lines between their matches; outliers below them, thin and red.

    Parameters
    ----------
    job : PairJob or path
        Or its directory.
    first, second : str or int
        Images by name, key, path or number.
    images : pair of ndarray of uint8, optional
        The images themselves, gray or RGB, needed if they were given as arrays.
    max_matches : int, default 200
        Draw at most so many inliers, and so many outliers, evenly chosen.
    longest : int or None, default 1000
        Images with a longer side are scaled down to it.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB. Images are not turned by their EXIF orientation, as features are found.

    Raises
    ------
    JobError
        If there is no such image.
    ImageError
        If one cannot be read.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> plt.imshow(parimg.plot_pair(job, "a.jpg", "b.jpg"))  # doctest: +SKIP
    """
    opened = _opened(job)
    found = opened.match(first, second)
    numbers = (found.first, found.second)
    if images is None:
        uris = [opened.images()[number].uri for number in numbers]
        if "" in uris:
            raise TaskError("these images were arrays; give them as images=(first, second)")
        from parimg.images.decode import read_image

        images = cast("tuple[Gray, Gray]", tuple(read_image(uri, "unchanged") for uri in uris))
    views, points = [], []
    for image, number, column in zip(images, numbers, found.matches.T, strict=True):
        small, scale = shrunk(gray_as_stored(image, str(number)), longest)
        views.append(small)
        points.append(opened.features_of(number).points[column, :2] * np.float32(scale))
    # Colours by place: no distances are kept.
    places = np.arange(len(found.matches))
    inliers = None if not found.configuration and opened.keeps_unverified else found.inliers
    return match_picture((views[0], views[1]), (points[0], points[1]), places, inliers, most=max_matches)


def plot_match_graph(job: PairJob | str | os.PathLike[str], *, size: int = 800, by: str = "inliers") -> Gray:
    """Draw which images match which: a matrix of all pairs, brighter for more inliers.

    Parameters
    ----------
    job : PairJob or path
        Or its directory.
    size : int, default 800
        Pixels of each side of the matrix, about. Where there are more images than that, a pixel is the best of
        several pairs.
    by : {"inliers", "matches"}

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB: gray for pairs that were not matched, dark blue for no inliers, then by their logarithm up to yellow.

    Raises
    ------
    TaskError
        If there are no images, or a parameter is out of its range.
    """
    import cv2

    if by not in {"inliers", "matches"}:
        raise TaskError(f"by must be 'inliers' or 'matches' (got {by!r})")
    if isinstance(size, bool) or not isinstance(size, int) or size < 16:
        raise TaskError(f"size must be an integer of at least 16 (got {size!r})")
    opened = _opened(job)
    n_images = len(opened.images())
    if not n_images:
        raise TaskError(f"no image of {opened.directory!r} has features yet")
    each = -(-n_images // size)  # images of a cell
    n_cells = -(-n_images // each)
    counts = np.full((n_cells, n_cells), -1, np.int64)
    for table in opened.tables():
        rows, columns = table["first"] // each, table["second"] // each
        np.maximum.at(counts, (rows, columns), table[by])
        np.maximum.at(counts, (columns, rows), table[by])
    level = np.log1p(np.maximum(counts, 0))
    scaled = (255 * level / max(float(level.max()), 1e-9)).astype(np.uint8)
    colored = cv2.cvtColor(cv2.applyColorMap(scaled, cv2.COLORMAP_VIRIDIS), cv2.COLOR_BGR2RGB)
    colored[counts < 0] = _UNMATCHED
    cell = min(_MOST_CELL, max(_LEAST_CELL, size // n_cells))
    matrix = np.asarray(np.repeat(np.repeat(colored, cell, axis=0), cell, axis=1), np.uint8)
    return _with_numbers(matrix, n_images, cell / each)


def _with_numbers(matrix: npt.NDArray[np.uint8], n_images: int, pixels: float) -> npt.NDArray[np.uint8]:
    """The matrix with numbers of images beside and above it."""
    import cv2

    side = len(matrix)
    picture = np.full((side + _MARGIN, side + _MARGIN, 3), 255, np.uint8)
    picture[_MARGIN:, _MARGIN:] = matrix
    step = next(step for step in _steps() if step * pixels >= 48)
    for number in range(0, n_images, step):
        at = round(_MARGIN + number * pixels)
        cv2.putText(picture, str(number), (4, at + 9), cv2.FONT_HERSHEY_SIMPLEX, _LETTER, _INK, 1, cv2.LINE_AA)
        cv2.putText(
            picture, str(number), (at, _MARGIN - 6), cv2.FONT_HERSHEY_SIMPLEX, _LETTER, _INK, 1, cv2.LINE_AA
        )
    return picture


def _steps() -> list[int]:
    return [number * 10**power for power in range(8) for number in (1, 2, 5)]


def _opened(job: PairJob | str | os.PathLike[str]) -> PairJob:
    if isinstance(job, str | os.PathLike):
        from parimg.pairs.pair_job import open_pairs

        return open_pairs(job)
    return job
