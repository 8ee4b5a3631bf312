"""The submission loop, on real engines: window, chunks, values that depend on nothing but the image."""

from __future__ import annotations

import itertools
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import parimg
from parimg import events
from parimg.errors import ImageMissingError, JobError, SourceError, TaskError, TooManyFailures


def named_arrays(n: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"image{number:04d}", np.full((2, 2), number)) for number in range(n))


def columns(job: parimg.Job) -> dict[str, dict[str, object]]:
    return {record.key: record.columns for record in job.get(120)}


@pytest.mark.parametrize("chunk_size", [1, 50])
def test_values_do_not_depend_on_the_chunk_size(
    controller: parimg.Controller, temple_ring: list[str], chunk_size: int
) -> None:
    task = parimg.MatchSIFT(temple_ring[0])
    expected = {path: dict(task(cv2.imread(path, cv2.IMREAD_GRAYSCALE))) for path in temple_ring}
    found = controller.submit(task, temple_ring, chunk_size=chunk_size)
    assert {record.uri: record.columns for record in found.get(120)} == expected


def test_values_do_not_depend_on_the_number_of_engines(
    controller: parimg.Controller, temple_ring: list[str]
) -> None:
    task = parimg.MatchSIFT(temple_ring[0], n_features=500)
    with parimg.start(n=1) as one, parimg.start(n=3) as three:
        assert columns(one.submit(task, temple_ring)) == columns(three.submit(task, temple_ring))


def test_the_first_chunk_is_one_image_and_chunks_grow(controller: parimg.Controller) -> None:
    sizes: list[int] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.ChunkSubmitted):
            sizes.append(event.images)

    controller.map(lambda image: 0, named_arrays(5000), listeners=[listen]).wait()
    assert sizes[0] == 1
    assert max(sizes) > 100
    assert sum(sizes) == 5000


def test_no_more_than_two_chunks_an_engine_are_under_way(controller: parimg.Controller) -> None:
    outstanding: list[int] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.ChunkSubmitted):
            outstanding.append(event.outstanding)

    controller.map(lambda image: time.sleep(0.01), named_arrays(100), listeners=[listen]).wait()
    assert max(outstanding) == 4


def test_a_source_is_listed_no_further_than_the_window(controller: parimg.Controller) -> None:
    taken = 0

    def endless() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal taken
        for number in itertools.count():
            taken += 1
            yield f"image{number}", np.zeros((500, 500))

    job = controller.map(lambda image: time.sleep(0.1), endless())
    time.sleep(1.0)
    job.stop()
    assert job.progress >= 4
    assert taken < 100


def test_a_big_reference_leaves_the_client_for_no_engine_that_sees_its_folder(
    controller: parimg.Controller, temple_ring: list[str]
) -> None:
    heard: list[events.Event] = []
    controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:6], listeners=[heard.append]).wait(60)
    assert [event for event in heard if isinstance(event, events.RecordsWritten)]
    assert not [event for event in heard if isinstance(event, events.SharedObjectSent)]


def test_duplicates_are_told_and_run_once(controller: parimg.Controller) -> None:
    images = [("a", np.zeros(2)), ("b", np.ones(2)), ("a", np.zeros(2))]
    told: list[events.Event] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.DuplicateFound):
            told.append(event)

    job = controller.map(lambda image: 1, iter(images), listeners=[listen])
    job.wait(60)
    assert [record.key for record in job.get(60)] == ["a", "b"]
    assert told == [events.DuplicateFound("a")]
    assert job.duplicates == 1


def test_missing_and_foreign_files_are_failed_records_and_the_job_goes_on(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    cv2.imwrite(str(tmp_path / "good.png"), np.full((8, 8), 7, np.uint8))
    (tmp_path / "foreign.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    names = ["good.png", "foreign.png", "empty.png", "missing.png"]
    job = controller.map(np.max, [str(tmp_path / name) for name in names])
    found = {Path(record.uri).name: (record.status, record.stage, record.error) for record in job}
    assert found == {
        "good.png": ("ok", None, None),
        "foreign.png": ("failed", "decode", "ImageFormatError"),
        "empty.png": ("failed", "decode", "ImageEmptyError"),
        "missing.png": ("failed", "decode", ImageMissingError.__name__),
    }


def test_the_pixel_limit_is_settable(controller: parimg.Controller, tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((8, 9), np.uint8))
    [record] = controller.map(np.max, str(tmp_path / "image.png"), max_pixels=71).get(60)
    assert record.error == "ImageTooLargeError"
    [record] = controller.map(np.max, str(tmp_path / "image.png"), max_pixels=72).get(60)
    assert record.ok


def test_a_result_that_cannot_be_a_row_fails_its_image_only(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: object() if image[0, 0] == 1 else 5, named_arrays(3))
    assert [(record.status, record.stage) for record in job.get(60)] == [
        ("ok", None),
        ("failed", "result"),
        ("ok", None),
    ]


def test_a_task_that_no_engine_can_prepare_ends_the_job_with_the_reason(
    controller: parimg.Controller,
) -> None:
    class Broken(parimg.Task):
        def prepare(self) -> None:
            raise OSError("no model here")

    job = controller.submit(Broken(), named_arrays(3))
    with pytest.raises(TaskError, match="OSError: no model here"):
        job.wait(60)
    assert job.state == "failed"
    with pytest.raises(JobError, match="no model here"):
        list(parimg.open_job(job.directory))


def test_a_source_that_breaks_off_keeps_what_was_computed(controller: parimg.Controller) -> None:
    def breaking() -> Iterator[tuple[str, np.ndarray]]:
        yield from named_arrays(5)
        raise ConnectionError("camera unplugged")

    job = controller.map(lambda image: 1, breaking())
    with pytest.raises(SourceError, match="after 5: ConnectionError: camera unplugged"):
        job.wait(60)
    assert parimg.open_job(job.directory).progress == 5


def test_a_listener_that_raises_is_dropped_and_the_job_goes_on(controller: parimg.Controller) -> None:
    def listen(event: events.Event) -> None:
        raise RuntimeError("broken listener")

    job = controller.map(lambda image: 1, named_arrays(3), listeners=[listen])
    assert len(job.get(60)) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries must be an integer of at least 0 .got -1"),
        ({"chunk_size": 0}, "chunk_size must be an integer of at least 1"),
        ({"max_pixels": 1.5}, "max_pixels must be an integer"),
    ],
)
def test_options_out_of_range_are_refused_before_anything_is_sent(
    controller: parimg.Controller, options: dict, message: str, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=message):
        controller.map(np.max, named_arrays(1), job_dir=tmp_path / "job", **options)
    assert not (tmp_path / "job").exists()


