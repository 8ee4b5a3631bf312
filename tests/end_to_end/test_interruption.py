"""What dies in the middle of a job: the client, an engine, the user's patience. Real processes, real signals."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import psutil
import pytest

import parimg
from parimg.errors import JobLockedError

SUBMIT = """
import sys
import parimg

job_dir, reference, *images = sys.argv[1:]
with parimg.start(n=1) as ctl:
    job = ctl.submit(parimg.MatchSIFT(reference), images, job_dir=job_dir)
    print("submitted", flush=True)
    for record in job:
        pass
print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def expected(temple_ring: list[str]) -> dict[str, dict[str, object]]:
    """What a quiet run gives, computed without a cluster."""
    task = parimg.MatchSIFT(temple_ring[0])
    return {path: dict(task(cv2.imread(path, cv2.IMREAD_GRAYSCALE))) for path in temple_ring}


@contextlib.contextmanager
def client_process(job_dir: Path, images: list[str]) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that runs the match job, ended at the latest with the test."""
    command = [sys.executable, "-c", SUBMIT, str(job_dir), images[0], *images]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for_records(job_dir: Path, n: int) -> parimg.Job:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(parimg.errors.JobError):
            job = parimg.open_job(job_dir)
            if job.progress >= n:
                return job
        time.sleep(0.02)
    raise AssertionError(f"no {n} records after 60 s")


def values_by_path(job: parimg.Job) -> dict[str, dict[str, object]]:
    return {record.uri: record.columns for record in job}


def test_a_killed_client_loses_nothing_that_was_journaled_and_resume_runs_only_the_rest(
    controller: parimg.Controller, temple_ring: list[str], expected: dict, tmp_path: Path
) -> None:
    job_dir = tmp_path / "job"
    with client_process(job_dir, temple_ring) as client:
        wait_for_records(job_dir, 5)
        with pytest.raises(JobLockedError, match=f"process {client.pid} on "):
            controller.resume(job_dir)
        client.send_signal(signal.SIGKILL)
        client.wait()

    killed = parimg.open_job(job_dir)
    assert killed.state == "interrupted"
    before = {record.key: record for record in killed}
    assert 5 <= len(before) < 47

    resumed = controller.resume(job_dir)
    after = {record.key: record for record in resumed}
    assert resumed.state == "finished"
    assert len(after) == resumed.progress == 47
    # A record carries when and in which process it was computed: those of the first run are untouched.
    assert {key: after[key] for key in before} == before
    assert {record.uri: record.columns for record in after.values()} == expected


def test_the_cluster_of_a_killed_client_ends_by_itself(temple_ring: list[str], tmp_path: Path) -> None:
    with client_process(tmp_path / "job", temple_ring * 20) as client:
        wait_for_records(tmp_path / "job", 1)
        family = psutil.Process(client.pid).children(recursive=True)
        assert len(family) >= 2  # a controller and an engine
        client.send_signal(signal.SIGKILL)
        _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == []


def test_an_engine_killed_in_mid_job_costs_no_record(
    temple_ring: list[str], expected: dict, tmp_path: Path
) -> None:
    with parimg.start(n=2) as controller:
        job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring, job_dir=tmp_path / "job")
        records = iter(job)
        victim = next(records)
        os.kill(victim.pid, signal.SIGKILL)
        found = {victim.uri: victim.columns} | {record.uri: record.columns for record in records}
        assert found == expected
        assert job.counts == {"ok": 47, "failed": 0, "done": 47, "total": 47}
        assert max(record.attempts for record in job) <= 2


def test_the_only_engine_killed_is_replaced(temple_ring: list[str], expected: dict) -> None:
    with parimg.start(n=1) as controller:
        job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:12])
        os.kill(next(iter(job)).pid, signal.SIGKILL)
        assert job.wait(90)
        assert values_by_path(job) == {path: expected[path] for path in temple_ring[:12]}
        assert len({record.pid for record in job}) == 2


def test_an_image_that_kills_every_engine_is_a_failed_record(tmp_path: Path) -> None:
    import numpy as np

    images = {f"image{number}": np.full(1, number) for number in range(8)}

    def deadly(image: np.ndarray) -> int:
        if image[0] == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return int(image[0])

    with parimg.start(n=2) as controller:
        job = controller.map(deadly, images, retries=1)
        assert job.wait(120)
        assert {record.key: record["value"] for record in job if record.ok} == {
            f"image{number}": number for number in range(8) if number != 3
        }
        [failure] = job.failures
        assert (failure.key, failure.stage, failure.error, failure.attempts) == (
            "image3",
            "engine",
            "EngineDied",
            2,
        )


def test_ctrl_c_gathers_running_chunks_and_prints_how_to_resume(temple_ring: list[str], tmp_path: Path) -> None:
    job_dir = tmp_path / "job"
    with client_process(job_dir, temple_ring) as client:
        wait_for_records(job_dir, 3)
        client.send_signal(signal.SIGINT)
        out, err = client.communicate(timeout=60)
    assert "finished" not in out
    assert "stopping: waiting for" in err
    assert f"parimg resume {job_dir}" in err
    assert client.returncode != 0
    job = parimg.open_job(job_dir)
    assert job.state == "interrupted"
    assert 3 <= job.progress < 47


def test_the_command_line_goes_on_with_a_job_that_was_killed(
    temple_ring: list[str], expected: dict, tmp_path: Path
) -> None:
    job_dir, table = tmp_path / "job", tmp_path / "matches.parquet"
    with client_process(job_dir, temple_ring) as client:
        wait_for_records(job_dir, 5)
        client.send_signal(signal.SIGKILL)
    command = [sys.executable, "-m", "parimg.cli", "resume", str(job_dir), "-n", "2", "-o", str(table)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    import pyarrow.parquet as pq

    rows = pq.read_table(table).to_pylist()
    assert {row["uri"]: row["matches"] for row in rows} == {
        path: values["matches"] for path, values in expected.items()
    }
    assert len(rows) == 47


def test_a_second_ctrl_c_leaves_at_once(tmp_path: Path) -> None:
    code = (
        "import sys, time, numpy as np, parimg\n"
        "with parimg.start(n=2) as ctl:\n"
        "    images = {str(number): np.ones(1) for number in range(20)}\n"
        "    job = ctl.map(lambda image: time.sleep(30), images, job_dir=sys.argv[1])\n"
        "    print('submitted', flush=True)\n"
        "    job.wait()\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "job")]
    quiet = os.environ | {"IPP_NONINTERACTIVE": "1"}  # a slow start would be reported
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=quiet) as client:
        assert client.stdout is not None
        assert client.stderr is not None
        assert client.stdout.readline() == "submitted\n"
        time.sleep(1)
        client.send_signal(signal.SIGINT)
        assert "Ctrl-C again leaves at once" in client.stderr.readline()
        begin = time.monotonic()
        client.send_signal(signal.SIGINT)
        client.communicate(timeout=60)
        assert time.monotonic() - begin < 10
    assert parimg.open_job(tmp_path / "job").state == "aborted"
