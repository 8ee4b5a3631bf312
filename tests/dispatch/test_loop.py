"""The submission loop against a pool that is played: whatever engines do, each image has one record.

Hundreds of scenarios in seconds; what only real engines show stands in tests/end_to_end/.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import pytest
from fake_pool import (
    Answer,
    AnswerLate,
    Deed,
    Die,
    FakePool,
    Lack,
    Refuse,
    Script,
    Stall,
    Vanish,
)

from parimg import events
from parimg.dispatch import dispatcher as dispatcher_module
from parimg.dispatch import lost_engines
from parimg.dispatch.dispatcher import Dispatcher
from parimg.dispatch.plan import Plan
from parimg.errors import (
    ControllerLost,
    EngineVersionError,
    JobError,
    ParimgError,
    SourceError,
    TaskError,
    TooManyFailures,
)
from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.options import Options
from parimg.protocol import shared_objects
from parimg.protocol.crash_report import IDLE, PREPARING
from parimg.protocol.messages import Chunk
from parimg.protocol.shared_objects import SharedRef
from parimg.record import Record
from parimg.sources.as_source import Image, Source

WAIT = 60.0  # s, on a machine that does much else


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks, questions and patience as short as the engines' work."""
    monkeypatch.setattr(dispatcher_module, "_LOOK_SECONDS", 0.004)
    monkeypatch.setattr(lost_engines, "_PROBE_SECONDS", 0.03)
    monkeypatch.setattr(lost_engines, "_REPORT_SECONDS", 0.05)
    monkeypatch.setattr(lost_engines, "_GRACE_SECONDS", 0.0)
    monkeypatch.setattr(lost_engines, "TELL_SECONDS", 0.01)


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
        **options: Any,
    ) -> Run:
        directory = str(self._folder / name)
        source = images if isinstance(images, Source) else Listed(images)
        heard: list[events.Event] = []
        plan = Plan(refs, source, Options(**options), retry_failed)
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


@pytest.fixture
def jobs(tmp_path: Path) -> Iterator[Jobs]:
    made = Jobs(tmp_path)
    yield made
    made.close()


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


def at_chunks(numbers: Iterable[int], deed: Deed) -> Script:
    """Does `deed` at the chunks of these numbers."""
    chosen = set(numbers)
    return lambda engine, chunk: deed if chunk.number in chosen else Answer()


# -- one thing goes wrong, in every setting -------------------------------------------------------------------

DEEDS: dict[str, Deed] = {
    "nothing": Answer(),
    "too_large_an_answer": Answer(most=1),
    "death_at_an_image": Die(at=1),
    "death_at_the_last_image": Die(at=10**6),
    "death_before_the_first_image": Die(at=PREPARING),
    "death_between_chunks": Die(at=IDLE),
    "death_at_an_earlier_chunk": Die(at=0, chunk=0),
    "death_without_a_recorder": Die(at=None),
    "death_that_nobody_reports": Die(at=0, is_reported=False),
    "death_without_recorder_or_report": Die(at=None, is_reported=False),
    "death_on_a_host_that_does_not_see_the_job": Die(at=1, sees_job=False),
    "late_answer": AnswerLate(),
    "vanished_chunk": Vanish(),
    "stalled_engine": Stall(),
    "stalled_engine_later": Stall(at=3),
    "missing_object": Lack(("absent",)),
}


@pytest.mark.parametrize("when", [(1,), (2, 3), (1, 2)], ids=["first", "second_and_third", "first_two"])
@pytest.mark.parametrize(("engines", "chunk_size"), [(1, 1), (1, 5), (3, 4), (2, None)])
@pytest.mark.parametrize("deed", DEEDS)
def test_whatever_an_engine_does_each_image_has_one_good_record(
    jobs: Jobs, deed: str, engines: int, chunk_size: int | None, when: tuple[int, ...]
) -> None:
    done = DEEDS[deed]
    if isinstance(done, Lack):
        done = Lack((write_object(jobs),))
    pool = FakePool(engines, at_chunks(when, done), seed=len(deed))
    run = jobs.begin(names(24), pool, chunk_size=chunk_size, timeout=0.02 if "stalled" in deed else None)
    if deed == "late_answer":
        assert run.end()
        assert pool.answer_orphans() >= 1
    records = check_whole(run.end(), names(24))
    assert all(record.ok for record in records.values())
    assert max(record.attempts for record in records.values()) <= 1 + len(when)
    lost = sum(event.images for event in run.of_kind(events.ChunkLost))
    assert (lost > 0) == (isinstance(done, Die | AnswerLate | Vanish | Stall))
    assert bool(pool.kills) == isinstance(done, Stall)


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


