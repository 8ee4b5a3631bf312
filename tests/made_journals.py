"""Journals made by hand, without a job: rows with the times, engines and values that a test wants."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from parimg.job.directory import JobDirectory
from parimg.job.journal import RECORD_FIELDS, Journal
from parimg.job.journal_writer import JournalWriter
from parimg.protocol import shared_objects
from parimg.record import Placement, Row
from parimg.tasks.task import Task

Placed = tuple[Row, Placement]


def row(
    position: int,
    *,
    key: str | None = None,
    uri: str = "",
    started: float = 1000.0,
    decode: float = 0.0,
    task: float = 1.0,
    status: str = "ok",
    engine: int | None = 0,
    host: str = "node1",
    pid: int | None = None,
    memory: int | None = 2**20,
    error: str = "ValueError",
    message: str = "no such level",
    **values: object,
) -> Placed:
    """A row and where it was made: by process 70 of host node1 on engine 0, 71 on engine 1, ..."""
    ok = status == "ok"
    made = Row(
        position=position,
        key=key or f"{position:07}.png",
        uri=uri,
        status=status,  # type: ignore[arg-type]
        stage=None if ok else "task",
        error=None if ok else error,
        message=None if ok else message,
        traceback=None if ok else "Traceback (most recent call last): ...",
        started=started,
        decode_seconds=decode,
        task_seconds=task,
        columns=json.dumps(values if ok else {}),
        arrays=None,
        peak_memory=memory,
    )
    if engine is None:
        return made, Placement(None, None, None)
    return made, Placement(engine, host, 70 + engine if pid is None else pid)


def make_journal(
    folder: Path,
    *chunks: Sequence[Placed],
    task: Task | None = None,
    runs: Sequence[Sequence[Sequence[Placed]]] = (),
    total: int | None = None,
    state: str = "finished",
    meta: dict[str, Any] | None = None,
) -> Journal:
    """A journal with a run of these chunks of rows, and one for each of `runs`."""
    place = JobDirectory(str(folder))
    owned = place.reserve()
    task = task or Task()
    refs = shared_objects.write_task(place.shared, task)
    about = {"name": task.name, "parameters": task.describe(), "columns": task.declared_columns(), "refs": refs}
    n_rows = sum(len(chunk) for run in (chunks, *runs) for chunk in run)
    stored = {
        "task": {**about, "output": None},
        "source": {"kind": "folder", "images": "photos", "cwd": "/data", "column": None},
        "options": {"retries": 2, "max_pixels": 2**28},
        "versions": {"parimg": "0.1.0", "python": "3.11.2"},
        "total": n_rows if total is None else total,
        **(meta or {}),
    }
    writer = JournalWriter.create(place, owned, stored)
    for number, run in enumerate((chunks, *runs)):
        if number:
            writer.begin_run()
        for chunk in run:
            for placement in dict.fromkeys(where for _, where in chunk):
                writer.append([(made, 1) for made, where in chunk if where == placement], placement)
        writer.end_run(state, None, 0)
    writer.close()
    return Journal(place.path)


def multiply(journal: Journal, position: int, numbers: range) -> None:
    """Copy the record at a position to many others, on 64 engines, in a second for a million."""
    copied = {
        **{name: name for name in ("run", *RECORD_FIELDS)},
        "position": "n",
        "key": "'image-' || n || '.png'",
        "started": "started + n / 50",
        "engine": "n % 64",
        "columns": "CASE status WHEN 'ok' THEN json_object('matches', n % 800) ELSE '{}' END",
    }
    with contextlib.closing(sqlite3.connect(journal.place.journal)) as connection:
        connection.execute(
            "WITH RECURSIVE numbers(n) AS (SELECT ? UNION ALL SELECT n + 1 FROM numbers WHERE n < ?) "
            f"INSERT INTO records ({', '.join(copied)}) SELECT {', '.join(copied.values())} FROM numbers "
            "JOIN records ON records.position = ?",
            (numbers[0], numbers[-1], position),
        )
        connection.commit()
