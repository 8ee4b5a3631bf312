"""A cluster of a profile whose engines become more and fewer as the work left is worth, and outlive their jobs.

What is done is decided by `parimg.cluster.elasticity`; here groups of engines are asked for, looked at and
stopped, from a thread of its own, because batch systems take their time. Used by
`parimg.controller.starting.start`.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import math
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from parimg.cluster.elasticity import Elasticity, Group
from parimg.cluster.foreign import find_profile
from parimg.cluster.ipyparallel_internals import quiet, run
from parimg.cluster.started import StartedCluster
from parimg.console import print_line
from parimg.engine.setup import GROUP
from parimg.job.work_left import WorkLeft

if TYPE_CHECKING:
    from parimg.cluster.engine_pool import ClientEngines

_log = logging.getLogger(__name__)

_LOOK_SECONDS = 2.0
_TOGETHER_SECONDS = 15.0  # in which the other engines of a group follow the first
_AWAITED_SECONDS, _RUNNING_SECONDS = 5.0, 60.0  # between questions to a launcher about a group
_ASK_PAUSE, _LONGEST_PAUSE = 30.0, 960.0  # s, after a request that failed
_MOST_GROUPS = 8  # asked for at a time


@dataclass(slots=True)
class _Asked:
    """A group as it is known; the cluster's own thread alone writes it."""

    engines: int
    asked_at: float
    came_at: float | None = None
    looked_at: float = -math.inf
    leaves_at: float = math.inf
    """Seconds since the epoch."""
    members: set[int] = field(default_factory=set)


