"""Segments: what a run recorded, as files that are written once, for disks on which SQLite cannot write.

On a disk that hosts share the journal is a whole SQLite file, which is only ever replaced, and a folder of
segments: small SQLite files with the rows that came since, named by their numbers, ``00000007-00000007.sqlite``. A
number in the journal itself (SQLite's ``user_version``) says which segments it holds already. The writer has the
journal on a disk of its own, and ships each transaction as a segment before it commits it; readers fold journal
and segments into a copy of their own. Called by `JournalWriter`, and by `local_copy` for those who read.
"""

from __future__ import annotations

import contextlib
import os
import re
import sqlite3
import tempfile
import time
from typing import NamedTuple
from urllib.parse import quote

from parimg.errors import JobError
from parimg.files.atomic import copy_durably

MERGED = 64  # segments become one, so that a day of one a second is 150 files
_TABLES = ("meta", "runs", "records")
_NAME = re.compile(r"(\d{8})-(\d{8})\.sqlite")
_LOOKS = 3  # at a folder in which the writer is just merging


class Segment(NamedTuple):
    """A file that holds what came with the numbers `first` to `last`."""

    first: int
    last: int
    path: str


def has_segments(folder: str) -> bool:
    """Whether there is something in a folder of segments."""
    try:
        with os.scandir(folder) as entries:
            return any(entries)
    except FileNotFoundError:
        return False


def list_segments(folder: str) -> list[Segment]:
    """The segments of a folder, the first first, those that hold more before their parts."""
    try:
        names = os.listdir(folder)
    except FileNotFoundError:
        return []
    found = [
        Segment(int(match[1]), int(match[2]), os.path.join(folder, name))
        for name in names
        if (match := _NAME.fullmatch(name))
    ]
    return sorted(found, key=lambda segment: (segment.first, -segment.last))


def _path(folder: str, first: int, last: int) -> str:
    return os.path.join(folder, f"{first:08}-{last:08}.sqlite")


def held_by(connection: sqlite3.Connection) -> int:
    """Number of the last segment that a journal holds."""
    [(number,)] = connection.execute("PRAGMA user_version").fetchall()
    return int(number)


class Shipment:
    """Ships what one writer records; it alone writes the folder of segments.

    Parameters
    ----------
    connection : Connection
        To the writer's own journal.
    folder : str
        Of the segments, made if it is not there.
    """

    def __init__(self, connection: sqlite3.Connection, folder: str) -> None:
        self._connection = connection
        self._folder = folder
        os.makedirs(folder, mode=0o700, exist_ok=True)
        [(_, _, local)] = connection.execute("PRAGMA database_list").fetchall()
        self._unshipped = f"{local}.segment"
        self._start = held_by(connection)
        self._last_rows = [self._last_row()]  # of each segment from `_start` on
        self._new_meta: set[str] = set()
        self._all_meta: set[str] = set()
        self.shipped_at = time.monotonic()

    def note_meta(self, name: str) -> None:
        """Note that a value of the table ``meta`` was changed."""
        self._new_meta.add(name)
        self._all_meta.add(name)

    def ship(self) -> None:
        """Write what the open transaction holds into the folder, for good.

        Raises
        ------
        OSError
        """
        number = self._start + len(self._last_rows)
        last = self._last_row()
        self._write(number, number, self._last_rows[-1], last, self._new_meta)
        self._connection.execute(f"PRAGMA user_version = {number}")
        self._last_rows.append(last)
        self._new_meta.clear()
        self.shipped_at = time.monotonic()

    def merge(self) -> None:
        """Make one of as many segments as `MERGED`, and of as many of those again."""
        number, span = self._start + len(self._last_rows) - 1, MERGED
        while number % span == 0 and number - span >= self._start:
            first = number - span + 1
            parts = [part for part in list_segments(self._folder) if first <= part.first and part.last <= number]
            after_row = self._last_rows[first - 1 - self._start]
            self._write(first, number, after_row, self._last_rows[-1], self._all_meta)
            for part in parts:
                with contextlib.suppress(FileNotFoundError):
                    os.remove(part.path)
            span *= MERGED

    def _last_row(self) -> int:
        [(last,)] = self._connection.execute("SELECT coalesce(max(seq), 0) FROM records").fetchall()
        return int(last)

    def _write(self, first: int, last: int, after_row: int, last_row: int, meta: set[str]) -> None:
        chosen: dict[str, tuple[str, list[str | int]]] = {
            "meta": (f"name IN ({','.join('?' * len(meta))})", [*meta]),
            "runs": ("true", []),
            "records": ("seq > ? AND seq <= ?", [after_row, last_row]),
        }
        with contextlib.suppress(FileNotFoundError):
            os.remove(self._unshipped)
        with contextlib.closing(sqlite3.connect(self._unshipped, isolation_level=None)) as segment:
            segment.execute("PRAGMA page_size = 1024")
            segment.execute("PRAGMA journal_mode = OFF")
            segment.execute("PRAGMA synchronous = OFF")
            segment.execute("BEGIN")
            for table, (where, values) in chosen.items():
                rows = self._connection.execute(f"SELECT * FROM {table} WHERE {where}", values)
                names = [column[0] for column in rows.description]
                segment.execute(f"CREATE TABLE {table} ({', '.join(names)})")
                segment.executemany(f"INSERT INTO {table} VALUES ({','.join('?' * len(names))})", rows)
            segment.execute("COMMIT")
        copy_durably(self._unshipped, _path(self._folder, first, last))
        os.remove(self._unshipped)


