"""Pictures of the matches of a record of `MatchSIFT`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from parimg.errors import TaskError
from parimg.job.journal import Journal
from parimg.job.plotting import options_of
from parimg.plots.arguments import check_least
from parimg.record import Record
from parimg.tasks._match_picture import MOST_LINES
from parimg.tasks.match_sift import MatchSIFT
from parimg.tasks.reading import read_for

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.tasks._match_picture import LineColors


def draw_matches(
    record: Record,
    *,
    image: npt.NDArray[np.uint8] | None = None,
    max_matches: int = MOST_LINES,
    color: LineColors = "random",
) -> npt.NDArray[np.uint8]:
    """Draw the reference and a record's image side by side, with lines between their matches.

    If the task verified its matches, outliers are drawn below the inliers, thin and red.

    Parameters
    ----------
    record : Record
        Of a `MatchSIFT` job whose reference was an image. The image is read and matched once more.
    image : ndarray of uint8, shape (height, width), optional
        The record's image, needed if it was given to the job as an array.
    max_matches : int, default 200
        Draw at most so many matches, or inliers and outliers each, evenly chosen.
    color : {"random", "distance"}
        Of lines: any, to tell them apart, or by distance, from dark blue, the nearest, to yellow.

    Returns
    -------
    ndarray of uint8, shape (height, width, 3)
        RGB.

    Raises
    ------
    TaskError
        If the record failed, is of another task, or a picture is not to be had.

    Examples
    --------
    >>> import matplotlib.pyplot as plt  # doctest: +SKIP
    >>> plt.imshow(parimg.draw_matches(record))  # doctest: +SKIP
    """
    if color not in {"random", "distance"}:
        raise TaskError(f"color must be 'random' or 'distance' (got {color!r})")
    check_least("max_matches", max_matches, 0)
    if not record.ok:
        raise TaskError(f"image {record.key!r} failed in {record.stage}: {record.error}: {record.message}")
    task = _match_task(record)
    task.reference_image()
    if image is None:
        if not record.uri:
            raise TaskError(f"image {record.key!r} was an array; give it as image=")
        options = options_of(Journal(record.job))
        pixels = read_for(task, record.uri, max_pixels=options.max_pixels, reading=options.reading).pixels
        return task.draw(pixels, task.match(pixels), color=color, most=max_matches, longest=None)
    return task.draw(image, task.match(image), color=color, most=max_matches, longest=None)


def _match_task(record: Record) -> MatchSIFT:
    """The task of the record's job."""
    if not record.job:
        raise TaskError(f"record {record.key!r} belongs to no job")
    task = Journal(record.job).load_task()
    if not isinstance(task, MatchSIFT):
        raise TaskError(f"record {record.key!r} is of a {task.name} job; only MatchSIFT's matches can be drawn")
    return task
