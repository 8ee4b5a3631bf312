"""What an engine makes of an image's content: as the task reads it where its file is seen, or came by message."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING

from parimg.errors import ImageError
from parimg.files.passing import passing_file
from parimg.images.readers.address import split_address
from parimg.images.readers.part import Described, Part
from parimg.options import DEFAULT_READING, Reading
from parimg.tasks.reading import read_for
from parimg.tasks.task import Task

if TYPE_CHECKING:
    from parimg.protocol.messages import WholeContent


def read_content(
    task: Task, uri: str, content: WholeContent, max_pixels: int, reading: Reading = DEFAULT_READING
) -> Described:
    """What `task` is given of an image.

    Raises
    ------
    ImageError
        If it cannot be read, here or on the client.
    ReaderMissingError
        If its library is not installed on this host.
    """
    if isinstance(content, ImageError):
        raise content
    if content is not None and not isinstance(content, bytes | Part):
        return Described(content)
    from parimg.images import described  # not at the top: a task that is given arrays needs no OpenCV

    if isinstance(content, Part):
        return described.describe_part(content, task.color, max_pixels=max_pixels, reading=reading)
    if content is None:
        return read_for(task, uri, max_pixels=max_pixels, reading=reading)
    if type(task).read is Task.read and reading == DEFAULT_READING and not task.wants_pixel_size:
        return described.describe_bytes(content, uri, task.color, max_pixels=max_pixels)
    return _as_file(uri, content, lambda path: read_for(task, path, max_pixels=max_pixels, reading=reading))


def _as_file(uri: str, content: bytes, read: Callable[[str], Described]) -> Described:
    """Read from a file that has the bytes that came."""
    file, _ = split_address(uri)
    with passing_file(content, os.path.splitext(file)[1]) as path:
        try:
            return read(path)
        except ImageError as error:
            raise type(error)(str(error).replace(path, uri)) from None
