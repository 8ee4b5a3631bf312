"""Jobs that outlive every batch job of their engines, and of their client, on a real Slurm.

Slurm looks at wall times twice a minute, and knows no shorter one than a minute. So both are waited for at once: a
client on one processor, and engines of another client on the others.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import noise_pictures
import numpy as np
import pandas as pd
import pytest
from slurm_daemons import SLOW, wait_for_empty_queue

import parimg
from parimg.cluster import profiles

N = 90  # half a second each: longer than the half minute in which Slurm sends its signal


@dataclass(frozen=True)
class Submitted:
    """A client that was submitted, and the folder in which that was done."""

    folder: Path
    job_id: str

    def command_line(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_in(self.folder, *arguments)


def run_in(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def submitted(
    slurm_daemons: Path, private_folders: None, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Submitted]:
    folder = tmp_path_factory.mktemp("submitted")
    (folder / "slow.py").write_text(SLOW)
    noise_pictures.write_pictures(folder / "photos", range(N))
    settings = [word for setting in ("time=1", "handover=30") for word in ("--submit-set", setting)]
    ended = run_in(
        folder, "run", "slow.py:slow", "photos", "--job", "job", "-o", "table.csv", "--submit", "slurm", *settings
    )
    assert ended.returncode == 0, ended.stderr
    found = re.match(r"submitted as Slurm job (\d+); .* have the same name, parimg-job\n", ended.stdout)
    assert found is not None
    yield Submitted(folder, found[1])
    wait_for_empty_queue()


def ids_of(name: str) -> list[str]:
    """The jobs of a name that have not ended."""
    return subprocess.check_output(["squeue", "-h", "-o", "%A", f"--name={name}"], text=True).split()


def test_engines_outlive_a_wall_time_of_a_minute_and_no_image_runs_twice(
    submitted: Submitted, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profiles.install("slurm", as_name="minute", settings={"time": "1"})
    log = str(tmp_path / "log")

    def note(image: np.ndarray) -> str:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{int(image[0])}\n")
        time.sleep(0.2)
        return os.environ["SLURM_JOB_ID"]

    with parimg.start(engines=(1, 1), profile="minute", timeout=60) as controller:
        name = f"parimg-{controller._cluster._started.cluster_id}"
        [first] = ids_of(name)
        ended: list[float] = []
        fewest = 1

        def images() -> Iterator[tuple[str, np.ndarray]]:
            """Until the first job has been gone for five seconds."""
            nonlocal fewest
            number = 0
            while not ended or time.monotonic() < ended[0] + 5:
                yield f"{number:05d}", np.full(1, number)
                number += 1
                fewest = min(fewest, len(controller))
                if not ended and first not in ids_of(name):
                    ended.append(time.monotonic())
                assert number < 2000

        job = controller.map(note, images(), job_dir=tmp_path / "job", chunk_size=2)
        assert job.wait(140)
        records = list(job)
        assert {record.attempts for record in records} == {1}
        assert {record.status for record in records} == {"ok"}
        jobs = {record["value"] for record in records}
        assert first in jobs
        assert len(jobs) > 1
        ran = [int(line) for line in Path(log).read_text().split()]
        assert sorted(ran) == list(range(len(records)))  # each once
        assert fewest == 1  # never without one
    assert ids_of(name) == []
    said = capfd.readouterr().err
    assert "asked for 1 engine more; 1 is there" in said
    assert "died" not in said


def test_a_client_hands_over_before_its_wall_time_ends_and_all_is_as_if_it_had_run_through(
    submitted: Submitted,
) -> None:
    wait_for_empty_queue(150)
    place = submitted.folder / "job"
    log = "".join(path.read_text() for path in sorted((place / "client").glob("*.log")))
    assert re.search(r"handing over to job \d+, which goes on when this one has ended", log), log
    job = parimg.open_job(place)
    assert job.state == "finished", log
    assert job.counts == {"ok": N, "failed": 0, "done": N, "total": N}
    assert {record.attempts for record in job} == {1}
    jobs = Counter(record["job"] for record in job)
    assert len(jobs) > 1
    sums = (submitted.folder / "log").read_text().split()
    assert len(sums) == N  # no image ran twice
    assert sorted(map(int, sums)) == sorted(record["sum"] for record in job)
    table = pd.read_csv(submitted.folder / "table.csv")
    assert len(table) == N
    assert set(table["status"]) == {"ok"}
    status = submitted.command_line("status", "job")
    assert f"finished: {N} of {N} images" in status.stdout
    assert "Slurm" not in status.stdout
    told = subprocess.check_output(["scontrol", "show", "job", submitted.job_id], text=True)
    assert "JobState=COMPLETED" in told
