"""One job of several: of shards, of overlapping jobs, of jobs that do not fit together."""

from __future__ import annotations

import os
from pathlib import Path

import command_line
import cv2
import numpy as np
import pytest

import parimg
from parimg.errors import JobError, JobLockedError
from parimg.job.directory import JobDirectory
from parimg.job.job import Job


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Twelve gray images whose mean is their number."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "views").mkdir()
    for number in range(12):
        cv2.imwrite(str(tmp_path / "views" / f"{number:02d}.png"), np.full((4, 4), number, np.uint8))
    return tmp_path


def values(job: Job) -> list[tuple[str, float | None]]:
    return [(record.key, record.columns.get("value")) for record in job.in_order()]


ALL = [(f"views/{number:02d}.png", float(number)) for number in range(12)]


def mean(image: np.ndarray) -> float:
    return float(image.mean())


def test_shards_of_several_controllers_become_the_job_that_one_would_have_run(
    controller: parimg.Controller, folder: Path
) -> None:
    for shard in ((1, 3), (2, 3), (3, 3)):
        assert controller.map(mean, "views", shard=shard, job_dir=f"part-{shard[0]}").wait(60)
    parts = [parimg.open_job(f"part-{number}") for number in (1, 2, 3)]
    assert sorted(record.key for part in parts for record in part) == [key for key, _ in ALL]
    assert all(0 < part.counts["done"] == part.counts["total"] < 12 for part in parts)

    merged = parimg.merge_jobs(["part-3", "part-1", "part-2"], into="whole")
    assert values(merged) == ALL
    assert merged.state == "finished"
    assert merged.counts == {"ok": 12, "failed": 0, "done": 12, "total": 12}
    assert [merged[number].key for number in (0, 5, -1)] == [ALL[0][0], ALL[5][0], ALL[-1][0]]
    assert merged.serial_time == pytest.approx(sum(part.serial_time for part in parts))

    # It goes on as a job of the whole folder.
    cv2.imwrite("views/12.png", np.full((4, 4), 12, np.uint8))
    resumed = controller.resume("whole")
    assert resumed.wait(60)
    assert values(resumed) == [*ALL, ("views/12.png", 12.0)]


def test_a_shard_that_is_missing_or_unfinished_is_run_on_resumption(
    controller: parimg.Controller, folder: Path
) -> None:
    assert controller.map(mean, "views", shard=(1, 2), job_dir="part-1").wait(60)
    stopped = controller.map(mean, "views", shard=(2, 2), job_dir="part-2")
    stopped.abort()
    half = parimg.merge_jobs(["part-1", "part-2"], "half")
    assert half.state == "interrupted"
    resumed = controller.resume("half")
    assert resumed.wait(60)
    assert values(resumed) == ALL

    alone = parimg.merge_jobs(["part-1"], "alone")
    assert values(alone) == values(parimg.open_job("part-1"))
    again = controller.resume("alone")
    assert again.wait(60)
    assert values(again) == values(alone)  # the other shard is not its own


def test_jobs_of_other_images_come_one_after_the_other(controller: parimg.Controller, folder: Path) -> None:
    for name, numbers in (("late", range(6, 12)), ("early", range(6))):
        assert controller.map(mean, [ALL[number][0] for number in numbers], job_dir=name).wait(60)
    merged = parimg.merge_jobs(["late", "early"], "both")
    assert values(merged) == [*ALL[6:], *ALL[:6]]
    assert merged.state == "finished"
    assert values(controller.resume("both")) == values(merged)


def test_of_two_records_of_an_image_the_one_that_is_ok_stays(controller: parimg.Controller, folder: Path) -> None:
    strict = str(folder / "strict")

    def odd_only(image: np.ndarray) -> float:
        if os.path.exists(strict) and image.mean() % 2 == 0:
            raise ValueError("even")
        return float(image.mean())

    Path(strict).touch()
    assert controller.map(odd_only, "views", job_dir="odd").wait(60)
    Path(strict).unlink()
    assert controller.map(odd_only, "views", job_dir="all").wait(60)
    assert parimg.open_job("odd").counts["failed"] == 6
    for order in (["odd", "all"], ["all", "odd"]):
        merged = parimg.merge_jobs(order, "-".join(order))
        assert values(merged) == ALL
        assert merged.counts == {"ok": 12, "failed": 0, "done": 12, "total": 12}


