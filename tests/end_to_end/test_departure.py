"""Engines that are asked to leave, as by Slurm before their job ends."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import wait_until

import parimg


@pytest.fixture(scope="module")
def own() -> Iterator[parimg.Controller]:
    with parimg.start(n=2) as started:
        yield started


@pytest.mark.parametrize("chunk_size", [20, 1])
@pytest.mark.parametrize("with_nanny", [False, True])
def test_an_engine_that_is_sent_sigterm_finishes_its_image_and_the_others_do_the_rest_once(
    own: parimg.Controller, tmp_path: Path, chunk_size: int, with_nanny: bool
) -> None:
    log = str(tmp_path / "log")

    def note(image: np.ndarray) -> int:
        with open(log, "a", encoding="utf-8") as file:
            file.write(f"{os.getpid()} {int(image[0])}\n")
        time.sleep(0.1)
        return int(image[0])

    wait_until(lambda: len(own) == 2)
    job = own.map(note, {f"{number:02d}": np.full(1, number) for number in range(80)}, chunk_size=chunk_size)
    wait_until(lambda: len(Path(log).read_text().splitlines()) >= 10 if os.path.exists(log) else False)
    [leaver, *_] = own.engines
    _, pid = own._supervisor.engines.process(leaver)
    nannies = psutil.Process(pid).children() if with_nanny else []
    for process in [*nannies, psutil.Process(pid)]:
        process.send_signal(signal.SIGTERM)
    wait_until(lambda: leaver not in own.engines)
    assert not job.ready()  # the Hub did not wait for its heartbeats, 30 s
    assert job.wait(60)
    assert {record.key: (record["value"], record.attempts) for record in job} == {
        f"{number:02d}": (number, 1) for number in range(80)
    }
    ran = [line.split() for line in Path(log).read_text().splitlines()]
    assert sorted(int(number) for _, number in ran) == list(range(80))  # each once
    assert any(int(process) == pid for process, _ in ran)
    assert not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def test_an_idle_engine_that_is_sent_sigterm_leaves_at_once(own: parimg.Controller) -> None:
    wait_until(lambda: len(own._supervisor.engines.ready()) == 2)
    [leaver, *_] = own.engines
    _, pid = own._supervisor.engines.process(leaver)
    own.client.send_signal(signal.SIGTERM, targets=leaver, block=False)
    wait_until(lambda: leaver not in own.engines)
    wait_until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    wait_until(lambda: len(own) == 2)
