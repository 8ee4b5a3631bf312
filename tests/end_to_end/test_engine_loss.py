"""Engines that die: what is told of it, and where another comes from."""

from __future__ import annotations

import contextlib
import ctypes
import os
import re
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
from parimg import events
from parimg.cluster import profiles
from parimg.dispatch import lost_engines


def named(n: int) -> dict[str, np.ndarray]:
    return {f"image{number:02d}": np.full(1, number) for number in range(n)}


@pytest.fixture(scope="module")
def own() -> Iterator[parimg.Controller]:
    with parimg.start(n=2) as started:
        yield started


def crash_in_native_code() -> None:
    ctypes.string_at(0)


def exit_the_process() -> None:
    os.write(2, b"out of cheese\n")
    os._exit(7)


def be_killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("die", "told"),
    [
        (crash_in_native_code, "killed by SIGSEGV"),
        (exit_the_process, r"exited with code 7; its log ends: .*out of cheese; before"),
        (be_killed, "killed by SIGKILL"),
    ],
)
def test_an_image_that_kills_its_engines_fails_with_what_is_known_and_the_others_are_not_blamed(
    own: parimg.Controller, die: Callable[[], None], told: str
) -> None:
    def deadly(image: np.ndarray) -> int:
        if image[0] == 4:
            die()
        return int(image[0])

    job = own.map(deadly, named(10), retries=1, chunk_size=5)
    assert job.wait(120)
    [failure] = job.failures
    assert (failure.key, failure.error, failure.attempts) == ("image04", "EngineDied", 2)
    assert failure.message.startswith("its engine died at each of 2 attempts: engine ")
    assert re.search(rf" on {os.uname().nodename}, {told}", failure.message)
    assert "before this image its memory had reached" in failure.message
    if die is crash_in_native_code:
        assert "Segmentation fault" in failure.traceback
        assert "in crash_in_native_code" in failure.traceback
    assert {record.key: (record["value"], record.attempts) for record in job if record.ok} == {
        f"image{number:02d}": (number, 1) for number in range(10) if number != 4
    }


def test_engines_that_die_while_they_start_are_started_again(own: parimg.Controller) -> None:
    engines = own._cluster._launchers
    wait_until(lambda: len(own) == 2)
    for _ in range(2):
        for launcher in list(engines().values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                launcher.process.kill()  # the second time round before they have registered
        time.sleep(0.3)
    assert own.map(np.max, named(4)).wait(60)
    wait_until(lambda: len(own) == 2)


# -- a cluster that others started ----------------------------------------------------------------------------

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}


@pytest.fixture
def cluster_id(private_folders: None, request: pytest.FixtureRequest) -> Iterator[str]:
    """A daemonized cluster of one engine under the installed profile `local`."""
    profiles.install("local", overwrite=True)
    name = request.node.name
    command = [sys.executable, "-m", "ipyparallel.cluster", "start", "--profile=local", f"--cluster-id={name}"]
    subprocess.run([*command, "-n", "1", "--daemonize"], check=True, timeout=90, **QUIET)
    yield name
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("IPP_CLUSTER_ID") == name:
            process.kill()


def engine_command(cluster_id: str) -> list[str]:
    return [sys.executable, "-m", "ipyparallel.engine", "--profile=local", f"--cluster-id={cluster_id}"]


def slowly(image: np.ndarray) -> int:
    time.sleep(0.1)
    return int(image[0])


def test_a_foreign_cluster_is_asked_for_another_engine(cluster_id: str, capfd: pytest.CaptureFixture[str]) -> None:
    with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
        job = controller.map(slowly, named(20))
        os.kill(next(iter(job)).pid, signal.SIGKILL)
        assert job.wait(90)
        assert job.counts["ok"] == 20
        assert len({record.pid for record in job}) == 2
    assert "is gone; waiting for another; its cluster was asked for another" in capfd.readouterr().err


