"""What became of jobs: list, look, go on, remove."""

from __future__ import annotations

import json
import os
import re
import time
from pathlib import Path

import cv2
import noise_pictures
import pandas as pd
import pytest
from command_line import parimg

import parimg as library
import parimg.cli.jobs as jobs_module


@pytest.fixture
def job(on_cluster: None, photos: Path) -> str:
    """Name of a finished job with one failed image."""
    return os.path.basename(parimg("run", "numpy:mean", photos, "--color", "gray", "-q").out.strip())


def test_jobs_says_when_there_are_none(jobs_folder: Path) -> None:
    assert parimg("jobs").out == f"no jobs in {jobs_folder}\n"
    assert parimg("jobs", "--json").out == "[]\n"


def test_jobs_shows_task_source_number_and_size(job: str, jobs_folder: Path) -> None:
    (jobs_folder / "20000101-000000-killed").mkdir()
    listed = parimg("jobs").out
    assert re.search(
        rf"│ {job} +│ mean\(color='gray'\) +│ photos +│ finished +│ 4/4 +│ 1 +│ [\d.]+ +│ [\d.]+ KiB +│", listed
    )
    assert re.search(r"│ 20000101-000000-killed +│ +│ +│ never began +│", listed)
    about, killed = json.loads(parimg("jobs", "--json").out)
    assert {name: about[name] for name in ("job", "task", "source", "state", "ok", "failed", "total")} == {
        "job": job,
        "task": "mean",
        "source": os.path.abspath("photos"),
        "state": "finished",
        "ok": 3,
        "failed": 1,
        "total": 4,
    }
    on_disk = sum(path.stat().st_size for path in (jobs_folder / job).rglob("*") if path.is_file())
    assert about["bytes"] == on_disk > 10_000
    assert killed["job"] == "20000101-000000-killed"


def test_status_takes_the_name_its_beginning_or_the_directory(job: str, jobs_folder: Path) -> None:
    for name in (job, job[:8], str(jobs_folder / job), os.path.relpath(jobs_folder / job)):
        ended = parimg("status", name)
        assert ended.code == 3
        assert "mean, finished: 4 of 4 images, 1 failed" in ended.out
        assert "task: mean(color='gray')\nimages: photos\n" in ended.out
    about = json.loads(parimg("status", job, "--json").out)
    assert about["directory"] == str(jobs_folder / job)
    assert about["errors"] == {"ImageFormatError": 1}
    parimg("run", "numpy:mean", "photos")
    ambiguous = parimg("status", job[:4])
    assert ambiguous.code == 2
    assert "name more of it" in ambiguous.err


@pytest.mark.usefixtures("no_cluster")
def test_what_is_no_job_is_refused_with_exit_code_2(photos: Path) -> None:
    for command in ("status", "resume", "export"):
        assert "is not a job" in parimg(command, photos).message
        assert "there is no job 'none'" in parimg(command, "none").message
        assert parimg(command, "none").code == 2
    assert "there is no job 'none'" in parimg("jobs", "none").message
    assert parimg("jobs", "--remove").code == 2
    assert "an age is a number with a unit" in parimg("jobs", "--older", "3").message


def test_resume_of_a_finished_job_starts_nothing(job: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs_module, "open_controller", None)
    ended = parimg("resume", job, "-o", "t.csv", "-n", "2")
    assert ended.code == 3
    assert ended.out.startswith("nothing to do: 4 of 4 images are recorded\n")
    assert len(pd.read_csv("t.csv")) == 4
    wrong = parimg("resume", job, "--memory-limit", "lots")
    assert wrong.code == 2
    assert "memory_limit must be" in wrong.err
    quiet = parimg("resume", job, "-q")
    assert quiet.out == f"{os.path.join(os.environ['PARIMG_JOBS_DIR'], job)}\n"


