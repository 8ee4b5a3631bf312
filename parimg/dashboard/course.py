"""What engines did when, in a run that still grows: the same memory for a thousand images and for a billion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from parimg.job.timeline import Shares, Worker, by_host

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

BINS = 240
FIELDS = (
    "seq", "run", "started", "decode_seconds", "task_seconds", "status", "host", "engine", "pid", "peak_memory"
)  # fmt: skip


class Course:
    """The newest run of a job in `BINS` bins, which become twice as wide when the time is full.

    Attributes
    ----------
    run : int
        Number of the run, 0 before there is one.
    start : float
        When its first image was taken up, seconds since the epoch.
    last : float
        When its last image was ready.
    width : float
        Of a bin, seconds.
    workers : list of Worker
        In the order in which they were first seen; the rows of what follows.
    done, failed : ndarray of int64, shape (workers, BINS)
        Images that became ready, and those of them that failed; the first row is of images without an engine.
    busy : ndarray of float64, shape (workers, BINS)
        Share of the bin spent on images.
    memory : ndarray of int64, shape (workers,)
        Most that each occupied, bytes; 0 where none told.
    seconds : ndarray of float64, shape (workers,)
        Time on images.
    """

    def __init__(self) -> None:
        self._seq = 0
        self._begin(0, 0.0)

    def _begin(self, run: int, start: float) -> None:
        import numpy as np

        self.run, self.start, self.last, self.width = run, start, start, 1.0
        self.workers = [Worker("", -1, 0)]
        self._number: dict[tuple[Any, ...], int] = {}
        self.done = np.zeros((1, BINS), np.int64)
        self.failed = np.zeros((1, BINS), np.int64)
        self.busy = np.zeros((1, BINS))
        self.memory = np.zeros(1, np.int64)
        self.seconds = np.zeros(1)

    @property
    def seq(self) -> int:
        """Of the last record that was added."""
        return self._seq

    def add(self, rows: list[tuple[Any, ...]]) -> None:
        """Add records, in order of completion, by their `FIELDS`."""
        import numpy as np

        if not rows:
            return
        self._seq = rows[-1][0]
        newest = rows[-1][1]
        rows = [row for row in rows if row[1] == newest]
        columns = list(zip(*rows, strict=True))
        began, decoding, running = (np.array(column, np.float64) for column in columns[2:5])
        ready = began + decoding + running
        if newest != self.run:
            self._begin(newest, float(began.min()))
        self.last = max(self.last, float(ready.max()))
        while self.last - self.start >= self.width * BINS:
            self._join_bins()
        whose = self._rows_of(list(zip(*columns[6:9], strict=True)))
        is_failed = np.array([status == "failed" for status in columns[5]])
        first, end = (np.clip((times - self.start) / self.width, 0, BINS) for times in (began, ready))
        ends = np.minimum(end.astype(int), BINS - 1)
        np.add.at(self.done, (whose, ends), 1)
        np.add.at(self.failed, (whose[is_failed], ends[is_failed]), 1)
        np.add.at(self.seconds, whose, decoding + running)
        np.maximum.at(self.memory, whose, np.array([peak or 0 for peak in columns[9]], np.int64))
        shares = Shares.of(len(self.workers), BINS)
        shares.add(whose, first, end)
        self.busy += shares.busy()

    def _rows_of(self, stored: list[tuple[Any, ...]]) -> npt.NDArray[np.int64]:
        """The row of each engine, as it is stored; new ones get new rows."""
        import numpy as np

        for one in dict.fromkeys(stored):
            host, engine, pid = one
            if engine is not None and one not in self._number:
                self._number[one] = len(self.workers)
                self.workers.append(Worker(host or "", engine, pid or 0))
        more = len(self.workers) - len(self.done)
        below = ((0, more), (0, 0))
        self.done, self.failed, self.busy = (
            np.pad(self.done, below), np.pad(self.failed, below), np.pad(self.busy, below)
        )  # fmt: skip
        self.memory, self.seconds = np.pad(self.memory, (0, more)), np.pad(self.seconds, (0, more))
        return np.array([self._number.get(one, 0) for one in stored])

    def _join_bins(self) -> None:
        import numpy as np

        def joined(kept: npt.NDArray[Any]) -> npt.NDArray[Any]:
            return np.pad(kept[:, ::2] + kept[:, 1::2], ((0, 0), (0, BINS // 2)))

        self.done, self.failed, self.busy = joined(self.done), joined(self.failed), joined(self.busy) / 2
        self.width *= 2

    def by_host(self) -> list[int]:
        """Rows of the engines, by host, then by number."""
        return sorted(range(1, len(self.workers)), key=lambda row: by_host(self.workers[row]))

    def used(self, now: float) -> int:
        """Bins up to a time, seconds since the epoch; at least one."""
        return int(min(max((now - self.start) // self.width + 1, 1), BINS))

    def recent(self, now: float, seconds: float) -> tuple[slice, float]:
        """The bins of the last seconds before a time, and how long they are.

        The bin that `now` lies in counts as far as it has come.
        """
        used = self.used(now)
        first = max(0, used - max(1, round(seconds / self.width)) - 1)
        return slice(first, used), max(now - self.start - first * self.width, 1e-3)
