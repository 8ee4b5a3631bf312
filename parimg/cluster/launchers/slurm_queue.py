"""Slurm's commands: submit a job, ask about it, cancel it.

Used by the launcher of engines beside this, by `parimg.cluster.waiting_jobs`, and for clients that are jobs.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from parimg.errors import ClusterError

_ASK_SECONDS = 30.0  # that a command of Slurm may take
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
    ends_at: float | None = None
    """When it reaches its wall time, seconds since the epoch, if it runs and has one."""

    @property
    def is_pending(self) -> bool:
        """Whether it waits for its turn."""
        return self.state == "PENDING"

    @property
    def has_ended(self) -> bool:
        """Whether none of its processes lives or will."""
        return self.state in _ENDED

    def __str__(self) -> str:
        reason = f" ({self.reason})" if self.reason not in {"", "None"} else ""
        when = f", expected at {self.expected}" if self.is_pending and self.expected else ""
        return f"job {self.job_id} is {self.state}{reason}{when}"


def submit(arguments: Iterable[str], environment: Mapping[str, str]) -> str:
    """Submit a job with more variables in its environment, and return its id.

    Raises
    ------
    ClusterError
        If Slurm refuses it.
    """
    # What an allocation around this process set would become options of the new job.
    outside = {name: value for name, value in os.environ.items() if not name.startswith("SLURM_")}
    if "SLURM_CONF" in os.environ:
        outside["SLURM_CONF"] = os.environ["SLURM_CONF"]
    answer = _slurm("sbatch", "--parsable", *arguments, env=outside | dict(environment))
    # A site's banner may come first; --parsable is "11", or "11;cluster".
    if not (found := re.search(r"^(\d+)(;\S+)?\s*\Z", answer, re.MULTILINE)):
        raise ClusterError(f"sbatch told no job id: {answer.strip()!r}")
    return found[1]


def find_job(job_id: str) -> SlurmJob | None:
    """Ask Slurm about a job; of an array, the one that has got farthest. None if Slurm does not answer."""
    try:
        answer = _slurm("scontrol", "--oneliner", "show", "job", job_id)
    except ClusterError as error:
        return SlurmJob(job_id, "GONE", "", "") if _is_unknown(error) else None
    jobs = [dict(re.findall(r"(\w+)=(\S*)", line)) for line in answer.splitlines() if line.startswith("JobId=")]
    if not jobs:
        return None
    found = [
        SlurmJob(job_id, job["JobState"], job["Reason"], _time(job["StartTime"]), _seconds(job.get("EndTime", "")))
        for job in jobs
    ]
    return min(found, key=lambda job: (job.has_ended, job.is_pending))


def cancel(*job_ids: str, options: Iterable[str] = ()) -> None:
    """Cancel jobs, or send them the signal that the options name; those that have ended are no error."""
    try:
        _slurm("scancel", *options, *job_ids)
    except ClusterError as error:
        if not _is_unknown(error):
            raise


def is_queued(job_id: str) -> bool:
    """Whether a job waits, runs, or is just ending."""
    try:
        return bool(_slurm("squeue", "--noheader", f"--jobs={job_id}").strip())
    except ClusterError as error:
        return not _is_unknown(error)


def _is_unknown(error: ClusterError) -> bool:
    return "Invalid job id" in str(error)


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


def _seconds(text: str) -> float | None:
    """A time as Slurm tells it, in this host's zone, in seconds since the epoch."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return None
