"""What holds of engines whatever starts them: one set of tests over all launchers, each on the real thing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from sge_daemons import sge_jobs
from slurm_daemons import queue
from waiting import wait_until

import parimg
from parimg.cluster import profiles


@dataclass(frozen=True)
class Started:
    """A cluster of two engines."""

    launcher: str
    controller: parimg.Controller


@contextlib.contextmanager
def _slurm(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    request.getfixturevalue("slurm_daemons")
    yield {"time": "5"}


@contextlib.contextmanager
def _srun(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    """Inside an allocation of both nodes."""
    request.getfixturevalue("slurm_daemons")
    command = ["salloc", "--no-shell", "--ntasks=2", "--ntasks-per-node=1", "--time=5"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True).stderr
    job_id = said.split("job allocation ")[1].split()[0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SLURM_JOB_ID", job_id)
        yield {}
    subprocess.run(["scancel", job_id], check=True)


@contextlib.contextmanager
def _ssh(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    yield {"hosts": "host1:1,host2:1", "ssh_options": f"-F,{request.getfixturevalue('ssh_config')}"}


@contextlib.contextmanager
def _mpi(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    pytest.importorskip("mpi4py")
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if mpiexec is None:
        pytest.skip("no mpiexec beside this Python: pip install mpich")
    yield {"mpiexec": mpiexec}


@contextlib.contextmanager
def _sge(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    request.getfixturevalue("sge_daemons")
    yield {"time": "0:10:00"}


@contextlib.contextmanager
def _local(request: pytest.FixtureRequest) -> Iterator[dict[str, str]]:
    yield {}


LAUNCHERS = {"slurm": _slurm, "srun": _srun, "ssh": _ssh, "mpi": _mpi, "sge": _sge, "local": _local}
QUEUES = {"slurm": queue, "srun": queue, "sge": sge_jobs}


@pytest.fixture(scope="module", params=LAUNCHERS)
def started(request: pytest.FixtureRequest, private_folders: None) -> Iterator[Started]:
    """Two engines; when they were stopped, none lives, and nothing is queued."""
    name = request.param
    with LAUNCHERS[name](request) as settings:
        profiles.install(name, as_name=f"every-{name}", settings=settings, overwrite=True)
        with parimg.start(2, profile=f"every-{name}", timeout=60) as controller:
            wait_until(lambda: len(controller) == 2, 30)
            yield Started(name, controller)
            pids = controller.client[:].apply_sync(os.getpid)
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), 20)
    wait_until(lambda: not QUEUES.get(name, list)(), 20)
    assert not list(Path(os.environ["IPYTHONDIR"], f"profile_every-{name}", "security").glob("*own*"))


@pytest.fixture(scope="module")
def expected(controller: parimg.Controller, temple_ring: list[str]) -> dict[str, dict[str, object]]:
    """What the embedded cluster finds."""
    job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:6])
    return {record.uri: record.columns for record in job.get(60)}


def test_images_give_the_same_as_on_this_machine(
    started: Started, temple_ring: list[str], expected: dict[str, dict[str, object]]
) -> None:
    job = started.controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:6], chunk_size=1)
    assert {record.uri: record.columns for record in job.get(60)} == expected


def test_engines_run_where_the_launcher_says(started: Started) -> None:
    variable, values = {
        "slurm": ("SLURM_JOB_NAME", {f"parimg-{started.controller._cluster._started.cluster_id}"}),
        "srun": ("SLURMD_NODENAME", {"n1", "n2"}),
        "ssh": ("PARIMG_TEST_HOST", {"host1", "host2"}),
        "mpi": ("PMI_RANK", {"0", "1"}),
        "sge": ("SGE_TASK_ID", {"1", "2"}),
        "local": ("SLURM_JOB_NAME", {None}),
    }[started.launcher]
    assert set(started.controller.client[:].apply_sync(os.getenv, variable)) == values


def test_engines_have_one_thread_each_and_only_this_machine_is_without_encryption(started: Started) -> None:
    threads = started.controller.client[:].apply_sync(os.getenv, "OMP_NUM_THREADS")
    assert threads == ["1", "1"]
    assert started.controller.security.curve == (started.launcher != "local")
    assert started.controller.security.warning == ""


def test_an_engine_that_is_told_to_leave_finishes_its_image_and_nothing_runs_twice(
    started: Started, tmp_path: Path
) -> None:
    if started.launcher == "mpi":
        pytest.skip("the end of one rank ends all")
    log = str(tmp_path / "log")

    def note(image: np.ndarray) -> int:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{int(image[0])}\n")
        time.sleep(0.1)
        return os.getpid()

    controller = started.controller
    wait_until(lambda: len(controller) == 2, 60)
    leaver = controller.engines[0]
    pid = controller.client[leaver].apply_sync(os.getpid)
    job = controller.map(note, {f"{n:03d}": np.full(1, n) for n in range(60)}, chunk_size=5)
    wait_until(lambda: job.progress > 5, 20)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: leaver not in controller.engines, 5)
    assert job.wait(60)
    assert {record.attempts for record in job} == {1}
    assert pid in {record["value"] for record in job}
    assert sorted(map(int, Path(log).read_text().split())) == list(range(60))


def test_an_engine_that_is_killed_is_replaced_and_no_image_is_lost(started: Started) -> None:
    if started.launcher == "mpi":
        pytest.skip("the end of one rank ends all")

    def sleep(image: np.ndarray) -> int:
        time.sleep(0.1)
        return int(image[0])

    controller = started.controller
    wait_until(lambda: len(controller) == 2, 60)
    before = set(controller.engines)
    job = controller.map(sleep, {f"{n:03d}": np.full(1, n) for n in range(100)}, chunk_size=2)
    wait_until(lambda: job.progress > 5, 20)
    os.kill(controller.client[min(before)].apply_sync(os.getpid), signal.SIGKILL)
    wait_until(lambda: min(before) not in controller.engines, 10)
    wait_until(lambda: len(controller) == 2, 60)
    assert job.wait(60)
    assert {record.key: record["value"] for record in job} == {f"{n:03d}": n for n in range(100)}
    assert max(record.attempts for record in job) <= 2
