"""Caretaker: what is done about engines that come or die, and about the loss of the ipcluster's controller.

It hears of engines from ipyparallel's client, and of the controller from a heartbeat of its own while jobs run. An
embedded cluster is mended here; a foreign one is asked for engines where its cluster file allows.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any, Protocol

from parimg.cluster.engine_pool import ClientEngines
from parimg.cluster.heartbeat import Heartbeat
from parimg.cluster.security import Security
from parimg.console import print_line
from parimg.errors import ClusterError, ControllerLost
from parimg.job.run_state import LiveRun

if TYPE_CHECKING:
    import ipyparallel as ipp

_PREPARE_TIMEOUT = 30.0  # s
_LOOK_SECONDS = 0.01
_MOST_STARTS = 3


class Cluster(Protocol):
    """The ipcluster under a controller, own or foreign."""

    client: ipp.Client
    security: Security
    is_own: bool

    def replace_engine(self, pid: int | None) -> str:
        """Start another engine for a lost one, which may still run as process `pid`, and say what was done."""

    def complete(self) -> None:
        """Start what engines are missing, where that is ours to do."""

    def tell_end(self, pid: int) -> str:
        """How the process of an engine ended, empty if that is not known."""

    def find_death(self) -> str:
        """Which part of the controller died, empty if all live or that is not known."""

    def restart(self) -> ipp.Client:
        """Start anew after the controller was lost; ClusterError if that is not ours to do."""

    def stop(self) -> None:
        """End it if it is ours."""


class Caretaker:
    """Looks after one cluster and the jobs on it.

    Parameters
    ----------
    cluster : Cluster

    Attributes
    ----------
    client : ipyparallel.Client
        Another one after the cluster was started anew.
    engines : ClientEngines
    lost : str
        Why the controller is gone for good, empty while it is there.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.client = cluster.client
        self.engines = ClientEngines(self.client, cluster.tell_end)
        self.lost = ""
        self._cluster = cluster
        self._jobs: list[LiveRun] = []
        self._lock = threading.Lock()
        self._is_closing = False
        self._take_over()

    def watch(self, job: LiveRun) -> None:
        """Look after a job that is about to start."""
        with self._lock:
            self._jobs = [*self.running_jobs(), job]
        if self.lost:
            job.lose_controller(self.lost)

    def running_jobs(self) -> list[LiveRun]:
        """Jobs that have not ended."""
        return [job for job in self._jobs if not job.ready()]

    def check(self) -> None:
        """Refuse to go on with a lost controller.

        Raises
        ------
        ControllerLost
        """
        if self.lost:
            raise ControllerLost(f"{self.lost}; make another by parimg.start() or parimg.connect()")

    def close(self) -> None:
        """Stop the jobs in order, disconnect, and end the cluster if it is ours."""
        self._is_closing = True
        try:
            for job in self.running_jobs():
                job.stop()
        finally:
            self._end_heartbeat()
            self.client.close(
                linger=1000
            )  # ms; without, a message to a controller that is gone would be waited for
            self._cluster.stop()

    def _end_heartbeat(self) -> None:
        ended = None
        while ended is not self._heartbeat:  # it may just have started the cluster anew
            ended = self._heartbeat
            ended.stop()

    def _take_over(self) -> None:
        """Begin to look after the cluster as it is now."""
        starts = 1
        while not self._settles():
            if starts == _MOST_STARTS:
                self.client.close(linger=0)
                self._cluster.stop()
                raise ClusterError(f"the cluster was started {starts} times, and no engine answered")
            starts += 1
            self._restart()
        self._watch_controller()

    def _settles(self) -> bool:
        """Wait until the engines answer; False if that cannot be, and another start may help.

        The ports of a controller are chosen before they are used. If another program of this machine takes one in
        between, a scheduler dies at its start, and engines are there that nothing reaches.
        """
        self.client._registration_callbacks.append(self._engine_came_or_went)  # noqa: SLF001 - there is no other
        if not self._cluster.is_own:  # engines of others may be busy, and are waited for by nobody but the chunks
            self.engines.ready()
            return True
        deadline = time.monotonic() + _PREPARE_TIMEOUT
        while len(self.engines.ready()) < len(self.engines.ids()) and time.monotonic() < deadline:
            if self._cluster.find_death():
                return False
            time.sleep(_LOOK_SECONDS)
        return bool(self.engines.ready())

    def _restart(self) -> None:
        lost_client = self.client
        self.engines.use(None)
        self.client = self._cluster.restart()
        self.engines.use(self.client)
        with contextlib.suppress(Exception):
            lost_client.close(linger=0)

    def _watch_controller(self) -> None:
        self._heartbeat = Heartbeat(
            self.client,
            lambda: bool(self.running_jobs()),
            self._cluster.find_death,
            self._complete,
            self._lose_controller,
        )
        self._heartbeat.start()

    # -- engines ----------------------------------------------------------------------------------------------

    def _engine_came_or_went(self, event: dict[str, Any]) -> None:
        """Called from the client's thread."""
        if self._is_closing:
            return
        engine_id = int(event["id"])
        if event["event"] == "register":
            self.engines.ready()  # begins the handshake
            return
        self.engines.end_lost(event["uuid"])
        if self._cluster.is_own or self.running_jobs():
            # Not here: starting an engine waits for messages that this very thread delivers.
            arguments = (engine_id, self.engines.process(engine_id))
            threading.Thread(target=self._replace, args=arguments, name="parimg-replace", daemon=True).start()

    def _replace(self, engine_id: int, process: tuple[str, int] | None) -> None:
        try:
            done = self._cluster.replace_engine(process[1] if process is not None else None)
        except Exception as error:
            done = f"no other could be started: {error}"
        if not self._is_closing:
            print_line(f"engine {engine_id} died; {done}")

    def _complete(self) -> None:
        with contextlib.suppress(Exception):  # the next beat tries again
            self._cluster.complete()

    # -- the controller ---------------------------------------------------------------------------------------

    def _lose_controller(self, reason: str) -> None:
        """Called from the heartbeat's thread."""
        told = f"the controller of the cluster is lost: {reason}"
        jobs = self.running_jobs()
        again = not self._is_closing and self._cluster.is_own and all(job.restarts == 0 for job in jobs)
        self.engines.use(None)
        if again:
            print_line(f"{told}; starting another")
            for job in jobs:
                job.lose_controller(None)
            try:
                self._restart()
                self._take_over()
            except ClusterError as error:
                told = f"{told}, and another could not be started: {error}"
            else:
                return
        self.lost = told
        for job in self.running_jobs():
            job.lose_controller(told)