# -- random schedules -----------------------------------------------------------------------------------------


def mischief(seed: int, digest: str) -> Script:
    """Something goes wrong with a chunk in three, whatever it is."""
    random = Random(seed)
    deeds: list[Callable[[], Deed]] = [
        lambda: Die(at=random.randrange(-2, 6), is_reported=random.random() < 0.7, sees_job=random.random() < 0.7),
        lambda: Die(at=None, is_reported=random.random() < 0.7),
        lambda: Answer(most=1),
        AnswerLate,
        Vanish,
        lambda: Stall(at=random.randrange(4)),
        lambda: Lack((digest,)),
        lambda: Refuse("TypeError", "this answer cannot be sent"),
    ]

    def act(engine: int, chunk: Chunk) -> Deed:
        return random.choice(deeds)() if random.random() < 0.33 else Answer()

    return act


@pytest.mark.parametrize("seed", range(60))
def test_a_random_schedule_loses_nothing_and_writes_nothing_twice(jobs: Jobs, seed: int) -> None:
    random = Random(seed)
    pool = FakePool(
        random.randrange(1, 6),
        mischief(seed, write_object(jobs)),
        seed=seed,
        hosts=random.randrange(1, 3),
        report_of_others=random.choice(["sent", "lost", "never"]),
    )
    keys = [f"{'bad' if random.random() < 0.1 else 'good'}-{number}" for number in range(80)]
    run = jobs.begin(
        keys, pool, chunk_size=random.choice([None, 1, 3, 8]), timeout=0.02, retries=random.randrange(4)
    )
    if seed % 3 == 0:
        time.sleep(0.02)
        run.dispatcher.stop()
        first = run.end()
        assert first.dispatcher.state in {"interrupted", "finished"}
        assert first.written() == len(first.records())
        pool.script = lambda engine, chunk: Answer()
        run = jobs.run(keys, pool)
        assert first.written() + run.written() == len(keys)
    else:
        run.end()
        assert run.written() == len(keys)
        pool.answer_orphans()
    records = run.records()
    assert run.dispatcher.state == "finished"
    assert sorted(records) == sorted(keys)
    for key, record in records.items():
        assert record.position == keys.index(key)
        if record.ok:
            assert record["value"] == record.position
        else:
            assert record.error in {"ValueError", "EngineDied", "TypeError"}
        assert record.error == "ValueError" or not key.startswith("bad") or not record.ok


# -- engines that die again and again -------------------------------------------------------------------------


@pytest.mark.parametrize("retries", [0, 1, 2, 5])
@pytest.mark.parametrize("engines", [1, 4])
def test_an_image_that_kills_every_engine_is_one_failed_record(jobs: Jobs, retries: int, engines: int) -> None:
    def kill_at_seven(engine: int, chunk: Chunk) -> Deed:
        keys = [key for _, key, _, _ in chunk.images]
        return Die(at=keys.index("good-7")) if "good-7" in keys else Answer()

    records = check_whole(
        jobs.run(names(20), FakePool(engines, kill_at_seven), retries=retries, chunk_size=4), names(20)
    )
    [failed] = [record for record in records.values() if not record.ok]
    assert (failed.key, failed.error, failed.stage, failed.attempts) == (
        "good-7",
        "EngineDied",
        "engine",
        retries + 1,
    )
    assert failed.message is not None
    assert failed.message.startswith(f"its engine died at each of {retries + 1} attempts: engine ")
    assert {record.attempts for record in records.values() if record.ok} == {1}


def test_without_any_recorder_the_neighbours_of_a_deadly_image_survive(jobs: Jobs) -> None:
    def kill_at_seven(engine: int, chunk: Chunk) -> Deed:
        return Die(at=None) if any(key == "good-7" for _, key, _, _ in chunk.images) else Answer()

    records = check_whole(jobs.run(names(20), FakePool(3, kill_at_seven), chunk_size=6), names(20))
    assert [key for key, record in records.items() if not record.ok] == ["good-7"]


