"""What each engine did when, from the journal: for `Job.plot_timeline`, reports and live pages.

One pass over the records in batches, so that a million of them need no more memory than a thousand.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.job.journal import Journal, Run, Span


class Worker(NamedTuple):
    """An engine as one process: a cluster that was started anew numbers its engines from 0 again."""

    host: str
    engine: int
    pid: int


@dataclass(frozen=True, eq=False)
class Timeline:
    """The time a job was run, in equal bins; pauses between its runs are left out.

    Attributes
    ----------
    edges : ndarray of float64, shape (bins + 1,)
        Seconds of work.
    workers : list of Worker
        By host, then by number.
    busy : ndarray of float64, shape (workers, bins)
        Share of the bin that each spent on images, 0 to 1.
    failed : ndarray of int64, shape (workers, bins)
        Images that failed.
    done : ndarray of int64, shape (bins,)
        Images that became ready, on whatever engine.
    memory : ndarray of int64, shape (bins,)
        Most that one engine occupied, bytes; 0 where none told.
    starts : list of float
        Where on the axis each run begins.
    """

    edges: npt.NDArray[np.float64]
    workers: list[Worker]
    busy: npt.NDArray[np.float64]
    failed: npt.NDArray[np.int64]
    done: npt.NDArray[np.int64]
    memory: npt.NDArray[np.int64]
    starts: list[float]

    @property
    def seconds(self) -> float:
        """Length of the axis."""
        return float(self.edges[-1])

    @property
    def images(self) -> int:
        """Records on the axis."""
        return int(self.done.sum())

    @property
    def rate(self) -> npt.NDArray[np.float64]:
        """Images a second in each bin."""
        import numpy as np

        return self.done / np.diff(self.edges)

    @property
    def busy_share(self) -> float:
        """Share of the time from each engine's first image to its last that it spent on images."""
        import numpy as np

        if not self.busy.any():
            return 0.0
        active = np.cumsum(self.busy, axis=1)
        is_there = (active > 0) & (np.cumsum(self.busy[:, ::-1], axis=1)[:, ::-1] > 0)
        return float(self.busy[is_there].mean())


def read_timeline(journal: Journal, bins: int = 240) -> Timeline:
    """Read what each engine did when.

    Parameters
    ----------
    journal : Journal
        Also of a job that runs.
    bins : int, default 240

    Returns
    -------
    Timeline
        Over one second, without workers, if nothing is recorded.
    """
    import numpy as np

    place, starts, seconds = work_axis(journal.runs(), journal.spans())
    edges = np.linspace(0.0, seconds, bins + 1)
    stored = {(host, engine, pid): Worker(host or "", engine, pid or 0) for host, engine, pid in journal.workers()}
    workers = sorted(stored.values(), key=_by_host)
    rank = {worker: n for n, worker in enumerate(workers)}
    number = {one: rank[worker] for one, worker in stored.items()}  # by what is stored: a third of the time
    shares = _Shares.of(len(workers), bins)
    failed = np.zeros((len(workers), bins), np.int64)
    done, memory = np.zeros(bins, np.int64), np.zeros(bins, np.int64)
    for batch in journal.fields(*_FIELDS):
        columns = list(zip(*batch, strict=True))
        runs, began, decoding, running = (np.array(column, np.float64) for column in columns[:4])
        first = np.clip(place(runs, began) * (bins / seconds), 0, bins)
        last = np.clip(place(runs, began + decoding + running) * (bins / seconds), 0, bins)
        ends = np.minimum(last.astype(int), bins - 1)
        done += np.bincount(ends, minlength=bins)
        np.maximum.at(memory, ends, np.array([peak or 0 for peak in columns[8]], np.int64))
        # Without an engine, or begun since the engines were asked for: of no row.
        whose = np.array([number.get(one, -1) for one in zip(*columns[5:8], strict=True)])
        known = whose >= 0
        shares.add(whose[known], first[known], last[known])
        known &= np.array([status == "failed" for status in columns[4]])
        np.add.at(failed, (whose[known], ends[known]), 1)
    return Timeline(edges, workers, shares.busy(), failed, done, memory, starts)


def _by_host(worker: Worker) -> tuple[list[int | str], int, int]:
    """node2 stands before node10."""
    parts = [int(part) if part.isdecimal() else part for part in re.split(r"([0-9]+)", worker.host)]
    return parts, worker.engine, worker.pid


_FIELDS = (
    "run", "started", "decode_seconds", "task_seconds", "status", "host", "engine", "pid", "peak_memory"
)  # fmt: skip

Place = Callable[["npt.NDArray[Any]", "npt.NDArray[Any]"], "npt.NDArray[np.float64]"]


def work_axis(runs: list[Run], spans: list[Span]) -> tuple[Place, list[float], float]:
    """Put the runs of a job one after the other.

    Parameters
    ----------
    runs : list of Run
    spans : list of Span

    Returns
    -------
    place : callable
        Of arrays of run numbers and of seconds since the epoch: seconds of work.
    starts : list of float
        Where each run begins, seconds of work.
    seconds : float
        Where the last one ends.
    """
    import numpy as np

    made = {span.run: span for span in spans}
    shift: dict[int, float] = {}
    starts: list[float] = []
    seconds = 0.0
    for run in runs:
        span = made.get(run.run)
        if span is None:
            continue
        # From the first image on: what was compiled before is no work, and clocks of hosts differ.
        shift[run.run] = seconds - span.first
        starts.append(seconds)
        seconds += span.last - span.first

    def place(numbers: npt.NDArray[Any], times: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        kinds, inverse = np.unique(numbers, return_inverse=True)
        return np.asarray(times + np.array([shift.get(int(kind), 0.0) for kind in kinds])[inverse], np.float64)

    return place, starts, seconds or 1.0


@dataclass(eq=False)
class _Shares:
    """The borders of all images, from which the bins' shares follow by one sum at the end."""

    partly: npt.NDArray[np.float64]
    wholly: npt.NDArray[np.float64]

    @classmethod
    def of(cls, workers: int, bins: int) -> _Shares:
        import numpy as np

        return cls(np.zeros((workers, bins + 1)), np.zeros((workers, bins + 2)))

    def add(self, whose: npt.NDArray[Any], first: npt.NDArray[Any], last: npt.NDArray[Any]) -> None:
        """Add images from `first` to `last`, in bins, of the workers with these numbers."""
        import numpy as np

        begin, end = first.astype(int), last.astype(int)
        # All of the first bin from `first` on, all of the last up to `last`; within one bin the sum is right, too.
        np.add.at(self.partly, (whose, begin), begin + 1 - first)
        np.add.at(self.partly, (whose, end), last - end)
        # The bins between, as a difference that is summed up once; within one bin it takes the whole bin away.
        np.add.at(self.wholly, (whose, begin + 1), 1.0)
        np.add.at(self.wholly, (whose, end), -1.0)

    def busy(self) -> npt.NDArray[np.float64]:
        """Share of each bin, by worker."""
        import numpy as np

        return np.clip(self.partly[:, :-1] + np.cumsum(self.wholly, axis=1)[:, :-2], 0.0, 1.0)
