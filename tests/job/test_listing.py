"""The jobs of a folder: what is told of them, found and removed."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from parimg.errors import JobError, JobLockedError
from parimg.job.directory import JobDirectory
from parimg.job.job import open_job
from parimg.job.journal_writer import JournalWriter
from parimg.job.listing import describe_source, jobs_older_than, list_jobs, parse_age
from parimg.record import Placement, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

META = {
    "task": {"name": "Mean", "parameters": {"size": "3"}, "columns": {}, "refs": []},
    "source": {"kind": "folder", "images": "photos", "column": None, "cwd": "/home/me"},
    "total": 7,
}


def write_job(name: str, state: str | None = None) -> JournalWriter:
    place = JobDirectory(os.path.join(os.environ["PARIMG_JOBS_DIR"], name))
    writer = JournalWriter.create(place, place.reserve(), META)
    row = failed_row(0, "0.png", "", "task", "ValueError", "")
    writer.append([(row, 1)], Placement(None, None, None))
    if state is not None:
        writer.end_run(state, None, 0)
        writer.close()
    return writer


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path / "jobs"))
    return tmp_path / "jobs"


@pytest.fixture
def running(folder: Path) -> Iterator[JournalWriter]:
    writer = write_job("20260103-000000-Mean")
    yield writer
    writer.close()


def test_jobs_are_told_apart_by_source_task_state_and_size(folder: Path, running: JournalWriter) -> None:
    write_job("20260101-000000-Mean", "interrupted")
    (folder / "20260102-000000-Mean").mkdir()
    (folder / "20260104-000000-Mean").mkdir()
    (folder / "20260104-000000-Mean" / "journal.sqlite").write_text("no journal")
    (folder / "a file").touch()
    damaged, newest, never, oldest = list_jobs()
    assert (newest.name, newest.task, newest.parameters) == ("20260103-000000-Mean", "Mean", {"size": "3"})
    assert newest.source == "/home/me/photos"
    assert (newest.state, newest.done, newest.failed, newest.total) == ("running", 1, 1, 7)
    assert newest.writer.startswith(f"process {os.getpid()} on ")
    assert (oldest.state, oldest.writer) == ("interrupted", "")
    assert oldest.nbytes == sum(path.stat().st_size for path in (folder / oldest.name).iterdir())
    assert (never.name, never.state, never.nbytes) == ("20260102-000000-Mean", "never began", 0)
    assert "cannot be read" in damaged.state
    assert abs(time.time() - newest.last_used) < 60


def test_a_folder_that_does_not_exist_has_no_jobs() -> None:
    assert list(list_jobs()) == []


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ({"kind": "file", "images": "/a/b.png", "cwd": "/home/me"}, "/a/b.png"),
        ({"kind": "glob", "images": "../x/*.png", "cwd": "/home/me"}, "/home/x/*.png"),
        ({"kind": "url", "images": "https://host/a.png", "cwd": "/home/me"}, "https://host/a.png"),
        ({"kind": "list", "images": ["a.png", "b.png"], "cwd": "/home/me"}, "2 paths, /home/me/a.png, ..."),
        ({"kind": "list", "images": ["a.png"], "cwd": "/home/me"}, "1 paths, /home/me/a.png"),
        ({"kind": "list", "images": [], "cwd": "/home/me"}, "0 paths"),
        ({"kind": "generator"}, "generator"),
        (
            {"kind": "several", "sources": [{"kind": "folder", "images": "/a"}, {"kind": "arrays"}]},
            "/a and arrays",
        ),
        ({}, ""),
    ],
)
def test_a_source_is_told_in_a_few_words(spec: dict[str, object], told: str) -> None:
    assert describe_source(spec) == told


def test_a_job_is_found_by_name_and_a_path_goes_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_job("mine", "finished")
    monkeypatch.chdir(tmp_path)
    assert open_job("mine").directory == str(folder / "mine")
    here = JobDirectory("mine")
    JournalWriter.create(here, here.reserve(), META).close()
    assert open_job("mine").directory == str(tmp_path / "mine")
    with pytest.raises(JobError, match=f"{str(tmp_path / 'none')!r} is not a job"):
        open_job("none")


def test_old_jobs_are_those_that_nobody_wrote_lately(folder: Path, running: JournalWriter) -> None:
    for name, days in (("old", 40), ("new", 20)):
        write_job(name, "finished")
        for path in (folder / name).iterdir():
            os.utime(path, (time.time() - days * 86_400,) * 2)
    assert [job.name for job in jobs_older_than(parse_age("30d"))] == ["old"]
    assert [job.name for job in jobs_older_than(parse_age("1w"))] == ["old", "new"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90m", 5400), ("12h", 43_200), ("1.5d", 129_600), (" 2w ", 1_209_600)]
)
def test_ages_are_numbers_with_a_unit(text: str, seconds: float) -> None:
    assert parse_age(text) == seconds


@pytest.mark.parametrize("text", ["", "30", "d", "-1d", "1y", "1d2h"])
def test_what_is_no_age_is_told(text: str) -> None:
    with pytest.raises(JobError, match="an age is a number with a unit"):
        parse_age(text)


def test_a_removed_job_leaves_nothing_but_the_files_of_others(folder: Path) -> None:
    for name in ("one", "two"):
        write_job(name, "finished")
        (folder / name / "shared").mkdir()
        (folder / name / "shared" / "object").touch()
    (folder / "two" / "picture.png").touch()
    (folder / "never began").mkdir()
    for name in ("one", "two", "never began"):
        JobDirectory(str(folder / name)).remove()
    assert [str(path.relative_to(folder)) for path in folder.rglob("*")] == ["two", "two/picture.png"]


def test_a_running_job_is_not_removed(running: JournalWriter) -> None:
    with pytest.raises(JobLockedError, match=f"is being written by process {os.getpid()}"):
        running.place.remove()
    assert running.count_by_status() == {"ok": 0, "failed": 1}


def test_a_folder_that_is_no_job_is_not_removed(tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()
    with pytest.raises(JobError, match="is not a job"):
        JobDirectory(str(tmp_path)).remove()
    assert (tmp_path / "shared").is_dir()
