"""Start, look at and stop a cluster that outlives this process, as ``ipcluster start --daemonize``.

What goes wrong is raised with its cause, and what was begun is ended; ipcluster prints a traceback and waits on.
Used by ``parimg cluster``; the clusters are ipcluster's own, and either program stops those of the other.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass

import ipyparallel as ipp

from parimg.cluster.foreign import find_profile, open_cluster, stop_all
from parimg.cluster.ipyparallel_internals import quiet, run
from parimg.cluster.waiting_jobs import WaitingJobs
from parimg.errors import ClusterError

_ANSWER_SECONDS = 5


def start_daemonized(profile: str, n: int, cluster_id: str = "") -> None:
    """Start a controller, and ask for engines; they may register later.

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If one runs already under this profile and id, or does not start.
    """
    cluster_file = _cluster_file(profile, cluster_id)
    if os.path.exists(cluster_file):
        stop = _command("stop", profile, cluster_id)
        raise ClusterError(f"a cluster runs already, or was killed: {cluster_file!r} is there; `{stop}` ends it")
    cluster = ipp.Cluster(
        profile_dir=find_profile(profile), cluster_id=cluster_id, n=n, shutdown_atexit=False, log_level=40
    )
    try:
        with quiet():
            run(cluster.start_cluster())
    except BaseException as error:
        with quiet(), contextlib.suppress(Exception):
            stop_all(cluster)
        if isinstance(error, Exception) and not isinstance(error, ClusterError):
            raise ClusterError(f"the cluster of profile {profile!r} did not start: {error}") from error
        raise


def stop_daemonized(profile: str, cluster_id: str = "") -> None:
    """Stop a cluster, and take its engines out of the queue.

    Raises
    ------
    ProfileNotFoundError
        If there is no such profile.
    ClusterError
        If no cluster was started under this profile and id, or it cannot be stopped.
    """
    cluster_file = _cluster_file(profile, cluster_id)
    try:
        with quiet():
            errors = stop_all(open_cluster(find_profile(profile), cluster_file))
    except FileNotFoundError:
        start = _command("start -n 4", profile, cluster_id)
        raise ClusterError(f"no cluster was started here: there is no {cluster_file!r}; `{start}` does") from None
    except Exception as error:
        raise ClusterError(f"the cluster of {cluster_file!r} could not be stopped: {error}") from error
    if errors:
        raise ClusterError(f"the cluster is stopped, but for some engines, which may have ended: {errors[0]}")


@dataclass(frozen=True, slots=True)
class DaemonizedState:
    """How a cluster that outlives its program stands."""

    cluster_file: str
    is_started: bool
    """Whether its file is there."""
    engines: int | None
    """That are registered, None if the controller does not answer."""
    problem: str
    """Why it does not."""
    waiting: str
    """What the batch system says of its jobs."""

    def __str__(self) -> str:
        if not self.is_started:
            return f"no cluster runs: there is no {self.cluster_file!r}"
        if self.engines is None:
            state = f"its controller does not answer ({self.problem})"
        else:
            state = f"the controller answers, {self.engines} engines are registered"
        return state + (f"; {self.waiting}" if self.waiting else "")


def look_at_daemonized(profile: str, cluster_id: str = "") -> DaemonizedState:
    """What is known of a cluster: its engines, and its jobs in a queue."""
    cluster_file = _cluster_file(profile, cluster_id)
    if not os.path.exists(cluster_file):
        return DaemonizedState(cluster_file, False, None, "", "")
    name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
    engines, problem = None, ""
    try:
        client = ipp.Client(os.path.join(os.path.dirname(cluster_file), name), timeout=_ANSWER_SECONDS)
    except (TimeoutError, OSError) as error:
        problem = str(error)
    else:
        engines = len(client.ids)
        client.close()
    return DaemonizedState(cluster_file, True, engines, problem, WaitingJobs(cluster_file).why() or "")


def _cluster_file(profile: str, cluster_id: str) -> str:
    return os.path.join(find_profile(profile), "security", f"cluster-{cluster_id}.json")


def _command(verb: str, profile: str, cluster_id: str) -> str:
    return f"parimg cluster {verb} --profile {profile}" + (f" --cluster-id {cluster_id}" if cluster_id else "")
