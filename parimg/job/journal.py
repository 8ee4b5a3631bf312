"""Journal: what was asked and what is done, in one SQLite file of the job's directory.

Only the dispatcher of the process that holds the job's lock writes it; any number of readers, also in other
processes, follow it while it grows (SQLite's write-ahead log). A record stands in the journal before anyone
sees it, so a client that is killed at any moment loses at most what engines were still computing.

The directory holds ``journal.sqlite``, ``lock``, and ``shared/``, the task and its shared objects by content
hash. Each engine's values are kept as it sent them: JSON and NPZ, never a pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import quote

from filelock import FileLock, Timeout

from parimg.errors import JobError
from parimg.files.permissions import check_private
from parimg.job.directory import JOURNAL_FILE, acquire_lock, resume_command
from parimg.protocol import shared_objects
from parimg.record import Record, Row, decode_values
from parimg.sources.names import escape_name, unescape_name

if TYPE_CHECKING:
    from parimg.tasks.task import Task

FORMAT = 3
_LOOK_UP_BATCH = 500  # keys of a query
_GLANCE_SECONDS = 0.05  # other readers hold the lock for an instant when they ask whether it is held

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, duplicates INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, position INTEGER NOT NULL,
    key TEXT NOT NULL UNIQUE, uri TEXT NOT NULL, status TEXT NOT NULL, stage TEXT, error TEXT, message TEXT,
    traceback TEXT, started REAL NOT NULL, decode_seconds REAL NOT NULL, task_seconds REAL NOT NULL,
    columns TEXT NOT NULL, arrays BLOB, peak_memory INTEGER,
    attempts INTEGER NOT NULL, engine INTEGER, host TEXT, pid INTEGER
);
CREATE INDEX records_by_position ON records (position);
CREATE INDEX failed_records ON records (seq) WHERE status = 'failed';
"""
_RECORD_COLUMNS = (
    "seq, position, key, uri, status, stage, error, message, traceback, started, decode_seconds, task_seconds, "
    "columns, arrays, peak_memory, attempts, engine, host, pid"
)


class Run(NamedTuple):
    """One process's work on a job."""

    run: int
    started: float
    ended: float | None
    host: str
    pid: int
    state: str
    reason: str | None
    duplicates: int


class Recorded(NamedTuple):
    """What the journal knows of an image that has a record."""

    run: int
    status: str
    position: int


@dataclass(frozen=True, slots=True)
class FailureGroup:
    """Failed images that have their error in common."""

    error: str
    """Type of the error."""
    count: int
    key: str
    """One of the images, the first recorded."""
    message: str
    """Its message."""


@dataclass(frozen=True, slots=True)
class Placement:
    """Where an engine's rows were made, and at which attempt."""

    engine: int | None
    host: str | None
    pid: int | None


