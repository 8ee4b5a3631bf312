"""A cluster whose engines are tasks of an array job of a real Grid Engine."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from sge_daemons import sge_jobs, wait_for_no_jobs

import parimg
from parimg.cluster import profiles

pytestmark = pytest.mark.usefixtures("grid_engine")


def test_engines_are_tasks_of_an_array_job_and_close_leaves_none(temple_ring: list[str]) -> None:
    profiles.install("sge", settings={"time": "0:10:00"}, overwrite=True)
    with parimg.start(2, profile="sge", timeout=90) as controller:
        assert len(controller) == 2
        assert sge_jobs() == ["r", "r"]
        assert controller.security.curve
        assert set(controller.client[:].apply_sync(os.getenv, "SGE_TASK_ID")) == {"1", "2"}
        job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:4])
        assert [record.status for record in job.get(60)] == ["ok"] * 4
        assert set(controller.client[:].apply_sync(os.getenv, "OMP_NUM_THREADS")) == {"1"}
    wait_for_no_jobs(20)


def test_ipcluster_starts_and_stops_it() -> None:
    def ipcluster(*arguments: str) -> None:
        command = [sys.executable, "-m", "ipyparallel.cluster", *arguments, "--profile=sge", "--cluster-id=mine"]
        done = subprocess.run(command, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout

    profiles.install("sge", settings={"time": "0:10:00"}, overwrite=True)
    ipcluster("start", "-n", "1", "--daemonize")
    try:
        with parimg.connect("sge", "mine", timeout=60) as controller:
            assert len(controller) == 1
    finally:
        ipcluster("stop")
    wait_for_no_jobs(20)
