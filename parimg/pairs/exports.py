"""What the exports of matched pairs have in common: an error that tells how to write them again.

Called by `colmap`, `hloc` and `pair_table` on the client.
"""

from __future__ import annotations

import contextlib
import shlex
import sqlite3
from collections.abc import Iterator
from typing import Literal

from parimg.errors import JobError


@contextlib.contextmanager
def exporting(directory: str, kind: Literal["colmap", "hloc", "parquet"], path: str) -> Iterator[None]:
    """Write something of the pairs of a directory.

    Raises
    ------
    JobError
        If `path` cannot be written: the pairs stay, and it is told by which command they are written again.
    """
    try:
        yield
    except (OSError, sqlite3.Error) as error:
        command = shlex.join(["parimg", "export", directory, "--to", kind, "-o", path])
        raise JobError(
            f"{path!r} cannot be written: {error}; the pairs in {directory!r} stay; once there is room, or with "
            f"another name: {command}"
        ) from error
