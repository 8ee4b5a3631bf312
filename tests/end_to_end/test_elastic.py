"""Engines that become more and fewer with the work, started by ipyparallel's own launcher."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import numpy as np
from waiting import wait_until

import parimg
from parimg.cluster import elasticity, profiles

if TYPE_CHECKING:
    import pytest


def test_engines_come_with_the_work_are_made_up_for_and_given_back(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(elasticity, "IDLE_SECONDS", 3.0)
    monkeypatch.setattr(elasticity, "_LEAST_WORK_SECONDS", 5.0)
    profiles.install("local", as_name="grows")

    def sleep(image: np.ndarray) -> int:
        time.sleep(0.5)
        return os.getpid()

    with parimg.start(engines=(1, 3), profile="grows", timeout=60) as controller:
        assert len(controller) == 1
        first = controller.client[0].apply_sync(os.getpid)
        job = controller.map(sleep, {f"{n}": np.zeros(1) for n in range(120)}, chunk_size=1)
        wait_until(lambda: len(controller) == 3, 90)
        os.kill(first, signal.SIGKILL)
        wait_until(lambda: 0 not in controller.engines, 90)
        assert job.wait(120)
        assert job.counts["ok"] == 120
        assert len({record["value"] for record in job}) >= 3
        wait_until(lambda: len(controller) == 1, 90)
    said = capfd.readouterr().err
    assert "asked for 2 engines more; 1 is there" in said
    assert "gave back 1 engine that had nothing to do" in said
    assert "died" not in said
