"""Controller: start or connect to an ipcluster, look after its engines, submit jobs.

A client-side object; it holds one ipyparallel `Client` and, if it started the cluster, the `Cluster`. Jobs run
each in a thread of their own, so everything works the same in a script, in IPython and in a notebook.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Literal, cast

import ipyparallel as ipp
from traitlets.config import Config

from parimg import __version__, shared
from parimg.dispatch import Dispatcher, Plan, check_options
from parimg.engine import inspect_engine, prepare_engine, receive_shared, run_chunk, thread_environment
from parimg.errors import ClusterError, EngineVersionError, JobError, ProfileNotFoundError, SourceError, TaskError
from parimg.job import Job, print_line, stop_gracefully
from parimg.journal import Journal, JournalWriter
from parimg.sources import Source, as_source, source_from_spec
from parimg.tasks.function import Function
from parimg.tasks.task import Task

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from parimg.events import Listener

DEFAULT_MAX_PIXELS = 2**28
_HEARTBEAT_MS = 200  # the Hub registers an engine at its next heartbeat; ipyparallel's 3 s is most of its start
_MISSED_HEARTBEATS = 150  # and yet an engine counts as dead only after 30 s, as with ipyparallel's own settings
_START_TIMEOUT = 120  # s, for a machine that is busy
_VERSIONS = (
    "{'python': __import__('platform').python_version(), 'host': __import__('socket').gethostname(), 'parimg': "
    "__import__('parimg').__version__ if __import__('importlib.util').util.find_spec('parimg') else None}"
)


def start(n: int | None = None) -> Controller:
    """Start an embedded cluster on this machine.

    It listens on the loopback interface only, uses no IPython profile, holds each engine to one thread, and
    ends with the controller, or with this process.

    Parameters
    ----------
    n : int, optional
        Number of engines, by default that of the processors this process may use.

    Returns
    -------
    Controller

    Raises
    ------
    ClusterError
        If the engines do not come up.

    Examples
    --------
    >>> import parimg
    >>> with parimg.start(n=1) as ctl:  # doctest: +SKIP
    ...     job = ctl.map(np.mean, "photos/")
    """
    if n is None:
        n = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise ClusterError(f"n must be a number of engines of at least 1 (got {n!r})")
    folder = tempfile.mkdtemp(prefix="parimg-cluster-")
    cluster = _embedded_cluster(n, folder)
    try:
        client = _quietly(cluster.start_and_connect_sync)
    except Exception as error:
        with contextlib.suppress(Exception):
            cluster.stop_cluster_sync()
        shutil.rmtree(folder, ignore_errors=True)
        raise ClusterError(f"the embedded cluster of {n} engines did not start: {error}") from error
    return Controller(client, cluster, folder)


def connect(profile: str | None = None, cluster_id: str = "", *, timeout: float = 60.0) -> Controller:
    """Connect to a cluster that ``ipcluster start`` brought up.

    Parameters
    ----------
    profile : str, optional
        IPython profile of the cluster, by default ``"default"``, as for ``ipcluster start``.
    cluster_id : str, optional
        As given to ``ipcluster start --cluster-id``.
    timeout : float
        Seconds to wait for the controller and the first engine.

    Returns
    -------
    Controller

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If no cluster runs under it, or no engine registers.
    EngineVersionError
        If an engine has another Python minor version or another parimg; both are named.
    """
    profile_dir = _profile_dir(profile or "default")
    name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
    connection_file = os.path.join(profile_dir, "security", name)
    start_command = "ipcluster start -n 4" + (f" --profile={profile}" if profile else "")
    start_command += f" --cluster-id={cluster_id}" if cluster_id else ""
    if not os.path.exists(connection_file):
        raise ClusterError(f"no cluster runs here: there is no {connection_file!r}; start one by `{start_command}`")
    try:
        client = ipp.Client(connection_file, timeout=min(timeout, 10))
    except (TimeoutError, OSError) as error:
        raise ClusterError(
            f"the cluster of {connection_file!r} does not answer ({error}); if it was killed, start it anew by "
            f"`{start_command}`"
        ) from error
    controller = Controller(client)
    try:
        controller._wait_for_engine(timeout, start_command)  # noqa: SLF001 - part of making a controller
        controller._check_engines()  # noqa: SLF001
    except BaseException:
        controller.close()
        raise
    return controller


class Controller:
    """Drives one ipcluster: submits jobs, and looks after its engines.

    Made by `start` and `connect`; a context manager that closes itself.

    Attributes
    ----------
    client : ipyparallel.Client
    """

    def __init__(self, client: ipp.Client, cluster: ipp.Cluster | None = None, folder: str | None = None) -> None:
        self.client = client
        self._cluster = cluster
        self._folder = folder
        self._jobs: list[tuple[Job, Dispatcher]] = []
        self._closing = threading.Event()
        self.client._registration_callbacks.append(self._engine_came_or_went)  # noqa: SLF001 - there is no other hook
        for engine_id in self.client.ids:
            self._prepare(engine_id)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and issubclass(kind, KeyboardInterrupt):
            for job, _ in self._jobs:
                stop_gracefully(job)
        self.close()

    def __repr__(self) -> str:
        kind = "embedded cluster" if self._cluster is not None else "cluster"
        running = sum(dispatcher.state == "running" for _, dispatcher in self._jobs)
        state = "closed" if self._closing.is_set() else f"{len(self.client.ids)} engines, {running} jobs running"
        return f"<Controller of {'an' if self._cluster is not None else 'a'} {kind}: {state}>"

    def __len__(self) -> int:
        return len(self.client.ids)

    def __bool__(self) -> bool:
        return True

    @property
    def engines(self) -> list[int]:
        """Ids of the engines there are now."""
        return list(self.client.ids)

    def close(self) -> None:
        """Stop running jobs in order, disconnect, and end the cluster if it is ours."""
        if self._closing.is_set():
            return
        self._closing.set()
        for _, dispatcher in self._jobs:
            dispatcher.stop()
        for _, dispatcher in self._jobs:
            dispatcher.join()
        self.client.close()
        if self._cluster is not None:
            _quietly(self._cluster.stop_cluster_sync)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    # -- jobs -------------------------------------------------------------------------------------------------

    def submit(
        self,
        task: Task,
        images: object,
        *,
        job_dir: str | os.PathLike[str] | None = None,
        column: str | None = None,
        retries: int = 2,
        chunk_size: int | None = None,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        listeners: Iterable[Listener] = (),
    ) -> Job:
        """Run a task on every image of a source.

        Parameters
        ----------
        task : Task
            What is done to each image.
        images : path, glob, folder, URL, text file, table, list or generator of these, or ``(key, array)`` pairs
            Where they come from; see `parimg.sources`. Listed while the job runs.
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
        """
        if not isinstance(task, Task):
            hint = "; for a plain function there is ctl.map(function, images)" if callable(task) else ""
            raise TaskError(f"task must be a parimg task (got {task!r:.80}, a {type(task).__name__}){hint}")
        check_options(retries, chunk_size, max_pixels)
        self._check_open()
        source = as_source(images, column=column)
        task.resolve()
        directory = os.path.abspath(os.fspath(job_dir)) if job_dir is not None else new_job_dir(task.name)
        options: dict[str, Any] = {"retries": retries, "chunk_size": chunk_size, "max_pixels": max_pixels}
        journal = JournalWriter.create(directory, {"created": time.time(), "total": None})
        try:
            refs = shared.write_task(os.path.join(directory, "shared"), task)
        except BaseException:
            journal.close()
            shutil.rmtree(directory, ignore_errors=True)
            raise
        about = {"name": task.name, "parameters": task.describe(), "columns": dict(task.columns), "refs": refs}
        journal.set_meta("task", about)
        journal.set_meta("source", source.spec())
        journal.set_meta("options", options)
        journal.set_meta("versions", {"parimg": __version__, "python": platform.python_version()})
        return self._start(journal, Plan(tuple(refs), source, retry_failed=False, **options), listeners)

    def map(
        self, function: Callable[..., object], images: object, *, color: Literal["unchanged", "gray", "color"] = "unchanged", **options: Any
    ) -> Job:
        """Run any function of one array on every image; ``options`` are those of `submit`.

        Parameters
        ----------
        function : callable
            Also a lambda, or one defined in a notebook cell.
        images : see `submit`
        color : {"unchanged", "gray", "color"}
            How images are decoded.

        Returns
        -------
        Job
            What the function returns for an image is ``record["value"]``, or its columns if it is a mapping.
        """
        return self.submit(Function(function, color=color), images, **options)

    def resume(
        self,
        path: str | os.PathLike[str],
        *,
        retry: Literal["failed"] | None = None,
        images: object = None,
        listeners: Iterable[Listener] = (),
    ) -> Job:
        """Run what an earlier run of a job did not record.

        Parameters
        ----------
        path : path
            The job's directory.
        retry : {"failed"}, optional
            Also run the images that failed again; their records are replaced.
        images : optional
            The source once more, needed if it was a generator or arrays.

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
        self._check_open()
        directory = os.path.abspath(os.fspath(path))
        found = Journal(directory)
        try:
            about, options, spec = found.meta("task"), found.meta("options"), found.meta("source")
        finally:
            found.close()
        if about is None or options is None:
            raise JobError(f"the job {directory!r} was killed before it began; submit it anew")
        source: Source = as_source(images) if images is not None else source_from_spec(spec)
        refs = tuple(shared.SharedRef(*ref) for ref in about["refs"])
        journal = JournalWriter.resume(directory)
        plan = Plan(refs, source, retry_failed=retry == "failed", **options)
        return self._start(journal, plan, listeners)

    def _start(self, journal: JournalWriter, plan: Plan, listeners: Iterable[Listener]) -> Job:
        dispatcher = Dispatcher(plan, journal, _ClientEngines(self.client), list(listeners))
        job = Job(Journal(journal.directory), dispatcher)
        self._jobs = [(other, run) for other, run in self._jobs if run.state == "running"]
        self._jobs.append((job, dispatcher))
        dispatcher.start()
        return job

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise ClusterError("this controller is closed; make another by parimg.start() or parimg.connect()")

    # -- engines ----------------------------------------------------------------------------------------------

    def inspect(self, timeout: float = 10.0) -> dict[int, dict[str, Any]]:
        """What each engine says of itself: host, process, versions, threads, memory (bytes), round trip (s).

        Engines that do not answer within `timeout` seconds are left out.
        """
        answers = {}
        for engine_id in self.engines:
            begin = time.perf_counter()
            with contextlib.suppress(TimeoutError, ipp.error.RemoteError):
                self.client[engine_id].apply_async(os.getpid).get(timeout)
                round_trip = time.perf_counter() - begin
                answer = self.client[engine_id].apply_async(inspect_engine).get(timeout)
                answers[engine_id] = {**answer, "round_trip": round_trip}
        return answers

    def time_round_trip(self, repeats: int = 20) -> dict[str, float]:
        """Where the time of a round trip goes: medians of `repeats` measurements, seconds."""
        import statistics

        def median(call: Callable[[], object]) -> float:
            seconds = []
            for _ in range(repeats):
                begin = time.perf_counter()
                call()
                seconds.append(time.perf_counter() - begin)
            return statistics.median(seconds)

        view = self.client.load_balanced_view()
        megabyte = bytes(2**20)
        times = {
            "packing an empty message": median(lambda: ipp.serialize.pack_apply_message(len, (b"",), {})),
            "one engine, direct": median(lambda: self.client[self.engines[0]].apply_sync(len, b"")),
            "through the load-balancing scheduler": median(lambda: view.apply_sync(len, b"")),
            "the same with 1 MiB of data": median(lambda: view.apply_sync(len, megabyte)),
        }
        self.client.history.clear()
        return times

    def _engine_came_or_went(self, event: dict[str, Any]) -> None:
        """Called from the client's thread."""
        if self._closing.is_set():
            return
        if event["event"] == "register":
            self._prepare(int(event["id"]))
        elif self._cluster is not None:
            print_line(f"engine {event['id']} died; starting another")
            # Not here: starting an engine waits for messages that this very thread delivers.
            threading.Thread(target=self._replace_engine, name="parimg-replace", daemon=True).start()

    def _prepare(self, engine_id: int) -> None:
        # Not waited for: a busy engine does it before its next chunk at the latest.
        with contextlib.suppress(ipp.error.NoEnginesRegistered, IndexError):
            self.client[engine_id].apply_async(prepare_engine)

    def _replace_engine(self) -> None:
        cluster = cast(ipp.Cluster, self._cluster)
        with contextlib.suppress(Exception):  # the cluster may be closing
            _quietly(cluster.start_engines_sync, 1)

    def _wait_for_engine(self, timeout: float, start_command: str) -> None:
        deadline = time.monotonic() + timeout
        while not self.client.ids:
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"the cluster has no engine after {timeout:g} s; `{start_command}` starts one with four"
                )
            time.sleep(0.05)

    def _check_engines(self) -> None:
        ours = f"Python {_minor(platform.python_version())} and parimg {__version__}"
        for engine_id in self.engines:
            # An expression, not a function: byte code of another Python minor version cannot be trusted to load.
            found = self.client[engine_id].apply_async(eval, _VERSIONS).get(60)
            theirs = f"Python {_minor(found['python'])} and parimg {found['parimg'] or 'not installed'}"
            if ours != theirs:
                raise EngineVersionError(
                    f"engine {engine_id} on {found['host']} has {theirs}, this client {ours}; start the engines in "
                    "an environment with the same versions"
                )