def test_jobs_that_contradict_each_other_are_refused_unless_the_newest_is_wanted(
    controller: parimg.Controller, folder: Path
) -> None:
    assert controller.map(mean, "views", job_dir="before").wait(60)
    cv2.imwrite("views/03.png", np.full((4, 4), 99, np.uint8))
    assert controller.map(mean, "views", job_dir="after").wait(60)
    with pytest.raises(JobError, match=r"'views/03.png' and do not agree: its values are '\{\"value\":99.0\}'"):
        parimg.merge_jobs(["before", "after"], "both")
    assert not (folder / "both").exists()
    for order in (["before", "after"], ["after", "before"]):
        merged = parimg.merge_jobs(order, "-".join(order), conflicts="newest")
        assert merged["views/03.png"]["value"] == 99.0
        assert len(merged) == 12


def test_jobs_of_different_tasks_are_refused_with_what_differs(
    controller: parimg.Controller, folder: Path, temple_ring: list[str]
) -> None:
    jobs = {
        "loose": parimg.MatchSIFT(temple_ring[0], contrast_threshold=0.01),
        "strict": parimg.MatchSIFT(temple_ring[0], contrast_threshold=0.05),
        "other": parimg.MatchSIFT(temple_ring[5], contrast_threshold=0.05),
    }
    for name, task in jobs.items():
        assert controller.submit(task, temple_ring[:1], job_dir=name).wait(60)
    assert controller.map(mean, "views", job_dir="mean").wait(60)
    with pytest.raises(JobError, match=r"contrast_threshold=0.01 and contrast_threshold=0.05"):
        parimg.merge_jobs(["loose", "strict"], "both")
    with pytest.raises(JobError, match="have different tasks: reference="):
        parimg.merge_jobs(["strict", "other"], "both")
    with pytest.raises(JobError, match="MatchSIFT and "):
        parimg.merge_jobs(["strict", "mean"], "both")
    assert not (folder / "both").exists()


def test_what_cannot_be_merged_is_told(controller: parimg.Controller, folder: Path) -> None:
    assert controller.map(mean, "views", job_dir="one").wait(60)
    for wrong in ([], ["one", "one"], ["one", folder / "one"]):
        with pytest.raises(JobError, match="one or more jobs, each once"):
            parimg.merge_jobs(wrong, "both")
    with pytest.raises(JobError, match="takes a list of jobs"):
        parimg.merge_jobs("one", "both")
    with pytest.raises(JobError, match="is not a job"):
        parimg.merge_jobs(["one", "missing"], "both")
    with pytest.raises(JobError, match="holds a job already"):
        parimg.merge_jobs(["one"], "one")
    owned = JobDirectory("one").acquire()
    try:
        with pytest.raises(JobLockedError):
            parimg.merge_jobs(["one"], "both")
    finally:
        owned.release()
    assert not (folder / "both").exists()


def test_the_command_line_shards_and_merges(folder: Path, temple_ring: list[str]) -> None:
    pictures = temple_ring[:6]
    for shard in ("1/2", "2/2"):
        name = f"part-{shard[0]}"
        done = command_line.parimg(
            "match", temple_ring[0], *pictures, "-n", "1", "--shard", shard, "--job", name, "-q"
        )
        assert done.code == 0, done.err
    done = command_line.parimg("merge", "part-1", "part-2", "-o", "whole")
    assert done.code == 0, done.err
    assert "MatchSIFT, finished: 6 of 6 images, 0 failed" in done.out
    assert [record.uri for record in parimg.open_job("whole").in_order()] == pictures
    wrong = command_line.parimg("match", temple_ring[0], *pictures, "--shard", "3/2", "--dry-run")
    assert wrong.code == 2
    assert "counted from 1, as (1, 8) for the first of eight (got (3, 2))" in wrong.message
