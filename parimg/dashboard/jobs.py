"""Which jobs a page shows, and who may stop and resume them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from parimg.errors import JobError
from parimg.job.directory import JobDirectory, jobs_folder

_NEWEST = 20


class JobSet(Protocol):
    """Jobs of a page."""

    def directories(self) -> Sequence[str]:
        """Their directories, the newest first."""

    def owns(self, directory: str) -> bool:
        """Whether this process runs the job, or may: the page then has buttons for it."""

    def under_way(self, directory: str) -> int | None:
        """Chunks of a job that engines have now, None where that is not known."""

    def stop(self, directory: str) -> None:
        """Stop a job in order; returns when it has."""

    def resume(self, directory: str) -> None:
        """Go on with a job."""


class WatchedJobs:
    """Jobs that are only looked at.

    Parameters
    ----------
    directories : sequence of str
        Empty: the newest of the user's folder of jobs, also those that come while the page is open.
    """

    def __init__(self, directories: Sequence[str] = ()) -> None:
        self._directories = list(directories)

    def directories(self) -> Sequence[str]:
        """See `JobSet`."""
        if self._directories:
            return self._directories
        folder = jobs_folder()
        names = sorted(os.listdir(folder), reverse=True)[: 2 * _NEWEST] if os.path.isdir(folder) else []
        found = (os.path.join(folder, name) for name in names)
        return [path for path in found if JobDirectory(path).holds_job][:_NEWEST]

    def owns(self, directory: str) -> bool:  # noqa: ARG002
        """See `JobSet`: none."""
        return False

    def under_way(self, directory: str) -> int | None:  # noqa: ARG002
        """See `JobSet`: not known here."""
        return None

    def stop(self, directory: str) -> None:
        """Refuse."""
        raise JobError(f"the job {directory!r} is run by another process; stop it there, by Ctrl-C")

    def resume(self, directory: str) -> None:
        """Refuse."""
        raise JobError(f"this process has no cluster to resume {directory!r} on; use `parimg resume`")
