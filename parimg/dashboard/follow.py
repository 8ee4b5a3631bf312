"""What a page says of one job, read from its journal as far as it is new."""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parimg.dashboard.course import FIELDS, Course
from parimg.dashboard.engines import RECENT_SECONDS, HostNow, hosts_now
from parimg.dashboard.forecast import Forecast, forecast
from parimg.dashboard.thumbnails import Thumbnails
from parimg.job.causes import Cause, causes_of
from parimg.job.job import Job
from parimg.job.journal import Journal
from parimg.job.listing import describe_source

if TYPE_CHECKING:
    from parimg.record import Record

FAILURES_LOOKED_AT = 500
_CAUSES = 6
_PICTURES = 3  # of a cause
_PICTURE_SECONDS = 20.0  # before newer ones are read: large images take time from the engines
_STALE_SECONDS = 1.0  # several pages of a job share what was read so long ago
_RESTED_SECONDS = 15.0  # between looks at a job that has ended, which may be resumed


@dataclass(frozen=True)
class Summary:
    """A job in the list of jobs."""

    directory: str
    task: str = ""
    source: str = ""
    state: str = ""
    writer: str = ""
    done: int = 0
    failed: int = 0
    total: int | None = None
    seconds: float = 0.0
    """It ran."""

    @property
    def left(self) -> int | None:
        """Images without a record, None if the source is still being listed."""
        return None if self.total is None else max(self.total - self.done, 0)


@dataclass(frozen=True)
class FailedImage:
    """One of the newest that failed for a cause."""

    key: str
    picture: str
    """Address, empty if there is none."""


@dataclass(frozen=True)
class CauseNow:
    """Why images failed, with the newest of them."""

    reason: str
    count: int
    """Among the newest `FAILURES_LOOKED_AT` failures."""
    newest: list[FailedImage]


@dataclass(frozen=True)
class JobNow:
    """All that a page says of a job."""

    summary: Summary
    course: Course
    now: float
    """Seconds since the epoch; of a job that has ended, when its last image was ready."""
    rate: float = 0.0
    """Images a second in the last half minute."""
    forecast: Forecast | None = None
    hosts: list[HostNow] = field(default_factory=list)
    causes: list[CauseNow] = field(default_factory=list)

    @property
    def running(self) -> bool:
        """Whether it runs."""
        return self.summary.state == "running"


@dataclass
class _Shots:
    """The images of a cause that are shown, and those that are to be."""

    wanted: list[str]
    shown: list[FailedImage] = field(default_factory=list)
    asked: float = field(default_factory=time.monotonic)


class FollowedJob:
    """Reads one job for all pages that show it; one thread at a time.

    Parameters
    ----------
    directory : str
    """

    def __init__(self, directory: str) -> None:
        self._journal = Journal(directory)
        self._job = Job(self._journal)
        self._course = Course()
        self._lock = threading.Lock()
        self._summary = Summary(directory)
        self._summarized = float("-inf")
        self._seen_failed = -1
        self._causes: list[Cause] = []
        self._thumbnails = Thumbnails(directory)
        self._shots: dict[str, _Shots] = {}

    def summary(self) -> Summary:
        """What the list says; read anew at most once a second, once in 15 s when the job has ended."""
        with self._lock:
            return self._summarize(_STALE_SECONDS if self._summary.state in {"", "running"} else _RESTED_SECONDS)

    def _summarize(self, stale: float = _STALE_SECONDS) -> Summary:
        if time.monotonic() - self._summarized < stale:
            return self._summary
        job, directory = self._job, self._summary.directory
        task, source = self._summary.task, self._summary.source
        state, counts = job.state, job.counts
        running = state == "running"
        self._summary = Summary(
            directory,
            task or job.name,
            source or describe_source(self._journal.meta("source") or {}),
            state,
            job.writer if running else "",
            counts["done"] or 0,
            counts["failed"] or 0,
            counts["total"],
            job.wall_time,
        )
        self._summarized = time.monotonic()
        return self._summary

    def look(self) -> JobNow:
        """Read what is new."""
        with self._lock:
            summary, course = self._summarize(), self._course
            for batch in self._journal.fields(*FIELDS, after=course.seq):
                course.add(batch)
            if summary.failed != self._seen_failed:
                self._seen_failed = summary.failed
                self._causes = causes_of(self._newest_failures(summary.failed))[:_CAUSES]
            running = summary.state == "running"
            # Clocks of hosts differ: an engine may be ahead of this one.
            now = max(time.time(), course.last) if running else course.last
            recent, seconds = course.recent(now, RECENT_SECONDS)
            whole = course.done.sum(axis=0)
            coming = None
            if running and summary.left is not None:
                first, end = int((whole > 0).argmax()), course.used(now) - 1
                coming = forecast(summary.left, whole[first:end], course.width)
            return JobNow(
                summary,
                course,
                now,
                float(whole[recent].sum()) / seconds if course.run else 0.0,
                coming,
                hosts_now(course, now, running=running) if course.run else [],
                self._shown_causes(),
            )

    def _newest_failures(self, failed: int) -> list[Record]:
        return self._journal.failed_slice(range(max(0, failed - FAILURES_LOOKED_AT), failed))[::-1]

    def _shown_causes(self) -> list[CauseNow]:
        """The causes, with the newest images whose pictures are read; others are asked for now and then."""
        found, kept = [], {}
        for cause in self._causes:
            kind = re.sub(r"\d+", "0", cause.reason)
            newest = cause.keys[:_PICTURES]
            shots = self._shots.get(kind) or _Shots(newest)
            pictures = [self._thumbnails.known(key) for key in shots.wanted]
            if None not in pictures:
                shots.shown = [FailedImage(*one) for one in zip(shots.wanted, map(str, pictures), strict=True)]
                if time.monotonic() - shots.asked > _PICTURE_SECONDS:
                    shots.wanted, shots.asked = newest, time.monotonic()
            kept[kind] = shots
            found.append(
                CauseNow(cause.reason, cause.count, shots.shown or [FailedImage(key, "") for key in newest])
            )
        self._shots = kept
        return found

    def missing_pictures(self) -> list[str]:
        """Keys of the images that are to be shown with pictures that were not read yet."""
        wanted = (key for shots in self._shots.values() for key in shots.wanted)
        return [key for key in dict.fromkeys(wanted) if self._thumbnails.known(key) is None]

    def read_pictures(self, keys: list[str]) -> None:
        """Read the pictures of images; it may take long, so in a thread of its own."""
        for key in keys:
            self._thumbnails.read(key)

    def close(self) -> None:
        """End what reads pictures."""
        self._thumbnails.close()
