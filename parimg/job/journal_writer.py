"""JournalWriter: the writing side of a job's journal.

Called by the dispatcher of the process that owns the job, and by the controller that starts it. A record stands in
the journal before anyone sees it, so a client that is killed at any moment loses at most what engines were still
computing. On a disk of this host SQLite writes in place. On one that hosts share it writes a local copy, and each
transaction goes into the job's directory as a segment before it is committed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from parimg.console import print_line
from parimg.errors import JobError
from parimg.files.atomic import write_durably
from parimg.job.directory import JobDirectory, resume_command
from parimg.job.journal import FORMAT, RECORD_FIELDS, SCHEMA, Journal, Recorded
from parimg.job.local_copy import finish_replacing, fold_in_place, forget_copy, put_in_place, take_copy
from parimg.job.owner import Ownership
from parimg.job.segments import Shipment, has_segments
from parimg.record import Placement, Row
from parimg.sources.names import escape_name

_INSERT = (
    f"INSERT OR REPLACE INTO records (run, {', '.join(RECORD_FIELDS)}) "
    f"VALUES ({', '.join('?' * (1 + len(RECORD_FIELDS)))})"
)
_LOOK_UP_BATCH = 500  # keys of a query
_HELD_SECONDS = 1.0  # between segments: each is some round trips, and many engines answer many times a second


class JournalWriter(Journal):
    """Writing side: one process at a time, which owns the job, from one thread at a time.

    Made by `create` for a new job and by `resume` to go on with one.

    Attributes
    ----------
    run : int
        Number of this run of the job, from 1.
    """

    def __init__(self, place: JobDirectory, owned: Ownership) -> None:
        finish_replacing(place)
        super().__init__(place.path)
        self._owned = owned
        self._is_grouping = False
        disk = self._file.disk
        if not disk.is_shared and has_segments(place.segments):
            fold_in_place(place)  # a run on another host left them
        self._path = take_copy(place) if disk.is_shared else place.journal
        self._connection = _open_for_writing(self._path)
        self._shipment: Shipment | None = None
        if disk.is_shared:
            self._file.working = self._path
            self._shipment = Shipment(self._connection, place.segments)
            print_line(
                f"the job lies on a disk that hosts may share ({disk.kind}): its journal is kept in "
                f"{os.path.dirname(self._path)!r}, and sent there piece by piece"
            )
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
        try:
            with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
                connection.executescript(SCHEMA)
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [(name, json.dumps(value)) for name, value in {"format": FORMAT, **meta}.items()],
                )
                _start_run(connection)
                content = connection.serialize()
            with contextlib.suppress(FileNotFoundError):
                os.remove(place.unfinished_journal)  # of a client that was killed, in a job that never began
            # A job directory never holds half a journal, and SQLite does not write on every disk.
            write_durably(place.journal, lambda file: file.write(content))
            return cls(place, owned)
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"the job directory {place.path!r} cannot be written: {error}") from error

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
        with self._transaction():
            self.run = _start_run(self._connection)
        self.commit()

    def set_meta(self, name: str, value: object) -> None:
        """Store a JSON-able value under `name`."""
        with self._transaction():
            self._connection.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json.dumps(value)))
        if self._shipment is not None:
            self._shipment.note_meta(name)
        self.commit()

    def end_run(self, state: str, reason: str | None, duplicates: int) -> None:
        """Note how the run ended."""
        with self._transaction():
            self._connection.execute(
                "UPDATE runs SET ended = ?, state = ?, reason = ?, duplicates = ? WHERE run = ?",
                (time.time(), state, reason, duplicates, self.run),
            )
        self.commit()

    def note_span(self, started: float, ended: float) -> None:
        """Note that the run, which has ended, stands for work between these times, seconds since the epoch."""
        with self._transaction():
            self._connection.execute(
                "UPDATE runs SET started = ?, ended = ? WHERE run = ?", (started, ended, self.run)
            )
        self.commit()

    def append(self, rows: Iterable[tuple[Row, int]], placement: Placement) -> None:
        """Write the rows of one chunk, each with its number of attempts, in one transaction.

        A row takes the place of an earlier record of the same key. If the journal `holds_back`, the rows are in it
        after the next `commit`.
        """
        self._owned.check()
        self._check_place()
        records, again = itertools.tee(
            (self.run, *_with_storable_uri(row), attempts, *placement) for row, attempts in rows
        )
        with self._transaction():
            try:
                self._connection.executemany(_INSERT, records)
            except UnicodeEncodeError:  # nearly never, and a look at all rows takes a third of writing them
                self._connection.executemany(_INSERT, (tuple(map(_storable, record)) for record in again))
        if not self.holds_back:
            self.commit()

    def take_over(self, records: Iterable[Sequence[object]]) -> None:
        """Write records of other journals, as their `fields` gives `RECORD_FIELDS`, in one transaction."""
        self._owned.check()
        with self._transaction():
            self._connection.executemany(_INSERT, ((self.run, *record) for record in records))
        self.commit()

    def raw_among(self, keys: Sequence[str]) -> dict[str, tuple[Any, ...]]:
        """Those records of `keys` that there are, the values of `RECORD_FIELDS`."""
        return {
            key: tuple(record) for key, *record in self._among("key", f"key, {', '.join(RECORD_FIELDS)}", keys)
        }

    @property
    def holds_back(self) -> bool:
        """Whether several chunks go into one transaction now, because each costs a shared disk some files."""
        if self._is_grouping:
            return True
        return self._shipment is not None and time.monotonic() - self._shipment.shipped_at < _HELD_SECONDS

    @contextlib.contextmanager
    def grouped(self) -> Iterator[None]:
        """Hold back all that is appended meanwhile, for the next `commit`."""
        self._is_grouping = True
        try:
            yield
        finally:
            self._is_grouping = False

    def commit(self) -> None:
        """Put into the journal, for all to see, what was held back."""
        if self._connection.in_transaction:
            with self._transaction():
                if self._shipment is not None:
                    self._shipment.ship()
                self._connection.execute("COMMIT")
            if self._shipment is not None:
                with contextlib.suppress(OSError, sqlite3.Error):  # else there are just more files
                    self._shipment.merge()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        """A part of a transaction, which is undone as a whole by an error."""
        try:
            if not self._connection.in_transaction:
                self._connection.execute("BEGIN IMMEDIATE")
            yield
        except BaseException as error:
            with contextlib.suppress(sqlite3.Error):
                if self._connection.in_transaction:  # on a full disk SQLite has rolled back itself
                    self._connection.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error | OSError):
                raise JobError(self._why_unwritable(error)) from error
            raise

    def reader(self) -> Journal:
        """The journal for readers of this process, who need no copy of their own."""
        return Journal(self.directory, self._file.working)

    def _check_place(self) -> None:
        """Notice a journal that was removed: writing on would succeed, into a file without a name."""
        if self._shipment is not None:
            return  # where segments cannot be written any more, the next one tells
        try:
            found: int | None = os.stat(self._path).st_ino
        except OSError:
            found = None
        if found != self._inode:
            raise JobError(
                f"the journal {self._path!r} was {'removed' if found is None else 'replaced'} while the job ran; "
                "what it held is lost with it"
            )

    def _why_unwritable(self, error: Exception) -> str:
        free = ""
        with contextlib.suppress(OSError):
            kind = self._file.disk.kind
            free = f" ({kind}, {shutil.disk_usage(self.directory).free / 2**20:.1f} MiB free)"
        return (
            f"the journal {self.place.journal!r} cannot be written: {error}{free}; what was recorded stays; once "
            f"there is room, go on by {resume_command(self.directory)}"
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
        with contextlib.suppress(sqlite3.Error, OSError, JobError):
            self.commit()
            if self._shipment is not None:
                put_in_place(self._connection, self.place)
            else:
                # If a reader is just looking, at least all records are in the one file.
                self._connection.execute("PRAGMA busy_timeout = 2000")
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        if self._shipment is not None:
            forget_copy(self._path)
        self._owned.release()


def _open_for_writing(path: str) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, timeout=30, isolation_level=None)
    # With a write-ahead log, NORMAL survives the death of the process, and syncs at checkpoints only.
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    return connection


def _with_storable_uri(row: Row) -> Row:
    if not row.uri:  # an array
        return row
    uri = escape_name(row.uri)
    return row if uri == row.uri else row._replace(uri=uri)  # of 100 000 rows, nearly none


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
