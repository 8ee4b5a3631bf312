"""Job: the asynchronous collection of a job's records.

A job is a view of its journal. While this process runs the job, its `Dispatcher` tells when there is more;
a job of another process is looked at again a few times a second. Nothing is held in memory but what an
iteration is just reading, so any number of iterations, in any order, cost the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, overload

from parimg.console import print_line
from parimg.errors import JobError
from parimg.job import tables
from parimg.job.directory import resume_command
from parimg.job.failures import Failures
from parimg.job.journal import Journal
from parimg.job.progress import show_progress
from parimg.record import Record

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    import pyarrow as pa

    from parimg.dispatch.dispatcher import Dispatcher
    from parimg.events import Listener

_POLL_SECONDS = 0.25  # between looks at a job that another process runs
_WAKE_SECONDS = 0.5  # a wait in a thread returns this often, so that Ctrl-C is heard on every platform


class Job:
    """The records of one task over one source: an asynchronous collection.

    Made by ``ctl.submit(...)``, ``ctl.map(...)``, ``ctl.resume(...)`` and ``parimg.open_job(...)``.

    Iterating gives records as they complete and ends when the job does; `in_order` gives them by place in the
    source. ``job["name.png"]`` looks one record up, ``job[3]`` the fourth of
    those recorded, by place in the source. ``await job`` waits for the end and gives the
    job back; ``async for record in job`` iterates without blocking the event loop.

    Ctrl-C during a wait or an iteration stops sending, gathers what engines are computing, prints the command
    that resumes the job, and then raises ``KeyboardInterrupt``; a second Ctrl-C leaves at once.

    Parameters
    ----------
    journal : Journal
    dispatcher : Dispatcher, optional
        If this process runs the job.
    """

    def __init__(self, journal: Journal, dispatcher: Dispatcher | None = None) -> None:
        self._journal = journal
        self._dispatcher = dispatcher
        self.resume_options = ""
        """What the command line was given and `resume_command` repeats: engines and tables."""

    # -- what it is -------------------------------------------------------------------------------------------

    @property
    def directory(self) -> str:
        """The job's directory."""
        return self._journal.directory

    @property
    def name(self) -> str:
        """Name of the task."""
        return str(self._journal.meta("task")["name"])

    @property
    def state(self) -> str:
        """State of the job.

        ``running``; ``finished``, all images have a record; ``interrupted``, stopped or its process is gone;
        ``aborted``; ``failed``, it could not go on, and waiting for it raises the reason.
        """
        if self._dispatcher is not None:
            return self._dispatcher.state
        state = str(self._journal.last_run().state)
        if state == "running" and not self._journal.is_being_written():
            # It may have ended between the two looks.
            state = str(self._journal.last_run().state)
            return "interrupted" if state == "running" else state
        return state

    @property
    def counts(self) -> dict[str, int | None]:
        """Images by what became of them: ``ok, failed, done, total``; ``total`` is None until it is known."""
        counts = self._dispatcher.counts if self._dispatcher is not None else self._journal.count_by_status()
        done = counts["ok"] + counts["failed"]
        return {**counts, "done": done, "total": self._total(done)}

    def _total(self, done: int) -> int | None:
        if self.state == "finished":
            return done  # duplicates in the source have no record of their own
        if self._dispatcher is not None:
            return self._dispatcher.total
        total: int | None = self._journal.meta("total")
        return total

    @property
    def duplicates(self) -> int:
        """Images that the source named once more; each is run once."""
        if self._dispatcher is not None:
            return self._dispatcher.duplicates
        return int(self._journal.last_run().duplicates)

    @property
    def failures(self) -> Failures:
        """The failed images: a sequence of their records, which also groups them by error."""
        return Failures(self._journal)

    @property
    def resume_command(self) -> str:
        """The shell command that runs what is missing."""
        return f"{resume_command(self.directory)}{self.resume_options}"

    def __len__(self) -> int:
        """Images of the job: all of them where their number is known, else those with a record."""
        counts = self.counts
        total = counts["total"] if counts["total"] is not None else counts["done"]
        return int(total or 0)

    def __bool__(self) -> bool:
        return True

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and self._journal.find(key) is not None

    @overload
    def __getitem__(self, image: int | str) -> Record: ...

    @overload
    def __getitem__(self, image: slice) -> list[Record]: ...

    def __getitem__(self, image: int | str | slice) -> Record | list[Record]:
        if isinstance(image, slice):
            return [self[number] for number in range(*image.indices(self.progress))]
        if isinstance(image, str):
            record = self._journal.find(image)
        else:
            number = operator.index(image)
            record = self._journal.nth(number if number >= 0 else self.progress + number)
        if record is None:
            kind = KeyError if isinstance(image, str) else IndexError
            raise kind(f"no record of image {image!r} ({'so far' if not self.ready() else 'in this job'})")
        return record

    def __repr__(self) -> str:
        counts = self.counts
        of = "" if counts["total"] is None else f"/{counts['total']}"
        failed = f", {counts['failed']} failed" if counts["failed"] else ""
        duplicates = f", {self.duplicates} duplicates" if self.duplicates else ""
        engines = f", {self.engines} engines" if self.engines is not None else ""
        return (
            f"<Job {self.name} {self.state}: {counts['done']}{of} images{failed}{duplicates}{engines}, "
            f"{self.elapsed:.1f} s, {self.directory!r}>"
        )

    # -- records ----------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Record]:
        return self._follow(self._journal.completed, 0)

    def in_order(self) -> Iterator[Record]:
        """Records by place in the source; each waits for its turn."""
        return self._follow(self._next_in_order, -1)

    def _next_in_order(self, after: int) -> Iterator[tuple[int, Record]]:
        """Records that follow `after` without a gap; once the job has ended, all that follow."""
        ended = self.ready()
        for position, record in self._journal.in_order(after):
            if position > after + 1 and not ended:
                return
            yield position, record
            after = position

    def _follow(self, read: Callable[[int], Iterator[tuple[int, Record]]], after: int) -> Iterator[Record]:
        while True:
            ended = self.ready()  # before reading: what is written until then is read below
            seen = self._written()
            for place, record in read(after):
                yield record
                after = place
            if ended:
                self._raise_error()
                return
            self._wait_for_more(seen)

    async def __aiter__(self) -> AsyncIterator[Record]:
        records = iter(self)
        while True:
            record = await asyncio.to_thread(next, records, None)
            if record is None:
                return
            yield record

    def __await__(self) -> Generator[Any, None, Self]:
        async def ended() -> Self:
            while not await asyncio.to_thread(self._wait_step, _WAKE_SECONDS):
                pass
            self._raise_error()
            return self

        return ended().__await__()

    # -- waiting ----------------------------------------------------------------------------------------------

    def _written(self) -> int:
        return sum(self._dispatcher.counts.values()) if self._dispatcher is not None else 0

    def _wait_for_more(self, seen: int) -> None:
        """Return when there may be records beyond the first `seen`."""
        if self._dispatcher is None:
            time.sleep(_POLL_SECONDS)
            return
        dispatcher = self._dispatcher
        with self._interruptible(), dispatcher.changed:
            while dispatcher.state == "running" and sum(dispatcher.counts.values()) <= seen:
                dispatcher.changed.wait(_WAKE_SECONDS)

    def _wait_step(self, seconds: float) -> bool:
        """Wait up to `seconds` for the end; True if it came."""
        if self._dispatcher is None:
            if self.ready():
                return True
            time.sleep(min(seconds, _POLL_SECONDS))
            return self.ready()
        with self._dispatcher.changed:
            return self._dispatcher.changed.wait_for(self.ready, seconds)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait for the end of the job.

        Parameters
        ----------
        timeout : float, optional
            Seconds; by default as long as it takes.

        Returns
        -------
        bool
            Whether the job has ended.

        Raises
        ------
        ParimgError
            If the job could not go on.
        """
        deadline = None if timeout is None or timeout < 0 else time.monotonic() + timeout
        with self._interruptible():
            while True:
                left = _WAKE_SECONDS if deadline is None else min(_WAKE_SECONDS, deadline - time.monotonic())
                if self._wait_step(max(left, 0)):
                    break
                if left <= 0:
                    return False
        self._raise_error()
        return True

    def wait_interactive(self) -> None:
        """Wait for the end with a progress bar, in a terminal or a notebook."""
        with show_progress(self):
            self.wait()

    @contextlib.contextmanager
    def _interruptible(self) -> Iterator[None]:
        try:
            yield
        except KeyboardInterrupt:
            self.stop_gracefully()
            raise

    def _raise_error(self) -> None:
        if self._dispatcher is not None:
            if self._dispatcher.error is not None:
                raise self._dispatcher.error
        elif self.state == "failed":
            raise JobError(f"the job {self.directory!r} ended early: {self._journal.last_run().reason}")

    # -- AsyncResult's vocabulary -----------------------------------------------------------------------------

    def ready(self) -> bool:
        """Whether the job has ended, one way or the other."""
        return self.state != "running"

    def successful(self) -> bool:
        """Whether every image went well.

        Raises
        ------
        ValueError
            If the job has not ended.
        """
        if not self.ready():
            raise ValueError(f"the job has not ended yet: {self!r}")
        return self.state == "finished" and self.counts["failed"] == 0

    def get(self, timeout: float | None = None) -> list[Record]:
        """Wait, and return all records by place in the source.

        Raises
        ------
        TimeoutError
            If the job has not ended after `timeout` seconds.
        JobError
            If it was stopped before all images had a record; `in_order` gives those that have.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"the job has not ended after {timeout} s: {self!r}")
        if self.state != "finished":
            raise JobError(f"not all images have a record: {self!r}; to go on: {self.resume_command}")
        return list(self.in_order())

    def stop(self) -> None:
        """Send no new chunks, and wait for the running ones; the job can be resumed."""
        if self._dispatcher is not None:
            self._dispatcher.stop()
            self._dispatcher.join()

    def stop_gracefully(self) -> None:
        """Stop as on Ctrl-C: gather what runs, and print how to go on; a Ctrl-C meanwhile aborts."""
        dispatcher = self._dispatcher
        if dispatcher is None or dispatcher.state != "running":
            return
        try:
            waiting = f"waiting for {dispatcher.outstanding} running chunks"
            print_line(f"stopping: {waiting}; Ctrl-C again leaves at once")
            dispatcher.stop()
            while not dispatcher.join(_WAKE_SECONDS):
                pass
        except KeyboardInterrupt:
            self.abort()
        if self.state != "finished":
            counts = self.counts
            of = counts["total"] if counts["total"] is not None else "the"
            print_line(f"{counts['done']} of {of} images are recorded; to go on: {self.resume_command}")

    def lose_controller(self, reason: str | None) -> None:
        """Take back what was under way; end the job if there is a reason, else another controller comes."""
        if self._dispatcher is not None:
            if reason is None:
                self._dispatcher.forget_engines()
            else:
                self._dispatcher.fail(reason)

    @property
    def restarts(self) -> int:
        """How often the cluster was started anew under the job."""
        return self._dispatcher.restarts if self._dispatcher is not None else 0

    def abort(self) -> None:
        """End now, without waiting for what engines are computing; the job can be resumed."""
        if self._dispatcher is not None:
            self._dispatcher.abort()
            self._dispatcher.join()

    @property
    def progress(self) -> int:
        """Number of images that have a record."""
        return int(self.counts["done"] or 0)

    @property
    def elapsed(self) -> float:
        """Time the job has run, over all its runs, seconds."""
        return self.wall_time

    @property
    def wall_time(self) -> float:
        """Time from submission to the end or to now, over all its runs, seconds."""
        runs = self._journal.seconds_by_run()
        running = self.state == "running"
        last = len(runs) - 1
        return sum(
            (end if end is not None else time.time() if running and run == last else self._last_sign(start))
            - start
            for run, (start, end) in enumerate(runs)
        )

    def _last_sign(self, start: float) -> float:
        """When a run whose process was killed was last heard of."""
        written = self._journal.last_written()
        return start if written is None else max(start, written)

    @property
    def serial_time(self) -> float:
        """Time that engines spent on images, seconds; over `wall_time` it is the speed-up."""
        return self._journal.serial_seconds()

    # -- tables -----------------------------------------------------------------------------------------------

    def _declared(self) -> dict[str, str]:
        return dict(self._journal.meta("task")["columns"])

    def to_arrow(self) -> pa.Table:
        """The records so far as an Arrow table, by place in the source; arrays stay in the records."""
        with self._journal.snapshot() as records:
            return tables.to_arrow(records, self._declared())

    def to_pandas(self) -> pd.DataFrame:
        """The records so far as a data frame, by place in the source."""
        frame: pd.DataFrame = self.to_arrow().to_pandas()
        return frame

    def table(self, name: str) -> pd.DataFrame:
        """A table that the task gives for every image, as one data frame: the rows of all records so far.

        Parameters
        ----------
        name : str
            Name of the table among a record's arrays, such as ``"branch_table"`` of `SkeletonGraph`.

        Returns
        -------
        DataFrame
            First ``key``, the image that a row belongs to, then the table's own columns.

        Raises
        ------
        JobError
            If the records have no such table.
        """
        with self._journal.snapshot(arrays=True) as records:
            frame: pd.DataFrame = tables.inner_to_arrow(records, name).to_pandas()
        return frame

    def to_parquet(self, path: str | os.PathLike[str], table: str | None = None) -> None:
        """Write the records so far as a Parquet file, in batches.

        Parameters
        ----------
        path : path
        table : str, optional
            Write this table of all records instead, see `table`.
        """
        self._write(path, table, tables.write_parquet)

    def to_csv(self, path: str | os.PathLike[str], table: str | None = None) -> None:
        """Write the records so far as a CSV file, in batches.

        Parameters
        ----------
        path : path
        table : str, optional
            Write this table of all records instead, see `table`.
        """
        self._write(path, table, tables.write_csv)

    def _write(self, path: str | os.PathLike[str], table: str | None, write: Callable[..., None]) -> None:
        with self._journal.snapshot(arrays=table is not None) as records:
            write(records, self._declared(), path, table)

    # -- listeners --------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each further event of the job, from another thread."""
        if self._dispatcher is not None:
            self._dispatcher.listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Call `listener` no more."""
        if self._dispatcher is not None and listener in self._dispatcher.listeners:
            self._dispatcher.listeners.remove(listener)

    @property
    def engines(self) -> int | None:
        """Engines of the cluster that runs the job, None if this process does not run it."""
        if self._dispatcher is None or self._dispatcher.state != "running":
            return None
        return len(self._dispatcher.engines.ids())


def open_job(path: str | os.PathLike[str]) -> Job:
    """Look at a job of an earlier session, or of another process, without a cluster.

    Parameters
    ----------
    path : path
        The job's directory.

    Returns
    -------
    Job
        Read-only; it follows the journal while another process writes it.

    Raises
    ------
    JobError
        If there is no job, or it was written by an incompatible version.
    """
    return Job(Journal(os.fspath(path)))