def test_engines_that_die_before_any_image_end_in_failed_records_not_in_an_endless_job(jobs: Jobs) -> None:
    run = jobs.run(names(3), FakePool(2, lambda engine, chunk: Die(at=IDLE)), retries=0, chunk_size=3)
    records = check_whole(run, names(3))
    assert {record.error for record in records.values()} == {"EngineDied"}
    assert {record.message.partition(":")[0] for record in records.values() if record.message} == {
        "11 engines died before they took it up"
    }


def test_an_engine_that_ended_itself_at_its_time_limit_costs_one_image(jobs: Jobs) -> None:
    def time_out(engine: int, chunk: Chunk) -> Deed:
        keys = [key for _, key, _, _ in chunk.images]
        return Die(at=keys.index("good-3"), text="Timeout (0:00:05)!\n") if "good-3" in keys else Answer()

    records = check_whole(jobs.run(names(10), FakePool(2, time_out), timeout=5, chunk_size=5), names(10))
    assert {key: record.error for key, record in records.items() if not record.ok} == {"good-3": "TimeoutError"}


@pytest.mark.parametrize("report", ["sent", "lost", "never"])
def test_the_report_of_a_host_that_does_not_see_the_job_is_asked_for(jobs: Jobs, report: str) -> None:
    pool = FakePool(2, at_chunks([1], Die(at=2, sees_job=False)), report_of_others=report)
    records = check_whole(jobs.run(names(4), pool, chunk_size=4), names(4))
    attempts = {key: record.attempts for key, record in records.items()}
    blamed = {"good-2"} if report == "sent" else set(names(4))
    assert attempts == {key: 2 if key in blamed else 1 for key in names(4)}


def test_an_engine_on_a_host_alone_leaves_no_report(jobs: Jobs) -> None:
    pool = FakePool(2, at_chunks([1], Die(at=2, sees_job=False)), hosts=1000)
    records = check_whole(jobs.run(names(4), pool, chunk_size=4), names(4))
    assert {record.attempts for record in records.values()} == {2}


def test_two_losses_in_a_row_take_each_chunk_once(jobs: Jobs) -> None:
    """The pool reports both chunks of an engine, and its absence is seen as well."""
    pool = FakePool(1, at_chunks([4], Die(at=0)))
    run = jobs.run(names(30), pool, chunk_size=2)
    records = check_whole(run, names(30))
    assert all(record.ok for record in records.values())
    assert len(run.of_kind(events.ChunkLost)) == 1


def test_a_job_waits_for_engines_and_uses_those_that_join(jobs: Jobs) -> None:
    pool = FakePool(0)
    run = jobs.begin(names(50), pool, chunk_size=1)
    assert not run.dispatcher.join(0.05)
    assert run.dispatcher.outstanding == 0
    pool.is_paused = True
    pool.join(1)
    wait_until(lambda: len(pool.chunks) >= 1)
    pool.join(3)
    wait_until(lambda: len({engine for engine, _ in pool.chunks}) == 4)
    pool.go_on()
    check_whole(run.end(), names(50))


def test_the_death_of_the_last_engine_is_waited_out(jobs: Jobs) -> None:
    pool = FakePool(2, at_chunks([1, 2], Die(at=0)), replaces=False)
    run = jobs.begin(names(10), pool, chunk_size=2)
    assert not run.dispatcher.join(0.05)
    assert pool.ids() == []
    pool.join(1)
    assert all(record.ok for record in check_whole(run.end(), names(10)).values())


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.001)


# -- refusals -------------------------------------------------------------------------------------------------


def test_a_refused_image_fails_alone(jobs: Jobs) -> None:
    def refuse_seven(engine: int, chunk: Chunk) -> Deed:
        return Refuse() if any(key == "good-7" for _, key, _, _ in chunk.images) else Answer()

    records = check_whole(jobs.run(names(20), FakePool(2, refuse_seven), chunk_size=5), names(20))
    failed = {key: (record.error, record.message) for key, record in records.items() if not record.ok}
    assert failed == {"good-7": ("PicklingError", "the answer cannot be sent")}
    assert {record.attempts for record in records.values()} == {1}