def test_resume_runs_what_was_added_to_the_folder_and_what_failed_if_that_is_wanted(job: str) -> None:
    cv2.imwrite("photos/new.png", noise_pictures.picture(9))
    grown = parimg("resume", job)
    assert grown.code == 3
    assert "mean, finished: 5 of 5 images, 1 failed" in grown.out
    cv2.imwrite("photos/damaged.png", noise_pictures.picture(8))
    mended = parimg("resume", job, "--retry-failed")
    assert mended.code == 0, mended.err
    assert "mean, finished: 5 of 5 images, 0 failed" in mended.out
    assert parimg("resume", job, "--retry-failed").out.startswith("nothing to do")


@pytest.mark.usefixtures("no_cluster")
def test_a_finished_job_of_arrays_has_nothing_to_do(controller: library.Controller) -> None:
    job = controller.map(len, {"a": noise_pictures.picture(0)}, job_dir="arrays")
    assert job.wait(60)
    assert parimg("resume", "arrays").out.startswith("nothing to do: 1 of 1 images")


@pytest.mark.usefixtures("no_cluster")
def test_a_job_that_is_being_written_is_neither_resumed_nor_removed(
    controller: library.Controller, jobs_folder: Path
) -> None:
    def slow(image: object) -> int:
        time.sleep(0.1)
        return 1

    running = controller.map(slow, {str(number): noise_pictures.picture(0) for number in range(100)})
    name = os.path.basename(running.directory)
    try:
        for command in (("resume", name), ("jobs", name, "--remove")):
            refused = parimg(*command)
            assert refused.code == 2
            assert "is being written by process" in refused.err
        assert "running" in parimg("status", name).out
    finally:
        running.stop()
    assert parimg("jobs", name, "--remove").code == 0
    assert os.listdir(jobs_folder) == []


def test_jobs_are_removed_by_name_or_age_and_others_stay(job: str, jobs_folder: Path) -> None:
    other = os.path.basename(parimg("run", "numpy:mean", "photos", "-q").out.strip())
    (jobs_folder / job / "my notes.txt").touch()
    long_ago = time.time() - 40 * 86400
    for path in (jobs_folder / job, *(jobs_folder / job).rglob("*")):
        os.utime(path, (long_ago, long_ago))
    assert [about["job"] for about in json.loads(parimg("jobs", "--older", "30d", "--json").out)] == [job]
    removed = parimg("jobs", "--older", "30d", "--remove")
    assert removed.code == 0, removed.err
    assert re.fullmatch(rf"removed {jobs_folder / job} \([\d.]+ KiB\); my notes.txt stays\n", removed.out)
    assert os.listdir(jobs_folder / job) == ["my notes.txt"]
    assert parimg("status", other).code == 3
    assert parimg("jobs", other, "--remove").code == 0
    assert os.listdir(jobs_folder) == [job]
    parimg("jobs", job, "--remove")
    assert os.listdir(jobs_folder / job) == ["my notes.txt"]


@pytest.mark.usefixtures("photos")
def test_an_index_with_nothing_new_starts_nothing(
    on_cluster: None, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    Path("photos/damaged.png").unlink()
    model = noise_pictures.write_model(tmp_path / "model.onnx")
    command = ("index", "photos", "-m", model, "-o", "index", "--layer", "act", "--size", 128)
    assert parimg(*command, "--dry-run").code == 0
    previewed = parimg(*command, "--preview", 2)
    assert previewed.code == 0, previewed.err
    assert "2 of 3 images were run, 0 failed" in previewed.out
    os.remove(re.findall("pictures: (.*)", previewed.out)[0])
    assert not Path("index").exists()
    assert parimg(*command).code == 0
    request.getfixturevalue("no_cluster")
    again = parimg(*command)
    assert (again.code, again.out) == (0, "nothing to do: all 3 images are in the index index\n")
    cv2.imwrite("photos/new.png", noise_pictures.picture(9))
    assert parimg(*command, "--dry-run").out.startswith("4 images for the index index; nothing was run")
