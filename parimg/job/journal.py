"""Journal: what was asked and what is done, in one SQLite file of the job's directory, as it is read.

Only the process that owns the job writes it, through `journal_writer`; any number of readers, also in other
processes, follow it while it grows (SQLite's write-ahead log), on disks that hosts share by way of a copy
(`local_copy`). Each engine's values are kept as it sent them: JSON
and NPZ, never a pickle.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, get_args, get_type_hints

from parimg.errors import JobError
from parimg.files.permissions import check_private
from parimg.job.directory import JobDirectory
from parimg.job.local_copy import JournalFile
from parimg.job.owner import OwnerWatch
from parimg.protocol import shared_objects
from parimg.record import Placement, Record, Row, decode_values
from parimg.sources.names import unescape_name

if TYPE_CHECKING:
    from parimg.tasks.task import Task

FORMAT = 3
_MOST_COMPLETIONS = 10_000
_ROWS_AT_ONCE = 10_000
_COMMONEST_AMONG = 1_000  # failures that a bar may look at a few times a second
# SQLite's types of the fields that `Row`, the number of attempts and `Placement` give to a record, by name.
_FIELDS = {**get_type_hints(Row), "attempts": int, **get_type_hints(Placement)}
_SQL_TYPES: dict[object, str] = {int: "INTEGER", float: "REAL", bytes: "BLOB"}  # all others are text
RECORD_FIELDS = tuple(_FIELDS)


def _declaration(name: str) -> str:
    kinds = {kind for kind in (_FIELDS[name], *get_args(_FIELDS[name])) if kind in _SQL_TYPES}
    sql = _SQL_TYPES[kinds.pop()] if kinds else "TEXT"
    null = "" if type(None) in get_args(_FIELDS[name]) else " NOT NULL"
    return f"{name} {sql}{null}{' UNIQUE' if name == 'key' else ''}"


SCHEMA = f"""
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE runs (
    run INTEGER PRIMARY KEY, started REAL NOT NULL, ended REAL, host TEXT NOT NULL, pid INTEGER NOT NULL,
    state TEXT NOT NULL, reason TEXT, duplicates INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE records (
    seq INTEGER PRIMARY KEY AUTOINCREMENT, run INTEGER NOT NULL, {", ".join(map(_declaration, RECORD_FIELDS))}
);
CREATE INDEX records_by_position ON records (position);
CREATE INDEX failed_records ON records (seq) WHERE status = 'failed';
"""
_FAILED = "status = 'failed'"


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


class Span(NamedTuple):
    """The records that one run made."""

    run: int
    records: int
    first: float
    """When the first image was taken up, seconds since the epoch."""
    last: float
    """When the last one was ready."""


class HostShare(NamedTuple):
    """What the engines of one host did."""

    host: str
    engines: int
    images: int
    failed: int
    seconds: float
    """Time on images, of all its engines."""
    memory: int
    """Most that one of them occupied, bytes."""


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


class Journal:
    """Reading side: records and state of a job, also while another process writes it.

    Parameters
    ----------
    directory : str
        The job's directory.
    working : str, optional
        The file that a writer of this process has, as `JournalWriter.reader` gives it.

    Raises
    ------
    JobError
        If the directory holds no journal, or one of another format.
    """

    def __init__(self, directory: str, working: str | None = None) -> None:
        self.place = JobDirectory(directory)
        path = self.place.journal
        self._file = JournalFile(self.place, working)
        if not self.place.holds_job:
            raise JobError(
                f"{self.directory!r} is not a job: it holds no {os.path.basename(path)}; `parimg jobs` lists the "
                "jobs"
            )
        self._owner = OwnerWatch(self.place.owner)
        try:
            found = self.meta("format")
        except (sqlite3.DatabaseError, OSError) as error:
            kind = self._file.disk.kind
            raise JobError(
                f"the journal {path!r} cannot be read: {error} (its disk: {kind}); what SQLite finds in it, "
                "`sqlite3 journal.sqlite .recover` prints"
            ) from error
        if found != FORMAT:
            raise JobError(
                f"the journal {path!r} has format {found!r}, written by {self._writer()}; this parimg reads "
                f"format {FORMAT}: export its table with the version that wrote it, or submit the job again into "
                "a new directory"
            )

    @property
    def directory(self) -> str:
        """The job's directory."""
        return self.place.path

    def _writer(self) -> str:
        """Which parimg wrote the journal."""
        versions = self.meta("versions")
        return f"parimg {versions['parimg']}" if isinstance(versions, dict) else "another parimg"

    @contextlib.contextmanager
    def _look(self) -> Iterator[sqlite3.Connection]:
        """A connection for one look: one that stayed open would keep the writer from leaving one plain file."""
        try:
            with contextlib.closing(self._file.open()) as connection:
                yield connection
        except (sqlite3.OperationalError, OSError) as error:
            if self.place.holds_job:
                raise
            raise JobError(f"the journal {self.place.journal!r} was removed") from error

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
        return shared_objects.load_task(shared_objects.SharedRef(*ref), self.place.shared)

    def check_trust(self) -> None:
        """Refuse, by JobError, to run what the journal names if others can write it."""
        for path in (self.directory, self.place.journal, self.place.segments):
            with contextlib.suppress(FileNotFoundError):
                check_private(path)

    def runs(self) -> list[Run]:
        """All runs, the first first."""
        return [Run(*row) for row in self._rows("SELECT * FROM runs ORDER BY run")]

    def last_run(self) -> Run:
        """The newest run."""
        return Run(*self._rows("SELECT * FROM runs ORDER BY run DESC LIMIT 1")[0])

    def is_being_written(self) -> bool:
        """Whether a live process, on whatever host, writes the job; asking is never in its way."""
        return self._owner.look() is not None

    def writer(self) -> str:
        """The process that writes the job, ``process 77 on node1, seen 3 s ago``, empty if there is none."""
        return self._owner.describe()

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
        return next((record for _, record in self._scan("key = ?", "seq", key)), None)

    def find_ending(self, ending: str) -> list[str]:
        """Up to two keys whose last parts these are, as ``b.png`` or ``a/b.png`` of ``/data/a/b.png``."""
        query = "SELECT key FROM records WHERE substr(key, -length(?)) = ? LIMIT 2"
        return [key for (key,) in self._rows(query, (f"/{ending}",) * 2)]

    def by_key(self) -> Iterator[Record]:
        """All records, sorted by key."""
        return (record for _, record in self._scan("key >= ?", "key", ""))

    def failed_keys(self, beginning: str, most: int) -> list[str]:
        """Keys of failed images that begin so, for completion in shells."""
        query = f"SELECT key FROM records WHERE {_FAILED} AND substr(key, 1, length(?)) = ? LIMIT ?"
        return [key for (key,) in self._rows(query, (beginning, beginning, most))]

    def lacks_any(self, keys: Iterable[str]) -> bool:
        """Whether one of `keys` has no record yet."""
        with self._look() as connection:
            query = "SELECT 1 FROM records WHERE key = ?"
            return any(connection.execute(query, (key,)).fetchone() is None for key in keys)

    def keys(self) -> list[str]:
        """Keys of the first 10 000 records by place in the source, for completion in shells."""
        query = "SELECT key FROM records ORDER BY position LIMIT ?"
        return [key for (key,) in self._rows(query, (_MOST_COMPLETIONS,))]

    def slice(self, places: range) -> list[Record]:
        """The records at these places, from 0, by place in the source; those that there are."""
        return self._slice("true", "position", places)

    def failed_slice(self, places: range) -> list[Record]:
        """The failed records at these places, from 0, in order of completion; those that there are."""
        return self._slice(_FAILED, "seq", places)

    def _slice(self, where: str, order: str, places: range) -> list[Record]:
        """One scan of an index for all, whatever the step."""
        if not places:
            return []
        first, last, step = min(places), max(places), abs(places.step)
        names = ", ".join(RECORD_FIELDS)
        span = f"SELECT seq, position FROM records WHERE {where} ORDER BY {order} LIMIT ? OFFSET ?"
        numbered = f"SELECT seq AS chosen, row_number() OVER (ORDER BY {order}) - 1 AS n FROM ({span})"
        query = f"SELECT seq, {names} FROM ({numbered}) JOIN records ON seq = chosen WHERE n % ? = 0 ORDER BY n"
        records = [self._record(row) for row in self._rows(query, (last - first + 1, first, step))]
        return records if places.step > 0 else records[::-1]

    def completed(self, after: int = 0) -> Iterator[tuple[int, Record]]:
        """Records in order of completion, each with its sequence number, from those after `after`."""
        return self._scan("seq > ?", "seq", after)

    def in_order(self, after: int = -1) -> Iterator[tuple[int, Record]]:
        """Records by place in the source, each with its position, from those after position `after`."""
        return ((record.position, record) for _, record in self._scan("position > ?", "position", after))

    def next_ok(self, position: int) -> Record | None:
        """The first image from that place in the source on that went well."""
        found = self._scan("status = 'ok' AND position >= ?", "position", position)
        return next((record for _, record in found), None)

    def last_position(self) -> int:
        """The largest place in the source that a record has, -1 if there is none."""
        [(position,)] = self._rows("SELECT max(position) FROM records")
        return -1 if position is None else int(position)

    def failed(self) -> Iterator[Record]:
        """Records of failed images, in order of completion."""
        return (record for _, record in self._scan(f"{_FAILED} AND seq > ?", "seq", 0))

    def failures_by_error(self, latest: int | None = None) -> list[FailureGroup]:
        """Failed images by the type of their error, most first; of the `latest` only, if given."""
        # SQLite takes `key` and `message` from the row that has the smallest `seq`.
        query = (
            "SELECT error, count(*) AS n, key, message, min(seq) FROM "
            f"(SELECT error, key, message, seq FROM records WHERE {_FAILED} ORDER BY seq DESC LIMIT ?) "
            "GROUP BY error ORDER BY n DESC, error"
        )
        rows = self._rows(query, (-1 if latest is None else latest,))
        return [FailureGroup(error or "", n, key, message or "") for error, n, key, message, _ in rows]

    def commonest_failure(self) -> FailureGroup | None:
        """The commonest error among the last 1 000 failures, which is found fast while a job runs."""
        return next(iter(self.failures_by_error(_COMMONEST_AMONG)), None)

    @contextlib.contextmanager
    def snapshot(self, *, arrays: bool = False) -> Iterator[Callable[[], Iterator[Record]]]:
        """Freeze what is recorded now: a callable that gives the same records, in order, however often.

        The records come without their arrays unless `arrays` are wanted.
        """
        with self._look() as connection:
            connection.execute("BEGIN")
            yield lambda: (
                record for _, record in self._select(connection, "position > ?", "position", -1, arrays=arrays)
            )

    def fields(self, *names: str, after: int = 0) -> Iterator[list[tuple[Any, ...]]]:
        """Some fields of all records, as they are stored, in order of completion: batches of up to 10 000 rows.

        With `after` only of those that were written since the record of that ``seq``.
        """
        if unknown := set(names) - {*RECORD_FIELDS, "seq", "run"}:
            raise ValueError(f"records have no field {min(unknown)!r}")
        with self._look() as connection:
            query = f"SELECT {', '.join(names)} FROM records WHERE seq > ? ORDER BY seq"
            cursor = connection.execute(query, (after,))
            while rows := cursor.fetchmany(_ROWS_AT_ONCE):
                yield rows

    def spans(self) -> list[Span]:
        """When the records of each run were made, by the engines' clocks."""
        query = (
            "SELECT run, count(*), min(started), max(started + decode_seconds + task_seconds) FROM records "
            "GROUP BY run ORDER BY run"
        )
        return [Span(*row) for row in self._rows(query)]

    def workers(self) -> list[tuple[str | None, int, int | None]]:
        """Host, number and process of each engine that answered."""
        return self._rows("SELECT DISTINCT host, engine, pid FROM records WHERE engine IS NOT NULL")

    def by_host(self) -> list[HostShare]:
        """What each host did, most images first; images that no engine answered for are of host ``""``."""
        query = (
            "SELECT coalesce(host, ''), count(DISTINCT engine || ' ' || coalesce(pid, '')), count(*), "
            "sum(status = 'failed'), total(decode_seconds + task_seconds), coalesce(max(peak_memory), 0) "
            "FROM records GROUP BY host ORDER BY count(*) DESC, host"
        )
        return [HostShare(*row) for row in self._rows(query)]

    def slowest(self, most: int) -> list[Record]:
        """The images that took longest, those that failed among them; without their arrays."""
        query = "SELECT seq FROM records ORDER BY decode_seconds + task_seconds DESC LIMIT ?"
        chosen = [seq for (seq,) in self._rows(query, (most,))]
        return [record for seq in chosen for _, record in self._scan("seq = ?", "seq", seq, arrays=False)]

    def _scan(self, where: str, order: str, value: object, *, arrays: bool = True) -> Iterator[tuple[int, Record]]:
        with self._look() as connection:
            yield from self._select(connection, where, order, value, arrays=arrays)

    def _select(
        self, connection: sqlite3.Connection, where: str, order: str, value: object, *, arrays: bool = True
    ) -> Iterator[tuple[int, Record]]:
        names = ", ".join("NULL" if name == "arrays" and not arrays else name for name in RECORD_FIELDS)
        # Row by row: arrays may be large.
        query = f"SELECT seq, {names} FROM records WHERE {where} ORDER BY {order}"
        for row in connection.execute(query, (value,)):
            yield row[0], self._record(row)

    def _record(self, row: tuple[Any, ...]) -> Record:
        """The record of a row that begins with its ``seq``."""
        found = dict(zip(RECORD_FIELDS, row[1:], strict=True))
        found["columns"], found["arrays"] = decode_values(found["columns"], found["arrays"])
        found["uri"] = unescape_name(found["uri"])
        return Record(**found, job=self.directory)
