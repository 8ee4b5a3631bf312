"""Why a cluster has no engine yet: what the batch system says about the jobs that its cluster file names.

Used by `parimg.cluster.foreign` while it waits for the first engine.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable

from parimg.cluster.launchers.slurm import SlurmEnginesLauncher
from parimg.cluster.launchers.slurm_queue import SlurmJob, find_job
from parimg.console import report
from parimg.errors import ClusterError

_LOG_BYTES = 1000


class WaitingJobs:
    """The batch jobs of one cluster.

    Parameters
    ----------
    cluster_file : path
        As ``ipcluster start`` writes it; it may not exist, and may name no jobs.
    last_words : callable
        What engines that are no jobs said, once all have ended; empty until then.
    """

    def __init__(self, cluster_file: str, last_words: Callable[[], str] = str) -> None:
        self._cluster_file = cluster_file
        self._last_words = last_words
        self._said = ""

    def why(self) -> str:
        """What is known of all jobs, empty if nothing."""
        return "; ".join(map(str, self._jobs()))

    def check(self) -> None:
        """Report what has changed.

        Raises
        ------
        ClusterError
            If every job or engine has ended.
        """
        jobs = self._jobs()
        if not jobs and (said := self._last_words()):
            raise ClusterError(f"the cluster will have no engine, all have ended: {said}")
        if jobs and all(job.has_ended for job in jobs):
            ended = "; ".join(map(str, jobs))
            raise ClusterError(f"the cluster will have no engine: {ended}{self._log(jobs[-1])}")
        pending = "; ".join(str(job) for job in jobs if job.is_pending)
        if pending and pending != self._said:
            self._said = pending
            report(f"{pending} ...")

    def _jobs(self) -> list[SlurmJob]:
        try:
            with open(self._cluster_file, encoding="utf-8") as file:
                engines = json.load(file)["engines"]
        except (OSError, ValueError):  # not there, or being written
            return []
        if engines["class"] != SlurmEnginesLauncher.entrypoint_name:
            return []
        found = [find_job(engine_set["job_id"]) for engine_set in engines["sets"].values()]
        return [job for job in found if job is not None]

    def _log(self, job: SlurmJob) -> str:
        folder = os.path.join(os.path.dirname(os.path.dirname(self._cluster_file)), "log")
        path = os.path.join(folder, f"slurm-{job.job_id}.log")
        try:
            with open(path, encoding="utf-8", errors="replace") as file:
                return f"; {path!r} ends: {' | '.join(file.read()[-_LOG_BYTES:].splitlines())}"
        except OSError:
            return ""
