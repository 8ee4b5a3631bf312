"""Clusters whose engines are jobs of a real Slurm of two nodes."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from slurm_daemons import queue, wait_for_empty_queue
from waiting import wait_until

import parimg
from parimg.cluster import profiles
from parimg.errors import ClusterError

pytestmark = pytest.mark.usefixtures("slurm")


@pytest.fixture(scope="module", autouse=True)
def profile(private_folders: None) -> str:
    """Profile `slurm`, installed with a wall time and an option of its own."""
    profiles.install("slurm", settings={"time": "7", "options": "--comment=of-the-profile"}, overwrite=True)
    return "slurm"


def ipcluster(*arguments: str) -> str:
    command = [sys.executable, "-m", "ipyparallel.cluster", *arguments]
    done = subprocess.run(command, timeout=90, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.fixture
def cluster_id() -> Iterator[str]:
    """Two engines that `ipcluster start` brought up by the profile."""
    ipcluster("start", "--profile=slurm", "--cluster-id=mine", "-n", "2", "--daemonize")
    yield "mine"
    ipcluster("stop", "--profile=slurm", "--cluster-id=mine")
    assert queue() == []


def test_ipcluster_starts_engines_as_a_named_job_with_the_profiles_time_and_stop_leaves_none(
    cluster_id: str, temple_ring: list[str]
) -> None:
    with parimg.connect(profile="slurm", cluster_id=cluster_id) as controller:
        wait_until(lambda: len(controller) == 2, 30, queue)
        assert queue() == ["parimg-mine|RUNNING|7:00|2"]
        assert controller.security.curve
        task = parimg.MatchSIFT(temple_ring[0])
        job = controller.submit(task, temple_ring[:6])
        records = job.get(60)
        assert [record.status for record in records] == ["ok"] * 6
        assert records[0]["matches"] > records[1]["matches"] > 0  # the reference itself is the first


def test_a_killed_engine_is_replaced_by_the_profiles_own_settings(cluster_id: str) -> None:
    with parimg.connect(profile="slurm", cluster_id=cluster_id) as controller:
        wait_until(lambda: len(controller) == 2, 30, queue)
        sleeping = controller.map(sleep_a_little, {f"image {n}": np.zeros(1) for n in range(120)}, chunk_size=2)
        pid = controller.client[0].apply_sync(os.getpid)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(queue()) == 2, 20, queue)
        jobs = [job.split("|") for job in queue()]
        assert sorted((name, limit, tasks) for name, _, limit, tasks in jobs) == [
            ("parimg-mine", "7:00", "1"),
            ("parimg-mine", "7:00", "2"),
        ]
        comments = subprocess.check_output(["squeue", "-h", "-o", "%k"], text=True).split()
        assert comments == ["of-the-profile"] * 2
        assert sleeping.wait(90)
        assert sleeping.counts["ok"] == 120
        wait_until(lambda: len(controller) == 2, 30, queue)


def sleep_a_little(_: np.ndarray) -> int:

    time.sleep(0.1)
    return 1


def test_a_cancelled_job_is_noticed_within_five_seconds_and_no_image_is_lost(cluster_id: str) -> None:
    with parimg.connect(profile="slurm", cluster_id=cluster_id) as controller:
        wait_until(lambda: len(controller) == 2, 30, queue)
        job = controller.map(sleep_a_little, {f"image {n}": np.zeros(1) for n in range(200)}, chunk_size=2)
        before = set(controller.engines)
        job_id = subprocess.check_output(["squeue", "-h", "-o", "%A"], text=True).split()[0]
        wait_until(lambda: job.progress > 10, 30, queue)
        subprocess.run(["scancel", job_id], check=True)
        wait_until(lambda: not before & set(controller.engines), 5, queue)
        assert job.wait(90)
        assert job.counts["ok"] == 200


def test_start_with_a_profile_runs_on_both_nodes_and_close_leaves_nothing_in_the_queue() -> None:
    with parimg.start(4, profile="slurm", timeout=60) as controller:
        assert len(controller) == 4
        assert set(controller.client[:].apply_sync(os.getenv, "SLURMD_NODENAME")) == {"n1", "n2"}
        job = controller.map(np.mean, {f"image {n}": np.zeros(1) for n in range(40)}, chunk_size=1)
        assert [record.status for record in job.get(60)] == ["ok"] * 40
    assert queue() == []
    assert not list(Path(os.environ["IPYTHONDIR"], "profile_slurm", "security").glob("*own*"))


def test_a_client_that_is_killed_leaves_nothing_in_the_queue() -> None:
    program = "import parimg, time; c = parimg.start(1, profile='slurm'); print('up', flush=True); time.sleep(99)"
    client = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
    assert client.stdout is not None
    assert client.stdout.readline() == b"up\n"
    assert len(queue()) == 1
    client.kill()
    client.wait()
    client.stdout.close()
    wait_for_empty_queue(25)  # engines whose controller is gone would end after 30 s by themselves
    left = Path(os.environ["IPYTHONDIR"], "profile_slurm", "security")
    wait_until(lambda: not list(left.glob("*own*")), 10, queue)


@pytest.fixture
def full_nodes() -> Iterator[str]:
    """A job of another that has all processors for half a minute."""
    command = ["sbatch", "--parsable", "--job-name=other", "--ntasks=4", "--time=1", "--output=/dev/null"]
    hold = subprocess.check_output([*command, "--wrap=sleep 300"], text=True).strip()
    wait_until(lambda: queue("RUNNING") != [], 20, queue)
    yield hold
    subprocess.run(["scancel", hold], check=True)


def test_a_pending_cluster_is_told_with_its_reason_and_is_waited_for(
    full_nodes: str, capfd: pytest.CaptureFixture[str]
) -> None:
    ipcluster("start", "--profile=slurm", "--cluster-id=late", "-n", "1", "--daemonize")
    try:
        with pytest.raises(ClusterError, match=r"no engine after 3 s: job \d+ is PENDING \(Resources\)"):
            parimg.connect(profile="slurm", cluster_id="late", timeout=3)
        free = subprocess.Popen(["sh", "-c", f"sleep 6; scancel {full_nodes}"])
        with parimg.connect(profile="slurm", cluster_id="late", timeout=60) as controller:
            assert len(controller) == 1
        assert free.wait() == 0
        said = r"job \d+ is PENDING \(Resources\)(, expected at \S+ \S+)? \.\.\."
        assert re.search(said, capfd.readouterr().err)
    finally:
        ipcluster("stop", "--profile=slurm", "--cluster-id=late")


def test_engines_whose_job_ended_while_nothing_ran_come_again_for_the_next_job() -> None:
    with parimg.start(1, profile="slurm", timeout=60) as controller:
        subprocess.run(["scancel", "--user=root"], check=True)
        wait_until(lambda: len(controller) == 0, 5, queue)
        job = controller.map(np.mean, {"one": np.zeros(1)})
        assert job.wait(60)
        assert job.counts["ok"] == 1
    assert queue() == []


def test_what_sbatch_refuses_is_told_and_nothing_is_left() -> None:
    profiles.install("slurm", as_name="nowhere", settings={"partition": "no-such"})
    with pytest.raises(ClusterError, match=r"sbatch refused: .*invalid partition specified: no-such"):
        parimg.start(1, profile="nowhere")
    assert queue() == []


def test_engines_that_cannot_start_are_told_with_the_end_of_their_log() -> None:
    profiles.install("slurm", as_name="broken", settings={"setup": "exec /no/such/python"})
    with pytest.raises(ClusterError, match=r"job \d+ is FAILED .*slurm-\d+\.log' ends: .*/no/such/python"):
        parimg.start(1, profile="broken", timeout=60)


def test_an_array_of_jobs_starts_as_it_fits() -> None:
    profiles.install("slurm", as_name="array", settings={"engines_per_job": "1"})
    with parimg.start(3, profile="array", timeout=60) as controller:
        assert len(controller) == 3
        assert len(set(controller.client[:].apply_sync(os.getenv, "SLURM_JOB_ID"))) == 3
    assert queue() == []


def test_forked_engines_of_both_nodes_run_a_job_and_are_replaced_in_their_place(tmp_path: Path) -> None:
    profiles.install("slurm", as_name="slurm-forked", settings={"time": "7", "fork": "true"})
    with parimg.start(3, profile="slurm-forked", timeout=90) as controller:
        wait_until(lambda: len(controller) == 3, 30, queue)
        assert [job.split("|", 1)[1] for job in queue()] == ["RUNNING|7:00|3"]
        view = controller.client[:]
        nodes = view.apply_sync(os.getenv, "SLURMD_NODENAME")
        pids, parents = view.apply_sync(os.getpid), view.apply_sync(os.getppid)
        assert sorted(nodes) == ["n1", "n1", "n2"]
        assert len(set(zip(nodes, parents, strict=True))) == len(set(parents)) == 2
        job = controller.map(sleep_a_little, {f"image {n}": np.zeros(1) for n in range(120)}, chunk_size=2)
        os.kill(pids[0], signal.SIGKILL)
        wait_until(lambda: len(controller) == 2, 20, queue)
        wait_until(lambda: len(controller) == 3, 30, queue)
        assert job.wait(90)
        assert job.counts["ok"] == 120
        assert len(queue()) == 1  # no other job was asked for
        view = controller.client[:]
        assert sorted(view.apply_sync(os.getenv, "SLURMD_NODENAME")) == ["n1", "n1", "n2"]
        assert set(view.apply_sync(os.getppid)) == set(parents)
        # As before the end of the wall time: all finish their image and leave, and others come for the rest.
        log = tmp_path / "ran"
        log.touch()

        def note(image: np.ndarray) -> int:
            with open(log, "a", encoding="utf-8") as file:
                file.write(f"{int(image[0])}\n")
            time.sleep(0.2)
            return 1

        again = controller.map(note, {f"{n}": np.full(1, n) for n in range(150)}, chunk_size=2)
        wait_until(lambda: again.progress > 10, 30, queue)
        job_id = subprocess.check_output(["squeue", "-h", "-o", "%A"], text=True).split()[0]
        subprocess.run(["scancel", "--signal=TERM", job_id], check=True)
        wait_until(lambda: len(controller) == 0, 20, queue)
        assert again.wait(90)
        assert sorted(map(int, log.read_text().split())) == list(range(150))  # each once
        assert {record.attempts for record in again} == {1}
    assert queue() == []


def test_a_profile_is_checked_on_one_engine() -> None:
    command = [sys.executable, "-m", "parimg.cli", "profiles", "check", "slurm"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    assert "an engine is there after" in done.stdout
    assert "CurveZMQ is on" in done.stdout
    assert "an image came back right" in done.stdout
    assert queue() == []
