"""The ipcluster under a controller: start an embedded one, find a running one.

Everything that leans on ipyparallel's inner ways stands here. Used by `parimg.controller` only.
"""

from __future__ import annotations

import contextlib
import os
import platform
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import ipyparallel as ipp
import psutil
from traitlets.config import Config

from parimg import __version__
from parimg.cluster.security import find_security
from parimg.engine.setup import thread_environment
from parimg.errors import ClusterError, EngineVersionError, ProfileNotFoundError

_HEARTBEAT_MS = 200  # the Hub registers an engine at its next heartbeat; ipyparallel's 3 s is most of its start
_MISSED_HEARTBEATS = 150  # and yet an engine counts as dead only after 30 s, as with ipyparallel's own settings
_START_TIMEOUT = 120  # s, for a machine that is busy
_ANSWER_SECONDS = 5.0  # in which an idle engine tells its versions
_BUSY_ENGINE_SECONDS = 1.0  # to end in order when the cluster stops
_MOST_ASKED = 3  # engines asked of a foreign cluster for each that it had: it may be shrinking on purpose
_LAST_SECONDS = 1.0  # in which a dying engine ends, after its loss was told
_LOG_LINES, _LOG_BYTES = 5, 4_000
_NOISE = ("[KernelNanny", "Handling apply_request")  # lines of every engine's log
_MOST_SETS = 50  # of engines that were started to replace others
_VERSIONS = (
    "{'python': __import__('platform').python_version(), 'host': __import__('socket').gethostname(), 'parimg': "
    "__import__('parimg').__version__ if __import__('importlib.util').util.find_spec('parimg') else None}"
)


class EmbeddedCluster:
    """A cluster on this machine that ends with this process.

    It listens on the loopback interface only, keeps its files in a folder of its own instead of an IPython
    profile, and its processes watch for the death of this one (`parimg.cluster.parent_poller`).

    Parameters
    ----------
    n : int
        Number of engines.
    curve : bool
        Whether messages are encrypted and authenticated.

    Raises
    ------
    ClusterError
        If they do not come up.
    """

    is_own = True

    def __init__(self, n: int, *, curve: bool = False) -> None:
        self._n = n
        self._curve = curve
        self._starting = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="parimg-cluster-")
        self._cluster = ipp.Cluster(
            config=_embedded_config(curve=self._curve),
            n=self._n,
            profile_dir=self._folder,
            load_profile=False,
            controller_ip="127.0.0.1",
            controller_args=[
                "--nodb",
                f"--HeartMonitor.period={_HEARTBEAT_MS}",
                f"--HeartMonitor.max_heartmonitor_misses={_MISSED_HEARTBEATS}",
            ],
            log_level=40,
        )
        self._controller: list[psutil.Process] = []
        self._is_stopped = False
        try:
            with _quiet():
                self.client: ipp.Client = self._cluster.start_and_connect_sync()
            self.security = find_security(self._cluster.controller.connection_files["client"], self.client)
            hub = self._cluster.controller.process
            self._controller = [hub, *hub.children(recursive=True)]  # the schedulers are processes of their own
        except BaseException as error:
            with contextlib.suppress(Exception):
                self.stop()
            if isinstance(error, Exception):
                raise ClusterError(f"the embedded cluster of {self._n} engines did not start: {error}") from error
            raise

    def restart(self) -> ipp.Client:
        """Start anew, with another client, after the controller was lost."""
        for process in [*self._controller, *(launcher.process for launcher in self._launchers().values())]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # it may be stopped (SIGSTOP), and then heeds nothing else
        with contextlib.suppress(Exception):
            self.stop()
        self._start()
        return self.client

    def find_death(self) -> str:
        """Which part of the controller died, empty if all live."""
        dead = [process.pid for process in self._controller if not _lives(process)]
        return f"its process {dead[0]} died" if dead else ""

    def replace_engine(self, pid: int | None) -> str:
        """Start another engine for one that was lost; it may still run, as process `pid`, if it was stopped."""
        launcher = self._launchers().get(pid)
        if launcher is not None:
            with contextlib.suppress(psutil.Error):
                launcher.process.kill()
            _exit_code(launcher)
        self.complete()
        return "starting another"

    def complete(self) -> None:
        """Start engines until there are as many processes as there should be."""
        with self._starting:
            if self._is_stopped:
                return
            missing = self._n - sum(_lives(launcher.process) for launcher in self._launchers().values())
            if missing > 0:
                self._forget_dead_sets()
                with _quiet():
                    self._cluster.start_engines_sync(missing)

    def _forget_dead_sets(self) -> None:
        sets = self._cluster.engines
        dead = [
            name
            for name, engine_set in sets.items()
            if not any(_lives(launcher.process) for launcher in engine_set.launchers.values())
        ]
        for name in dead[: max(0, len(sets) - _MOST_SETS)]:
            del sets[name]

    def tell_end(self, pid: int) -> str:
        """How the process of a dead engine ended, with the last lines of its log."""
        launcher = self._launchers().get(pid)
        if launcher is None:
            return ""
        code = _exit_code(launcher)
        end = (
            "" if code is None else f"killed by {_signal_name(-code)}" if code < 0 else f"exited with code {code}"
        )
        with contextlib.suppress(OSError):
            if lines := _last_lines(launcher.output_file):
                end += f"{'; ' if end else ''}its log ends: {lines}"
        return end

    def _launchers(self) -> dict[int | None, Any]:
        """The launcher of each engine process, by process id."""
        return {
            launcher.pid: launcher
            for engine_set in list(self._cluster.engines.values())
            for launcher in list(engine_set.launchers.values())
        }

    def stop(self) -> None:
        """End all processes and remove the folder."""
        with self._starting:
            self._is_stopped = True
        with _quiet():
            with contextlib.suppress(Exception):  # ipyparallel's own, slower way follows
                self._end_engines()
            self._cluster.stop_cluster_sync()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _end_engines(self) -> None:
        """End all engines at once; ipyparallel waits five seconds for each one that is busy."""
        engines = [launcher.process for launcher in self._launchers().values()]
        self._cluster.signal_engines_sync(signal.SIGTERM)
        _, busy = psutil.wait_procs(engines, _BUSY_ENGINE_SECONDS)
        for process in busy:
            process.kill()


