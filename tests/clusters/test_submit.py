"""Clients that are jobs of a real Slurm themselves."""

from __future__ import annotations

import contextlib
import re
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import noise_pictures
import pytest
from slurm_daemons import SLOW, queue, wait_for_empty_queue

import parimg
from parimg.retrieval.image_index import ImageIndex

pytestmark = pytest.mark.usefixtures("slurm")

N = 130


@dataclass(frozen=True)
class Ended:
    code: int
    out: str
    err: str


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "slow.py").write_text(SLOW)
    return tmp_path


def command_line(*arguments: str) -> Ended:
    command = [sys.executable, "-m", "parimg.cli", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    return Ended(done.returncode, done.stdout, done.stderr)


def submit(*arguments: str) -> Ended:
    return command_line("run", "slow.py:slow", "photos", "--job", "job", "--submit", "slurm", *arguments)


def test_a_client_that_waits_is_told_by_status_and_begins_nothing(here: Path) -> None:
    noise_pictures.write_pictures(here / "photos", range(2))
    ended = submit("--submit-set", "begin=now+1hour", "--submit-set", "job-name=mine")
    assert ended.code == 0, ended.err
    assert queue("PENDING")[0].startswith("mine|PENDING")
    status = command_line("status", "job")
    assert re.match(r"it has not begun: job \d+ is PENDING \(BeginTime\), expected at .*, as mine", status.out)
    assert re.search(r"never began, job \d+ is PENDING \(BeginTime\)", command_line("jobs", "./job").out)
    removed = command_line("jobs", "./job", "--remove")
    assert removed.code == 2
    assert "would make it anew: job" in removed.err
    again = submit()
    assert again.code == 2
    assert "was submitted already: job" in again.err
    subprocess.run(["scancel", "--name=mine"], check=True)
    wait_for_empty_queue()
    assert command_line("status", "job").code == 2


def test_a_cancelled_client_stops_in_order_and_no_other_is_submitted(here: Path) -> None:
    noise_pictures.write_pictures(here / "photos", range(N))
    assert submit("-n", "1", "-q").out == f"{here / 'job'}\n"
    deadline = time.monotonic() + 40
    while not Path("log").exists():
        assert time.monotonic() < deadline, "nothing ran"
        time.sleep(0.1)
    assert re.search(r"by Slurm: job \d+ is RUNNING, as parimg-job", command_line("status", "job").out)
    subprocess.run(["scancel", "--name=parimg-job"], check=True)
    wait_for_empty_queue()
    job = parimg.open_job("job")
    assert job.state == "interrupted"
    # Slurm signals the engine, too, which may be at an image.
    assert 0 <= len(Path("log").read_text().split()) - job.counts["ok"] <= 1
    assert "to go on: parimg resume" in command_line("status", "job").out


def test_what_sbatch_refuses_is_told_and_no_directory_is_left(here: Path) -> None:
    noise_pictures.write_pictures(here / "photos", range(2))
    ended = submit("--submit-set", "partition=no-such")
    assert ended.code == 1
    assert "sbatch refused:" in ended.err
    assert "no-such" in ended.err
    assert not Path("job").exists()


def test_an_index_and_all_pairs_are_submitted_too(here: Path) -> None:
    noise_pictures.write_pictures(here / "photos", range(4))
    model = noise_pictures.write_model(here / "tiny.onnx")
    once = ("photos", "--submit", "slurm", "-n", "1")
    indexed = command_line("index", *once, "-m", model, "--layer", "act", "--size", "128", "-o", "index")
    paired = command_line("match-pairs", *once, "-o", "matches.db")
    for ended, name in ((indexed, "parimg-index"), (paired, "parimg-matches.pairs")):
        assert ended.code == 0, ended.err
        assert f"have the same name, {name}\n" in ended.out
    wait_for_empty_queue(90)
    assert len(ImageIndex("index")) == 4
    with contextlib.closing(sqlite3.connect("matches.db")) as database:
        assert database.execute("SELECT count(*) FROM images").fetchone() == (4,)