def test_a_file_name_that_is_not_utf_8_is_run_and_recorded(controller: parimg.Controller, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    name = os.fsencode(tmp_path / "photos") + b"/caf\xe9.png"
    with open(name, "wb") as file:
        file.write(cv2.imencode(".png", np.full((4, 4), 9, np.uint8))[1].tobytes())
    with open(os.fsencode(tmp_path / "photos") + b"/damaged\xe9.png", "wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
    good, bad = controller.map(np.max, tmp_path / "photos").get(60)
    assert good["value"] == 9
    assert os.fsencode(good.uri) == name
    assert bad.error == "ImageTruncatedError"


def test_results_are_recorded_while_a_slow_source_makes_its_next_image(controller: parimg.Controller) -> None:
    go_on = threading.Event()

    def camera() -> Iterator[tuple[str, np.ndarray]]:
        yield "first", np.ones(1)
        go_on.wait(60)
        yield "second", np.ones(1)

    job = controller.map(np.max, camera())
    records = iter(job)
    assert next(records).key == "first"
    assert not go_on.is_set()
    go_on.set()
    assert [record.key for record in records] == ["second"]


def failing_from(first: int) -> object:
    def fail(image: np.ndarray) -> int:
        if image[0, 0] >= first:
            raise ValueError(f"no good: {image[0, 0]}") if image[0, 0] % 3 else KeyError("absent")
        return 1

    return fail


def test_a_job_with_more_failures_than_allowed_stops_says_why_and_can_be_resumed(
    controller: parimg.Controller,
) -> None:
    job = controller.map(failing_from(40), named_arrays(400), max_failures=10, chunk_size=2)
    with pytest.raises(
        TooManyFailures, match=r"images failed, more than max_failures=10; .*[0-9] ValueError \(no g"
    ):
        job.wait(60)
    assert job.state == "failed"
    assert 11 <= job.counts["failed"] < 30  # what was under way is recorded
    assert set(job.failures.by_error) == {"ValueError", "KeyError"}
    assert repr(job.failures).startswith(f"<{job.counts['failed']} failures: ")
    with pytest.raises(JobError, match=r"ended early: TooManyFailures: .*to go on: parimg resume"):
        parimg.open_job(job.directory).wait()
    again = controller.resume(job.directory, images=named_arrays(400), max_failures=None)
    assert again.wait(60)
    assert again.counts == {"ok": 40, "failed": 360, "done": 400, "total": 400}
    assert [group.count for group in again.failures.by_error.values()] == [240, 120]
    assert again.failures.by_error["ValueError"].message.startswith("no good: ")


def test_a_share_of_failures_counts_once_there_are_20_records(controller: parimg.Controller) -> None:
    job = controller.map(failing_from(0), named_arrays(200), max_failures=0.5, chunk_size=1)
    with pytest.raises(TooManyFailures, match=r"20 of 20 images failed, more than max_failures=0\.5"):
        job.wait(60)
    few = controller.map(failing_from(0), named_arrays(15), max_failures=0.5, chunk_size=1)
    assert few.wait(60)
    half = controller.map(failing_from(30), named_arrays(60), max_failures=0.5, chunk_size=1)
    assert half.wait(60)
    assert half.counts["failed"] == 30


def test_a_running_job_tells_what_is_left_and_who_is_at_it(controller: parimg.Controller) -> None:
    def sleep(image: np.ndarray) -> int:
        time.sleep(0.1)
        return 0

    job = controller.map(sleep, named_arrays(60), chunk_size=1)
    while job.progress < 10:
        time.sleep(0.01)
    left = job._run.work_left
    assert left.busy <= set(controller.engines)
    assert len(left.busy) > 0
    assert left.seconds >= 0.1 * left.images > 0
    assert job.wait(60)
