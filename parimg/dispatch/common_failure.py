"""CommonFailure: notice at the start of a run that its images fail for one reason, and not each for its own.

Pure; the dispatcher shows it every row. Two things are noticed, each once: the first hundred images all failed
alike, and the first twenty that one host ran were all missing there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from typing import NamedTuple

from parimg.errors import ImageMissingError
from parimg.record import Row

ALIKE = 100  # images
MISSING = 20  # images of a host


class Cause(NamedTuple):
    """What failed rows have in common."""

    error: str
    message: str
    """Of the first of them."""


class CommonFailure:
    """Watches the rows of one run, until the first that contradicts.

    Examples
    --------
    >>> from parimg.record import failed_row
    >>> def row(n):
    ...     return failed_row(n, f"{n}.png", f"/data/{n}.png", "task", "ValueError", f"{n}.png has 3 channels")
    >>> common = CommonFailure()
    >>> common.note_rows(row(n) for n in range(99))
    >>> common.note_rows([row(99)])
    Cause(error='ValueError', message='0.png has 3 channels')
    """

    def __init__(self) -> None:
        self._alike = 0
        self._cause: Cause | None = None
        self._pattern: tuple[str | None, str] | None = None
        self._is_varied = False
        self._missing: dict[str, int] = {}
        self._seeing: set[str] = set()

    def note_rows(self, rows: Iterable[Row]) -> Cause | None:
        """The cause, when these rows complete the first hundred and all of them failed alike."""
        if self._is_varied:
            return None
        for row in rows:
            pattern = (row.error, _without_name(row))
            if self._pattern is None:
                self._pattern, self._cause = pattern, Cause(row.error or "", row.message or "")
            self._alike += 1
            self._is_varied = row.status != "failed" or pattern != self._pattern or self._alike == ALIKE
            if self._is_varied:
                is_told = row.status == "failed" and pattern == self._pattern
                return self._cause if is_told else None
        return None

    def note_host(self, host: str, rows: Iterable[Row]) -> bool:
        """Whether the first images that this host ran are all missing there."""
        if host in self._seeing:
            return False
        for row in rows:
            if row.error != ImageMissingError.__name__:
                self._seeing.add(host)
                return False
            self._missing[host] = self._missing.get(host, 0) + 1
            if self._missing[host] == MISSING:
                self._seeing.add(host)
                return True
        return False


def _without_name(row: Row) -> str:
    """An error's message without what tells one image from another: its names, and numbers."""
    message = row.message or ""
    for name in (row.uri, row.key, os.path.basename(row.uri), os.path.basename(row.key)):
        if name:
            message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "...", message)
    return re.sub(r"\d+", "0", message)
