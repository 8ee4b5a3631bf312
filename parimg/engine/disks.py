"""Whether this host's disks are those of the client; asked by the pool once a host, before its first chunk.

``parimg doctor FOLDER`` also asks whether a lock of the client is seen here.
"""

from __future__ import annotations

import os

from parimg.images.read import local_path
from parimg.protocol.disk_sharing import DiskQuestion, SeenDisks

_LOCK_SECONDS = 0.5


def look_at_disks(question: DiskQuestion) -> SeenDisks:
    """Say which of the client's files are seen here."""
    return SeenDisks(
        job=_holds(question.job, question.token),
        images=_has_size(local_path(question.image), question.image_size),
        output=_answered(question),
    )


def _holds(path: str, token: str) -> bool:
    try:
        with open(path, encoding="ascii") as file:
            return file.read() == token
    except (OSError, ValueError):
        return False


def _has_size(path: str | None, size: int) -> bool:
    try:
        return path is not None and os.stat(path).st_size == size and os.access(path, os.R_OK)
    except (OSError, ValueError):
        return False


def _answered(question: DiskQuestion) -> bool:
    """Write the answer into the client's file; nothing is made in a folder that is not the client's."""
    if not _holds(question.output, question.token):
        return False
    try:
        with open(question.output, "r+", encoding="ascii") as file:  # of the same length, whatever caches hold
            file.write(question.answer)
    except OSError:
        return False
    return True


def try_lock(path: str, token: str) -> str:
    """Try a lock that the client may hold, in a folder where a file holds its token.

    Returns
    -------
    str
        ``got``, ``refused``, ``not seen`` if this is not the client's folder, or why there are no locks.
    """
    if not _holds(f"{path}.token", token):
        return "not seen"
    from filelock import FileLock, Timeout

    try:
        with FileLock(path, timeout=_LOCK_SECONDS):
            return "got"
    except Timeout:
        return "refused"
    except (OSError, NotImplementedError) as error:
        return str(error) or type(error).__name__
