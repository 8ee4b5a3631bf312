"""Supervisor: what is done about engines that come or die, and about the loss of the ipcluster's controller.

It hears of engines from ipyparallel's client, and of the controller from a heartbeat of its own while jobs run. An
embedded cluster is repaired here; a foreign one is asked for engines where its cluster file allows.
"""

from __future__ import annotations

import contextlib
import threading
import time
from typing import Any

from parimg.cluster.cluster import Cluster
from parimg.cluster.engine_pool import ClientEngines
from parimg.cluster.heartbeat import Heartbeat
from parimg.cluster.ipyparallel_internals import on_registration
from parimg.console import print_line
from parimg.errors import ClusterError, ControllerLost
from parimg.job.run_state import LiveRun
from parimg.job.work_left import WorkLeft

_PREPARE_TIMEOUT = 30.0  # s
_LOOK_SECONDS = 0.01
_MOST_STARTS = 3


class Supervisor:
    """Looks after one cluster and the jobs on it.

    Owner of what runs: the list of jobs, the heartbeat, and whether the controller is lost. The client is the
    cluster's.

    Parameters
    ----------
    cluster : Cluster

    Attributes
    ----------
    engines : ClientEngines
    lost : str
        Why the controller is gone for good, empty while it is there.
    """

    def __init__(self, cluster: Cluster) -> None:
        self.engines = ClientEngines(cluster.client, cluster.exit_reason)
        self.lost = ""
        self._cluster = cluster
        self._jobs: list[LiveRun] = []
        self._lock = threading.Lock()
        self._is_closing = False
        try:
            self._take_over()
        except BaseException:  # Ctrl-C, too
            cluster.stop()
            raise

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
                raise ClusterError(f"the cluster was started {starts} times, and no engine answered")
            starts += 1
            self._restart()
        self._watch_controller()

    def _settles(self) -> bool:
        """Wait until the engines answer; False if that cannot be, and another start may help.

        The ports of a controller are chosen before they are used. If another program of this machine takes one in
        between, a scheduler dies at its start, and engines are there that nothing reaches.
        """
        on_registration(self._cluster.client, self._engine_came_or_went)
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
        self.engines.use(None)
        self._cluster.restart()
        self.engines.use(self._cluster.client)

    def _watch_controller(self) -> None:
        self._heartbeat = Heartbeat(
            self._cluster.client,
            lambda: bool(self.running_jobs()),
            self._cluster.find_death,
            self._look_after,
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
        if self.engines.is_replaced(engine_id):
            if self._cluster.is_own or self.running_jobs():
                print_line(f"engine {engine_id} left; if it died, its host starts another")
            return
        if self._cluster.is_own or self.running_jobs():
            # Not here: starting an engine waits for messages that this very thread delivers.
            arguments = (engine_id, self.engines.process(engine_id))
            threading.Thread(target=self._replace, args=arguments, name="parimg-replace", daemon=True).start()

    def _replace(self, engine_id: int, process: tuple[str, int] | None) -> None:
        try:
            done = self._cluster.replace_engine(process[1] if process is not None else None)
        except Exception as error:
            done = f"no other could be started: {error}"
        if done and not self._is_closing:  # it died, or left as planned: the Hub does not say which
            print_line(f"engine {engine_id} is gone; {done}")

    def _look_after(self) -> None:
        jobs = self.running_jobs()
        work = sum((job.work_left for job in jobs), WorkLeft(0, 0.0)) if jobs else None
        with contextlib.suppress(Exception):  # the next beat tries again
            self._cluster.look_after(self.engines, work)

    # -- the controller ---------------------------------------------------------------------------------------

    def _lose_controller(self, reason: str) -> None:
        """Called from the heartbeat's thread."""
        report = f"the controller of the cluster is lost: {reason}"
        jobs = self.running_jobs()
        again = not self._is_closing and self._cluster.is_own and all(job.restarts == 0 for job in jobs)
        self.engines.use(None)
        if again:
            print_line(f"{report}; starting another")
            for job in jobs:
                job.lose_controller(None)
            try:
                self._restart()
                self._take_over()
            except ClusterError as error:
                self._cluster.stop()
                report = f"{report}, and another could not be started: {error}"
            else:
                return
        self.lost = report
        for job in self.running_jobs():
            job.lose_controller(report)
