"""How a job ends, early or late, on engines that are played: what has no record then gets it in the next run."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from fake_job import WAIT, Jobs, Listed, check_whole, names, wait_until
from fake_pool import (
    Answer,
    Deed,
    Die,
    FakePool,
    Vanish,
    at_chunks,
)

from parimg import events
from parimg.errors import (
    ControllerLost,
    SourceError,
    TooManyFailures,
)
from parimg.job.journal import Journal

# -- how a job ends -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("engines", [1, 3])
# 30 are written, 12 more may be answered already, and 12 sent in their place: less than 60.
@pytest.mark.parametrize("n_done", [0, 7, 30])
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
