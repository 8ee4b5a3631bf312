"""What an engine makes of an image's content: as the task reads it where its file is seen, or came by message."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from parimg.errors import ImageError
from parimg.files.passing import passing_file
from parimg.tasks.task import Task

if TYPE_CHECKING:
    from parimg.protocol.messages import Content


def read_content(task: Task, uri: str, content: Content, max_pixels: int) -> Any:
    """What `task` is given of an image.

    Raises
    ------
    ImageError
        If it cannot be read, here or on the client.
    """
    if isinstance(content, ImageError):
        raise content
    if not isinstance(content, bytes):
        return task.read(uri, max_pixels=max_pixels) if content is None else content
    if type(task).read is Task.read:
        from parimg.images.decode import decode  # not at the top: a task that is given arrays needs no OpenCV

        return decode(content, task.color, max_pixels=max_pixels, name=uri)
    return _read_as_file(task, uri, content, max_pixels)


def _read_as_file(task: Task, uri: str, content: bytes, max_pixels: int) -> Any:
    """Have a task that reads in its own way do so."""
    with passing_file(content, os.path.splitext(uri)[1]) as path:
        try:
            return task.read(path, max_pixels=max_pixels)
        except ImageError as error:
            raise type(error)(str(error).replace(path, uri)) from None
