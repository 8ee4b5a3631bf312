"""Records on matplotlib's axes: matches, regions, skeletons, or whatever a task makes of them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from parimg.errors import TaskError
from parimg.images.readers.part import Described
from parimg.job.journal import Journal
from parimg.job.plotting import image_of, load_task, new_axes, options_of
from parimg.job.plotting import plot_record as draw_record
from parimg.plots.matches import draw_matches
from parimg.record import Record
from parimg.tasks._axes import caption_of, draw_box, set_caption, show_image
from parimg.tasks._match_picture import MOST_LINES

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.kernels.skeletons.graph import PixelGraph
    from parimg.retrieval.hits import Hit
    from parimg.tasks._match_picture import LineColors


def plot_record(record: Record, image: npt.NDArray[Any] | None = None, ax: Axes | None = None) -> Axes:
    """Draw one record as its task does; one that failed is its image, with the error; see `parimg.Job.plot`.

    Parameters
    ----------
    record : Record
    image : ndarray, optional
        Needed if it was given to the job as an array; else it is read once more.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes
    """
    ax = ax if ax is not None else new_axes(1, width=6.0, height=4.5)[0]
    journal = _journal_of(record)
    task = load_task(journal)
    given = image_of(task, record, options_of(journal)) if image is None else Described(image)
    draw_record(task, record, given, ax)
    return ax


def plot_matches(
    record: Record,
    *,
    image: npt.NDArray[np.uint8] | None = None,
    max_matches: int = MOST_LINES,
    color: LineColors = "random",
    ax: Axes | None = None,
) -> Axes:
    """Draw the reference and a record's image side by side, with their matches, on axes.

    Parameters
    ----------
    record : Record
        Of a `MatchSIFT` job.
    image, max_matches, color
        As for `draw_matches`, which makes the picture.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TaskError
        As `draw_matches`.

    Examples
    --------
    >>> parimg.plot_matches(job["templeR0002.png"])  # doctest: +SKIP
    """
    picture = draw_matches(record, image=image, max_matches=max_matches, color=color)
    ax = ax if ax is not None else new_axes(1, width=9.0, height=4.0)[0]
    show_image(ax, picture)
    set_caption(ax, caption_of(record))
    return ax


def plot_region(
    found: Record | Hit | Sequence[int],
    image: str | os.PathLike[str] | npt.NDArray[Any] | None = None,
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw an image with the region that was found in it.

    Parameters
    ----------
    found : Record, Hit or sequence of four int
        Of a `RegionSearch` job, of `ImageIndex.search`, or a box ``(y1, x1, y2, x2)`` in pixels, as
        ``RegionIndex.in_pixels`` gives it of a match.
    image : path, URL or ndarray, optional
        The picture. Not needed for a `Hit`. Without it a record's map is drawn: how like the query each cell is.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TaskError
        If `found` has no box in pixels, or there is no image.
    ImageError
        If the image cannot be read.

    Examples
    --------
    >>> import numpy as np
    >>> ax = plot_region((10, 20, 40, 60), np.zeros((100, 200), np.uint8))  # doctest: +SKIP
    """
    if isinstance(found, Record) and image is None:
        return plot_record(found, ax=ax)
    box, caption = _box_of(found)
    if image is None:
        image = getattr(found, "uri", None)
    if image is None:
        raise TaskError("a box alone shows nothing; give image=, a path or an array")
    if isinstance(image, str | os.PathLike):
        from parimg.images.decode import read_image

        image = read_image(os.fspath(image), "color")
    ax = ax if ax is not None else new_axes(1, width=6.0, height=4.5)[0]
    show_image(ax, image)
    if box is not None:
        draw_box(ax, box)
    set_caption(ax, caption)
    return ax


def plot_skeleton(
    skeleton: PixelGraph | Record, image: npt.NDArray[Any] | None = None, *, ax: Axes | None = None
) -> Axes:
    """Draw a skeleton, coloured by how many links each pixel has: tips purple, paths red, junctions yellow.

    Parameters
    ----------
    skeleton : PixelGraph or Record
        As `parimg.kernels.pixel_graph` makes it, or of a `SkeletonGraph` job.
    image : ndarray, optional
        Drawn below it. That of a record is read once more, unless it was given to the job as an array.
    ax : matplotlib Axes, optional
        By default in a new figure, which is not shown.

    Returns
    -------
    matplotlib Axes

    Raises
    ------
    TaskError
        If it is neither, or of an image with other than two or three axes.

    Examples
    --------
    >>> from parimg.kernels import pixel_graph
    >>> ax = plot_skeleton(pixel_graph([[1, 1, 1], [0, 0, 0]]))  # doctest: +SKIP
    """
    if isinstance(skeleton, Record):
        return plot_record(skeleton, image, ax)
    from parimg.kernels.skeletons.graph import PixelGraph
    from parimg.tasks._skeleton_picture import plot_on_axes

    if not isinstance(skeleton, PixelGraph):
        raise TaskError(f"plot_skeleton wants a PixelGraph or a record (got a {type(skeleton).__name__})")
    if len(skeleton.shape) not in {2, 3}:
        raise TaskError(f"skeletons of two or three axes can be drawn (got one of {len(skeleton.shape)})")
    ax = ax if ax is not None else new_axes(1, width=6.0, height=4.5)[0]
    plot_on_axes(ax, skeleton, image)
    return ax


def _journal_of(record: Record) -> Journal:
    if not record.job:
        raise TaskError(f"record {record.key!r} belongs to no job")
    return Journal(record.job)


def _box_of(found: Record | Hit | Sequence[int]) -> tuple[Sequence[int] | None, str]:
    if isinstance(found, Record):
        if "image_box" not in found:
            raise TaskError(f"the record of {found.key!r} has no image_box; RegionSearch's records have one")
        return found["image_box"], caption_of(found)
    if hasattr(found, "image_box"):
        hit = cast("Hit", found)
        return hit.image_box, f"{os.path.basename(hit.key)}, {hit.score:.3f}"
    if len(found) != 4:
        raise TaskError(f"a box is (y1, x1, y2, x2) (got {found!r:.80})")
    return found, ""