@pytest.mark.parametrize(("name", "error"), [("TaskError", TaskError), ("EngineVersionError", EngineVersionError)])
def test_an_engine_that_cannot_work_at_all_ends_the_job(jobs: Jobs, name: str, error: type[Exception]) -> None:
    run = jobs.run(names(20), FakePool(2, at_chunks([3], Refuse(name, "no model here"))), chunk_size=2)
    assert run.dispatcher.state == "failed"
    assert type(run.dispatcher.error) is error
    assert str(run.dispatcher.error) == "no model here"
    assert run.written() == len(run.records()) >= 2
    again = jobs.run(names(20), FakePool(2))
    assert sorted(again.records()) == sorted(names(20))
    assert run.written() + again.written() == 20


def test_an_answer_that_is_no_reply_ends_the_job_and_does_not_hang_it(jobs: Jobs) -> None:
    class Garbled(FakePool):
        def run(self, chunk: bytes, engine_id: int) -> Any:
            answer = super().run(chunk, engine_id)
            if len(self.chunks) == 3:
                answer.result(WAIT)
                garbled: Any = Future()
                garbled.set_result(b"no pickle")
                return garbled
            return answer

    run = jobs.run(names(20), Garbled(2), chunk_size=2)
    assert run.dispatcher.state == "failed"
    assert "Unpickling" in type(run.dispatcher.error).__name__
    assert run.written() == len(run.records())


# -- shared objects -------------------------------------------------------------------------------------------


def test_each_engine_is_sent_what_it_lacks_once(jobs: Jobs) -> None:
    digest = write_object(jobs)
    pool = FakePool(3, lambda engine, chunk: Lack((digest,)))
    run = jobs.run(names(30), pool, chunk_size=2)
    assert sorted(run.records()) == sorted(names(30))
    assert sorted(pool.sent_digests) == [(engine, digest) for engine in range(3)]
    assert {event.nbytes for event in run.of_kind(events.SharedObjectSent)} == {21}


def test_an_engine_that_cannot_store_a_shared_object_ends_the_job_with_the_reason(jobs: Jobs) -> None:
    digest = write_object(jobs)
    pool = FakePool(1, lambda engine, chunk: Lack((digest,)))
    pool.refuses_objects = True
    run = jobs.run(names(5), pool)
    assert isinstance(run.dispatcher.error, JobError)
    assert "engine 0 cannot store a shared object: OSError: no space left on device" in str(run.dispatcher.error)


def test_an_engine_that_dies_when_it_is_sent_an_object_costs_nothing(jobs: Jobs) -> None:
    digest = write_object(jobs)

    class Fragile(FakePool):
        def send_shared(self, digest: str, data: bytes, engine_id: int) -> Any:
            if engine_id == 0:
                self.end(0)
            return super().send_shared(digest, data, engine_id)

    run = jobs.run(names(12), Fragile(2, lambda engine, chunk: Lack((digest,))), chunk_size=3)
    assert all(record.ok for record in run.records().values())
    assert run.written() == 12


# -- how a job ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engines", [1, 3])
@pytest.mark.parametrize("n_done", [0, 7, 39])
def test_a_stopped_job_gathers_what_runs_and_the_next_run_does_the_rest(
    jobs: Jobs, engines: int, n_done: int
) -> None:
    pool = FakePool(engines)
    reached = threading.Event()

    def pause(event: events.Event) -> None:
        written = sum(e.ok for e in run_heard if isinstance(e, events.RecordsWritten))
        if not reached.is_set() and written >= n_done and isinstance(event, stations):
            pool.is_paused = True
            reached.set()

    stations = events.ChunkSubmitted | events.RecordsWritten
    run_heard: list[events.Event] = []
    run = jobs.begin(names(60), pool, chunk_size=2, listeners=[run_heard.append, pause])
    assert reached.wait(WAIT)
    run.dispatcher.stop()
    pool.go_on()
    run.end()
    assert run.dispatcher.state == "interrupted"
    assert n_done <= run.written() == len(run.records()) < 60
    again = jobs.run(names(60), pool)
    assert again.dispatcher.state == "finished"
    assert again.heard[0] == events.JobStarted(run.directory, run.written())
    assert run.written() + again.written() == len(again.records()) == 60


