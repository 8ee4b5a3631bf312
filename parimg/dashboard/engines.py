"""What each engine does now, and which of them differ from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.dashboard.course import Course
    from parimg.job.timeline import Worker

RECENT_SECONDS = 30.0
_FEWEST = 3  # engines among which one can differ
_IMAGES = 5  # that an engine must have done before it is compared
_SILENT_SECONDS = 30.0
_SILENT_IMAGES = 10.0  # times what its images take


@dataclass(frozen=True, slots=True)
class EngineNow:
    """One engine in the last half minute."""

    worker: Worker
    busy: float
    """Share of the time on images that came back, 0 to 1."""
    rate: float
    """Images a second."""
    images: int
    """Of the whole run."""
    failed: int
    memory: int
    """Most that it occupied, bytes; 0 if it did not tell."""
    marks: tuple[str, ...]
    """How it differs from the others: ``slow``, ``memory``, ``failures``, ``silent``."""


@dataclass(frozen=True, slots=True)
class HostNow:
    """The engines of one host."""

    host: str
    engines: list[EngineNow]

    @property
    def busy(self) -> float:
        """Mean over its engines."""
        return sum(engine.busy for engine in self.engines) / len(self.engines)

    @property
    def rate(self) -> float:
        """Images a second."""
        return sum(engine.rate for engine in self.engines)

    @property
    def images(self) -> int:
        """Images of the run."""
        return sum(engine.images for engine in self.engines)

    @property
    def failed(self) -> int:
        """Images that failed."""
        return sum(engine.failed for engine in self.engines)

    @property
    def memory(self) -> int:
        """Of all engines, bytes, each at its most."""
        return sum(engine.memory for engine in self.engines)


def hosts_now(course: Course, now: float, *, running: bool) -> list[HostNow]:
    """The engines by host, with their marks.

    Parameters
    ----------
    course : Course
    now : float
        Seconds since the epoch; of a job that has ended, when it did.
    running : bool
        Whether an engine can be silent.
    """
    recent, seconds = course.recent(now, RECENT_SECONDS)
    busy = course.busy[:, recent].sum(axis=1) * course.width / seconds
    rate = course.done[:, recent].sum(axis=1) / seconds
    images, failed = course.done.sum(axis=1), course.failed.sum(axis=1)
    marks = _marks(course, now, images, failed, running=running)
    hosts: dict[str, list[EngineNow]] = {}
    for row in course.by_host():
        worker = course.workers[row]
        found = EngineNow(
            worker, min(float(busy[row]), 1.0), float(rate[row]), int(images[row]), int(failed[row]),
            int(course.memory[row]), tuple(marks.get(row, ())),
        )  # fmt: skip
        hosts.setdefault(worker.host, []).append(found)
    return [HostNow(host, engines) for host, engines in hosts.items()]


def _marks(
    course: Course, now: float, images: npt.NDArray[np.int64], failed: npt.NDArray[np.int64], *, running: bool
) -> dict[int, list[str]]:
    import numpy as np

    marks: dict[int, list[str]] = {}
    compared = np.flatnonzero(images >= _IMAGES)
    compared = compared[compared > 0]
    each = course.seconds / np.maximum(images, 1)
    if len(compared) >= _FEWEST:
        share = failed / np.maximum(images, 1)
        looked_at = (("slow", each, 0.0), ("memory", course.memory, 2.0**20), ("failures", share, 0.05))
        for mark, values, least in looked_at:
            for row in compared[_far_above(np.asarray(values[compared], np.float64), least)]:
                marks.setdefault(int(row), []).append(mark)
    if running:
        for row in range(1, len(images)):
            last = course.start + (np.flatnonzero(course.done[row]).max(initial=0) + 1) * course.width
            if now - last > max(_SILENT_SECONDS, _SILENT_IMAGES * each[row]):
                marks.setdefault(row, []).append("silent")
    return marks


def _far_above(values: npt.NDArray[np.float64], least: float) -> npt.NDArray[np.bool_]:
    """Half as much again as the middle one, and further from it than the others' scatter explains."""
    import numpy as np

    middle = float(np.median(values))
    scatter = 1.4826 * float(np.median(np.abs(values - middle)))
    found: npt.NDArray[np.bool_] = values > middle + max(4 * scatter, 0.5 * middle, least)
    return found