class Journal:
    """Reading side: records and state of a job, also while another process writes it.

    Parameters
    ----------
    directory : str
        The job's directory.

    Raises
    ------
    JobError
        If the directory holds no journal, or one of another format.
    """

    def __init__(self, directory: str) -> None:
        self.directory = os.path.abspath(directory)
        path = os.path.join(self.directory, JOURNAL_FILE)
        if not os.path.isfile(path):
            raise JobError(
                f"{self.directory!r} is not a job: it holds no {JOURNAL_FILE}; `parimg jobs` lists the jobs"
            )
        self._path = path
        try:
            found = self.meta("format")
        except sqlite3.DatabaseError as error:
            raise JobError(f"the journal {path!r} cannot be read: {error}") from error
        if found != FORMAT:
            raise JobError(
                f"the journal {path!r} has format {found!r}, written by {self._writer()}; this parimg reads "
                f"format {FORMAT}: export its table with the version that wrote it, or submit the job again into "
                "a new directory"
            )

    def _writer(self) -> str:
        """Which parimg wrote the journal."""
        versions = self.meta("versions")
        return f"parimg {versions['parimg']}" if isinstance(versions, dict) else "another parimg"

    @contextlib.contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        """A connection for one look: one that stayed open would keep the writer from leaving one plain file."""
        try:
            with contextlib.closing(_open_for_reading(self._path)) as connection:
                yield connection
        except sqlite3.OperationalError as error:
            if os.path.isfile(self._path):
                raise
            raise JobError(f"the journal {self._path!r} was removed") from error

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._look() as connection:
            return connection.execute(query, parameters).fetchall()

    def meta(self, name: str) -> Any:
        """Value that `JournalWriter.set_meta` stored, or None."""
        rows = self._rows("SELECT value FROM meta WHERE name = ?", (name,))
        return json.loads(rows[0][0]) if rows else None

    def load_task(self) -> Task:
        """The job's task, as it was sent; JobError if others can write it, or the journal that names it."""
        self.check_trust()
        ref, *_ = self.meta("task")["refs"]
        return shared_objects.load_task(shared_objects.SharedRef(*ref), os.path.join(self.directory, "shared"))

    def check_trust(self) -> None:
        """Refuse, by JobError, to run what the journal names if others can write it."""
        for path in (self.directory, self._path):
            check_private(path)

    def last_run(self) -> Run:
        """The newest run."""
        return Run(*self._rows("SELECT * FROM runs ORDER BY run DESC LIMIT 1")[0])

    def is_being_written(self) -> bool:
        """Whether a live process holds the job's lock."""
        lock = FileLock(os.path.join(self.directory, "lock"))
        try:
            lock.acquire(timeout=_GLANCE_SECONDS, poll_interval=_GLANCE_SECONDS / 10)
        except Timeout:
            return True
        except OSError:
            return False  # a read-only directory: nobody can be writing
        lock.release()
        return False

    def count_by_status(self) -> dict[str, int]:
        """Number of records by status, ``{"ok": 46, "failed": 1}``."""
        query = "SELECT (SELECT count(*) FROM records), (SELECT count(*) FROM records WHERE status = 'failed')"
        [(total, failed)] = self._rows(query)
        return {"ok": total - failed, "failed": failed}

    def seconds_by_run(self) -> list[tuple[float, float | None]]:
        """Start and end of every run, seconds since the epoch."""
        return [(started, ended) for started, ended in self._rows("SELECT started, ended FROM runs ORDER BY run")]

    def serial_seconds(self) -> float:
        """Time that engines spent on the recorded images, seconds."""
        [(seconds,)] = self._rows("SELECT total(decode_seconds + task_seconds) FROM records")
        return float(seconds)

    def last_written(self) -> float | None:
        """When the last recorded image was taken up, seconds since the epoch."""
        [(started,)] = self._rows("SELECT max(started) FROM records")
        return None if started is None else float(started)

    def find(self, key: str) -> Record | None:
        """The record of one image, None if it has none yet."""
        rows = self._rows(f"SELECT {_RECORD_COLUMNS} FROM records WHERE key = ?", (key,))
        return self._record(rows[0]) if rows else None

    def nth(self, n: int) -> Record | None:
        """The n-th record by place in the source, from 0, None if there are not so many."""
        query = f"SELECT {_RECORD_COLUMNS} FROM records ORDER BY position LIMIT 1 OFFSET ?"
        rows = self._rows(query, (n,))
        return self._record(rows[0]) if rows else None

    def completed(self, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Records in order of completion, each with its sequence number, from those after `after`."""
        return self._scan("seq > ?", "seq", after)

    def in_order(self, after: int = -1) -> Iterator[tuple[int, Record]]:
        """Records by place in the source, each with its position, from those after position `after`."""
        return ((record.position, record) for _, record in self._scan("position > ?", "position", after))

    def failed(self) -> Iterator[Record]:
        """Records of failed images, in order of completion."""
        return (record for _, record in self._scan("status = 'failed' AND seq > ?", "seq", 0))

    def nth_failed(self, n: int) -> Record | None:
        """The n-th failed record in order of completion, from 0, None if there are not so many."""
        query = f"SELECT {_RECORD_COLUMNS} FROM records WHERE status = 'failed' ORDER BY seq LIMIT 1 OFFSET ?"
        rows = self._rows(query, (n,))
        return self._record(rows[0]) if rows else None

    def failures_by_error(self) -> list[FailureGroup]:
        """Failed images by the type of their error, most first."""
        # SQLite takes `key` and `message` from the row that has the smallest `seq`.
        query = (
            "SELECT error, count(*) AS n, key, message, min(seq) FROM records WHERE status = 'failed' "
            "GROUP BY error ORDER BY n DESC, error"
        )
        return [
            FailureGroup(error or "", n, key, message or "") for error, n, key, message, _ in self._rows(query)
        ]

    @contextlib.contextmanager
    def snapshot(self, *, arrays: bool = False) -> Iterator[Callable[[], Iterator[Record]]]:
        """Freeze what is recorded now: a callable that gives the same records, in order, however often.

        The records come without their arrays unless `arrays` are wanted.
        """
        columns = _RECORD_COLUMNS if arrays else _RECORD_COLUMNS.replace(" arrays,", " NULL,")
        with self._look() as connection:
            connection.execute("BEGIN")
            yield lambda: (
                record for _, record in self._select(connection, columns, "position > ?", "position", -1)
            )

    def _scan(self, where: str, order: str, after: int) -> Iterator[tuple[int, Record]]:
        with self._look() as connection:
            yield from self._select(connection, _RECORD_COLUMNS, where, order, after)

    def _select(
        self, connection: sqlite3.Connection, columns: str, where: str, order: str, after: int
    ) -> Iterator[tuple[int, Record]]:
        # Row by row: arrays may be large.
        for row in connection.execute(f"SELECT {columns} FROM records WHERE {where} ORDER BY {order}", (after,)):
            yield row[0], self._record(row)

    def _record(self, row: tuple[Any, ...]) -> Record:
        _, position, key, uri, status, stage, error, message, traceback, started, decode_seconds, task_seconds = (
            row[:12]
        )
        columns, arrays = decode_values(row[12], row[13])
        return Record(
            key=key,
            status=status,
            columns=columns,
            arrays=arrays,
            stage=stage,
            error=error,
            message=message,
            traceback=traceback,
            peak_memory=row[14],
            attempts=row[15],
            engine=row[16],
            host=row[17],
            pid=row[18],
            started=started,
            decode_seconds=decode_seconds,
            task_seconds=task_seconds,
            uri=unescape_name(uri),
            position=position,
            job=self.directory,
        )


class JournalWriter(Journal):
    """Writing side: one process at a time, which holds the job's lock, from one thread at a time.

    Made by `create` for a new job and by `resume` to go on with one.

    Attributes
    ----------
    run : int
        Number of this run of the job, from 1.
    """

    def __init__(self, directory: str, lock: FileLock, run: int) -> None:
        super().__init__(directory)
        self._lock = lock
        self._connection = _open_for_writing(self._path)
        self._inode = os.stat(self._path).st_ino
        self.run = run

    @classmethod
    def create(cls, directory: str, lock: FileLock, meta: Mapping[str, object]) -> JournalWriter:
        """Write a journal with its first run into a directory that `reserve_job_dir` made.

        Raises
        ------
        JobError
            If the directory cannot be written.
        """
        path = os.path.join(directory, JOURNAL_FILE)
        unfinished = f"{path}.new"
        try:
            with contextlib.suppress(FileNotFoundError):
                os.remove(unfinished)
            with contextlib.closing(_open_for_writing(unfinished)) as connection:
                connection.executescript(_SCHEMA)
                connection.executemany(
                    "INSERT INTO meta VALUES (?, ?)",
                    [(name, json.dumps(value)) for name, value in {"format": FORMAT, **meta}.items()],
                )
                run = _start_run(connection)
                connection.execute("PRAGMA journal_mode = DELETE")
            os.rename(unfinished, path)  # a job directory never holds half a journal
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"the job directory {directory!r} cannot be written: {error}") from error
        return cls(directory, lock, run)

    @classmethod
    def resume(cls, directory: str) -> JournalWriter:
        """Take up an existing journal, and note that a new run begins.

        Raises
        ------
        JobLockedError
            If another live process writes it.
        JobError
            If there is no journal, it cannot be written, or others can write it: it names the code to be run.
        """
        Journal(directory).check_trust()  # its errors name what is wrong with the directory
        try:
            journal = cls(directory, acquire_lock(os.path.abspath(directory)), 0)
            journal.run = _start_run(journal._connection)
        except (OSError, sqlite3.Error) as error:
            raise JobError(f"the job directory {directory!r} cannot be written: {error}") from error
        return journal

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
        where = (placement.engine, placement.host, placement.pid)
        self._check_place()
        try:
            self._connection.execute("BEGIN IMMEDIATE")
            self._connection.executemany(
                "INSERT OR REPLACE INTO records (run, position, key, uri, status, stage, error, message, "
                "traceback, started, decode_seconds, task_seconds, columns, arrays, peak_memory, attempts, "
                "engine, host, pid) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (self.run, *map(_storable, row._replace(uri=escape_name(row.uri))), attempts, *where)
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
        """Close the journal, leaving one plain file, and free the lock."""
        with contextlib.suppress(sqlite3.Error):
            # If a reader is just looking, at least all records are in the one file.
            self._connection.execute("PRAGMA busy_timeout = 2000")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.execute("PRAGMA journal_mode = DELETE")
        self._connection.close()
        self._lock.release()


def _open_for_reading(path: str) -> sqlite3.Connection:
    return sqlite3.connect(
        f"file:{quote(path)}?mode=ro", uri=True, check_same_thread=False, timeout=30, isolation_level=None
    )


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
