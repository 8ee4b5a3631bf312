"""Whether this host's disks are those of the client; asked by the pool once a host, before its first chunk."""

from __future__ import annotations

import os

from parimg.images.read import local_path
from parimg.protocol.disk_sharing import DiskQuestion, SeenDisks


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
