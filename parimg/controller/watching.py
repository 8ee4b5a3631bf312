"""The jobs of a controller, as its live page asks for them; this process owns them, so that can stop them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from parimg.errors import JobError

if TYPE_CHECKING:
    from parimg.job.job import Job
    from parimg.job.run_state import LiveRun


class OwnedJobs:
    """The jobs that one controller was given, as a `parimg.dashboard.jobs.JobSet`.

    Parameters
    ----------
    running : callable
        Gives the runs that have not ended.
    resume : callable
        Goes on with the job of a directory.
    """

    def __init__(self, running: Callable[[], list[LiveRun]], resume: Callable[[str], Job]) -> None:
        self._running, self._resume = running, resume
        self._directories: dict[str, None] = {}

    def add(self, directory: str) -> None:
        """Remember a job; by name, so that its images are not kept."""
        self._directories.pop(directory, None)
        self._directories[directory] = None

    def directories(self) -> Sequence[str]:
        """See `JobSet`."""
        return list(self._directories)[::-1]

    def owns(self, directory: str) -> bool:
        """See `JobSet`."""
        return directory in self._directories

    def _run_of(self, directory: str) -> LiveRun | None:
        return next((run for run in self._running() if run.directory == directory), None)

    def under_way(self, directory: str) -> int | None:
        """See `JobSet`."""
        run = self._run_of(directory)
        return None if run is None else run.outstanding

    def stop(self, directory: str) -> None:
        """See `JobSet`."""
        if run := self._run_of(directory):
            run.stop()

    def resume(self, directory: str) -> None:
        """See `JobSet`."""
        if not self.owns(directory):
            raise JobError(f"the job {directory!r} is not one of this controller")
        self._resume(directory)