class _ClientEngines:
    """The dispatcher's view of the cluster."""

    def __init__(self, client: ipp.Client) -> None:
        self._client = client
        self._view = client.load_balanced_view()

    def count(self) -> int:
        return len(self._client.ids)

    def run(self, chunk: bytes) -> ipp.AsyncResult:
        result = self._view.apply_async(run_chunk, chunk)
        # ipyparallel keeps the id of every message for ever.
        self._view.history.clear()
        self._client.history.clear()
        return result

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        return cast(Future[None], self._client[engine_id].apply_async(receive_shared, digest, data))


def jobs_folder() -> str:
    """Folder of the jobs that were given no directory."""
    import platformdirs

    return os.environ.get("PARIMG_JOBS_DIR") or os.path.join(platformdirs.user_data_dir("parimg"), "jobs")


def new_job_dir(name: str) -> str:
    """Path of a new job's directory, ``20261122-093015-MatchSIFT``, made so that it sorts by time."""
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = jobs_folder()
    for attempt in range(1000):
        path = os.path.join(folder, f"{stamp}-{re.sub(r'[^A-Za-z0-9_]', '', name)}" + (f"-{attempt}" if attempt else ""))
        with contextlib.suppress(FileExistsError):
            os.makedirs(path, mode=0o700)
            return path
    raise JobError(f"no free name for a job in {folder!r}")


