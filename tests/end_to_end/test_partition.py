"""Engines whose network link is cut and comes back, in a network namespace of the test's own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
from other_hosts import ip, network_namespace
from waiting import wait_until

import parimg

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
N = 400


@dataclass(frozen=True)
class Elsewhere:
    """Another host, as far as the network is concerned."""

    name: str
    here: str
    """Address of this end of the link."""

    def run(self, *command: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(["ip", "netns", "exec", self.name, *command], **QUIET)

    def set_link(self, state: str) -> None:
        ip("-n", self.name, "link", "set", "far", state)


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    name, near = f"parimg{os.getpid()}", f"near{os.getpid()}"
    subnet = f"10.213.{os.getpid() % 250}"
    with network_namespace(name, near, subnet):
        yield Elsewhere(name, f"{subnet}.1")


@pytest.fixture
def engine_command(elsewhere: Elsewhere, private_folders: None) -> Iterator[list[str]]:
    """A controller that engines elsewhere can reach, and the command that starts one."""
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_partition"
    module = [sys.executable, "-m"]
    controller = subprocess.Popen(
        [
            *module,
            "ipyparallel.controller",
            f"--profile-dir={profile}",
            "--nodb",
            "--IPController.client_ip=127.0.0.1",
            f"--IPController.engine_ip={elsewhere.here}",
            "--HeartMonitor.period=200",
            "--HeartMonitor.max_heartmonitor_misses=20",  # 4 s
        ],
        **QUIET,
    )
    file = profile / "security" / "ipcontroller-engine.json"
    wait_until(file.exists)
    yield [*module, "ipyparallel.engine", f"--file={file}"]
    controller.terminate()
    controller.wait()


def test_engines_that_are_cut_off_are_noticed_their_images_run_again_and_no_row_is_double(
    elsewhere: Elsewhere, engine_command: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    near = subprocess.Popen(engine_command, **QUIET)
    far = [elsewhere.run(*engine_command) for _ in range(2)]
    try:
        with parimg.connect(profile="partition") as controller:
            wait_until(lambda: len(controller) == 3)
            assert "without CurveZMQ" in capfd.readouterr().err

            def slowly(image: np.ndarray) -> int:
                time.sleep(0.1)
                return int(image[0])

            images = {f"{number:03d}": np.full(1, number) for number in range(N)}
            job = controller.map(slowly, images, job_dir=tmp_path / "job")
            wait_until(lambda: job.progress > 30)
            elsewhere.set_link("down")
            wait_until(lambda: len(controller) == 1)
            seen = job.progress
            assert seen < N
            wait_until(lambda: job.progress > seen)  # the engine that is left goes on
            elsewhere.set_link("up")
            # What was cut off is not used again, and ended as soon as it can be reached.
            psutil.wait_procs([psutil.Process(process.pid) for process in far], timeout=30)
            assert [process.poll() is None for process in far] == [False, False]
            far.append(elsewhere.run(*engine_command))
            wait_until(lambda: len(controller) == 2)
            assert job.wait(90)
            records = list(job)
            assert {record.key: record["value"] for record in records} == {key: int(key) for key in images}
            assert len(records) == N
            assert max(record.attempts for record in records) <= 2
            assert far[2].poll() is None
            assert len({record.pid for record in records}) == 4
            assert "unknown result" not in capfd.readouterr().out
    finally:
        for process in (near, *far):
            process.kill()
            process.wait()
