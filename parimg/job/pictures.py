"""Pictures of a job as files in memory: plots, records as their tasks draw them, small views of images.

For pages and notebooks; read from the journal and the images, as far as they are still there.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from parimg.images.display import encoded
from parimg.job.journal import Journal
from parimg.job.plotting import image_of, load_task, options_of, picture_of, plot_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from parimg.images.readers.part import Described
    from parimg.options import Options
    from parimg.record import Record
    from parimg.tasks.task import Task

_THUMBNAIL = 200  # px of the longer side, 5 to 10 kB
_DPI = 100
_MOST_PIXELS = 2**26  # that are read, which is 0.5 s, where nobody asked for a picture by name


def plot(draw: Callable[[Axes], object], width: float, height: float, kind: str = "png", **options: Any) -> bytes:
    """A plot that a function draws on axes of that many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot's, which keeps figures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font does not have are boxes
        draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=_DPI, **options)
    return buffer.getvalue()


def record_picture(task: Task, record: Record, options: Options) -> bytes:
    """What became of an image, as its task draws it."""
    return picture_with(task, record, image_of(task, record, options))


def picture_with(task: Task, record: Record, image: Described | None) -> bytes:
    """What became of an image that is at hand."""

    def draw(ax: Axes) -> None:
        plot_record(task, record, image, ax)
        ax.set_title("")  # it stands below the picture

    return plot(draw, 4.2, 3.2, "jpg", bbox_inches="tight", pad_inches=0.02)


def thumbnail(task: Task, record: Record, options: Options) -> bytes:
    """A small view of a record's image, empty if it is not at hand."""
    image = picture_of(image_of(task, record, options))
    return b"" if image is None else encoded(image, _THUMBNAIL)


def drawn(record: Record) -> bytes:
    """A record of a job as a notebook shows it: drawn by its task, or its image; empty if neither can be had."""
    if not record.job:
        return b""
    journal = Journal(record.job)
    options = options_of(journal)
    options = replace(options, max_pixels=min(options.max_pixels, _MOST_PIXELS))
    task = load_task(journal)
    image = image_of(task, record, options)
    if image is None and not record.arrays:
        return b""  # it would be an empty frame
    try:
        return picture_with(task, record, image)
    except ImportError:  # no matplotlib
        return thumbnail(task, record, options)