@pytest.mark.parametrize("deed", [Answer(), Vanish(), Die(at=0, is_reported=False)], ids=str)
def test_an_aborted_job_ends_at_once_and_the_next_run_does_the_rest(jobs: Jobs, deed: Deed) -> None:
    pool = FakePool(2, at_chunks(range(5, 9), deed))
    pool.is_paused = True
    run = jobs.begin(names(40), pool, chunk_size=2)
    wait_until(lambda: len(pool.chunks) >= 2)
    run.dispatcher.abort()
    run.end()
    assert (run.dispatcher.state, run.dispatcher.outstanding, run.written()) == ("aborted", 2, 0)
    pool.go_on()
    again = jobs.run(names(40), pool)
    assert again.written() == len(again.records()) == 40


def test_a_stop_waits_for_crash_reports_that_are_asked_for(jobs: Jobs) -> None:
    pool = FakePool(2, at_chunks([1], Die(at=0, sees_job=False)), report_of_others="never")
    run = jobs.begin(names(40), pool, chunk_size=2)
    wait_until(lambda: bool(run.of_kind(events.ChunkLost)))
    run.dispatcher.stop()
    run.end()
    assert run.dispatcher.state == "interrupted"
    again = jobs.run(names(40), pool)
    assert run.written() + again.written() == len(again.records()) == 40


def test_an_abort_after_a_stop_is_an_abort_and_a_stop_after_it_changes_nothing(jobs: Jobs) -> None:
    pool = FakePool(1)
    pool.is_paused = True
    run = jobs.begin(names(4), pool)
    wait_until(lambda: len(pool.chunks) >= 1)
    run.dispatcher.stop()
    run.dispatcher.abort()
    run.dispatcher.stop()
    run.end()
    assert run.dispatcher.state == "aborted"
    pool.go_on()


@pytest.mark.parametrize("n", [0, 1, 9, 100])
@pytest.mark.parametrize("error", [OSError("unplugged"), SourceError("row 3 is blank"), SystemExit(1)], ids=repr)
def test_a_source_that_breaks_off_keeps_what_it_named(jobs: Jobs, n: int, error: BaseException) -> None:
    run = jobs.run(Listed(names(n), error), FakePool(2), chunk_size=3)
    assert run.dispatcher.state == "failed"
    assert isinstance(run.dispatcher.error, SourceError)
    assert str(error) in str(run.dispatcher.error)
    assert sorted(run.records()) == sorted(names(n))
    assert run.written() == n
    again = jobs.run(names(n + 5), FakePool(2))
    assert (again.dispatcher.state, again.written()) == ("finished", 5)


def test_a_source_that_does_not_know_its_length_runs_whole(jobs: Jobs) -> None:
    check_whole(jobs.run(Listed(names(200), counted=False), FakePool(2)), names(200))


def test_a_source_without_images_is_a_finished_job(jobs: Jobs) -> None:
    run = jobs.run([], FakePool(2))
    assert (run.dispatcher.state, run.records()) == ("finished", {})


@pytest.mark.parametrize("distance", [1, 3, 70])
def test_an_image_named_again_is_run_once(jobs: Jobs, distance: int) -> None:
    keys = names(100)
    keys.insert(5 + distance, "good-5")
    run = jobs.run(keys, FakePool(2), chunk_size=4)
    assert sorted(run.records()) == sorted(names(100))
    assert (run.written(), run.dispatcher.duplicates) == (100, 1)
    assert run.of_kind(events.DuplicateFound) == [events.DuplicateFound("good-5")]
    assert Journal(run.directory).last_run().duplicates == 1


def test_failed_images_run_again_only_if_that_is_wanted_and_take_their_place(jobs: Jobs) -> None:
    keys = [f"{'bad' if number % 5 == 0 else 'good'}-{number}" for number in range(40)]
    first = jobs.run(keys, FakePool(2))
    assert first.dispatcher.counts == {"ok": 32, "failed": 8}
    assert jobs.run(keys, FakePool(2)).written() == 0
    again = jobs.run(keys, FakePool(2), retry_failed=True)
    assert again.written() == 8
    assert again.dispatcher.counts == {"ok": 32, "failed": 8}
    assert {key: record.position for key, record in again.records().items()} == {
        key: place for place, key in enumerate(keys)
    }


def test_images_that_a_changed_source_brings_between_the_others_are_put_at_the_end(jobs: Jobs) -> None:
    jobs.run(["good-0", "good-2"], FakePool(1))
    again = jobs.run(["good-0", "good-1", "good-2", "good-3"], FakePool(1))
    positions = {key: record.position for key, record in again.records().items()}
    assert sorted(positions, key=positions.__getitem__) == ["good-0", "good-2", "good-3", "good-1"]
    assert len(set(positions.values())) == 4