def fold(connection: sqlite3.Connection, folder: str, *, wholly: bool = False) -> None:
    """Add to a copy of a journal what the segments of a folder hold and it does not.

    Parameters
    ----------
    connection : Connection
        Opened with ``uri=True``, and with no transaction open.
    folder : str
    wholly : bool
        All of them, as one needs who goes on with the job; a reader sees those up to the first that is not there
        yet.

    Raises
    ------
    JobError
        If one is damaged, or is wanted and missing.
    """
    if wholly:
        # Disks show a folder as it was some seconds ago, unless one has just changed it.
        with contextlib.suppress(FileNotFoundError), tempfile.NamedTemporaryFile(dir=folder):
            pass
    for _ in range(_LOOKS):
        missing = None
        for segment in list_segments(folder):
            held = held_by(connection)
            if segment.last <= held:
                continue
            if segment.first > held + 1 or not _add(connection, segment):
                missing = held + 1
                break
        if missing is None:
            break
    # What a list does not show yet is found by its name.
    while os.path.exists(path := _path(folder, held := held_by(connection) + 1, held)):
        if not _add(connection, Segment(held, held, path)):
            break
    if wholly and missing is not None:
        raise JobError(f"the segment {missing} of the journal is missing in {folder!r}; was it removed?")


def _add(connection: sqlite3.Connection, segment: Segment) -> bool:
    """Add one; False if it was merged with others in this moment."""
    try:
        with open(segment.path, "rb"):  # asks the disk; whether a path exists may be remembered
            pass
    except FileNotFoundError:
        return False
    try:
        # None is changed once it has its name, so no locks are wanted, which the disk may not have.
        connection.execute("ATTACH ? AS segment", (f"file:{quote(segment.path)}?mode=ro&immutable=1",))
        connection.execute("BEGIN IMMEDIATE")
        if held_by(connection) < segment.last:  # another process may have been faster
            for table in _TABLES:
                connection.execute(f"INSERT OR REPLACE INTO {table} SELECT * FROM segment.{table}")
            connection.execute(f"PRAGMA user_version = {segment.last}")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError as error:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        if not os.path.exists(segment.path):
            return False
        raise JobError(f"the segment {segment.path!r} of the journal cannot be read: {error}") from error
    finally:
        with contextlib.suppress(sqlite3.OperationalError):  # it was not attached
            connection.execute("DETACH segment")
    return True


def remove_segments(folder: str, held: int) -> None:
    """Remove the segments, if the journal holds all of them: those up to a number.

    The folder stays: another host may not see for a while that it is gone, and then could not make it anew.
    """
    if has_segments(folder) and all(segment.last <= held for segment in list_segments(folder)):
        for name in os.listdir(folder):  # also what a writer that was killed left unfinished
            with contextlib.suppress(FileNotFoundError):
                os.remove(os.path.join(folder, name))