def test_without_a_cluster_file_an_engine_is_waited_for_and_the_progress_line_says_so(
    cluster_id: str, capfd: pytest.CaptureFixture[str]
) -> None:
    security = Path(os.environ["IPYTHONDIR"]) / "profile_local" / "security"
    (security / f"cluster-{cluster_id}.json").unlink()
    with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
        job = controller.map(slowly, named(20))
        os.kill(next(iter(job)).pid, signal.SIGKILL)
        wait_until(lambda: job.engines == 0)
        late = subprocess.Popen(engine_command(cluster_id), **QUIET)
        try:
            job.wait_interactive()
        finally:
            late.kill()
            late.wait()
        assert job.counts["ok"] == 20
    told = capfd.readouterr().err
    # The other engine may have come in the two seconds in which further losses are waited for.
    assert re.search("(waiting for another|1 are left); the cluster was not started by `ipcluster start`", told)
    assert "waiting for an engine" in told


@pytest.mark.skipif(
    subprocess.run(["unshare", "-m", "true"], check=False, **QUIET).returncode != 0
    if sys.platform == "linux"
    else True,
    reason="hiding a folder from a process takes a mount namespace: Linux, and root",
)
def test_engines_of_a_host_that_does_not_see_the_job_tell_what_a_dead_one_recorded(
    cluster_id: str, tmp_path: Path
) -> None:
    (tmp_path / "jobs").mkdir()
    hide = f"mount -t tmpfs none {tmp_path / 'jobs'} && exec "
    host = os.environ | {"PARIMG_SHARED_DIR": str(tmp_path / "host")}
    blind = ["unshare", "-m", "sh", "-c", hide + " ".join(engine_command(cluster_id))]
    engines = [subprocess.Popen(blind, env=host, **QUIET) for _ in range(2)]
    try:
        with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
            controller.client.send_signal(signal.SIGKILL, targets=controller.engines[0], block=False)
            wait_until(lambda: len(controller) == 2 and 0 not in controller.engines)

            def hang(image: np.ndarray) -> int:
                time.sleep(60 if image[0] == 2 else 0)
                return 1

            job = controller.map(hang, named(8), timeout=1, job_dir=tmp_path / "jobs" / "job", chunk_size=4)
            assert job.wait(60)
            [failure] = job.failures
            assert (failure.key, failure.error) == ("image02", "TimeoutError")
            assert "in hang" in failure.traceback
            assert {record.attempts for record in job} == {1}
    finally:
        for engine in engines:
            engine.kill()
            engine.wait()


# -- messages that do not arrive ------------------------------------------------------------------------------


def test_a_chunk_that_never_arrived_is_sent_again(own: parimg.Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """A multiplexer drops what is for an engine that is just not connected; here it is sent to nobody."""
    monkeypatch.setattr(lost_engines, "_PROBE_SECONDS", 1.0)
    wait_until(lambda: len(own) == 2)
    known = own.client._engines
    lost: list[events.ChunkLost] = []

    def misdirect_the_second(event: events.Event) -> None:
        if isinstance(event, events.ChunkLost):
            lost.append(event)
        if isinstance(event, events.RecordsWritten) and not misdirected:
            misdirected.update(known)
            for engine_id in known:
                known[engine_id] = f"nobody-{engine_id}"
        elif misdirected and known[min(known)].startswith("nobody") and isinstance(event, events.ChunkSubmitted):
            known.update(misdirected)

    misdirected: dict[int, str] = {}
    job = own.map(slowly, named(20), chunk_size=2, listeners=[misdirect_the_second])
    assert job.wait(60)
    assert {record.key: record["value"] for record in job} == {
        f"image{number:02d}": number for number in range(20)
    }
    assert [event.reason for event in lost] == ["it did not arrive"]
    assert max(record.attempts for record in job) == 1


def test_a_chunk_that_takes_long_is_not_taken_for_lost(
    own: parimg.Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lost_engines, "_PROBE_SECONDS", 0.2)
    lost: list[events.Event] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.ChunkLost):
            lost.append(event)

    job = own.map(slowly, named(60), chunk_size=10, listeners=[listen])
    assert job.wait(60)
    assert job.counts["ok"] == 60
    assert lost == []
