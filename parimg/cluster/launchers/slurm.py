"""Engines as jobs of Slurm: submitted, asked about, cancelled.

Used by ipyparallel under the name ``parimg-slurm``, and by `parimg.cluster.waiting_jobs`.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import time
from dataclasses import dataclass
from typing import Any, Self

from ipyparallel.cluster.launcher import EngineLauncher, NotRunning
from traitlets import Integer, List, Unicode

from parimg.errors import ClusterError

_ASK_SECONDS = 30.0  # that a command of Slurm may take
_END_SECONDS = 10.0  # in which a cancelled job leaves the queue; then its processes are killed
_ENDED = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "GONE", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED",
    "REVOKED", "TIMEOUT",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SlurmJob:
    """What Slurm knows of a job."""

    job_id: str
    state: str
    """Such as ``PENDING``; ``GONE`` if Slurm knows it no more."""
    reason: str
    expected: str
    """When it starts, if it waits and Slurm can tell."""

    @property
    def is_pending(self) -> bool:
        """Whether it waits for its turn."""
        return self.state == "PENDING"

    @property
    def has_ended(self) -> bool:
        """Whether none of its engines lives or will."""
        return self.state in _ENDED

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason not in {"", "None"} else ""
        when = f", expected at {self.expected}" if self.is_pending and self.expected else ""
        return f"job {self.job_id} is {self.state}{reason}{when}"


def find_job(job_id: str) -> SlurmJob | None:
    """Ask Slurm about a job; of an array, the one that has got farthest. None if Slurm does not answer."""
    try:
        answer = _slurm("scontrol", "--oneliner", "show", "job", job_id)
    except ClusterError as error:
        return SlurmJob(job_id, "GONE", "", "") if "Invalid job id" in str(error) else None
    jobs = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.splitlines() if line.startswith("JobId=")]
    if not jobs:
        return None
    found = [SlurmJob(job_id, job["JobState"], job["Reason"], _time(job["StartTime"])) for job in jobs]
    return min(found, key=lambda job: (job.has_ended, job.is_pending))


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
    job_id = Unicode().tag(to_dict=True)
    output_file = Unicode().tag(to_dict=True)
    n = Integer(1).tag(to_dict=True)

    def find_args(self) -> list[str]:
        """The command that submits them: nothing typed into a profile passes a shell or a template but `setup`."""
        per_job = self.engines_per_job or self.n
        jobs = -(-self.n // per_job)
        # The folder of the profile is not on every node where no disk is shared; what is needed comes otherwise.
        arguments = [*self.cluster_args, "--IPEngine.auto_create=True", *self.engine_args]
        engine = shlex.join([*self.engine_cmd, *arguments])
        step = f"exec srun --kill-on-bad-exit=0 --cpus-per-task=1 --unbuffered {engine}"
        script = "\n".join([*self.setup, step])
        chosen = {
            "partition": self.partition,
            "account": self.account,
            "qos": self.qos,
            "time": self.timelimit,
            "array": f"0-{jobs - 1}" if jobs > 1 else "",
        }
        return [
            "sbatch",
            "--parsable",
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

    def start(self, n: int) -> str:
        """Submit n engines."""
        self.n = n
        os.makedirs(os.path.join(self.profile_dir, "log"), exist_ok=True)
        # What an allocation around this process set would become options of the new job.
        outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
        if "SLURM_CONF" in os.environ:
            outside["SLURM_CONF"] = os.environ["SLURM_CONF"]
        answer = _slurm(*self.find_args(), env=outside | self.get_env())
        # A site's banner may come first; --parsable is "11", or "11;cluster".
        if not (found := re.search(r"^(\d+)(;\S+)?\s*\Z", answer, re.MULTILINE)):
            raise ClusterError(f"sbatch told no job id: {answer.strip()!r}")
        self.job_id = found[1]
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
        self._cancel(f"--signal={int(sig)}")

    def stop(self) -> None:
        """Cancel the job, and wait until it has left the queue."""
        self._cancel()
        deadline = time.monotonic() + _END_SECONDS
        while _is_queued(self.job_id):
            if time.monotonic() > deadline:
                self._cancel("--full", "--signal=KILL")
                break
            time.sleep(0.2)
        self.notify_stop({"job_id": self.job_id, "exit_code": 0})

    def _cancel(self, *options: str) -> None:
        try:
            _slurm("scancel", *options, self.job_id)
        except ClusterError as error:
            if "Invalid job id" not in str(error):
                raise

    def get_output(self, remove: bool = False) -> str:
        """What the engines wrote, which stays where it is: a batch system's users look for it there."""
        del remove
        try:
            with open(self.output_file, encoding="utf-8", errors="replace") as file:
                return file.read()
        except OSError:
            return ""


def _is_queued(job_id: str) -> bool:
    try:
        return bool(_slurm("squeue", "--noheader", f"--jobs={job_id}").strip())
    except ClusterError as error:
        return "Invalid job id" not in str(error)


def _slurm(*command: str, env: dict[str, str] | None = None) -> str:
    try:
        done = subprocess.run(  # noqa: S603 - a list of arguments, which no shell reads
            command, env=env, capture_output=True, text=True, errors="replace", timeout=_ASK_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ClusterError(f"{command[0]} of Slurm cannot be used here: {error}") from error
    if done.returncode != 0:
        raise ClusterError(f"{command[0]} refused: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _time(text: str) -> str:
    return "" if text in {"Unknown", "N/A"} else text.replace("T", " ")
