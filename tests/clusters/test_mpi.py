"""A cluster whose engines are ranks of mpiexec, by the MPI that comes as a wheel."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

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


def test_an_mpiexec_that_is_not_there_is_told(profile: str) -> None:
    profiles.install("mpi", as_name="no-mpi", settings={"mpiexec": "/no/such/mpiexec"})
    with pytest.raises(ClusterError, match=r"did not start: .*/no/such/mpiexec"):
        parimg.start(1, profile="no-mpi")
