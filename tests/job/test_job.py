"""Jobs on a real embedded cluster: the asynchronous collection."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from waiting import wait_until

import parimg
from parimg.errors import JobError


def named_arrays(n: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((f"image{number:04d}", np.full((2, 2), number)) for number in range(n))


def half_fail(image: np.ndarray) -> dict[str, object]:
    if image[0, 0] % 2:
        raise ValueError(f"odd: {image[0, 0]}")
    return {"level": int(image[0, 0]), "doubled": image * 2}


@pytest.fixture(scope="module")
def finished(controller: parimg.Controller) -> parimg.Job:
    """Ten images, every other one failed."""
    job = controller.map(half_fail, named_arrays(10))
    assert job.wait(60)
    return job


def test_iteration_gives_each_record_once(finished: parimg.Job) -> None:
    assert sorted(record.key for record in finished) == [f"image{number:04d}" for number in range(10)]


def test_in_order_follows_the_source(finished: parimg.Job) -> None:
    assert [record.position for record in finished.in_order()] == list(range(10))


def test_records_arrive_while_the_job_runs(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(0.2) or 1, named_arrays(20))
    next(iter(job))
    assert not job.ready()
    job.wait()


def test_in_order_waits_for_a_slow_first_image(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(1.0 if image[0, 0] == 0 else 0), named_arrays(10))
    assert [record.position for record in job.in_order()] == list(range(10))


def test_several_iterations_at_once_each_see_all_records(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: 1, named_arrays(50))
    both = [(one.key, other.key) for one, other in zip(job, job, strict=True)]
    assert len(both) == 50
    assert all(one == other for one, other in both)


def test_a_failed_image_is_a_record_with_stage_type_message_and_traceback(finished: parimg.Job) -> None:
    record = finished["image0003"]
    assert (record.status, record.stage, record.error, record.message) == (
        "failed",
        "task",
        "ValueError",
        "odd: 3",
    )
    assert "in half_fail" in record.traceback
    assert record.attempts == 1


def test_records_are_found_by_key_and_by_position(finished: parimg.Job) -> None:
    assert (
        finished["image0004"] == finished[4]["level"]
        or finished["image0004"]["level"] == finished[4]["level"] == 4
    )
    assert finished[-2].key == "image0008"


def test_lookup_takes_what_sequences_take(finished: parimg.Job) -> None:
    assert [record.key for record in finished[1:3]] == ["image0001", "image0002"]
    assert finished[np.int64(1)].key == "image0001"
    assert "image0001" in finished
    assert "nonsense" not in finished


def test_an_unknown_key_or_position_is_told(finished: parimg.Job) -> None:
    with pytest.raises(KeyError, match="no record of image 'nonsense'"):
        finished["nonsense"]
    with pytest.raises(IndexError, match="no record of image 10"):
        finished[10]


def test_arrays_come_back_as_they_were(finished: parimg.Job) -> None:
    assert finished["image0002"]["doubled"].tolist() == [[4, 4], [4, 4]]


def test_counts_and_failures_agree(finished: parimg.Job) -> None:
    assert finished.counts == {"ok": 5, "failed": 5, "done": 10, "total": 10}
    assert len(finished.failures) == 5
    assert finished.failures[-1].key == [record.key for record in finished.failures][-1]
    assert finished.failures[1:3] == list(finished.failures)[1:3]
    with pytest.raises(IndexError, match="no failure 5; there are 5"):
        finished.failures[5]
    assert sorted(record.key for record in finished.failures) == [f"image000{odd}" for odd in (1, 3, 5, 7, 9)]


def test_one_failure_is_told_in_the_singular(controller: parimg.Controller) -> None:
    job = controller.map(half_fail, named_arrays(2))
    job.wait()
    assert repr(job.failures) == "<1 failure: 1 ValueError>"


def test_it_speaks_async_results_vocabulary(finished: parimg.Job) -> None:
    assert finished.ready()
    assert not finished.successful()
    assert finished.wait(0)
    assert len(finished.get(0)) == len(finished) == finished.progress == 10
    assert finished.serial_time > 0
    assert 0 < finished.wall_time == finished.elapsed


def test_successful_before_the_end_is_an_error(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(0.5), named_arrays(2))
    with pytest.raises(ValueError, match="has not ended"):
        job.successful()
    job.wait()
    assert job.successful()


def test_get_with_a_timeout_says_how_far_it_came(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(0.5), named_arrays(4))
    with pytest.raises(TimeoutError, match=r"has not ended after 0\.1 s: <Job Function running"):
        job.get(0.1)
    assert not job.wait(0)
    job.wait()


def test_the_job_can_be_awaited_and_iterated_asynchronously(controller: parimg.Controller) -> None:
    async def gather() -> tuple[parimg.Job, list[str], bool]:
        job = controller.map(lambda image: time.sleep(0.05), named_arrays(20))
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while not job.ready():
                ticks += 1
                await asyncio.sleep(0.02)

        ticking = asyncio.create_task(tick())
        keys = [record.key async for record in job]
        awaited = await job
        await ticking
        return awaited, keys, ticks > 5

    job, keys, loop_ran = asyncio.run(gather())
    assert isinstance(job, parimg.Job)
    assert len(job) == len(set(keys)) == 20
    assert loop_ran


def test_the_repr_tells_task_state_and_counts(finished: parimg.Job) -> None:
    assert repr(finished).startswith(
        f"<Job half_fail finished: 10/10 images, 5 failed (most ValueError: {finished.failures[0].message}), "
    )


def test_tables_have_a_row_an_image_in_source_order(finished: parimg.Job, tmp_path: Path) -> None:
    frame = finished.to_pandas()
    assert frame["key"].tolist() == [f"image{number:04d}" for number in range(10)]
    assert frame["level"].dropna().tolist() == [0, 2, 4, 6, 8]
    assert frame["level"].dtype == pd.Int64Dtype()
    assert "partial" not in frame.attrs
    assert frame["error"].dropna().unique().tolist() == ["ValueError"]
    finished.to_parquet(tmp_path / "table.parquet")
    finished.to_csv(tmp_path / "table.csv")
    read = pq.read_table(tmp_path / "table.parquet").to_pandas()
    pd.testing.assert_frame_equal(read, frame, check_dtype=False)
    assert pd.read_csv(tmp_path / "table.csv")["key"].tolist() == frame["key"].tolist()


def test_another_reader_sees_the_same_records(finished: parimg.Job) -> None:
    opened = parimg.open_job(finished.directory)
    assert opened.state == "finished"
    assert {record.key: record.columns for record in opened} == {record.key: record.columns for record in finished}
    assert opened.to_arrow().equals(finished.to_arrow())


def test_a_running_job_can_be_followed_through_its_directory(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(0.05), named_arrays(40))
    opened = parimg.open_job(job.directory)
    assert opened.state == "running"
    assert len(list(opened)) == 40
    assert opened.state == "finished"


def test_the_frame_of_a_running_job_says_so_and_has_the_columns_of_the_task(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    @dataclasses.dataclass(frozen=True, eq=False)
    class Level(parimg.Task):
        columns = {"level": "int64"}  # noqa: RUF012 - as users write it

        def __call__(self, image: np.ndarray) -> dict[str, int]:
            time.sleep(2.0)
            return {"level": int(image[0, 0])}

    job = controller.submit(Level(), dict(named_arrays(3)), chunk_size=1)
    frame = job.to_pandas()
    assert frame["level"].tolist() == []
    assert frame.attrs["partial"].endswith("images are recorded; the job is running")
    assert repr(frame).endswith(f"[partial: {frame.attrs['partial']}]")
    assert f"<p>partial: {frame.attrs['partial']}</p>" in frame._repr_html_()
    assert type(frame[["key"]]) is frame._constructor is pd.DataFrame
    wait_until(lambda: job.counts["total"] == 3)
    job.abort()
    assert job.to_pandas().attrs["partial"].startswith("0 of 3 images are recorded")


def test_slices_follow_the_rules_of_sequences(finished: parimg.Job) -> None:
    keys, bad = [f"image{n:04d}" for n in range(10)], [record.key for record in finished.failures]
    for place in (slice(None), slice(1, 3), slice(None, None, 3), slice(8, 1, -2), slice(-3, None), slice(7, 2)):
        assert [record.key for record in finished[place]] == keys[place]
        assert [record.key for record in finished.failures[place]] == bad[place]
    with pytest.raises(IndexError, match="no record of image -11"):
        finished[-11]


def test_keys_are_completed_in_a_shell(finished: parimg.Job) -> None:
    assert finished._ipython_key_completions_() == [f"image{n:04d}" for n in range(10)]
    assert finished[0]._ipython_key_completions_() == ["level", "doubled"]


def test_a_job_of_another_process_cannot_be_stopped_from_here(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(0.1), named_arrays(30))
    opened = parimg.open_job(job.directory)
    assert repr(opened).startswith(f"<Job Function running by process {os.getpid()} on ")
    for end in (opened.stop, opened.abort):
        with pytest.raises(JobError, match=rf"is run by process {os.getpid()} on .*; stop it there"):
            end()
    job.abort()
    opened.stop()
    assert opened.state == "aborted"


def test_a_job_is_opened_by_its_name_alone(finished: parimg.Job) -> None:
    assert parimg.open_job(os.path.basename(finished.directory)).directory == finished.directory


def test_what_is_no_job_is_told(tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is not a job"):
        parimg.open_job(tmp_path)


def test_stop_gathers_running_chunks_and_leaves_the_rest_for_resume(
    controller: parimg.Controller, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = {f"image{number:04d}": np.full((2, 2), number) for number in range(60)}
    job = controller.map(lambda image: time.sleep(0.05) or int(image[0, 0]), images, job_dir=tmp_path / "job")
    while job.progress < 3:
        time.sleep(0.01)
    job.stop()
    assert job.state == "interrupted"
    done = job.progress
    assert f"{done} of 60 images are recorded; to go on: parimg resume" in capsys.readouterr().err
    assert 3 <= done < 60
    resumed = controller.resume(tmp_path / "job", images=images)
    assert {record.key: record["value"] for record in resumed} == {f"image{n:04d}": n for n in range(60)}
    assert resumed.state == "finished"


def test_abort_ends_at_once(controller: parimg.Controller) -> None:
    job = controller.map(lambda image: time.sleep(1.5), named_arrays(8))
    time.sleep(0.2)
    begin = time.monotonic()
    job.abort()
    assert time.monotonic() - begin < 1.0
    assert job.state == "aborted"
    assert parimg.open_job(job.directory).state == "aborted"
