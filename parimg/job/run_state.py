"""The run of a job: one that this process does (`LiveRun`), or what the journal says (`StoredRun`).

A live run has the dispatcher: the controller makes it, the supervisor of the cluster tells it of lost controllers.
A stored run is looked at again a few times a second. Users see either through `Job`.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from parimg.console import print_line
from parimg.errors import JobError
from parimg.job.directory import resume_command
from parimg.job.journal import Journal

if TYPE_CHECKING:
    from parimg.dispatch.dispatcher import Dispatcher
    from parimg.events import Listener
    from parimg.job.work_left import WorkLeft

_POLL_SECONDS = 0.25  # between looks at a job that another process runs
WAKE_SECONDS = 0.5  # a wait in a thread returns this often, so that Ctrl-C is heard on every platform


class LiveRun:
    """A run that this process does.

    Parameters
    ----------
    dispatcher : Dispatcher

    Attributes
    ----------
    state : str
        ``running``, ``finished``, ``interrupted``, ``aborted`` or ``failed``.
    counts : dict
        Records by status.
    total : int or None
        Images of the job, None if that is not known.
    duplicates : int
        Images that the source named once more.
    tiles : (int, int) or None
        Tiles that are done, and all, of the images that are run by tiles now.
    engines : int or None
        Engines at work, None if the run has ended.
    error : BaseException or None
        Why it ended early.
    written : int
        A number that grows with the records, for `wait_for_more`.
    resume_options : str
        What the printed command that goes on repeats of what was typed: engines and tables.
    """

    resume_options: str = ""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def start(self) -> None:
        """Begin."""
        self._dispatcher.start()

    @property
    def name(self) -> str:
        """Name of the job's directory."""
        return os.path.basename(self._dispatcher.journal.directory)

    @property
    def state(self) -> str:
        return self._dispatcher.state

    @property
    def counts(self) -> dict[str, int]:
        return dict(self._dispatcher.counts)

    @property
    def total(self) -> int | None:
        return self._dispatcher.job_total

    @property
    def duplicates(self) -> int:
        return self._dispatcher.duplicates

    @property
    def tiles(self) -> tuple[int, int] | None:
        return self._dispatcher.tiles if not self.ready() else None

    @property
    def engines(self) -> int | None:
        return len(self._dispatcher.engine_ids()) if not self.ready() else None

    @property
    def error(self) -> BaseException | None:
        return self._dispatcher.error

    @property
    def written(self) -> int:
        return sum(self._dispatcher.counts.values())

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state != "running"

    def wait_for_more(self, written: int) -> None:
        """Return when there may be more records than when `written` was read, or the run ended."""
        with self._dispatcher.changed:
            while not self.ready() and self.written <= written:
                self._dispatcher.changed.wait(WAKE_SECONDS)

    def wait(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end; True if it came."""
        return self._dispatcher.join(seconds)

    def stop(self) -> None:
        """Gather what runs, and say how to go on; a Ctrl-C meanwhile aborts."""
        if self.ready():
            return
        try:
            if running := self._dispatcher.outstanding:
                chunks = f"{running} running chunk{'s' if running > 1 else ''}"
                print_line(f"stopping: waiting for {chunks}; Ctrl-C again leaves at once")
            self._dispatcher.stop()
            while not self._dispatcher.join(WAKE_SECONDS):
                pass
        except KeyboardInterrupt:
            self.abort()
        if self.state != "finished":
            of = "" if self.total is None else f" of {self.total}"
            command = f"{resume_command(self._dispatcher.journal.directory)}{self.resume_options}"
            print_line(f"{self.written}{of} images are recorded; to go on: {command}")

    def abort(self) -> None:
        """End now."""
        self._dispatcher.abort()
        self._dispatcher.join()

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each further event."""
        self._dispatcher.listeners.add(listener)

    def unlisten(self, listener: Listener) -> None:
        """Call `listener` no more."""
        self._dispatcher.listeners.remove(listener)

    @property
    def work_left(self) -> WorkLeft:
        """What is still to do."""
        return self._dispatcher.work_left

    @property
    def restarts(self) -> int:
        """How often the cluster was started anew under the run."""
        return self._dispatcher.restarts

    def lose_controller(self, reason: str | None) -> None:
        """Take back what was under way; end the run if there is a reason, else another controller comes."""
        if reason is None:
            self._dispatcher.forget_engines()
        else:
            self._dispatcher.fail(reason)


class StoredRun:
    """What the journal says of the newest run, which another process may be doing; it has the face of a `LiveRun`.

    Parameters
    ----------
    journal : Journal
    """

    resume_options: str = ""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal

    @property
    def state(self) -> str:
        state = self._journal.last_run().state
        if state == "running" and not self._journal.is_being_written():
            # It may have ended between the two looks.
            state = self._journal.last_run().state
            return "interrupted" if state == "running" else state
        return state

    @property
    def counts(self) -> dict[str, int]:
        return self._journal.count_by_status()

    @property
    def total(self) -> int | None:
        total: int | None = self._journal.meta("total")
        return total

    @property
    def duplicates(self) -> int:
        return self._journal.last_run().duplicates

    @property
    def tiles(self) -> tuple[int, int] | None:
        found = self._journal.meta("tiles") if not self.ready() else None
        return found and (found[0], found[1])

    @property
    def engines(self) -> int | None:
        return None

    @property
    def error(self) -> BaseException | None:
        run = self._journal.last_run()
        if run.state != "failed":
            return None
        return JobError(f"the job {self._journal.directory!r} ended early: {run.reason}")

    @property
    def written(self) -> int:
        return 0

    def ready(self) -> bool:
        """Whether it has ended."""
        return self.state != "running"

    def wait_for_more(self, written: int) -> None:  # noqa: ARG002
        time.sleep(_POLL_SECONDS)

    def wait(self, seconds: float) -> bool:
        if not self.ready():
            time.sleep(min(seconds, _POLL_SECONDS))
        return self.ready()

    def stop(self) -> None:
        """Raise `JobError` if another process does the run."""
        if writer := self._journal.writer():
            raise JobError(f"the job {self._journal.directory!r} is run by {writer}; stop it there, by Ctrl-C")

    def abort(self) -> None:
        self.stop()

    def listen(self, listener: Listener) -> None:
        """Do nothing: no events come from another process."""

    def unlisten(self, listener: Listener) -> None:
        """Do nothing."""


RunState = LiveRun | StoredRun
"""The newest run of a job, as `Job` asks it."""
