"""Engines that become more with the work that is left, and fewer without, on a real Slurm of two nodes."""

from __future__ import annotations

import os
import time

import numpy as np
import pytest
from slurm_daemons import queue
from waiting import wait_until

import parimg
from parimg.cluster import elasticity, profiles

pytestmark = pytest.mark.usefixtures("slurm")


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
        job = controller.map(sleep, {f"image {n}": np.zeros(1) for n in range(180)}, chunk_size=1)
        wait_until(lambda: len(controller) == 4, 40, queue)
        assert set(controller.client[:].apply_sync(os.getenv, "SLURMD_NODENAME")) == {"n1", "n2"}
        assert queue("RUNNING") == ["parimg-" + controller._cluster._started.cluster_id + "|RUNNING|10:00|1"] * 4
        assert job.wait(60)
        assert job.counts["ok"] == 180
        assert {record.attempts for record in job} == {1}
        wait_until(lambda: len(controller) == 1, 30, queue)
        wait_until(lambda: len(queue()) == 1, 30, queue)
        time.sleep(3)
        assert len(controller) == 1
    assert queue() == []
    said = capfd.readouterr().err
    assert "asked for 3 engines more; 1 is there" in said
    assert "gave back 1 engine that had nothing to do; 1 is there" in said
