"""A cluster of a profile that starts and ends with a controller of ours: on other hosts, or in a queue.

Used by `parimg.controller.starting.start`.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import tempfile
import time
from typing import TYPE_CHECKING, Any

import ipyparallel as ipp
from traitlets.config import Config

from parimg.cluster import farewell, profiles
from parimg.cluster.allocation import Allocation
from parimg.cluster.foreign import ForeignCluster, find_profile, stop_all
from parimg.cluster.ipyparallel_internals import quiet, run
from parimg.cluster.listed import new_cluster_id
from parimg.cluster.parent_poller import FAREWELL
from parimg.errors import ClusterError

if TYPE_CHECKING:
    from parimg.cluster.engine_pool import ClientEngines
    from parimg.job.work_left import WorkLeft

_TOGETHER_SECONDS = 15.0  # in which the other engines follow the first
_GONE_SECONDS = 5.0  # without an engine, until others are started; replacements were asked for within two
_MOST_WAKES = 3  # starts of which no engine came
_LINES = 6  # of engines that ended at once that are quoted


class StartedCluster(ForeignCluster):
    """What ``ipcluster start --profile=NAME -n N`` starts, until it is stopped.

    Its controller ends with this process, also when that is killed, and engines end half a minute after it.

    Parameters
    ----------
    profile_dir : path
    n : int
        Number of engines.
    timeout : float
        Seconds to wait for the first; others may come later.
    folder : path, optional
        Removed at the end.

    Raises
    ------
    ClusterError, EngineVersionError
        As `ForeignCluster`; nothing is left running or queued then.
    """

    def __init__(self, profile_dir: str, n: int, timeout: float, folder: str | None = None) -> None:
        self._folder = folder
        cluster_id = new_cluster_id()
        self._started = ipp.Cluster(
            profile_dir=profile_dir,
            cluster_id=cluster_id,
            n=n,
            shutdown_atexit=False,
            config=_ends_with_us(folder, profile_dir, cluster_id),
            log_level=40,
        )
        try:
            with quiet():
                run(self._started.start_controller())
            time.sleep(self._started.delay)  # as ipcluster does
            self._start_engines(n)
            self._connect(profile_dir, cluster_id, f"parimg.start({n}, ...)", timeout)
            deadline = time.monotonic() + _TOGETHER_SECONDS
            while len(self.client.ids) < n and time.monotonic() < deadline:
                time.sleep(0.05)
            self._had = n
            self._seen_at, self._wakes = time.monotonic(), 0
        except BaseException as error:
            self._end()
            if isinstance(error, Exception) and not isinstance(error, ClusterError):
                raise ClusterError(f"the cluster of {profile_dir!r} did not start: {error}") from error
            raise

    @classmethod
    def of_profile(cls, profile: str, n: int, timeout: float) -> StartedCluster:
        """By the settings of an installed profile."""
        return cls(find_profile(profile), n, timeout)

    @classmethod
    def of_allocation(cls, allocation: Allocation, n: int, timeout: float) -> StartedCluster:
        """On all hosts that a batch system allotted to this process, by a profile that comes with parimg."""
        from IPython.paths import get_ipython_dir

        # Among the user's files, which other hosts see, too: there engines look for their profile.
        folder = tempfile.mkdtemp(prefix="parimg-cluster-", dir=get_ipython_dir())
        try:
            profile_dir = profiles.install(allocation.profile, settings=allocation.settings, ipython_dir=folder)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        return cls(profile_dir, n, timeout, folder)

    def _open(self) -> ipp.Cluster:
        return self._started

    def _last_words(self) -> str:
        sets = list(self._started.engines.values())
        if not sets or any(map(_may_come, sets)):
            return ""
        lines = [line.strip() for engines in sets for line in str(engines.get_output()).splitlines()]
        return " | ".join(list(filter(None, lines))[-_LINES:]) or "they said nothing"

    def _start_engines(self, n: int) -> None:
        with quiet():
            run(self._started.start_engines(n))

    def look_after(self, engines: ClientEngines, work: WorkLeft | None) -> None:
        """Start engines again if all have ended, as by the wall time of theirs, a job runs, and none is coming."""
        if work is None:
            return
        now = time.monotonic()
        if engines.ids():
            self._seen_at, self._wakes = now, 0
        elif now - self._seen_at > _GONE_SECONDS and self._wakes < _MOST_WAKES:
            with self._asking:
                self._seen_at = now
                if any(_may_come(engine_set) for engine_set in self._started.engines.values()):
                    return
                self._wakes += 1
                self._start_engines(self._had)

    def stop(self) -> None:
        """Disconnect, and end the cluster."""
        super().stop()
        self._end()

    def _end(self) -> None:
        controller = self._started.controller
        for engine_set in list(self._started.engines.values()):
            if hasattr(engine_set, "cancel"):  # all at once: stopping one waits until it has left the queue
                with contextlib.suppress(ClusterError):
                    engine_set.cancel()
        with quiet(), contextlib.suppress(Exception):
            stop_all(self._started)
        if controller is not None:
            for path in controller.connection_files.values():
                with contextlib.suppress(OSError):
                    os.unlink(path)
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


def _may_come(engine_set: Any) -> bool:
    """Whether a set that has no engine registered is on its way."""
    with contextlib.suppress(Exception):
        return engine_set.state != "after" and engine_set.poll() is None
    return False


def _ends_with_us(folder: str | None, profile_dir: str, cluster_id: str) -> Config:
    poller = [sys.executable, "-m", "parimg.cluster.parent_poller", str(os.getpid())]
    command = farewell.command(folder, "", profile_dir, cluster_id)
    return Config(
        {
            "LocalControllerLauncher": {
                "controller_cmd": [*poller, "ipyparallel.controller"],
                "environment": {FAREWELL: json.dumps(command)},
            }
        }
    )
