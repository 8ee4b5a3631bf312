"""What a task is given of an image that is named: read in its own way, or as it and the job's options say.

Called on engines for each image whose file they see, and by whoever looks at an image of a job once more.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import fields, is_dataclass

from parimg.images.losses import Loss
from parimg.images.readers.part import Described
from parimg.options import DEFAULT_READING, Reading
from parimg.tasks.task import Task


def read_for(task: Task, uri: str, *, max_pixels: int, reading: Reading = DEFAULT_READING) -> Described:
    """Read what a job's image is called.

    Raises
    ------
    ImageError
        If it cannot be read.
    ReaderMissingError
        If its library is not installed on this host.
    """
    if type(task).read is not Task.read:
        return Described(task.read(uri, max_pixels=max_pixels))
    from parimg.images.described import read_described  # not at the top: tasks of arrays need no OpenCV

    return read_described(
        uri, task.color, max_pixels=max_pixels, reading=reading, wants_pixel_size=task.wants_pixel_size
    )


def told_losses(task: Task) -> frozenset[Loss]:
    """What a job says once if it is left out of images: what the user has not asked for.

    Gray of colours is what `MatchSIFT` is known to look at. Where the colour mode is the user's choice and was
    left as it is by default, what comes of it is a surprise. Lower bits are missed by every task.
    """
    if task.color == "unchanged":
        return frozenset({"video"})
    told: set[Loss] = {"levels", "video"}
    if _default_color(task) == task.color:
        told |= {"colours", "alpha"}
    return frozenset(told)


def describe_losses(task: Task, lost: Collection[Loss]) -> tuple[str, ...]:
    """A line for each kind, with the way out."""
    unchanged = "color='unchanged' gives them as they are stored"
    levels = f"{unchanged}, " if _default_color(task) is not None else ""
    lines: dict[Loss, str] = {
        "levels": "images of more than 8 bit were read as 8 bit, without their lower bits: "
        f"{levels}percentile=(1, 99.8) makes 8 bit of the levels that they have",
        "colours": f"images in colours were read as gray: color='color' gives red, green and blue, {unchanged}",
        "alpha": f"alpha, or another fourth channel, of images was left out: {unchanged}",
        "video": "frames of more than 8 bit were read as 8 bit, as those of all videos, without their lower bits",
    }
    return tuple(line for kind, line in lines.items() if kind in lost)


def _default_color(task: Task) -> str | None:
    """The colour mode of a task that lets the user choose it, None of others."""
    if not is_dataclass(task):
        return None
    return next((str(one.default) for one in fields(task) if one.name == "color"), None)
