"""What batch systems say in the environment about hosts and processors."""

from __future__ import annotations

from pathlib import Path

import pytest

from parimg.cluster.allocation import find_allocation, usable_cpus
from parimg.errors import ClusterError


def test_no_batch_system_is_no_allocation() -> None:
    assert find_allocation({"HOME": "/root"}) is None


@pytest.mark.parametrize(
    ("told", "cpus", "hosts"), [("2", 2, 1), ("2(x2)", 4, 2), ("8(x3),4", 28, 4), ("1,16(x2),3", 36, 4)]
)
def test_slurm_tells_the_processors_of_each_node(told: str, cpus: int, hosts: int) -> None:
    found = find_allocation({"SLURM_JOB_ID": "11", "SLURM_JOB_CPUS_PER_NODE": told})
    assert found is not None
    assert (found.job, found.cpus, found.hosts, found.profile) == ("Slurm job 11", cpus, hosts, "srun")


def test_one_of_several_tasks_of_a_slurm_step_takes_its_own_host_only() -> None:
    env = {"SLURM_JOB_ID": "11", "SLURM_JOB_CPUS_PER_NODE": "2(x2)", "SLURM_STEP_NUM_TASKS": "4"}
    assert find_allocation(env) is None
    assert find_allocation(env | {"SLURM_STEP_NUM_TASKS": "1"}) is not None


@pytest.mark.parametrize(
    ("told", "cpus"),
    [
        ({"SLURM_CPUS_ON_NODE": "1"}, 1),
        ({"SLURM_CPUS_ON_NODE": "64", "SLURM_STEP_NUM_TASKS": "4"}, 1),
        ({"SLURM_CPUS_ON_NODE": "64", "SLURM_STEP_NUM_TASKS": "4", "SLURM_CPUS_PER_TASK": "1"}, 1),
    ],
)
def test_this_host_gives_no_more_processors_than_slurm_allotted(
    told: dict[str, str], cpus: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "11")
    for name, value in told.items():
        monkeypatch.setenv(name, value)
    assert usable_cpus() == cpus


def test_pbs_names_a_host_once_for_each_processor(tmp_path: Path) -> None:
    (tmp_path / "nodes").write_text("a.example\na.example\nb.example\n\n")
    found = find_allocation({"PBS_NODEFILE": str(tmp_path / "nodes"), "PBS_JOBID": "7.server"})
    assert found is not None
    assert (found.job, found.cpus, found.hosts, found.profile) == ("PBS job 7.server", 3, 2, "ssh")
    assert found.settings == {"hosts": "a.example:2,b.example:1"}


def test_lsf_and_grid_engine_tell_hosts_with_their_slots(tmp_path: Path) -> None:
    lsf = find_allocation({"LSB_MCPU_HOSTS": "a 4 b 8", "LSB_JOBID": "3"})
    (tmp_path / "hosts").write_text("a 4 all.q@a UNDEFINED\nb 8 all.q@b UNDEFINED\n")
    sge = find_allocation({"PE_HOSTFILE": str(tmp_path / "hosts"), "JOB_ID": "3"})
    assert lsf is not None
    assert sge is not None
    assert (lsf.job, sge.job) == ("LSF job 3", "Grid Engine job 3")
    for found in (lsf, sge):
        assert (found.cpus, found.hosts, found.settings) == (12, 2, {"hosts": "a:4,b:8"})


@pytest.mark.parametrize("content", [None, "", "a\nb\n"])
def test_a_list_of_hosts_that_cannot_be_read_is_told(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "hosts").write_text(content)
    with pytest.raises(ClusterError, match="list of hosts"):
        find_allocation({"PE_HOSTFILE": str(tmp_path / "hosts")})
