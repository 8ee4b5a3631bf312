"""Pictures of a page, as ``data:`` addresses: plots, records as their tasks draw them, small views of images."""

from __future__ import annotations

import base64
import io
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from parimg.images.display import encoded
from parimg.job.plotting import image_of, picture_of, plot_record

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from parimg.options import Options
    from parimg.record import Record
    from parimg.tasks.task import Task

_THUMBNAIL = 200  # px of the longer side, 5 to 10 kB
_DPI = 100


def plot(draw: Callable[[Axes], object], width: float, height: float, kind: str = "png", **options: Any) -> str:
    """A plot that a function draws on axes of that many inches."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")  # not pyplot's, which keeps figures
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # letters that the font does not have are boxes
        draw(figure.subplots())
        buffer = io.BytesIO()
        figure.savefig(buffer, format=kind, dpi=_DPI, **options)
    return _address(buffer.getvalue(), "jpeg" if kind == "jpg" else kind)


def record_picture(task: Task, record: Record, options: Options) -> str:
    """What became of an image, as its task draws it."""
    image = image_of(task, record, options)

    def draw(ax: Axes) -> None:
        plot_record(task, record, image, ax)
        ax.set_title("")  # it stands below the picture

    return plot(draw, 4.2, 3.2, "jpg", bbox_inches="tight", pad_inches=0.02)


def thumbnail(task: Task, record: Record, options: Options) -> str:
    """A small view of a record's image, empty if it is not at hand."""
    image = picture_of(image_of(task, record, options))
    return "" if image is None else _address(encoded(image, _THUMBNAIL), "jpeg")


def _address(data: bytes, kind: str) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
