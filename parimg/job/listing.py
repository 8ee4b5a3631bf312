"""The jobs of a folder, as one tells them apart: source, task, state, size. Called by the command line."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from parimg.errors import JobError
from parimg.job.directory import JobDirectory, jobs_folder
from parimg.job.job import Job
from parimg.job.journal import Journal

_UNITS = {"m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400}


@dataclass(frozen=True, slots=True)
class JobSummary:
    """What a list of jobs says of one."""

    name: str
    """Name of its directory, by which `open_job` and `resume` find it, too."""
    place: JobDirectory
    task: str
    """Name of the task, empty if the job never began or cannot be read."""
    parameters: Mapping[str, str]
    """The task's parameters as short text."""
    source: str
    """Where the images come from."""
    state: str
    """That of the job; ``never began``, or why it cannot be read."""
    writer: str
    """The process that runs it, empty if it is not running."""
    done: int
    failed: int
    total: int | None
    seconds: float
    """Time it ran."""
    nbytes: int
    """Size on disk."""
    last_used: float
    """When something was last written, seconds since the epoch."""


def list_jobs(folder: str | None = None) -> Iterator[JobSummary]:
    """The jobs of a folder, by default of those without a directory of their own, the newest first.

    Parameters
    ----------
    folder : str, optional

    Yields
    ------
    JobSummary
        Also of a directory that was made for a job which never began.
    """
    folder = folder or jobs_folder()
    for name in sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []:
        if os.path.isdir(path := os.path.join(folder, name)):
            yield summarize(JobDirectory(path))


def summarize(place: JobDirectory) -> JobSummary:
    """What a list of jobs says of the one in a directory; it raises no error for a job that cannot be read."""
    name, nbytes, used = os.path.basename(place.path), place.size(), place.last_used()
    try:
        journal = Journal(place.path)
        job, about = Job(journal), journal.meta("task") or {}
        counts = job.counts
        return JobSummary(
            name=name,
            place=place,
            task=about.get("name", ""),
            parameters=about.get("parameters", {}),
            source=describe_source(journal.meta("source") or {}),
            state=job.state,
            writer=job.writer,
            done=counts["done"] or 0,
            failed=counts["failed"] or 0,
            total=counts["total"],
            seconds=job.wall_time,
            nbytes=nbytes,
            last_used=used,
        )
    except JobError as error:
        state = str(error) if place.holds_job else "never began"
        return JobSummary(name, place, "", {}, "", state, "", 0, 0, None, 0.0, nbytes, used)


def describe_source(spec: Mapping[str, Any]) -> str:
    """Where images come from, in a few words, of what `Source.spec` gave."""
    if spec.get("kind") == "several":
        return " and ".join(describe_source(part) for part in spec["sources"])
    images = spec.get("images")
    if isinstance(images, list):
        first = f", {_absolute(images[0], spec)}" if images else ""
        return f"{len(images)} paths{first}{', ...' if len(images) > 1 else ''}"
    return str(spec.get("kind", "")) if images is None else _absolute(images, spec)


def _absolute(path: str, spec: Mapping[str, Any]) -> str:
    return path if "://" in path else os.path.normpath(os.path.join(spec.get("cwd", ""), path))


def parse_age(text: str) -> float:
    """A time such as ``30d`` in seconds; the units are m, h, d and w.

    Raises
    ------
    JobError
        If it is none.

    Examples
    --------
    >>> parse_age("30d"), parse_age("1.5h")
    (2592000.0, 5400.0)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([mhdw])", text.strip(), re.ASCII)
    if found is None:
        raise JobError(f"an age is a number with a unit, as 90m, 12h, 30d or 2w (got {text!r})")
    return float(found[1]) * _UNITS[found[2]]


def jobs_older_than(seconds: float, folder: str | None = None) -> Iterator[JobSummary]:
    """The jobs of a folder that are not running, and into which nothing was written for so many seconds."""
    now = time.time()
    return (job for job in list_jobs(folder) if job.state != "running" and now - job.last_used > seconds)
