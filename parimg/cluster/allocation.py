"""What a batch system allotted to the job that this process runs in: hosts, and processors on each.

Read from the environment that Slurm, PBS, LSF and Grid Engine give to a job's script; used by `parimg.start`.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from parimg.errors import ClusterError


@dataclass(frozen=True, slots=True)
class Allocation:
    """Processors of one job."""

    job: str
    """As ``Slurm job 11``."""
    cpus: int
    """Of all hosts."""
    hosts: int
    profile: str
    """That starts engines there, of those that come with parimg."""
    settings: Mapping[str, str] = field(default_factory=dict)


def find_allocation(environment: Mapping[str, str] | None = None) -> Allocation | None:
    """The allocation around this process, None if there is none.

    A process that is itself one of several tasks of a Slurm step has none: each would take all of it.
    """
    env = os.environ if environment is None else environment
    if "SLURM_JOB_ID" in env:
        if _is_one_of_several_tasks(env):
            return None
        # As "2(x3),1", which salloc tells, too; SLURM_CPUS_ON_NODE is of this node, and of scripts only.
        parts = re.findall(r"(\d+)(?:\(x(\d+)\))?", env.get("SLURM_JOB_CPUS_PER_NODE", "1"))
        counts = [int(cpus) for cpus, times in parts for _ in range(int(times or 1))]
        return Allocation(f"Slurm job {env['SLURM_JOB_ID']}", sum(counts), len(counts), "srun")
    if "PBS_NODEFILE" in env:
        return _by_ssh(f"PBS job {env.get('PBS_JOBID', '')}", Counter(_words(env["PBS_NODEFILE"], 1)))
    if "LSB_MCPU_HOSTS" in env:
        words = env["LSB_MCPU_HOSTS"].split()
        hosts = {host: int(n) for host, n in zip(words[::2], words[1::2], strict=True)}
        return _by_ssh(f"LSF job {env.get('LSB_JOBID', '')}", hosts)
    if "PE_HOSTFILE" in env:
        words = _words(env["PE_HOSTFILE"], 2)
        hosts = {host: int(n) for host, n in zip(words[::2], words[1::2], strict=True)}
        return _by_ssh(f"Grid Engine job {env.get('JOB_ID', '')}", hosts)
    return None


def usable_cpus() -> int:
    """Processors of this host that this process may use: never more than a batch system allotted to it here."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if "SLURM_JOB_ID" in os.environ:  # which does not bind processes on every site
        if _is_one_of_several_tasks(os.environ):
            return min(cpus, int(os.environ.get("SLURM_CPUS_PER_TASK", "1")))
        return min(cpus, int(os.environ.get("SLURM_CPUS_ON_NODE", cpus)))
    return cpus


def _is_one_of_several_tasks(env: Mapping[str, str]) -> bool:
    return int(env.get("SLURM_STEP_NUM_TASKS", "1")) > 1


def _by_ssh(job: str, hosts: Mapping[str, int]) -> Allocation:
    listed = ",".join(f"{host}:{n}" for host, n in hosts.items())
    return Allocation(job, sum(hosts.values()), len(hosts), "ssh", {"hosts": listed})


def _words(path: str, n: int) -> list[str]:
    """The first n words of each line of a file."""
    try:
        with open(path, encoding="utf-8") as file:
            lines = [line.split()[:n] for line in file if line.strip()]
    except OSError as error:
        raise ClusterError(f"the batch system's list of hosts cannot be read: {error}") from error
    if not lines or any(len(line) < n for line in lines):
        raise ClusterError(f"the batch system's list of hosts {path!r} has lines of fewer than {n} words, or none")
    return [word for line in lines for word in line]
