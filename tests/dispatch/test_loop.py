"""The submission loop against a pool that is played: whatever engines do, each image has one record.

Hundreds of scenarios in seconds; what only real engines show stands in tests/end_to_end/.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from concurrent.futures import Future
from random import Random
from typing import Any

import pytest
from fake_job import WAIT, Jobs, check_whole, names, wait_until, write_object
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
    at_chunks,
)

from parimg import events
from parimg.dispatch import dispatcher as dispatcher_module
from parimg.dispatch import lost_engines
from parimg.errors import (
    EngineVersionError,
    JobError,
    ParimgError,
    TaskError,
)
from parimg.job.journal import Journal
from parimg.protocol.crash_report import IDLE, PREPARING
from parimg.protocol.messages import Chunk

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