class RunningCluster:
    """A cluster that others started, with at least one engine, all with our versions.

    Parameters
    ----------
    profile : str or None
        IPython profile, None for ``"default"``.
    cluster_id : str
        Empty for a cluster without one.
    timeout : float
        Seconds to wait for the first engine.

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If no cluster runs under it, or no engine registers in time.
    EngineVersionError
        If an engine has another Python minor version or another parimg.
    """

    is_own = False

    def __init__(self, profile: str | None, cluster_id: str, timeout: float) -> None:
        connection_file = _connection_file(profile, cluster_id)
        self.client = _connect_client(connection_file, _start_command(profile, cluster_id), timeout)
        self.security = find_security(connection_file, self.client)
        self._engines = len(self.client.ids)
        self._asked = 0
        name = f"cluster-{cluster_id}.json"
        self._cluster_file = os.path.join(_profile_dir(profile or "default"), "security", name)

    def replace_engine(self, pid: int | None) -> str:
        """Ask for another engine through the launchers that the cluster's file names."""
        del pid  # whether it still runs is for its owner to know
        left = len(self.client.ids)
        told = f"{left} are left" if left else "waiting for another"
        if not os.path.exists(self._cluster_file):
            return f"{told}; the cluster was not started by `ipcluster start`, so none was asked for"
        if self._asked >= _MOST_ASKED * self._engines:
            return f"{told}; {self._asked} others were asked for already, so no more are"
        self._asked += 1
        with _quiet():
            cluster = ipp.Cluster.from_file(self._cluster_file, log_level=40)
            cluster.start_engines_sync(1)
        return f"{told}; its cluster was asked for another"

    def complete(self) -> None:
        """Nothing: how many engines there should be is for its owner to know."""

    def tell_end(self, pid: int) -> str:
        """Nothing is known."""
        del pid
        return ""

    def find_death(self) -> str:
        """Nothing is known."""
        return ""

    def restart(self) -> ipp.Client:
        """Refuse."""
        raise ClusterError("the cluster is not ours to restart")

    def stop(self) -> None:
        """Nothing: it goes on."""


def _connection_file(profile: str | None, cluster_id: str) -> str:
    name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
    return os.path.join(_profile_dir(profile or "default"), "security", name)


def _start_command(profile: str | None, cluster_id: str) -> str:
    command = "ipcluster start -n 4" + (f" --profile={profile}" if profile else "")
    return command + (f" --cluster-id={cluster_id}" if cluster_id else "")


def _connect_client(connection_file: str, start_command: str, timeout: float) -> ipp.Client:
    if not os.path.exists(connection_file):
        raise ClusterError(
            f"no cluster runs here: there is no {connection_file!r}; start one by `{start_command}`"
        )
    try:
        client = ipp.Client(connection_file, timeout=min(timeout, 10))
    except (TimeoutError, OSError) as error:
        raise ClusterError(
            f"the cluster of {connection_file!r} does not answer ({error}); if it was killed, start it anew by "
            f"`{start_command}`"
        ) from error
    try:
        _wait_for_engine(client, timeout, start_command)
        _check_versions(client, min(timeout, _ANSWER_SECONDS))
    except BaseException:
        client.close()
        raise
    return client


