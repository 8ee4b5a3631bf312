"""Engines that `parimg engines --fork` adds to a running cluster: all from one process, each one for itself."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import psutil
import pytest
from waiting import wait_until

import parimg
from parimg.cluster import profiles

N = 3


class Forked(NamedTuple):
    """A running cluster, and the process that its engines are forked from."""

    controller: parimg.Controller
    warm: psutil.Popen
    log: Path

    def pid(self, engine: int) -> int:
        process = self.controller._supervisor.engines.process(engine)
        assert process is not None
        return process[1]


def command_line(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "parimg.cli", *arguments]


@pytest.fixture
def forked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Forked]:
    """Engines of a controller that was started by hand."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    folder = profiles.install("local")
    hub = subprocess.Popen([sys.executable, "-m", "ipyparallel.controller", f"--profile-dir={folder}"])
    try:
        wait_until(lambda: os.path.exists(f"{folder}/security/ipcontroller-engine.json"))
        log = tmp_path / "engines.log"
        with open(log, "wb") as file:
            warm = psutil.Popen(
                command_line("engines", "--fork", str(N), "--profile", "local"), stdout=file, stderr=file
            )
        try:
            with parimg.connect("local") as controller:
                wait_until(lambda: len(controller._supervisor.engines.ready()) == N)
                yield Forked(controller, warm, log)
        finally:
            with contextlib.suppress(psutil.NoSuchProcess):
                warm.terminate()
            warm.wait(30)
    finally:
        hub.terminate()
        hub.wait(30)


def test_each_engine_is_one_for_itself_and_a_job_runs_on_them(forked: Forked, temple_ring: list[str]) -> None:
    controller = forked.controller
    found = controller.inspect()
    assert len({about["pid"] for about in found.values()}) == N
    assert all(set(about["threads"].values()) == {1} for about in found.values())
    # Their nanny is one process, and the warm one has no other children.
    assert len(forked.warm.children(recursive=True)) == N + 1
    view = controller.client[:]
    view.execute("import random, numpy", block=True)
    drawn = view.apply_sync(eval, "(random.random(), float(numpy.random.rand()))")
    assert len({number for pair in drawn for number in pair}) == 2 * N

    task = parimg.MatchSIFT(temple_ring[0])
    job = controller.submit(task, temple_ring[:9], chunk_size=1)
    assert job.wait(60)
    assert job.counts == {"ok": 9, "failed": 0, "done": 9, "total": 9}
    assert {record.pid for record in job} <= {about["pid"] for about in found.values()}

    big = controller.map(
        lambda image: len(bytearray(2**30)) if image[0] else 0,
        {"fits": np.zeros(1), "does not": np.ones(1)},
        memory_limit="600 MiB",
    )
    assert {record.key: record.error for record in big.get(60)} == {"fits": None, "does not": "MemoryError"}


def test_an_engine_that_dies_is_replaced_by_its_own_host(
    forked: Forked, capfd: pytest.CaptureFixture[str]
) -> None:
    controller = forked.controller
    victim = random.choice(controller.engines)
    pid = forked.pid(victim)

    def die_once(image: np.ndarray) -> int:
        if os.getpid() == pid:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)
        return int(image[0])

    job = controller.map(die_once, {f"{number}": np.full(1, number) for number in range(30)})
    assert job.wait(60)
    assert {record.key: record["value"] for record in job} == {f"{number}": number for number in range(30)}
    wait_until(lambda: len(controller.engines) == N)
    assert victim not in controller.engines
    wait_until(lambda: f"process {pid} was killed by signal 9; another starts" in forked.log.read_text())
    assert f"engine {victim} left; if it died, its host starts another" in capfd.readouterr().err


def test_a_stopped_engine_is_killed_by_way_of_the_common_nanny(forked: Forked) -> None:
    [victim, *_] = forked.controller.engines
    os.kill(forked.pid(victim), signal.SIGSTOP)
    forked.controller._supervisor.engines.kill(victim)
    wait_until(lambda: victim not in forked.controller.engines)
    wait_until(lambda: len(forked.controller.engines) == N)


def test_an_engine_that_is_asked_to_leave_finishes_its_image_and_no_other_comes(
    forked: Forked, tmp_path: Path
) -> None:
    controller = forked.controller
    log = tmp_path / "ran"
    log.touch()

    def note(image: np.ndarray) -> int:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{int(image[0])}\n")
        time.sleep(0.1)
        return os.getpid()

    job = controller.map(note, {f"{number}": np.full(1, number) for number in range(60)}, chunk_size=10)
    wait_until(lambda: len(log.read_text().splitlines()) > 5)
    [leaver, *_] = controller.engines
    pid = forked.pid(leaver)
    os.kill(pid, signal.SIGTERM)
    wait_until(lambda: leaver not in controller.engines)
    assert job.wait(60)
    assert sorted(map(int, log.read_text().split())) == list(range(60))  # each once
    assert {record.attempts for record in job} == {1}
    wait_until(lambda: not psutil.pid_exists(pid))
    assert len(controller.engines) == N - 1
    assert len(forked.warm.children()) == N  # and the nanny


@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_all_engines_end_with_the_process_that_they_come_from(forked: Forked, signal_number: int) -> None:
    children = forked.warm.children(recursive=True)
    assert len(children) == N + 1
    forked.warm.send_signal(signal_number)
    code = forked.warm.wait(30)
    assert code == (0 if signal_number == signal.SIGINT else -signal.SIGKILL)
    _, alive = psutil.wait_procs(children, 30)
    assert not alive
    wait_until(lambda: not forked.controller.engines)  # the Hub was told, without 30 s of missed heartbeats


def test_a_profile_starts_its_engines_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    profiles.install("local", settings={"fork": "true"})
    with parimg.start(2, profile="local") as controller:
        job = controller.map(lambda image: os.getppid(), {f"{number}": np.zeros(1) for number in range(20)})
        assert len({record["value"] for record in job.get(60)}) == 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--profile", "lokal"], 2, "no IPython profile 'lokal'"),
        (["--file", "missing.json"], 1, "there is no 'missing.json'; start its controller first"),
        ([], 1, "start its controller first"),
    ],
)
def test_what_was_typed_wrong_is_told_at_once(
    arguments: list[str], code: int, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    (tmp_path / "ipython" / "profile_default").mkdir(parents=True)
    done = subprocess.run(
        command_line("engines", "--fork", "2", *arguments), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == code
    assert message in done.stderr