@pytest.mark.parametrize("limit", [0, 3, 0.5])
@pytest.mark.parametrize("engines", [1, 3])
def test_too_many_failures_end_the_job_and_what_runs_is_recorded(jobs: Jobs, limit: float, engines: int) -> None:
    keys = [f"{'bad' if number % 3 else 'good'}-{number}" for number in range(200)]
    run = jobs.run(keys, FakePool(engines), max_failures=limit, chunk_size=2)
    assert run.dispatcher.state == "failed"
    assert isinstance(run.dispatcher.error, TooManyFailures)
    assert run.dispatcher.counts["failed"] > (limit if isinstance(limit, int) else 10)
    assert len(run.records()) == run.written() < 60
    again = jobs.run(keys, FakePool(engines))
    assert run.written() + again.written() == len(again.records()) == 200


def test_too_many_engine_deaths_count_as_failures(jobs: Jobs) -> None:
    pool = FakePool(2, lambda engine, chunk: Die(at=0))
    run = jobs.run(names(50), pool, retries=0, max_failures=4, chunk_size=1)
    assert isinstance(run.dispatcher.error, TooManyFailures)
    assert run.written() == len(run.records()) <= 10


def test_that_all_of_the_first_hundred_fail_alike_is_said_loudly_once_and_the_job_goes_on(
    jobs: Jobs, capsys: pytest.CaptureFixture[str]
) -> None:
    run = jobs.run(names(150, "bad") + names(50), FakePool(1), chunk_size=10)
    assert run.dispatcher.counts == {"ok": 50, "failed": 150}
    assert run.of_kind(events.AllFailedAlike) == [events.AllFailedAlike(100, "ValueError", "bad-0 is no good")]
    assert capsys.readouterr().err.count("all of the first 100 images failed alike") == 1


def test_a_host_that_misses_its_first_twenty_images_ends_the_job_whatever_the_limit(jobs: Jobs) -> None:
    keys = names(40, "missing")
    run = jobs.run(keys, FakePool(1), chunk_size=5, max_failures=1000)
    assert run.dispatcher.state == "failed"
    assert isinstance(run.dispatcher.error, TooManyFailures)
    message = str(run.dispatcher.error)
    assert message.startswith(
        "the first 20 images that host0 was given are all missing there, such as '/images/mis"
    )
    assert message.endswith(f"parimg resume {run.directory} --retry-failed")
    assert len(run.records()) == run.written() <= 30
    again = jobs.run(keys[:25] + names(5), FakePool(1))
    assert again.dispatcher.state == "finished"  # the few that are left are told one by one


def test_an_image_that_is_there_among_those_missing_lets_the_job_go_on(jobs: Jobs) -> None:
    keys = ["good-0", *names(40, "missing")]
    assert jobs.run(keys, FakePool(1)).dispatcher.counts == {"ok": 1, "failed": 40}


# -- the controller -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("engines", [1, 4])
def test_a_controller_that_is_lost_and_comes_back_costs_no_attempt(jobs: Jobs, engines: int, late: bool) -> None:
    pool = FakePool(engines)
    pool.is_paused = True
    run = jobs.begin(names(60), pool, chunk_size=3)
    wait_until(lambda: len(pool.chunks) >= engines)
    pool.lose_all()
    run.dispatcher.forget_engines()
    pool.join(engines)
    wait_until(lambda: len(pool.chunks) >= 2 * engines)
    if late:
        assert pool.answer_orphans() == engines
    pool.go_on()
    records = check_whole(run.end(), names(60))
    assert {record.attempts for record in records.values()} == {1}
    assert run.dispatcher.restarts == 1


def test_a_controller_that_is_lost_for_good_ends_the_job_and_says_how_to_go_on(jobs: Jobs) -> None:
    pool = FakePool(2)
    pool.is_paused = True
    run = jobs.begin(names(60), pool)
    wait_until(lambda: len(pool.chunks) >= 2)
    pool.lose_all()
    run.dispatcher.fail("the controller of the cluster is lost")
    run.end()
    assert run.dispatcher.state == "failed"
    assert isinstance(run.dispatcher.error, ControllerLost)
    assert str(run.dispatcher.error).endswith(f"is lost; to go on: parimg resume {run.directory}")
    pool.go_on()
    again = jobs.run(names(60), FakePool(2))
    assert run.written() + again.written() == len(again.records()) == 60


