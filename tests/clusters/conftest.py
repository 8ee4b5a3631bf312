"""Real daemons on this machine, each with its own ports and folders, started for these tests and stopped after them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from slurm_daemons import slurm as run_slurm
from slurm_daemons import wait_for_empty_queue


@pytest.fixture(scope="session")
def slurm_daemons(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with run_slurm(tmp_path_factory.mktemp("slurm")):
        yield


@pytest.fixture
def slurm(slurm_daemons: None) -> Iterator[None]:
    """A Slurm of two nodes with two processors each, whose queue is empty before and must be after a test."""
    wait_for_empty_queue()
    yield
    wait_for_empty_queue()
