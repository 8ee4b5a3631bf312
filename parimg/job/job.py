"""Job: the asynchronous collection of a job's records.

A job is a view of its journal, and of its newest run (`RunState`), which tells when there is more. Nothing is held
in memory but what an iteration is just reading, so any number of iterations, in any order, cost the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import operator
import os
import time
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, Any, overload

from parimg.errors import JobError
from parimg.job import tables
from parimg.job.directory import JobDirectory, resume_command
from parimg.job.failures import Failures
from parimg.job.journal import Journal
from parimg.job.progress import show_progress, tell_commonest
from parimg.job.run_state import WAKE_SECONDS, RunState, StoredRun
from parimg.record import Record

if TYPE_CHECKING:
    from typing import Self

    import pandas as pd
    import pyarrow as pa
    from matplotlib.axes import Axes

    from parimg.events import Listener


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
    run : RunState, optional
        If this process runs the job.
    """

    def __init__(self, journal: Journal, run: RunState | None = None) -> None:
        self._journal = journal
        self._run: RunState = run or StoredRun(journal)

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
        return self._run.state

    @property
    def writer(self) -> str:
        """The process that runs the job, ``process 77 on node1``, with its last sign if it is on another host.

        Empty if the job is not running.
        """
        return self._journal.writer()

    @property
    def counts(self) -> dict[str, int | None]:
        """Images by what became of them: ``ok, failed, done, total``; ``total`` is None until it is known."""
        counts = self._run.counts
        done = counts["ok"] + counts["failed"]
        # Duplicates in the source have no record of their own.
        return {**counts, "done": done, "total": done if self.state == "finished" else self._run.total}

    @property
    def tiles(self) -> tuple[int, int] | None:
        """Tiles that are done, and all, of the images that are run by tiles now; None if none is."""
        return self._run.tiles

    @property
    def duplicates(self) -> int:
        """Images that the source named once more; each is run once."""
        return self._run.duplicates

    @property
    def failures(self) -> Failures:
        """The failed images: a sequence of their records, which also groups them by error."""
        return Failures(self._journal)

    @property
    def resume_command(self) -> str:
        """The shell command that runs what is missing."""
        return f"{resume_command(self.directory)}{self.resume_options}"

    @property
    def resume_options(self) -> str:
        """What `resume_command` repeats of what was typed; set by the command line."""
        return self._run.resume_options

    @resume_options.setter
    def resume_options(self, options: str) -> None:
        self._run.resume_options = options

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
            return self._journal.slice(range(*image.indices(self.progress)))
        if isinstance(image, str):
            record = self._journal.find(image)
        else:
            number = operator.index(image)
            place = number if number >= 0 else self.progress + number
            record = next(iter(self._journal.slice(range(place, place + 1))), None) if place >= 0 else None
        if record is None:
            kind = KeyError if isinstance(image, str) else IndexError
            raise kind(f"no record of image {image!r} ({'so far' if not self.ready() else 'in this job'})")
        return record

    def _ipython_key_completions_(self) -> list[str]:
        return self._journal.keys()

    def _repr_html_(self) -> str:
        from parimg.job.showing import job_html

        return job_html(self, self._journal)

    def _ipython_display_(self) -> None:
        from parimg.notebook.live import show_live

        show_live(self._repr_html_, self.__repr__, lambda: not self.ready())

    def __repr__(self) -> str:
        counts = self.counts
        of = "" if counts["total"] is None else f"/{counts['total']}"
        failed = f", {counts['failed']} failed{tell_commonest(self)}" if counts["failed"] else ""
        duplicates = f", {self.duplicates} duplicates" if self.duplicates else ""
        done = self.tiles  # read once: another thread may end the image
        tiles = f", {done[0]}/{done[1]} tiles" if done else ""
        engines = f", {self.engines} engines" if self.engines is not None else ""
        writer = self.writer if self.engines is None else ""
        by = f" by {writer}" if writer else ""
        return (
            f"<Job {self.name} {self.state}{by}: {counts['done']}{of} images{tiles}{failed}{duplicates}{engines}, "
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
            seen = self._run.written
            for place, record in read(after):
                yield record
                after = place
            if ended:
                self._raise_error()
                return
            with self._interruptible():
                self._run.wait_for_more(seen)

    async def __aiter__(self) -> AsyncIterator[Record]:
        records = iter(self)
        while True:
            record = await asyncio.to_thread(next, records, None)
            if record is None:
                return
            yield record

    def __await__(self) -> Generator[Any, None, Self]:
        async def ended() -> Self:
            while not await asyncio.to_thread(self._run.wait, WAKE_SECONDS):
                pass
            self._raise_error()
            return self

        return ended().__await__()

    # -- waiting ----------------------------------------------------------------------------------------------

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
                left = WAKE_SECONDS if deadline is None else min(WAKE_SECONDS, deadline - time.monotonic())
                if self._run.wait(max(left, 0)):
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
            with contextlib.suppress(JobError):  # a job of another process runs on
                self.stop()
            raise

    def _raise_error(self) -> None:
        if (error := self._run.error) is not None:
            raise error

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
        """Send no new chunks, gather the running ones, and print how to go on, as Ctrl-C does.

        Raises
        ------
        JobError
            If another process runs the job.
        """
        self._run.stop()

    def abort(self) -> None:
        """End now, without waiting for what engines are computing; the job can be resumed.

        Raises
        ------
        JobError
            If another process runs the job.
        """
        self._run.abort()

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
        """The records so far as a data frame, by place in the source.

        Integers and bools stay what they are where images have none: such columns have pandas' nullable dtypes.
        If not all images have a record yet, ``frame.attrs["partial"]`` says how many do, as does the frame's text.

        Returns
        -------
        DataFrame
        """
        from parimg.job import frames

        state, counts = self.state, self.counts
        frame = frames.to_pandas(self.to_arrow())
        if state == "finished":
            return frame
        of = "" if counts["total"] is None else f" of {counts['total']}"
        return frames.partial(frame, f"{len(frame)}{of} images are recorded; the job is {state}")

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
        from parimg.job import frames

        with self._journal.snapshot(arrays=True) as records:
            return frames.to_pandas(tables.inner_to_arrow(records, name))

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

    def to_ome_zarr(self, target: str | os.PathLike[str]) -> str:
        """Write the images that the job made so far as one array, by place in the source, ``t`` first.

        Parameters
        ----------
        target : path or URL
            Of the new OME-Zarr, 0.5 with smaller levels; its attribute ``parimg`` says which image is which.

        Returns
        -------
        str
            Its path or URL.

        Raises
        ------
        JobError
            If the task made no images.
        TaskError
            If they differ in shape or dtype, it cannot be written, or zarr is not installed.
        """
        from parimg.job.stacking import stack_results

        return stack_results(self._journal, target)

    # -- pictures ---------------------------------------------------------------------------------------------

    def plot(
        self,
        axes: Axes | Sequence[Axes] | None = None,
        *,
        columns: Sequence[str] | None = None,
        n: int = 6,
    ) -> list[Axes]:
        """Draw the job as its task is best seen, also while it runs; it is not shown.

        Of a task that measures, as `MatchSIFT`, the course of its columns over the sequence of images; more than
        3 000 images as a band of mean, least and most. Of others pictures of images, evenly chosen: boxes,
        skeletons, before and after. Images that are not there any more are left blank.

        Parameters
        ----------
        axes : matplotlib Axes or sequence of them, optional
            Where it is drawn: as many pictures as axes. By default in a new figure.
        columns : sequence of str, optional
            Draw the course of these; by default the task's choice. An empty one: pictures.
        n : int, default 6
            Pictures in a new figure.

        Returns
        -------
        list of matplotlib Axes

        Raises
        ------
        JobError
            If there is nothing to draw yet, or no such column, or matplotlib is not installed.

        Examples
        --------
        >>> [ax] = job.plot()  # doctest: +SKIP
        >>> ax.figure.savefig("matches.png")  # doctest: +SKIP
        """
        from parimg.job import plotting

        return plotting.plot_job(self._journal, plotting.listed(axes), columns, n)

    def plot_timeline(self, ax: Axes | None = None) -> Axes:
        """Draw what each engine did when, also while the job runs; it is not shown.

        Up to 3 000 images are bars of reading and task; with more, or many engines, colours say how busy engines
        were. Pauses between runs are left out. Times are those of the engines' clocks.

        Parameters
        ----------
        ax : matplotlib Axes, optional
            By default in a new figure.

        Returns
        -------
        matplotlib Axes

        Raises
        ------
        JobError
            If matplotlib is not installed.
        """
        from parimg.job import plotting

        return plotting.plot_timeline(self._journal, ax)

    # -- listeners --------------------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call `listener` with each further event of the job, from another thread."""
        self._run.listen(listener)

    def unlisten(self, listener: Listener) -> None:
        """Call `listener` no more."""
        self._run.unlisten(listener)

    @property
    def engines(self) -> int | None:
        """Engines of the cluster that runs the job, None if this process does not run it."""
        return self._run.engines


def _draw(record: Record) -> bytes:
    from parimg.job import pictures

    return pictures.drawn(record)


Record.draw = staticmethod(_draw)


def open_job(path: str | os.PathLike[str]) -> Job:
    """Look at a job of an earlier session, or of another process, without a cluster.

    Parameters
    ----------
    path : path
        The job's directory, or its name as ``parimg jobs`` prints it.

    Returns
    -------
    Job
        Read-only; it follows the journal while another process writes it.

    Raises
    ------
    JobError
        If there is no job, or it was written by an incompatible version.
    """
    return Job(Journal(JobDirectory.find(path).path))
