"""Passing files: bytes that came by message, for code that wants a path; gone when an image is done.

Made by the engine; asked by tasks that would keep a file mapped for the next time.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_path: ContextVar[str] = ContextVar("parimg_passing", default="")


@contextmanager
def passing_file(data: bytes, ending: str) -> Iterator[str]:
    """Give the path of a file with these bytes, which may still be mapped when it is removed.

    Examples
    --------
    >>> with passing_file(b"abc", ".txt") as path:
    ...     open(path, "rb").read(), is_passing(path)
    (b'abc', True)
    >>> os.path.exists(path), is_passing(path)
    (False, False)
    """
    with tempfile.TemporaryDirectory(prefix="parimg-", ignore_cleanup_errors=True) as folder:
        path = os.path.join(folder, f"image{ending}")
        with open(path, "wb") as file:
            file.write(data)
        token = _path.set(path)
        try:
            yield path
        finally:
            _path.reset(token)


def is_passing(path: str) -> bool:
    """Whether it is a file that is soon gone."""
    return path == _path.get()
