"""Engines on the nodes of the Slurm allocation that this process runs in.

Used by ipyparallel under the name ``srun``, and by `parimg.start` inside an allocation.
"""

from __future__ import annotations

from typing import Any

from ipyparallel.cluster.launcher import EngineLauncher, LocalProcessLauncher
from traitlets import List, Unicode

# What sbatch or salloc was asked is in the environment, and would be what srun is asked, beside its arguments.
_INPUTS = (
    "NTASKS", "NPROCS", "NTASKS_PER_NODE", "NTASKS_PER_CORE", "NTASKS_PER_SOCKET", "TASKS_PER_NODE",
    "CPUS_PER_TASK", "TRES_PER_TASK", "MEM_PER_CPU", "MEM_PER_NODE", "DISTRIBUTION", "CPU_BIND", "HINT",
    "EXCLUSIVE", "EXACT",
)  # fmt: skip


class SrunEnginesLauncher(LocalProcessLauncher, EngineLauncher):  # type: ignore[misc]
    """One job step of n tasks beside whatever else runs in the allocation.

    ipyparallel takes it for running until its last engine has ended.
    """

    entrypoint_name = "srun"

    srun_args = List(Unicode(), config=True, help="More options of srun, one a string")

    def find_args(self) -> list[str]:
        """``srun`` without what the allocation was asked."""
        return [
            "env",
            *(f"--unset=SLURM_{name}" for name in _INPUTS),
            "srun",
            f"--ntasks={self.n}",
            "--cpus-per-task=1",
            "--mem=0",  # all that the allocation has on each node
            "--overlap",
            "--kill-on-bad-exit=0",
            "--export=ALL",
            "--unbuffered",
            *self.srun_args,
            *self.engine_cmd,
            *self.cluster_args,
            # The folder of a profile is not on every node where no disk is shared; what is needed comes otherwise.
            "--IPEngine.auto_create=True",
            *self.engine_args,
        ]

    def start(self, n: int) -> Any:
        """Start n engines."""
        self.n = n
        return super().start()