class ElasticCluster(StartedCluster):
    """A `StartedCluster` that keeps between `least` and `most` engines.

    Parameters
    ----------
    profile : str
    least, most : int
    timeout : float
        Seconds to wait for the first engine.

    Raises
    ------
    ClusterError, EngineVersionError
        As `StartedCluster`.
    """

    def __init__(self, profile: str, least: int, most: int, timeout: float) -> None:
        self._elasticity = Elasticity(least, most)
        self._per_group = least
        self._groups: dict[str, _Asked] = {}
        self._numbers = itertools.count(1)
        self._pool: ClientEngines | None = None
        self._work: WorkLeft | None = None
        self._ask_at, self._pause = 0.0, _ASK_PAUSE
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._adapt_always, name="parimg-elastic", daemon=True)
        super().__init__(find_profile(profile), least, timeout)
        self._thread.start()

    def _start_engines(self, n: int) -> None:
        """Ask for a group; its engines know its name."""
        name = f"group-{next(self._numbers)}"
        self._groups[name] = _Asked(n, time.monotonic())
        # As the profile sets it; what is given here stands in place of that.
        launcher = self._started.engine_launcher_class(parent=self._started)
        environment = {**launcher.environment, GROUP: name}
        try:
            with quiet():
                run(self._started.start_engines(n, name, environment=environment))
        except BaseException:
            del self._groups[name]
            self._started.engines.pop(name, None)
            raise

    def replace_engine(self, pid: int | None) -> str:
        """Nothing: another is asked for if the work left is worth it."""
        del pid
        return ""

    def look_after(self, engines: ClientEngines, work: WorkLeft | None) -> None:
        """Note the work left; engines follow it within seconds."""
        self._pool, self._work = engines, work

    def stop(self) -> None:
        """Disconnect, and end the cluster with all that was asked for."""
        self._stopped.set()
        if self._thread.is_alive():
            self._thread.join()
        super().stop()

    # -- the thread -------------------------------------------------------------------------------------------

    def _adapt_always(self) -> None:
        while not self._stopped.wait(_LOOK_SECONDS):
            try:
                self._adapt()
            except Exception:  # the client was just closed, or a batch system is away
                _log.debug("the number of engines could not be looked after", exc_info=True)

    def _adapt(self) -> None:
        pool, work, now = self._pool, self._work, time.monotonic()
        if pool is None:
            return
        self._note_members(pool, now)
        for name, asked in list(self._groups.items()):
            if self._has_ended(name, asked, now):
                self._forget(name, asked)
        busy = work.busy if work is not None else frozenset()
        groups = [_describe(name, asked, busy, now) for name, asked in self._groups.items()]
        change = self._elasticity.decide(now, groups, work)
        for name in change.give_back:
            self._give_back(name)
        if change.more and now >= self._ask_at and not self._stopped.is_set():
            self._ask_for(change.more)

    def _note_members(self, pool: ClientEngines, now: float) -> None:
        ready = set(pool.ready())
        for name, asked in self._groups.items():
            asked.members = {engine_id for engine_id in ready if pool.group(engine_id) == name}
            if asked.members and asked.came_at is None:
                asked.came_at, asked.looked_at = now, -math.inf
                self._elasticity.note_wait(now - asked.asked_at)
                self._pause = _ASK_PAUSE

    def _has_ended(self, name: str, asked: _Asked, now: float) -> bool:
        """Whether a group is gone; asks its launcher now and then."""
        launcher = self._started.engines.get(name)
        if launcher is None or launcher.state == "after":
            return True
        if asked.came_at is not None and not asked.members and now - asked.came_at > _TOGETHER_SECONDS:
            return True
        if now - asked.looked_at < (_AWAITED_SECONDS if asked.came_at is None else _RUNNING_SECONDS):
            return False
        asked.looked_at = now
        if asked.came_at is None:
            with contextlib.suppress(Exception):  # those that cannot tell, or a batch system that is away
                return launcher.poll() is not None
            return False
        if hasattr(launcher, "leaves_at"):  # of those that know a wall time
            asked.leaves_at = launcher.leaves_at()
        return False

    def _forget(self, name: str, asked: _Asked) -> None:
        """Let go of a group that has ended; one that never came has others wait."""
        self._end_group(name)
        if asked.came_at is None:
            self._put_off("engines that were asked for ended before they came")
        elif not self._stopped.is_set():
            print_line(f"{_count(asked.engines)} left with their job; {self._left()}")

    def _give_back(self, name: str) -> None:
        asked = self._groups[name]
        self._end_group(name)
        print_line(f"gave back {_count(asked.engines)} that had nothing to do; {self._left()}")

    def _end_group(self, name: str) -> None:
        del self._groups[name]
        if name in self._started.engines:
            with contextlib.suppress(Exception), quiet():  # it is gone by now
                run(self._started.stop_engines(name))

    def _ask_for(self, n: int) -> None:
        """Ask for groups as small as the first, which a full cluster has room for one by one."""
        asked = 0
        try:
            for _ in range(_MOST_GROUPS):
                if asked < n and not self._stopped.is_set():
                    size = min(self._per_group, n - asked)
                    self._start_engines(size)
                    asked += size
        except Exception as error:
            self._put_off(f"no more engines could be asked for: {error}")
        if asked:
            print_line(f"asked for {_count(asked)} more; {self._left()}")

    def _put_off(self, why: str) -> None:
        self._ask_at = time.monotonic() + self._pause
        print_line(f"{why}; asking again in {self._pause:.0f} s")
        self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def _left(self) -> str:
        here = len(self.client.ids)
        return f"{here} {'is' if here == 1 else 'are'} there"


def _describe(name: str, asked: _Asked, busy: frozenset[int], now: float) -> Group:
    # The others of a group follow its first engine; later, who is missing has died.
    coming = asked.came_at is None or now - asked.came_at < _TOGETHER_SECONDS
    return Group(
        name=name,
        engines=asked.engines if coming else len(asked.members),
        is_awaited=asked.came_at is None,
        seconds_lived=0.0 if asked.came_at is None else now - asked.came_at,
        seconds_left=asked.leaves_at - time.time(),
        is_busy=bool(asked.members & busy),
    )


def _count(n: int) -> str:
    return f"{n} engine{'' if n == 1 else 's'}"
