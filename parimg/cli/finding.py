"""How jobs are named on the command line: by their name, the beginning of it, or their directory.

Called by all commands that look at a job.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from parimg.errors import JobError

if TYPE_CHECKING:
    from parimg.job.directory import JobDirectory


def complete_job(beginning: str) -> list[str]:
    """Names of jobs, for the shell."""
    from parimg.job.directory import jobs_folder

    folder = jobs_folder()
    return [name for name in _names(folder) if name.startswith(beginning)]


JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="As `parimg jobs` names it, or as much as tells it apart; or its directory.",
        autocompletion=complete_job,
    ),
]


def find_job(name: str) -> str:
    """The directory of a job that is named by it, or by its name among the jobs, or the beginning of that.

    Raises
    ------
    JobError
        If there is none, or more than one.
    """
    from parimg.job.directory import JobDirectory, jobs_folder

    folder = jobs_folder()
    named = os.path.join(folder, name)
    if JobDirectory(name).holds_job or os.sep in name.rstrip(os.sep):
        return os.path.abspath(name)
    if os.path.isdir(named):
        return named
    found = [one for one in _names(folder) if name and one.startswith(name)]
    if len(found) > 1:
        raise JobError(f"{name!r} may be any of {', '.join(found[:5])}; name more of it")
    if not found and not os.path.isdir(name):
        raise JobError(f"there is no job {name!r}, here or in {folder!r}; `parimg jobs` lists the jobs")
    return os.path.join(folder, found[0]) if found else os.path.abspath(name)  # opening that says it is no job


def place_of(name: str) -> JobDirectory:
    """A job, also one that never began, but no other folder or file."""
    from parimg.job.directory import JobDirectory, jobs_folder
    from parimg.pairs.directory import PairDirectory

    place = JobDirectory(find_job(name))
    is_listed = os.path.dirname(place.path) == os.path.abspath(jobs_folder())
    if not (is_listed or place.holds_job or os.path.isdir(place.client) or PairDirectory(place.path).holds_pairs):
        raise JobError(f"{place.path!r} is not a job; `parimg jobs` lists the jobs")
    return place


def _names(folder: str) -> list[str]:
    """Names of the jobs in a folder, newest first."""
    if not os.path.isdir(folder):
        return []
    return sorted((entry.name for entry in os.scandir(folder) if entry.is_dir()), reverse=True)
