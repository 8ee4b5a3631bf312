"""Jobs whose engines are played by `fake_pool`: the real dispatcher and journal, names in place of images."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parimg import events
from parimg.dispatch.dispatcher import Dispatcher
from parimg.dispatch.plan import Plan
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.options import Options
from parimg.protocol import shared_objects
from parimg.protocol.shared_objects import SharedRef
from parimg.record import Record
from parimg.sources.as_source import Image, Source

if TYPE_CHECKING:
    from fake_pool import FakePool

WAIT = 60.0  # s, on a machine that does much else


class Listed(Source):
    """A source of names without images, which may end with an error."""

    def __init__(self, keys: Iterable[str], error: BaseException | None = None, *, counted: bool = True) -> None:
        self.keys = list(keys)
        self.error = error
        self.counted = counted

    def __iter__(self) -> Iterator[Image]:
        for key in self.keys:
            yield Image(key, f"/images/{key}")
        if self.error is not None:
            raise self.error

    def count(self) -> int | None:
        return len(self.keys) if self.counted else None

    def spec(self) -> dict[str, Any]:
        return {}


def names(n: int, kind: str = "good") -> list[str]:
    return [f"{kind}-{number}" for number in range(n)]


@dataclass
class Run:
    """One run of a job on a fake pool."""

    directory: str
    pool: FakePool
    dispatcher: Dispatcher
    heard: list[events.Event] = field(default_factory=list)

    def end(self) -> Run:
        assert self.dispatcher.join(WAIT), "the job does not end"
        return self

    def records(self) -> dict[str, Record]:
        return {record.key: record for _, record in Journal(self.directory).completed()}

    def of_kind(self, kind: type) -> list[Any]:
        return [event for event in self.heard if isinstance(event, kind)]

    def written(self) -> int:
        """Records that were written in this run, those too that took the place of others."""
        return sum(event.ok + event.failed for event in self.of_kind(events.RecordsWritten))


class Jobs:
    """Makes runs in a folder of the test, and ends what they leave."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._runs: list[Run] = []

    def journal(self, directory: str) -> JournalWriter:
        if os.path.exists(directory):
            journal = JournalWriter.resume(directory)
            journal.begin_run()
        else:
            place = JobDirectory(directory)
            journal = JournalWriter.create(place, place.reserve(), {"options": {}})
        journal._connection.execute("PRAGMA synchronous = OFF")  # half of a scenario's time
        return journal

    def begin(
        self,
        images: Source | list[str],
        pool: FakePool,
        *,
        name: str = "job",
        retry_failed: bool = False,
        refs: tuple[SharedRef, ...] = (),
        listeners: Iterable[events.Listener] = (),
        output: str | None = None,
        **options: Any,
    ) -> Run:
        directory = str(self._folder / name)
        source = images if isinstance(images, Source) else Listed(images)
        heard: list[events.Event] = []
        plan = Plan(refs, source, Options(**options), retry_failed, output)
        dispatcher = Dispatcher(plan, self.journal(directory), pool, [heard.append, *listeners])
        run = Run(directory, pool, dispatcher, heard)
        self._runs.append(run)
        dispatcher.start()
        return run

    def run(self, images: Source | list[str], pool: FakePool, **options: Any) -> Run:
        return self.begin(images, pool, **options).end()

    def close(self) -> None:
        for run in self._runs:
            run.dispatcher.abort()
            assert run.dispatcher.join(WAIT)
            run.pool.close()


def check_whole(run: Run, keys: list[str]) -> dict[str, Record]:
    """Each image has one record, written once, at its place; the counts say so, and nothing is left."""
    records = run.records()
    assert run.dispatcher.state == "finished"
    assert sorted(records) == sorted(keys)
    assert run.written() == len(keys)
    assert {key: records[key].position for key in keys} == {key: place for place, key in enumerate(keys)}
    assert all(record["value"] == record.position for record in records.values() if record.ok)
    assert run.dispatcher.counts == {
        "ok": sum(record.ok for record in records.values()),
        "failed": sum(not record.ok for record in records.values()),
    }
    assert run.dispatcher.outstanding == 0
    assert run.heard[0] == events.JobStarted(run.directory, 0)
    assert run.heard[-1] == events.JobFinished("finished")
    assert not os.path.exists(os.path.join(run.directory, "engines"))
    assert Journal(run.directory).last_run().state == "finished"
    assert not Journal(run.directory).is_being_written()
    return records


def write_object(jobs: Jobs) -> str:
    """Put a shared object into the job's folder, and tell its digest."""
    folder = jobs._folder / "job" / "shared"
    data = b"reference descriptors"
    digest = shared_objects._digest(data)
    directory = str(jobs._folder / "job")
    writer = jobs.journal(directory)
    writer.end_run("interrupted", None, 0)
    writer.close()
    folder.mkdir(exist_ok=True)
    (folder / digest).write_bytes(data)
    return digest


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)
