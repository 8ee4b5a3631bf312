"""Controller: look after an ipcluster and its engines, submit jobs.

A client-side object; it holds one ipyparallel `Client` and, if it started the cluster, the `Cluster`. Jobs run
each in a thread of their own, so everything works the same in a script, in IPython and in a notebook.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Literal

import ipyparallel as ipp

from parimg.cluster.cluster import Cluster
from parimg.cluster.round_trip import time_round_trip
from parimg.cluster.security import Security
from parimg.cluster.supervisor import Supervisor
from parimg.console import report, report_if_slow
from parimg.controller.previewing import Preview, preview
from parimg.dispatch.dispatcher import Dispatcher
from parimg.dispatch.plan import Plan
from parimg.engine.compile_once import is_being_prepared, is_prepared
from parimg.engine.inspect import inspect_engine
from parimg.errors import ClusterError, JobError, SourceError, TaskError
from parimg.events import Listener, check_listeners
from parimg.job.directory import JobDirectory
from parimg.job.job import Job
from parimg.job.journal_writer import JournalWriter
from parimg.job.output_files import name_files
from parimg.job.run_state import LiveRun
from parimg.job.versions import versions
from parimg.notebook import markup
from parimg.notebook.live import show_live
from parimg.options import DEFAULT_MAX_PIXELS, Options, Orientation, Projection, Ship
from parimg.pairs.matching import match_pairs
from parimg.protocol import shared_objects
from parimg.sources.as_source import Source, as_source, join_specs, source_from_spec
from parimg.sources.outside import OutsideFolder, output_folder
from parimg.sources.shards import Shard
from parimg.tasks.function import Function
from parimg.tasks.task import Task, check_halo, check_reading, check_task
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from parimg.images.decode import ColorMode
    from parimg.pairs.pair_job import PairJob
    from parimg.pairs.selection import Pairs
    from parimg.sources.as_source import Images


def _report_compiling(job: Job, task: Task) -> None:
    """Report that the first chunk waits for kernels that this host compiles for the first time."""
    for _ in range(120):  # a minute: the first chunk has come, or the engines are on other hosts
        time.sleep(0.5)
        if is_prepared(task) or job.ready():
            return
        if is_being_prepared(task):
            report("compiling for the first time on this host, about 20 s ...")
            return


def _shard(source: Source, shard: object) -> Shard:
    if not isinstance(shard, tuple | list) or len(shard) != 2:
        raise SourceError(f"shard is two numbers, as (1, 8) for the first of eight parts (got {shard!r:.80})")
    return Shard(source, *shard)


class Controller:
    """Drives one ipcluster: submits jobs, and looks after its engines.

    Made by `start` and `connect`; a context manager that closes itself.
    """

    def __init__(self, cluster: Cluster, *, memory_limit: int | None = None) -> None:
        self._cluster = cluster
        self._supervisor = Supervisor(cluster)
        self._memory_limit = memory_limit
        self._closing = threading.Event()
        # Strongly held: IPython drops its names before it exits, and the cluster must end in order even then.
        atexit.register(self.close)

    @property
    def security(self) -> Security:
        """Who can reach the cluster: ``interfaces, is_local, curve, connection_file, is_private, warning``."""
        return self._cluster.security

    @property
    def client(self) -> ipp.Client:
        """The client of the cluster; another one after an embedded cluster was started anew."""
        return self._cluster.client

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        kind = "an embedded cluster" if self._cluster.is_own else "a cluster"
        running = len(self._supervisor.running_jobs())
        state = f"{len(self)} engines, {running} jobs running"
        if self._closing.is_set() or self._supervisor.lost:
            state = "closed" if self._closing.is_set() else "lost"
        return f"<Controller of {kind}: {state}>"

    def _repr_html_(self) -> str:
        is_gone = self._closing.is_set() or bool(self._supervisor.lost)
        running = [] if is_gone else self._supervisor.running_jobs()
        state = "closed" if self._closing.is_set() else "lost" if is_gone else f"{len(self)} engines"
        security = self.security
        about = {
            "cluster": "started with this controller" if self._cluster.is_own else "runs on without it",
            "reached by": None if is_gone else ", ".join(security.interfaces),
            "warning": security.warning or None,
            "lost": self._supervisor.lost,
        }
        rows = [
            (run.name, run.written, "unknown" if run.total is None else run.total, run.counts["failed"])
            for run in running
        ]
        jobs = markup.table(("running", "done", "of", "failed"), rows)
        return markup.box("Controller", state, [markup.facts(about), jobs or (None if is_gone else "no job runs")])

    def _ipython_display_(self) -> None:
        def runs() -> bool:
            return self.running > 0

        show_live(self._repr_html_, self.__repr__, runs)

    def __len__(self) -> int:
        return len(self.engines)

    def __bool__(self) -> bool:
        return True

    @property
    def running(self) -> int:
        """Number of jobs that run."""
        return 0 if self._closing.is_set() else len(self._supervisor.running_jobs())

    @property
    def engines(self) -> list[int]:
        """Ids of the engines there are now."""
        return self._supervisor.engines.ids()

    def close(self) -> None:
        """Stop running jobs in order, disconnect, and end the cluster if it is ours.

        A job that is cut short is reported, with the command that goes on with it.
        """
        if self._closing.is_set():
            return
        self._closing.set()
        atexit.unregister(self.close)
        self._supervisor.close()

    # -- jobs -------------------------------------------------------------------------------------------------

    def submit(
        self,
        task: Task,
        images: Images,
        *,
        job_dir: str | os.PathLike[str] | None = None,
        column: str | None = None,
        retries: int = 2,
        chunk_size: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        timeout: float | None = None,
        max_failures: float | None = None,
        memory_limit: int | str | None = None,
        ship: Ship = "auto",
        shard: tuple[int, int] | None = None,
        tiles: int | Sequence[int] | None = None,
        channel: int | str | None = None,
        z: int | None = None,
        project: Projection | None = None,
        percentile: tuple[float, float] | None = None,
        orientation: Orientation | None = None,
        metadata: Iterable[str] = (),
        targets: int | Sequence[int] | None = None,
        listeners: Iterable[Listener] = (),
    ) -> Job:
        """Run a task on every image of a source.

        Parameters
        ----------
        task : Task
            What is done to each image.
        images : path, glob, folder, URL, text file, table, list or generator of these, or ``(key, array)`` pairs
            Where they come from; see `parimg.sources.as_source`. Listed while the job runs.
        job_dir : path, optional
            Directory for the job's journal, which must not hold a job; by default a new one among the user's
            data.
        column : str, optional
            Column of paths, if `images` is a CSV or Parquet table.
        retries : int, default 2
            How often an image is tried again after its engine died.
        chunk_size : int, optional
            Images in a message; by default it grows until a chunk takes half a second.
        max_pixels : int, default 2**28
            Images with more pixels fail before they are decoded.
        timeout : float, optional
            Seconds an image may take, from reading it to its result. One that takes longer, also in native code,
            is a failed record with the traceback; its engine is ended and replaced.
        max_failures : int or float, optional
            Stop the job with `TooManyFailures` when more images failed in this run than this number, or, with a
            float below 1, than this share of those recorded in it, once there are 20. What runs is gathered, and
            the job can be resumed.
        memory_limit : int or str, optional
            Memory that an engine may occupy, bytes or ``"4 GiB"``: an image that asks for more is a failed record
            ``MemoryError``, its engine goes on. By default that of `start`, or none.
        ship : {"auto", "never", "always"}, default "auto"
            What is done for hosts that share no disk with this one. Each is asked once. ``"auto"``: where it does
            not see the first image, this process reads the files and sends their bytes; where it cannot write to
            the task's output folder, files come back and are written here. ``"never"``: such a host ends the job
            with `ClusterError`. ``"always"``: bytes travel whatever hosts see. Engines read URLs themselves.
        shard : (int, int), optional
            Run only one of several parts of the source, ``(1, 8)`` the first of eight: several controllers share a
            source, and `parimg.merge_jobs` makes one job of theirs. An image's part is found from its key.
        tiles : int or (int, int), optional
            Height and width of tiles, multiples of 16. Larger images are read and run by tiles, on all engines,
            each tile with the surroundings that the task asks for; there is one record an image still. `timeout`
            and `retries` are then those of a tile. Images whose format cannot be read in part are run whole, which
            is said once. See the guide on large images.
        channel : int or str, optional
            Channel of each image, by its place from 0 or its name, which is read alone; of images in colours red,
            green or blue.
        z : int, optional
            Slice of each volume, from 0, which is read alone.
        project : {"max", "min"}, optional
            All slices of a volume as one image, the brightest or darkest level of each place.
        percentile : (float, float), optional
            Levels at these percentiles of each image become 0 and 255, those between them even steps: makes 8 bit
            of whatever is stored. Nothing is scaled without it: of 16 bit PNG and TIFF the upper byte is taken, as
            ever; other formats of 16 bit or floats fail in tasks that want 8 bit.
        orientation : {"stored", "upright"}, optional
            Whether images are turned as their EXIF orientation says, of every format; by default for tasks that
            are given 8 bit gray or colour, and not for others.
        metadata : iterable of str, optional
            What files tell, as columns: ``"acquisition_time"``, or a format's own names (``"EXPTIME"``,
            ``"KVP"``). None where a file does not tell.
        targets : int or sequence of int, optional
            Ids of the engines that run it, by default all; see `engines`. Once none of them is left, all do.
        listeners : iterable of callable
            Called with each event of `parimg.events`, from another thread.

        Returns
        -------
        Job
            At once; the job runs on.

        Raises
        ------
        SourceError, TaskError, JobError
            If something was typed wrong; nothing has been sent then.
        ClusterError
            If there is no such engine.
        """
        if not isinstance(task, Task):  # typed wrong in a shell, where no checker looks
            hint = "; for a plain function there is ctl.map(function, images)" if callable(task) else ""
            raise TaskError(f"task must be a parimg task (got {task!r:.80}, a {type(task).__name__}){hint}")
        memory_limit = self._memory_limit if memory_limit is None else memory_limit
        options = Options(
            retries,
            chunk_size,
            max_pixels,
            timeout,
            max_failures,
            memory_limit,
            ship,
            tiles,
            channel=channel,
            z=z,
            project=project,
            percentile=percentile,
            orientation=orientation,
            metadata=(metadata,) if isinstance(metadata, str) else tuple(metadata),
        )
        check_task(task)
        check_reading(task, options.reading)
        if options.tile is not None:
            check_halo(task)
        heard = check_listeners(listeners)
        self._check_open()
        chosen = self._check_targets(targets)
        source = as_source(images, column=column)
        with report_if_slow(f"preparing {task.name} ..."):
            task.resolve()
        source = name_files(task, source)
        if shard is not None:  # last, for files are named after the whole
            source = _shard(source, shard)
        output = task.local_folder if isinstance(task, WritingTask) else None
        place = JobDirectory(os.fspath(job_dir)) if job_dir is not None else JobDirectory.make(task.name)
        owned = place.reserve()
        try:
            refs = shared_objects.write_task(place.shared, task)
            meta = {
                "task": {
                    "name": task.name,
                    "parameters": task.describe(),
                    "columns": task.declared_columns(),
                    "refs": refs,
                    "output": output,
                },
                "source": source.spec(),
                "options": asdict(options),
                "versions": versions(),
                "total": None,
            }
            journal = JournalWriter.create(place, owned, meta)
        except BaseException as error:
            place.discard(owned)
            if isinstance(error, OSError):
                raise JobError(f"the job directory {place.path!r} cannot be written: {error}") from error
            raise
        job = self._start(journal, Plan(tuple(refs), source, options, False, output, targets=chosen), heard)
        threading.Thread(target=_report_compiling, args=(job, task), name="parimg-report", daemon=True).start()
        return job

    def map(
        self,
        function: Callable[..., object],
        images: Images,
        *,
        color: ColorMode = "unchanged",
        **options: Any,
    ) -> Job:
        """Run any function of one array on every image; ``options`` are those of `submit`.

        Parameters
        ----------
        function : callable
            Also a lambda, or one defined in a notebook cell.
        images : see `submit`
        color : {"unchanged", "gray", "color", "stack"}
            How images are decoded.

        Returns
        -------
        Job
            What the function returns for an image is ``record["value"]``, or its columns if it is a mapping.
        """
        return self.submit(Function(function, color=color), images, **options)

    def preview(
        self,
        task: Task,
        images: Images,
        n: int = 12,
        *,
        seed: int = 0,
        column: str | None = None,
        **options: Any,
    ) -> Preview:
        """Run a task on some images, to see what it does and what all of them would take; nothing of it stays.

        Parameters
        ----------
        task : Task
            Where it writes files, they go to a temporary folder, which is removed.
        images : see `submit`
            Chosen is among the first 100 000 of a listing, each image as likely as any. Of a generator the first
            `n` are taken, and used up.
        n : int, default 12
        seed : int, default 0
            The same number, the same images.
        column : str, optional
            Column of paths, if `images` is a table.
        **options
            Those of `submit`, but for ``job_dir``.

        Returns
        -------
        Preview
            Once the images are run. Its ``plot()`` draws them; its ``seconds, memory, output_bytes`` and
            ``journal_bytes`` say what all would take, each with its spread.

        Raises
        ------
        SourceError, TaskError, JobError
            As `submit`.

        Examples
        --------
        >>> ctl.preview(parimg.SkeletonGraph(), "photos/").plot()  # doctest: +SKIP
        """
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise JobError(f"n must be a number of images of at least 1 (got {n!r})")
        if "job_dir" in options:
            raise JobError("a preview leaves no job, so it takes no job_dir")
        if not isinstance(task, Task):
            raise TaskError(f"task must be a parimg task (got {task!r:.80}, a {type(task).__name__})")
        self._check_open()
        source = as_source(images, column=column)
        if (shard := options.pop("shard", None)) is not None:
            source = _shard(source, shard)
        return preview(self, task, source, n, seed, options)

    def match_pairs(
        self,
        images: Images,
        pairs: Pairs = "all",
        *,
        job_dir: str | os.PathLike[str] | None = None,
        **options: Any,
    ) -> PairJob:
        """Find features of images and match them pair by pair: `parimg.match_pairs` on this controller.

        Parameters
        ----------
        images, pairs, job_dir, **options
            See `parimg.match_pairs`.

        Returns
        -------
        PairJob
        """
        return match_pairs(self, images, pairs, job_dir=job_dir, **options)

    def resume(
        self,
        path: str | os.PathLike[str],
        *,
        retry: Literal["failed"] | None = None,
        images: Images | None = None,
        column: str | None = None,
        listeners: Iterable[Listener] = (),
        **changed: Any,
    ) -> Job:
        """Run what an earlier run of a job did not record.

        Parameters
        ----------
        path : path
            The job's directory, or its name as ``parimg jobs`` prints it.
        retry : {"failed"}, optional
            Also run the images that failed again; their records are replaced.
        images : optional
            The source once more, needed if it was a generator or arrays; or another one, whose images are added.
            Then the job knows both, and runs what is missing of either when it is resumed without.
        column : str, optional
            Column of paths, if `images` is a table.
        listeners : iterable of callable
            Called with each event of `parimg.events`, from another thread.
        **changed
            Options of `submit` that differ this time: ``retries``, ``chunk_size``, ``max_pixels``, ``timeout``,
            ``max_failures``, ``memory_limit``, ``ship``, ``tiles``.

        Returns
        -------
        Job
            With the records of all runs.

        Raises
        ------
        JobLockedError
            If a live process runs the job.
        SourceError
            If the source is needed and not given.
        """
        if retry not in {None, "failed"}:
            raise JobError(f"retry must be 'failed' or None (got {retry!r})")
        heard = check_listeners(listeners)
        self._check_open()
        journal = JournalWriter.resume(JobDirectory.find(path).path)
        try:
            spec = journal.meta("source")
            options = Options.changed(journal.meta("options"), changed)
            source: Source = source_from_spec(spec) if images is None else as_source(images, column=column)
            if images is not None and (folder := output_folder(spec)):
                source = OutsideFolder(source, folder)
            if images is not None and (shard := spec.get("shard")):
                source = Shard(source, *shard)
            described = journal.meta("task")
            refs = tuple(shared_objects.SharedRef(*ref) for ref in described["refs"])
            joined = spec if images is None else join_specs(spec, source.spec())
            if is_added := joined != spec:
                journal.set_meta("source", joined)
            is_part = images is not None and joined["kind"] == "several"
            known = (journal.meta("total") or sum(journal.count_by_status().values())) if is_part else 0
            journal.begin_run()
        except BaseException:
            journal.close()
            raise
        plan = Plan(refs, source, options, retry == "failed", described.get("output"), known, is_added)
        return self._start(journal, plan, heard)

    def _start(self, journal: JournalWriter, plan: Plan, listeners: list[Listener]) -> Job:
        try:
            run = LiveRun(Dispatcher(plan, journal, self._supervisor.engines, listeners))
            job = Job(journal.reader(), run)
            self._supervisor.watch(run)
            run.start()
        except BaseException as error:
            journal.end_run("failed", f"{type(error).__name__}: {error}", 0)
            journal.close()
            raise
        return job

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ClusterError("this controller is closed; make another by parimg.start() or parimg.connect()")
        self._supervisor.check()

    def _check_targets(self, targets: int | Sequence[int] | None) -> frozenset[int]:
        wanted = () if targets is None else (targets,) if isinstance(targets, int) else tuple(targets)
        there = self.engines
        if targets is not None and (not wanted or not set(wanted) <= set(there)):
            raise ClusterError(f"targets are ids of engines, of {there} (got {targets!r})")
        return frozenset(wanted)

    # -- engines ----------------------------------------------------------------------------------------------

    def inspect(self, timeout: float = 10.0) -> dict[int, dict[str, Any]]:
        """What each engine says of itself: host, process, versions, threads, memory (bytes), round trip (s).

        Engines that do not answer within `timeout` seconds are left out.
        """
        answers = {}
        deadline = time.monotonic() + timeout
        for engine_id in self.engines:
            begin = time.perf_counter()
            with contextlib.suppress(TimeoutError, ipp.error.RemoteError, IndexError):
                self.client[engine_id].apply_async(os.getpid).get(max(0.0, deadline - time.monotonic()))
                round_trip = time.perf_counter() - begin
                answer = self.client[engine_id].apply_async(inspect_engine).get(timeout)
                answers[engine_id] = {**answer, "round_trip": round_trip}
        return answers

    def time_round_trip(self, repeats: int = 20) -> dict[str, float]:
        """Where the time of a round trip goes: medians of `repeats` measurements, seconds."""
        return time_round_trip(self.client, repeats)
