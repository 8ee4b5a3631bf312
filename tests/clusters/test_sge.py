"""A cluster whose engines are tasks of an array job of a real Grid Engine."""

from __future__ import annotations

import subprocess
import sys

import pytest
from sge_daemons import wait_for_no_jobs

import parimg
from parimg.cluster import profiles

pytestmark = pytest.mark.usefixtures("grid_engine")


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
