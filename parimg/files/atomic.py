"""Files that appear under their name once they are whole, whoever reads or dies meanwhile.

The lowest floor: everything that writes files for others may call it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO


@contextmanager
def whole_file(path: str | os.PathLike[str]) -> Iterator[str]:
    """Give the name of a file beside `path` to write; it is moved there, in the place of one that is there.

    Parameters
    ----------
    path : path
        Where an error comes up, nothing is left beside it.

    Raises
    ------
    OSError
        If it cannot be moved.
    """
    unfinished = f"{os.fspath(path)}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise


def write_whole(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file by a function that is called with it, open; see `whole_file`.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    with whole_file(path) as unfinished, open(unfinished, "xb") as file:
        write(file)
