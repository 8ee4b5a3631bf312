"""The cluster that `ipcluster start` brought up: connect to it, compare versions, ask it for engines.

Used by `parimg.controller.starting.connect`; `parimg.cluster.started` builds on it.
"""

from __future__ import annotations

import asyncio
import os
import platform
import threading
import time
from typing import TYPE_CHECKING, Any

import ipyparallel as ipp

from parimg import __version__
from parimg.cluster.ipyparallel_internals import quiet, run
from parimg.cluster.security import find_security
from parimg.cluster.waiting_jobs import WaitingJobs
from parimg.errors import ClusterError, EngineVersionError, ProfileNotFoundError

if TYPE_CHECKING:
    from parimg.cluster.engine_pool import ClientEngines
    from parimg.job.work_left import WorkLeft

_ANSWER_SECONDS = 5.0  # in which an idle engine reports its versions
_TOGETHER_SECONDS = 2.0  # losses within these are one request; ipyparallel names engine sets by whole seconds
_LOOK_SECONDS = 2.0  # between questions to a batch system about what is waited for
_MOST_ASKED = 3  # engines asked of a foreign cluster for each that it had: it may be shrinking on purpose
_LINGER_MS = 1000  # without, a message to a controller that is gone would be waited for
_VERSIONS = (
    "{'python': __import__('platform').python_version(), 'host': __import__('socket').gethostname(), 'parimg': "
    "__import__('parimg').__version__ if __import__('importlib.util').util.find_spec('parimg') else None}"
)


class ForeignCluster:
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
        self._connect(find_profile(profile or "default"), cluster_id, _start_command(profile, cluster_id), timeout)

    def _connect(self, profile_dir: str, cluster_id: str, start_command: str, timeout: float) -> None:
        self._profile_dir = profile_dir
        security = os.path.join(profile_dir, "security")
        name = f"ipcontroller-{cluster_id}-client.json" if cluster_id else "ipcontroller-client.json"
        connection_file = os.path.join(security, name)
        self._cluster_file = os.path.join(security, f"cluster-{cluster_id}.json")
        waiting = WaitingJobs(self._cluster_file, self._last_words)
        self.client = _connect_client(connection_file, start_command, timeout, waiting)
        self.security = find_security(connection_file, self.client)
        self._had = len(self.client.ids)
        self._asked = 0
        self._asking = threading.Lock()
        self._counting = threading.Lock()
        self._lost = 0  # engines that none was asked for yet

    def _last_words(self) -> str:
        """What the engines said, if all have ended before one was there; nothing is known of others'."""
        return ""

    def replace_engine(self, pid: int | None) -> str:
        """Ask for another engine through the launchers that the cluster's file names.

        Losses within two seconds are one request, by the settings of the cluster's own profile.
        """
        del pid  # whether it still runs is for its owner to know
        with self._counting:
            self._lost += 1
        with self._asking:
            if self._lost:
                time.sleep(_TOGETHER_SECONDS)
                with self._counting:
                    lost, self._lost = self._lost, 0
                self._answer = self._ask(lost)
            answer = self._answer
        left = len(self.client.ids)
        return f"{f'{left} are left' if left else 'waiting for another'}; {answer}"

    def _ask(self, n: int) -> str:
        if not os.path.exists(self._cluster_file):
            return "the cluster was not started by `ipcluster start`, so none was asked for"
        n = min(n, _MOST_ASKED * self._had - self._asked)
        if n <= 0:
            return f"{self._asked} others were asked for already, so no more are"
        try:
            with quiet():
                cluster = self._open()
                name = run(cluster.start_engines(n))
        except Exception as error:
            return f"its cluster was asked for another, which failed: {error}"
        if not getattr(cluster.engines[name], "launchers", True):  # as for SSH without hosts in the profile
            return "the launcher of its cluster started none"
        self._asked += n
        return f"its cluster was asked for {'another' if n == 1 else f'{n} others'}"

    def _open(self) -> ipp.Cluster:
        return open_cluster(self._profile_dir, self._cluster_file)

    def look_after(self, engines: ClientEngines, work: WorkLeft | None) -> None:
        """Nothing: how many engines there should be is for its owner to know, who may have stopped some."""

    def exit_reason(self, pid: int) -> str:
        """Nothing is known."""
        del pid
        return ""

    def find_death(self) -> str:
        """Nothing is known."""
        return ""

    def restart(self) -> None:
        """Refuse."""
        raise ClusterError("the cluster is not ours to restart")

    def stop(self) -> None:
        """Disconnect; the cluster goes on."""
        self.client.close(linger=_LINGER_MS)


def open_cluster(profile_dir: str, cluster_file: str) -> ipp.Cluster:
    """A cluster as ipcluster wrote it down: the file says which launchers, its profile with which settings."""
    # from_file alone takes the settings of the profile "default".
    settings = ipp.Cluster(profile_dir=profile_dir, shutdown_atexit=False).profile_config
    return ipp.Cluster.from_file(cluster_file, config=settings, log_level=40)


def stop_all(cluster: ipp.Cluster) -> list[BaseException]:
    """Stop a cluster, whatever goes wrong with some of its engines, as with a batch job that has ended; tell that.

    ipyparallel itself leaves the file of the cluster behind then, and reports nothing of the other engines.
    """

    async def stop() -> list[BaseException]:
        names = list(cluster.engines)
        stopping = (cluster.stop_controller(), *(cluster.stop_engines(name) for name in names))
        errors = [error for error in await asyncio.gather(*stopping, return_exceptions=True) if error is not None]
        for name in names:
            cluster.engines.pop(name, None)
        cluster.update_cluster_file()
        return errors

    return run(stop())


def _start_command(profile: str | None, cluster_id: str) -> str:
    command = "ipcluster start -n 4" + (f" --profile={profile}" if profile else "")
    return command + (f" --cluster-id={cluster_id}" if cluster_id else "")


def _connect_client(connection_file: str, start_command: str, timeout: float, waiting: WaitingJobs) -> ipp.Client:
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
        _wait_for_engine(client, timeout, start_command, waiting)
        _check_versions(client, min(timeout, _ANSWER_SECONDS))
    except BaseException:
        client.close()
        raise
    return client


def find_profile(profile: str) -> str:
    """Folder of an IPython profile that exists."""
    from IPython.paths import get_ipython_dir

    ipython_dir = get_ipython_dir()
    path = os.path.join(ipython_dir, f"profile_{profile}")
    if not os.path.isdir(path):
        # ipyparallel would make an empty profile of a name that was typed wrong.
        names = sorted(os.listdir(ipython_dir)) if os.path.isdir(ipython_dir) else []
        found = [name.removeprefix("profile_") for name in names if name.startswith("profile_")]
        raise ProfileNotFoundError(
            f"there is no IPython profile {profile!r} (no folder {path!r}); found: "
            f"{', '.join(found) or 'none'}. `parimg profiles list` shows ready ones, `ipython profile create "
            f"--parallel {profile}` makes an empty one"
        )
    return path


def _wait_for_engine(client: ipp.Client, timeout: float, start_command: str, waiting: WaitingJobs) -> None:
    deadline = time.monotonic() + timeout
    look_at = time.monotonic() + _LOOK_SECONDS
    while not client.ids:
        now = time.monotonic()
        if now > deadline:
            raise ClusterError(
                f"the cluster has no engine after {timeout:g} s"
                + (f": {why}" if (why := waiting.why()) else f"; `{start_command}` starts one with four")
            )
        if now > look_at:
            look_at = now + _LOOK_SECONDS
            waiting.check()
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
