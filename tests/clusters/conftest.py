"""Real daemons on this machine, with their own ports and folders, that start and stop with these tests."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from sge_daemons import grid_engine as run_grid_engine
from sge_daemons import wait_for_no_jobs
from slurm_daemons import slurm as run_slurm
from slurm_daemons import wait_for_empty_queue
from ssh_hosts import ssh_server


@pytest.fixture(scope="session")
def slurm_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with run_slurm(tmp_path_factory.mktemp("slurm")) as not_shared:
        yield not_shared


@pytest.fixture
def slurm(slurm_daemons: Path) -> Iterator[Path]:
    """A Slurm of two nodes with two processors each, whose queue is empty before and must be after a test.

    Its value is a folder in which each node sees its own files only.
    """
    wait_for_empty_queue()
    yield slurm_daemons
    wait_for_empty_queue()


@pytest.fixture(scope="session")
def ssh_config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Configuration of ssh for `host1` and `host2`, two names of this machine's server."""
    with ssh_server(tmp_path_factory.mktemp("ssh")) as path:
        yield path


@pytest.fixture(scope="session")
def sge_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with run_grid_engine(tmp_path_factory.mktemp("sge")):
        yield


@pytest.fixture
def grid_engine(sge_daemons: None) -> Iterator[None]:
    """A Grid Engine of four slots, whose queue is empty before and must be after a test."""
    wait_for_no_jobs()
    yield
    wait_for_no_jobs()
