"""A cluster whose engines are ranks of mpiexec, by the MPI that comes as a wheel."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

import parimg
from parimg.cluster import profiles
from parimg.errors import ClusterError

pytest.importorskip("mpi4py")


@pytest.fixture(scope="module")
def profile(private_folders: None) -> str:
    mpiexec = shutil.which("mpiexec", path=str(Path(sys.executable).parent))
    if mpiexec is None:
        pytest.skip("no mpiexec beside this Python: pip install mpich")
    profiles.install("mpi", settings={"mpiexec": mpiexec}, overwrite=True)
    return "mpi"


def rank(_: np.ndarray) -> int:
    from mpi4py import MPI

    return int(MPI.COMM_WORLD.Get_rank())


def test_engines_are_ranks_of_one_world(profile: str) -> None:
    with parimg.start(2, profile=profile, timeout=60) as controller:
        assert len(controller) == 2
        assert controller.security.curve
        assert sorted(controller.client[:].apply_sync(rank, None)) == [0, 1]
        job = controller.map(rank, {f"image {n}": np.zeros(1) for n in range(20)}, chunk_size=1)
        assert {record["value"] for record in job.get(60)} <= {0, 1}
        assert job.counts["ok"] == 20
        assert set(controller.client[:].apply_sync(os.getenv, "OMP_NUM_THREADS")) == {"1"}


def test_an_mpiexec_that_is_not_there_is_told(profile: str) -> None:
    profiles.install("mpi", as_name="no-mpi", settings={"mpiexec": "/no/such/mpiexec"})
    with pytest.raises(ClusterError, match=r"did not start: .*/no/such/mpiexec"):
        parimg.start(1, profile="no-mpi")
