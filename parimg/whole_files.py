"""Files that appear under their name once they are whole, whoever reads or dies meanwhile.

The lowest floor: everything that writes files for others may call it.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable
from contextlib import suppress
from typing import BinaryIO


def write_whole(path: str, write: Callable[[BinaryIO], None]) -> None:
    """Write a file beside its place and move it there, in the place of one that is there.

    Parameters
    ----------
    path : str
    write : callable
        Called with the open file. Where it raises, nothing is left behind.

    Raises
    ------
    OSError
        If it cannot be written.
    """
    unfinished = f"{path}.{os.getpid()}-{secrets.token_hex(4)}.part"
    try:
        with open(unfinished, "xb") as file:
            write(file)
        os.replace(unfinished, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(unfinished)
        raise