def _embedded_cluster(n: int, folder: str) -> ipp.Cluster:
    lifeline = [sys.executable, "-m", "parimg.lifeline"]
    engine = {"engine_cmd": [*lifeline, "ipyparallel.engine"]}
    config = Config(
        {
            "Cluster": {"delay": 0.0, "engine_timeout": _START_TIMEOUT},
            "LocalControllerLauncher": {"controller_cmd": [*lifeline, "ipyparallel.controller"]},
            "LocalEngineSetLauncher": {"delay": 0.0, "environment": thread_environment(), **engine},
            "LocalEngineLauncher": engine,
        }
    )
    return ipp.Cluster(
        config=config,
        n=n,
        profile_dir=folder,
        load_profile=False,
        controller_ip="127.0.0.1",
        controller_args=[
            "--nodb",
            f"--HeartMonitor.period={_HEARTBEAT_MS}",
            f"--HeartMonitor.max_heartmonitor_misses={_MISSED_HEARTBEATS}",
        ],
        log_level=40,
    )


def _quietly(call: Callable[..., Any], *args: Any) -> Any:
    """Call something of ipyparallel without its bar of registering engines."""
    before = ipp._NONINTERACTIVE  # noqa: SLF001 - its own switch
    ipp._NONINTERACTIVE = True  # noqa: SLF001
    try:
        return call(*args)
    finally:
        ipp._NONINTERACTIVE = before  # noqa: SLF001


def _profile_dir(profile: str) -> str:
    from IPython.paths import get_ipython_dir

    ipython_dir = get_ipython_dir()
    path = os.path.join(ipython_dir, f"profile_{profile}")
    if not os.path.isdir(path):
        found = sorted(name[8:] for name in os.listdir(ipython_dir) if name.startswith("profile_")) if os.path.isdir(ipython_dir) else []
        raise ProfileNotFoundError(
            f"there is no IPython profile {profile!r} (no folder {path!r}); there are {', '.join(found) or 'none'}. "
            f"`parimg profiles install` makes ready ones, `ipython profile create --parallel {profile}` an empty one"
        )
    return path


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])
