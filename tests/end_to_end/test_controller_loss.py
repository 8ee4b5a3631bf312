"""The ipcluster's controller dies or falls silent in the middle of a job."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import wait_until

import parimg
from parimg.cluster import heartbeat, profiles
from parimg.cluster.embedded import EmbeddedCluster
from parimg.errors import ControllerLost, JobError


def named(n: int) -> dict[str, np.ndarray]:
    return {f"image{number:03d}": np.full(1, number) for number in range(n)}


def slowly(image: np.ndarray) -> int:
    time.sleep(0.05)
    return int(image[0])


def values(job: parimg.Job) -> dict[str, int]:
    return {record.key: record["value"] for record in job}


def hub_of(controller: parimg.Controller) -> psutil.Process:
    return controller._cluster._cluster.controller.process


def kill_hub(controller: parimg.Controller) -> None:
    hub_of(controller).kill()


def stop_hub(controller: parimg.Controller) -> None:
    hub_of(controller).send_signal(signal.SIGSTOP)


def kill_scheduler(controller: parimg.Controller) -> None:
    hub_of(controller).children()[1].kill()


@pytest.mark.parametrize(("strike", "n"), [(kill_hub, 80), (stop_hub, 600), (kill_scheduler, 80)])
def test_an_own_cluster_is_started_anew_and_the_job_goes_on(
    strike: Callable[[parimg.Controller], None],
    n: int,
    capfd: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(heartbeat, "MISSES", 3)  # the job would end while the Hub is silent
    with parimg.start(n=2) as controller:
        job = controller.map(slowly, named(n))
        before = controller.client
        next(iter(job))
        strike(controller)
        assert job.wait(120)
        assert values(job) == {f"image{number:03d}": number for number in range(n)}
        assert max(record.attempts for record in job) == 1  # nobody is to blame
        assert controller.client is not before
        assert controller.map(np.max, named(3)).get(60)[2]["value"] == 2
    assert "the controller of the cluster is lost: it" in capfd.readouterr().err


def test_a_second_loss_ends_the_job_with_the_command_that_resumes_it() -> None:
    with parimg.start(n=1) as controller:
        job = controller.map(slowly, named(2000))
        next(iter(job))
        before = controller.client
        kill_hub(controller)
        wait_until(lambda: controller.client is not before and job.engines)
        assert job._run.restarts == 1
        seen = job.progress
        wait_until(lambda: job.progress > seen)
        kill_hub(controller)
        with pytest.raises(ControllerLost, match=rf"to go on: parimg resume {job.directory}"):
            job.wait(60)
        with pytest.raises(ControllerLost, match=r"make another by parimg\.start"):
            controller.map(np.max, named(1))
        assert repr(controller) == "<Controller of an embedded cluster: lost>"
    assert parimg.open_job(job.directory).progress == job.progress > 0
    with parimg.start(n=2) as another:
        resumed = another.resume(job.directory, images=named(job.progress + 20))
        assert resumed.wait(60)
        assert resumed.counts["failed"] == 0


def test_a_cluster_whose_scheduler_died_at_its_start_is_started_again() -> None:
    cluster = EmbeddedCluster(1)
    first = cluster.client
    cluster._cluster.controller.process.children()[1].kill()
    with parimg.Controller(cluster) as controller:
        assert controller.client is not first
        assert controller.map(np.max, named(3)).get(60)[2]["value"] == 2


@pytest.fixture
def foreign(private_folders: None, request: pytest.FixtureRequest) -> Iterator[tuple[str, psutil.Process]]:
    """Id and controller's process of a cluster that others started, of two engines."""
    cluster_id = request.node.name
    profiles.install("local")
    command = [sys.executable, "-m", "ipyparallel.cluster"]
    which = ["--profile=local", f"--cluster-id={cluster_id}"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    subprocess.run([*command, "start", *which, "-n", "2", "--daemonize"], check=True, timeout=90, **quiet)
    file = Path(os.environ["IPYTHONDIR"]) / "profile_local" / "security" / f"cluster-{cluster_id}.json"
    about = json.loads(file.read_text())
    yield cluster_id, psutil.Process(about["controller"]["state"]["pid"])
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("IPP_CLUSTER_ID") == cluster_id:
            process.kill()


def test_the_loss_of_a_foreign_controller_is_noticed_in_15_s(foreign: tuple[str, psutil.Process]) -> None:
    cluster_id, hub = foreign
    with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
        job = controller.map(slowly, named(10_000))
        next(iter(job))
        hub.send_signal(signal.SIGSTOP)
        begin = time.monotonic()
        with pytest.raises(ControllerLost, match=r"it gave no sign of life for .* to go on: parimg resume"):
            job.wait(60)
        assert time.monotonic() - begin < 25  # 15 s, and what a busy machine takes
        assert job.state == "failed"
        begin = time.monotonic()
    assert time.monotonic() - begin < 10  # nothing waits for the dead
    with pytest.raises(JobError, match="ended early: ControllerLost"):
        parimg.open_job(job.directory).wait()


def test_a_foreign_cluster_that_is_shut_down_in_order_is_noticed_too(foreign: tuple[str, psutil.Process]) -> None:
    with parimg.connect(profile="local", cluster_id=foreign[0]) as controller:
        job = controller.map(slowly, named(10_000))
        next(iter(job))
        controller.client._send(controller.client._query_stream, "shutdown_request", content={})
        with pytest.raises(ControllerLost, match="to go on: parimg resume"):
            job.wait(60)
