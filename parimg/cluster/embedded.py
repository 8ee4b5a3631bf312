"""The embedded cluster: an ipcluster on this machine that starts and ends with a controller of ours.

Used by `parimg.controller.starting.start`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import threading
from typing import TYPE_CHECKING, Any

import ipyparallel as ipp
import psutil
from traitlets.config import Config

from parimg.cluster import farewell
from parimg.cluster.ipyparallel_internals import exit_code, quiet, run
from parimg.cluster.listed import cluster_file, new_cluster_id
from parimg.cluster.parent_poller import FAREWELL
from parimg.cluster.security import find_security
from parimg.engine.setup import thread_environment
from parimg.errors import ClusterError

if TYPE_CHECKING:
    from parimg.cluster.engine_pool import ClientEngines
    from parimg.job.work_left import WorkLeft

_HEARTBEAT_MS = 200  # the Hub registers an engine at its next heartbeat; ipyparallel's 3 s is most of its start
_MISSED_HEARTBEATS = 150  # and yet an engine counts as dead only after 30 s, as with ipyparallel's own settings
_START_TIMEOUT = 120  # s, for a machine that is busy
_BUSY_ENGINE_SECONDS = 1.0  # to end in order when the cluster stops
_LINGER_MS = 1000  # without, a message to a controller that is gone would be waited for
_LOG_LINES, _LOG_BYTES = 5, 4_000
_NOISE = ("[KernelNanny", "Handling apply_request")  # lines of every engine's log
_MOST_SETS = 50  # of engines that were started to replace others


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

    client: ipp.Client

    def __init__(self, n: int, *, curve: bool = False) -> None:
        self._n = n
        self._curve = curve
        self._starting = threading.Lock()
        self._start()

    def _start(self) -> None:
        self._folder = tempfile.mkdtemp(prefix="parimg-cluster-")
        cluster_id = new_cluster_id()
        self._listed = cluster_file(cluster_id)
        self._cluster = ipp.Cluster(
            config=_embedded_config(self._folder, self._listed, curve=self._curve),
            cluster_id=cluster_id,
            cluster_file=self._listed,
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
            with quiet():
                self.client = run(self._cluster.start_and_connect())
            self.security = find_security(self._cluster.controller.connection_files["client"], self.client)
            hub = self._cluster.controller.process
            self._controller = [hub, *hub.children(recursive=True)]  # the schedulers are processes of their own
        except BaseException as error:
            with contextlib.suppress(Exception):
                self._end_cluster()
            if isinstance(error, Exception):
                raise ClusterError(f"the embedded cluster of {self._n} engines did not start: {error}") from error
            raise

    def restart(self) -> None:
        """Start anew, with another client, after the controller was lost."""
        lost_client = self.client
        for process in [*self._controller, *(launcher.process for launcher in self._launchers().values())]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()  # it may be stopped (SIGSTOP), and then heeds nothing else
        with contextlib.suppress(Exception):
            self._end_cluster()
        self._start()
        with contextlib.suppress(Exception):
            lost_client.close(linger=0)

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
            exit_code(launcher)
        self.top_up()
        return "starting another"

    def top_up(self) -> None:
        """Start engines until there are as many processes as there should be."""
        with self._starting:
            if self._is_stopped:
                return
            missing = self._n - sum(_lives(launcher.process) for launcher in self._launchers().values())
            if missing > 0:
                self._forget_dead_sets()
                with quiet():
                    run(self._cluster.start_engines(missing))

    def look_after(self, engines: ClientEngines, work: WorkLeft | None) -> None:
        """Start what engines are missing, however they were lost."""
        del engines, work
        self.top_up()

    def _forget_dead_sets(self) -> None:
        sets = self._cluster.engines
        dead = [
            name
            for name, engine_set in sets.items()
            if not any(_lives(launcher.process) for launcher in engine_set.launchers.values())
        ]
        for name in dead[: max(0, len(sets) - _MOST_SETS)]:
            del sets[name]

    def exit_reason(self, pid: int) -> str:
        """How the process of a dead engine ended, with the last lines of its log."""
        launcher = self._launchers().get(pid)
        if launcher is None:
            return ""
        code = exit_code(launcher)
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
        """Close the client, end all processes and remove the folder."""
        self.client.close(linger=_LINGER_MS)
        self._end_cluster()

    def _end_cluster(self) -> None:
        with self._starting:
            self._is_stopped = True
        with quiet():
            with contextlib.suppress(Exception):  # ipyparallel's own, slower way follows
                self._end_engines()
            run(self._cluster.stop_cluster())
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._listed:
            with contextlib.suppress(OSError):
                os.unlink(self._listed)

    def _end_engines(self) -> None:
        """End all engines at once; ipyparallel waits five seconds for each one that is busy."""
        engines = [launcher.process for launcher in self._launchers().values()]
        run(self._cluster.signal_engines(signal.SIGTERM))
        _, busy = psutil.wait_procs(engines, _BUSY_ENGINE_SECONDS)
        for process in busy:
            process.kill()


def _lives(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    return False


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


def _embedded_config(folder: str, listed: str, *, curve: bool) -> Config:
    poller = [sys.executable, "-m", "parimg.cluster.parent_poller", str(os.getpid())]
    engine_cmd = [*poller, "ipyparallel.engine"]
    return Config(
        {
            "Cluster": {"delay": 0.0, "engine_timeout": _START_TIMEOUT},
            "LocalControllerLauncher": {
                "controller_cmd": [*poller, "ipyparallel.controller"],
                "environment": {FAREWELL: json.dumps(farewell.command(folder, listed))},
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
