"""What happens while a job runs, as dataclasses.

The dispatcher emits them, in the order in which they happen, from threads of its own; progress bars, logs and
dashboards listen. A listener is any callable of one event: ``submit(..., listeners=[print])``. The dispatcher
knows no listener by name, and one that raises is dropped, never the job.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from parimg.errors import JobError

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class JobStarted:
    """The dispatcher took up the job."""

    job: str
    """Directory of the job."""
    already_done: int
    """Records that an earlier run left in the journal."""


@dataclass(frozen=True, slots=True)
class TotalKnown:
    """The number of images became known."""

    total: int
    """Images in the source."""


@dataclass(frozen=True, slots=True)
class ChunkSubmitted:
    """A chunk went to the scheduler."""

    images: int
    """Images in the chunk."""
    outstanding: int
    """Chunks under way, this one included."""


@dataclass(frozen=True, slots=True)
class RecordsWritten:
    """Records of one chunk stand in the journal."""

    ok: int
    """Records of images that went well."""
    failed: int
    """Records of images that failed."""
    engine: int | None
    """Engine that ran the chunk; None if it died."""
    seconds: float
    """Time the engine spent on the chunk."""


@dataclass(frozen=True, slots=True)
class TilesDone:
    """Tiles of large images were run, or a next step of these began."""

    done: int
    """Tiles that are done of the steps that the images are at."""
    total: int
    """Tiles of these steps."""


@dataclass(frozen=True, slots=True)
class DuplicateFound:
    """The source named an image a second time; it is not run again."""

    key: str
    """Key of the image."""


@dataclass(frozen=True, slots=True)
class SharedObjectSent:
    """A shared object left the client for an engine whose host did not have it."""

    digest: str
    """Content hash of the object."""
    nbytes: int
    """Size of the message's payload, bytes."""
    engine: int
    """Engine it was sent to."""


@dataclass(frozen=True, slots=True)
class DisksSeen:
    """A host that may see other disks than the client said what it sees; emitted once a host."""

    host: str
    """Name of the host."""
    job: bool
    """Whether it sees the job's directory."""
    images: bool
    """Whether it sees the first image; else images are sent to it."""
    output: bool
    """Whether it can write to the output folder; else files come back."""


@dataclass(frozen=True, slots=True)
class ChunkLost:
    """An engine died with a chunk; its images run again, one by one."""

    images: int
    """Images in the chunk."""
    reason: str
    """What is known at that moment."""


@dataclass(frozen=True, slots=True)
class AllFailedAlike:
    """The first images of a run all failed for one reason; emitted once at most."""

    images: int
    """How many."""
    error: str
    """Type of their error."""
    message: str
    """Message of the first."""


@dataclass(frozen=True, slots=True)
class JobFinished:
    """Nothing of the job is under way any more."""

    state: str
    """``finished``, ``interrupted``, ``aborted`` or ``failed``."""


Event = (
    JobStarted
    | TotalKnown
    | ChunkSubmitted
    | RecordsWritten
    | TilesDone
    | DuplicateFound
    | SharedObjectSent
    | DisksSeen
    | ChunkLost
    | AllFailedAlike
    | JobFinished
)
Listener = Callable[[Event], object]


class Listeners:
    """The listeners of a job, which any thread may add and remove while another emits.

    Examples
    --------
    >>> listeners = Listeners([print])
    >>> listeners.emit(TotalKnown(3))
    TotalKnown(total=3)
    """

    def __init__(self, listeners: Iterable[Listener] = ()) -> None:
        self._lock = threading.Lock()
        self._listeners = tuple(listeners)  # replaced whole, so that it is iterated without the lock

    def add(self, listener: Listener) -> None:
        """Call `listener` with each further event."""
        with self._lock:
            self._listeners = (*self._listeners, listener)

    def remove(self, listener: Listener) -> None:
        """Call `listener` no more."""
        with self._lock:
            self._listeners = tuple(kept for kept in self._listeners if kept != listener)

    def emit(self, event: Event) -> None:
        """Call every listener with an event."""
        for listener in self._listeners:
            try:
                listener(event)
            except Exception:
                self.remove(listener)
                _log.exception("a listener of the job raised, and is called no more")


def check_listeners(listeners: Iterable[Listener]) -> list[Listener]:
    """Refuse what cannot be called with an event."""
    if callable(listeners):
        raise JobError(f"listeners must be a list of callables (got one callable, {listeners!r})")
    for listener in (heard := list(listeners)):
        if not callable(listener):
            raise JobError(f"a listener must be callable (got {listener!r}, a {type(listener).__name__})")
    return heard
