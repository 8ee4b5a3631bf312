"""JournalWriter: the writing side of a job's journal.

Called by the dispatcher of the process that owns the job, and by the controller that starts it. A record stands in
the journal before anyone sees it, so a client that is killed at any moment loses at most what engines were still
computing.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from parimg.errors import JobError
from parimg.job.directory import JobDirectory, resume_command
from parimg.job.journal import FORMAT, RECORD_FIELDS, SCHEMA, Journal, Recorded
from parimg.job.owner import Ownership
from parimg.record import Placement, Row
from parimg.sources.names import escape_name

_LOOK_UP_BATCH = 500  # keys of a query


class JournalWriter(Journal):
    """Writing side: one process at a time, which owns the job, from one thread at a time.

    Made by `create` for a new job and by `resume` to go on with one.

    Attributes
    ----------
    run : int
        Number of this run of the job, from 1.
    """

    def __init__(self, place: JobDirectory, owned: Ownership) -> None:
        super().__init__(place.path)
        self._owned = owned
        self._connection = _open_for_writing(self._path)
        self._inode = os.stat(self._path).st_ino
        self.run = self.last_run().run

    @classmethod
    def create(cls, place: JobDirectory, owned: Ownership, meta: Mapping[str, object]) -> JournalWriter:
        """Write a journal with its first run into a directory that was reserved.

        Raises
        ------
        JobError
            If the directory cannot be written.
        """
        unfinished = place.unfinished_journal
        try:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unfinished)
            with contextlib.closing(_open_for_writing(unfinished)) as connection:
                connection.executescript(SCHEMA)
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [(name, json.dumps(value)) for name, value in {"format": FORMAT, **meta}.items()],
                )
                _start_run(connection)
                connection.execute("PRAGMA journal_mode = DELETE")
            os.rename(unfinished, place.journal)  # a job directory never holds half a journal
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"the job directory {place.path!r} cannot be written: {error}") from error
        return cls(place, owned)

    @classmethod
    def resume(cls, directory: str) -> JournalWriter:
        """Take up an existing journal; `begin_run` goes on with it, `close` leaves it as it was.

        Raises
        ------
        JobLockedError
            If another live process writes it.
        JobError
            If there is no journal, it cannot be written, or others can write it: it names the code to be run.
        """
        found = Journal(directory)
        found.check_trust()  # its errors name what is wrong with the directory
        try:
            owned = found.place.acquire()
            try:
                return cls(found.place, owned)
            except BaseException:
                owned.release()
                raise
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"the job directory {found.directory!r} cannot be written: {error}") from error

    def begin_run(self) -> None:
        """Note that another run of the job begins."""
        try:
            self.run = _start_run(self._connection)
        except sqlite3.Error as error:
            raise JobError(self._why_unwritable(error)) from error

    def set_meta(self, name: str, value: object) -> None:
        """Store a JSON-able value under `name`."""
        self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))

    def end_run(self, state: str, reason: str | None, duplicates: int) -> None:
        """Note how the run ended."""
        self._connection.execute(
            "UPDATE runs SET ended = ?, state = ?, reason = ?, duplicates = ? WHERE run = ?",
            (time.time(), state, reason, duplicates, self.run),
        )

    def append(self, rows: Iterable[tuple[Row, int]], placement: Placement) -> None:
        """Write the rows of one chunk, each with its number of attempts, in one transaction.

        A row takes the place of an earlier record of the same key.
        """
        self._owned.check()
        self._check_place()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                f"INSERT OR REPLACE INTO records (run, {', '.join(RECORD_FIELDS)}) "
                f"VALUES ({', '.join('?' * (1 + len(RECORD_FIELDS)))})",
                (
                    (self.run, *map(_storable, row._replace(uri=escape_name(row.uri))), attempts, *placement)
                    for row, attempts in rows
                ),
            )
            self._connection.execute("COMMIT")
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:  # on a full disk SQLite has rolled back itself
                    self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise JobError(self._why_unwritable(error)) from error
            raise

    def _check_place(self) -> None:
        """Notice a journal that was removed: writing on would succeed, into a file without a name."""
        try:
            found: int | None = os.stat(self._path).st_ino
        except OSError:
            found = None
        if found != self._inode:
            raise JobError(
                f"the journal {self._path!r} was {'removed' if found is None else 'replaced'} while the job ran; "
                "what it held is lost with it"
            )

    def _why_unwritable(self, error: sqlite3.Error) -> str:
        free = ""
        with contextlib.suppress(OSError):
            free = f" ({shutil.disk_usage(self.directory).free / 2**20:.1f} MiB free)"
        return (
            f"the journal {self._path!r} cannot be written: {error}{free}; what was recorded stays; once there is "
            f"room, go on by {resume_command(self.directory)}"
        )

    def recorded(self, keys: Sequence[str]) -> dict[str, Recorded]:
        """What is known of those of `keys` that have a record."""
        return {key: Recorded(*known) for key, *known in self._among("key", "key, run, status, position", keys)}

    def occupied(self, positions: Sequence[int]) -> set[int]:
        """Those of `positions` that a record has."""
        return {position for (position,) in self._among("position", "position", positions)}

    def _among(self, column: str, wanted: str, values: Sequence[object]) -> Iterator[tuple[Any, ...]]:
        for start in range(0, len(values), _LOOK_UP_BATCH):
            batch = values[start : start + _LOOK_UP_BATCH]
            marks = ",".join("?" * len(batch))
            yield from self._connection.execute(
                f"SELECT {wanted} FROM records WHERE {column} IN ({marks})", list(batch)
            )

    def last_position(self) -> int:
        """The largest position that a record has, -1 if there is none."""
        [(position,)] = self._connection.execute("SELECT max(position) FROM records").fetchall()
        return -1 if position is None else int(position)

    def close(self) -> None:
        """Close the journal, leaving one plain file, and let others write the job."""
        with contextlib.suppress(sqlite3.Error):
            # If a reader is just looking, at least all records are in the one file.
            self._connection.execute("PRAGMA busy_timeout = 2000")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._owned.release()


def _open_for_writing(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
    # With a write-ahead log, NORMAL survives the death of the process, and syncs at checkpoints only.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _storable(value: object) -> object:
    """Text as SQLite takes it: what is not UTF-8 in a message keeps its odd bytes as escapes."""
    if not isinstance(value, str) or value.isascii():
        return value
    return value.encode("utf-8", "backslashreplace").decode("utf-8")


def _start_run(connection: sqlite3.Connection) -> int:
    cursor = connection.execute(
        "INSERT INTO runs (started, host, pid, state) VALUES (?, ?, ?, 'running')",
        (time.time(), socket.gethostname(), os.getpid()),
    )
    return int(cursor.lastrowid or 0)
