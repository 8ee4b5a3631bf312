"""Engines as jobs of Slurm: submitted, asked about, cancelled.

Used by ipyparallel under the name ``parimg-slurm``, and by `parimg.cluster.waiting_jobs`.
"""

from __future__ import annotations

import math
import os
import re
import shlex
import time
from typing import Any, Self

from ipyparallel.cluster.launcher import EngineLauncher, NotRunning
from traitlets import Bool, Integer, List, Unicode

from parimg.cluster.launchers.fork import FORKED_ENGINES
from parimg.cluster.launchers.slurm_queue import cancel, find_job, is_queued, submit

_END_SECONDS = 10.0  # in which a cancelled job leaves the queue; then its processes are killed
_SIGNAL_EARLY_SECONDS = 60.0  # that --signal may come before its time, as sbatch's manual says


class SlurmEnginesLauncher(EngineLauncher):  # type: ignore[misc]
    """Submits engines as one job, or as an array of jobs that start as they fit."""

    entrypoint_name = "parimg-slurm"

    partition = Unicode("", config=True, help="Slurm partition; empty: the site's default")
    account = Unicode("", config=True, help="Slurm account; empty: your default")
    qos = Unicode("", config=True, help="Slurm quality of service; empty: the default")
    timelimit = Unicode("", config=True, help="Wall time, as 4:00:00; empty: the partition's")
    options = List(Unicode(), config=True, help="More options of sbatch, one a string")
    setup = List(Unicode(), config=True, help="Lines of shell before the engines start, as 'module load python'")
    engines_per_job = Integer(0, config=True, help="0: one job with all; k: an array of jobs of k engines each")
    fork = Bool(False, config=True, help="Fork the engines of a node from one process")
    job_id = Unicode().tag(to_dict=True)
    output_file = Unicode().tag(to_dict=True)
    n = Integer(1).tag(to_dict=True)

    def find_args(self) -> list[str]:
        """What ``sbatch`` is given: nothing typed into a profile passes a shell or a template but `setup`."""
        per_job = self.engines_per_job or self.n
        jobs = -(-self.n // per_job)
        # The folder of the profile is not on every node where no disk is shared; what is needed comes otherwise.
        arguments = [*self.cluster_args, "--IPEngine.auto_create=True", *self.engine_args]
        step = self._forked_step(arguments) if self.fork else self._step(arguments)
        script = "\n".join([*self.setup, step])
        chosen = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.timelimit,
            "array": f"0-{jobs - 1}" if jobs > 1 else "",
        }
        return [
            "--no-requeue",
            f"--job-name=parimg-{self.cluster_id or os.path.basename(self.profile_dir).removeprefix('profile_')}",
            f"--ntasks={per_job}",
            "--cpus-per-task=1",
            "--open-mode=append",
            f"--output={self.profile_dir.replace('%', '%%')}/log/slurm-%j.log",
            *(f"--{option}={value}" for option, value in chosen.items() if value),
            *self.options,
            f"--wrap={script}",
        ]

    def _step(self, arguments: list[str]) -> str:
        """A task an engine."""
        engine = shlex.join([*self.engine_cmd, *arguments])
        return f"exec srun --kill-on-bad-exit=0 --cpus-per-task=1 --unbuffered {engine}"

    def _forked_step(self, arguments: list[str]) -> str:
        """A task a node, with all processors of the job there, that forks as many engines as the job has tasks."""
        command = shlex.join([self.engine_cmd[0], "-m", FORKED_ENGINES])
        return (
            "unset SLURM_CPUS_PER_TASK\n"  # one, which older versions of srun would take as theirs
            "exec srun --whole --nodes=$SLURM_JOB_NUM_NODES --ntasks=$SLURM_JOB_NUM_NODES --ntasks-per-node=1 "
            f"--cpu-bind=none --kill-on-bad-exit=0 --unbuffered {command} "
            f'"$SLURM_TASKS_PER_NODE" {shlex.join(arguments)}'
        )

    def start(self, n: int) -> str:
        """Submit n engines."""
        self.n = n
        os.makedirs(os.path.join(self.profile_dir, "log"), exist_ok=True)
        self.job_id = submit(self.find_args(), self.get_env())
        self.output_file = os.path.join(self.profile_dir, "log", f"slurm-{self.job_id}.log")
        self.notify_start(self.job_id)
        return self.job_id

    @classmethod
    def from_dict(cls, d: dict[str, Any], **kwargs: Any) -> Self:
        """The launcher of a job that was submitted before."""
        self: Self = super().from_dict(d, **kwargs)
        job = find_job(self.job_id)
        if job is not None and job.has_ended:
            raise NotRunning(str(job))
        return self

    def poll(self) -> str | None:
        """None while the job waits or runs, else how it ended."""
        job = find_job(self.job_id)
        return job.state if job is not None and job.has_ended else None

    def signal(self, sig: int) -> None:
        """Send a signal to the engines."""
        cancel(self.job_id, options=[f"--signal={int(sig)}"])

    def cancel(self) -> None:
        """Cancel the job, and wait for nothing."""
        cancel(self.job_id)

    def stop(self) -> None:
        """Cancel the job, and wait until it has left the queue."""
        self.cancel()
        deadline = time.monotonic() + _END_SECONDS
        while is_queued(self.job_id):
            if time.monotonic() > deadline:
                cancel(self.job_id, options=["--full", "--signal=KILL"])
                break
            time.sleep(0.2)
        self.notify_stop({"job_id": self.job_id, "exit_code": 0})

    def leaves_at(self) -> float:
        """When its engines leave, seconds since the epoch, by the wall time; infinite if that is not known."""
        job = find_job(self.job_id)
        if job is None or job.is_pending or job.ends_at is None:
            return math.inf
        signals = [re.match(r"--signal=(?:R?:)?\w+@(\d+)$", option) for option in self.options]
        early = [float(found[1]) + _SIGNAL_EARLY_SECONDS for found in signals if found]
        return job.ends_at - max(early, default=0.0)

    def get_output(self, remove: bool = False) -> str:
        """What the engines wrote, which stays where it is: a batch system's users look for it there."""
        del remove
        try:
            with open(self.output_file, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""