def time_round_trip(client: ipp.Client, repeats: int) -> dict[str, float]:
    """Where the time of a round trip goes: medians of `repeats` measurements, seconds."""
    import statistics

    def median(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    balanced = client.load_balanced_view()
    direct = client[client.ids[0]]
    megabyte = bytes(2**20)
    times = {
        "packing an empty message": median(lambda: ipp.serialize.pack_apply_message(len, (b"",), {})),
        "one engine, direct": median(lambda: direct.apply_sync(len, b"")),
        "through the load-balancing scheduler": median(lambda: balanced.apply_sync(len, b"")),
        "the same with 1 MiB of data": median(lambda: balanced.apply_sync(len, megabyte)),
    }
    client.history.clear()
    return times


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


def _exit_code(launcher: Any) -> int | None:
    """Exit code of a process that is dying, None if it does not, negative if it was killed by a signal."""
    # The launcher's own thread reaps it; another that waits would find nothing, and spoil what the first found.
    launcher._wait_thread.join(_LAST_SECONDS)  # noqa: SLF001
    if launcher._wait_thread.is_alive():  # noqa: SLF001
        return None
    code: int | None = launcher.process.wait(0)
    return code


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def _last_lines(path: str) -> str:
    """The end of a log in one line."""
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - _LOG_BYTES))
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip() and not any(noise in line for noise in _NOISE)]
    return " | ".join(said[-_LOG_LINES:])


def _embedded_config(*, curve: bool) -> Config:
    poller = [sys.executable, "-m", "parimg.cluster.parent_poller", str(os.getpid())]
    engine_cmd = [*poller, "ipyparallel.engine"]
    return Config(
        {
            "Cluster": {"delay": 0.0, "engine_timeout": _START_TIMEOUT},
            "LocalControllerLauncher": {
                "controller_cmd": [*poller, "ipyparallel.controller"],
                "controller_args": ["--IPController.enable_curve=True"] if curve else [],
            },
            "LocalEngineLauncher": {"engine_cmd": engine_cmd},
            "LocalEngineSetLauncher": {
                "engine_cmd": engine_cmd,
                "delay": 0.0,
                "environment": thread_environment(),
            },
        }
    )


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep ipyparallel from drawing its bar of registering engines."""
    before = ipp._NONINTERACTIVE  # noqa: SLF001 - its own switch
    ipp._NONINTERACTIVE = True  # noqa: SLF001
    try:
        yield
    finally:
        ipp._NONINTERACTIVE = before  # noqa: SLF001


def _profile_dir(profile: str) -> str:
    from IPython.paths import get_ipython_dir

    ipython_dir = get_ipython_dir()
    path = os.path.join(ipython_dir, f"profile_{profile}")
    if not os.path.isdir(path):
        # ipyparallel would make an empty profile of a name that was typed wrong.
        names = sorted(os.listdir(ipython_dir)) if os.path.isdir(ipython_dir) else []
        found = [name.removeprefix("profile_") for name in names if name.startswith("profile_")]
        raise ProfileNotFoundError(
            f"there is no IPython profile {profile!r} (no folder {path!r}); there are "
            f"{', '.join(found) or 'none'}. `parimg profiles list` shows ready ones, `ipython profile create "
            f"--parallel {profile}` makes an empty one"
        )
    return path


def _wait_for_engine(client: ipp.Client, timeout: float, start_command: str) -> None:
    deadline = time.monotonic() + timeout
    while not client.ids:
        if time.monotonic() > deadline:
            raise ClusterError(
                f"the cluster has no engine after {timeout:g} s; `{start_command}` starts one with four"
            )
        time.sleep(0.05)


def _check_versions(client: ipp.Client, timeout: float) -> None:
    """Compare versions with every engine that answers in time; a busy one is asked again by its first chunk."""
    ours = _versions(platform.python_version(), __version__)
    # An expression, not a function: byte code of another Python minor version cannot be trusted to load.
    answers = [(engine_id, client[engine_id].apply_async(eval, _VERSIONS)) for engine_id in client.ids]
    deadline = time.monotonic() + timeout
    for engine_id, answer in answers:
        if not answer.wait(max(0.0, deadline - time.monotonic())):
            continue
        found: dict[str, Any] = answer.get()
        theirs = _versions(found["python"], found["parimg"])
        if ours != theirs:
            raise EngineVersionError(
                f"engine {engine_id} on {found['host']} has {theirs}, this client has {ours}; start the engines "
                "in an environment with the same versions"
            )


def _versions(python: str, parimg: str | None) -> str:
    return f"Python {'.'.join(python.split('.')[:2])} and {f'parimg {parimg}' if parimg else 'no parimg'}"
