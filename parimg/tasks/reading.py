"""What a task is given of an image that is named: read in its own way, or as it and the job's options say.

Called on engines for each image whose file they see, and by whoever looks at an image of a job once more.
"""

from __future__ import annotations

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