def test_a_controller_lost_while_a_crash_report_is_awaited_loses_no_image(jobs: Jobs) -> None:
    pool = FakePool(2, at_chunks([1], Die(at=0, sees_job=False)), report_of_others="never")
    run = jobs.begin(names(40), pool, chunk_size=2)
    wait_until(lambda: bool(run.of_kind(events.ChunkLost)))
    pool.lose_all()
    run.dispatcher.forget_engines()
    pool.join(2)
    assert all(record.ok for record in check_whole(run.end(), names(40)).values())


# -- listeners, limits ----------------------------------------------------------------------------------------


def test_a_listener_that_raises_is_heard_once_and_others_may_come_and_go(jobs: Jobs) -> None:
    calls: list[events.Event] = []

    def broken(event: events.Event) -> None:
        calls.append(event)
        raise RuntimeError("broken listener")

    pool = FakePool(1)
    pool.is_paused = True
    run = jobs.begin(names(20), pool, chunk_size=1, listeners=[broken])
    wait_until(lambda: len(pool.chunks) >= 1)
    later: list[events.Event] = []
    run.dispatcher.listeners.add(later.append)
    run.dispatcher.listeners.remove(run.heard.append)
    run.dispatcher.listeners.remove(print)
    pool.go_on()
    run.end()
    assert len(calls) == 1
    assert sum(event.ok for event in later if isinstance(event, events.RecordsWritten)) == 20
    assert events.JobFinished("finished") not in run.heard


def test_listeners_come_and_go_from_many_threads_while_one_emits() -> None:
    listeners = events.Listeners()
    heard = Counter[int]()
    kept = [lambda event, place=place: heard.update([place]) for place in range(8)]

    def come_and_go(place: int) -> None:
        for _ in range(300):
            listeners.add(kept[place])
            listeners.remove(kept[place])
        listeners.add(kept[place])

    threads = [threading.Thread(target=come_and_go, args=(place,)) for place in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(300):
        listeners.emit(events.TotalKnown(1))
    for thread in threads:
        thread.join()
    heard.clear()
    listeners.emit(events.TotalKnown(1))
    assert heard == dict.fromkeys(range(8), 1)


def test_no_engine_has_more_than_two_chunks_and_all_get_as_many(jobs: Jobs) -> None:
    run = jobs.run(names(400), pool := FakePool(4, seed=3), chunk_size=1)
    check_whole(run, names(400))
    assert max(event.outstanding for event in run.of_kind(events.ChunkSubmitted)) == 8
    shares = Counter(engine for engine, _ in pool.chunks)
    assert set(shares) == {0, 1, 2, 3}
    assert min(shares.values()) > 40


def test_the_last_images_of_a_long_job_do_not_go_out_one_by_one(jobs: Jobs) -> None:
    run = jobs.run(names(20_000), FakePool(2))
    sizes = [event.images for event in run.of_kind(events.ChunkSubmitted)]
    assert sum(sizes) == run.written() == 20_000
    assert sizes.count(1) < 20


# -- ten thousand engines -------------------------------------------------------------------------------------


@pytest.mark.parametrize("deaths", [0, 500])
def test_ten_thousand_engines_are_all_used_and_nothing_is_lost(
    jobs: Jobs, deaths: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher_module, "_LOOK_SECONDS", 0.5)
    monkeypatch.setattr(lost_engines, "_PROBE_SECONDS", 20.0)
    pool = FakePool(10_000, at_chunks(range(1, deaths + 1), Die(at=0, is_reported=True)))
    keys = names(12_000)
    run = jobs.run(keys, pool, chunk_size=1)
    assert run.dispatcher.state == "finished"
    assert run.dispatcher.counts == {"ok": 12_000, "failed": 0}
    assert run.written() == 12_000
    assert len({engine for engine, _ in pool.chunks}) >= 10_000
    assert sum(1 for _ in itertools.islice(Journal(run.directory).completed(), 20_000)) == 12_000
    assert isinstance(run.dispatcher.error, ParimgError | None)
