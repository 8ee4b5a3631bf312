"""Files that appear under their name once they are whole, whoever reads or dies meanwhile.

The lowest floor: everything that writes files for others may call it.
"""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO

_COPIED_AT_ONCE = 2**20


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


def write_durably(path: str, write: Callable[[BinaryIO], object]) -> None:
    """Write a file as `write_whole` does, for a disk that outlives this host: it is on the disk on return.

    Raises
    ------
    OSError
        If it cannot be written.
    """

    def write_out(file: BinaryIO) -> None:
        write(file)
        file.flush()
        os.fsync(file.fileno())

    write_whole(path, write_out)
    with suppress(OSError):  # not all disks sync folders; those of other hosts rename at once
        folder = os.open(os.path.dirname(path), os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def copy_durably(source: str, path: str) -> None:
    """Copy a file as `write_durably` writes one."""
    with open(source, "rb") as content:
        write_durably(path, lambda file: shutil.copyfileobj(content, file, _COPIED_AT_ONCE))
