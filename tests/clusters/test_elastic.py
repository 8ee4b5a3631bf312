"""Engines that become more and fewer, and outlive their jobs, on a real Slurm of two nodes."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from slurm_daemons import queue

import parimg
from parimg.cluster import elasticity, profiles

pytestmark = pytest.mark.usefixtures("slurm")


def wait_until(is_so: Callable[[], object], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline, f"not within {seconds:g} s; the queue: {queue()}"
        time.sleep(0.05)


def test_engines_outlive_a_wall_time_of_a_minute_and_no_image_runs_twice(
    private_folders: None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    profiles.install("slurm", as_name="minute", settings={"time": "1"})
    log = str(tmp_path / "log")

    def note(image: np.ndarray) -> str:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{int(image[0])}\n")
        time.sleep(0.2)
        return os.environ["SLURM_JOB_ID"]

    with parimg.start(engines=(2, 2), profile="minute", timeout=60) as controller:
        wait_until(lambda: len(controller) == 2, 20)
        [first] = subprocess.check_output(["squeue", "-h", "-o", "%A"], text=True).split()
        ended: list[float] = []
        fewest = 2

        def images() -> Iterator[tuple[str, np.ndarray]]:
            """Until the first job has been gone for five seconds."""
            nonlocal fewest
            number = 0
            while not ended or time.monotonic() < ended[0] + 5:
                yield f"{number:05d}", np.full(1, number)
                number += 1
                fewest = min(fewest, len(controller))
                if not ended and first not in subprocess.check_output(["squeue", "-h", "-o", "%A"], text=True):
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
        assert fewest == 2
    assert queue() == []
    said = capfd.readouterr().err
    assert "asked for 2 engines more" in said
    assert "died" not in said


def test_engines_grow_with_the_work_that_is_left_and_idle_ones_are_given_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(elasticity, "IDLE_SECONDS", 3.0)
    profiles.install("slurm", as_name="elastic", settings={"time": "10"})

    def sleep(_: np.ndarray) -> int:
        time.sleep(0.5)
        return 1

    with parimg.start(engines=(1, 4), profile="elastic", timeout=60) as controller:
        assert len(controller) == 1
        job = controller.map(sleep, {f"image {n}": np.zeros(1) for n in range(90)}, chunk_size=1)
        wait_until(lambda: len(controller) == 4, 40)
        assert set(controller.client[:].apply_sync(os.getenv, "SLURMD_NODENAME")) == {"n1", "n2"}
        assert queue("RUNNING") == ["parimg-" + controller._cluster._started.cluster_id + "|RUNNING|10:00|1"] * 4
        assert job.wait(60)
        assert job.counts["ok"] == 90
        assert {record.attempts for record in job} == {1}
        wait_until(lambda: len(controller) == 1, 30)
        wait_until(lambda: len(queue()) == 1, 30)
        time.sleep(3)
        assert len(controller) == 1
    assert queue() == []
    said = capfd.readouterr().err
    assert "asked for 3 engines more; 1 is there" in said
    assert "gave back 1 engine that had nothing to do; 1 is there" in said
