"""Elasticity: how many engines to ask for, and which to give back, as arithmetic over what was seen.

Nothing here starts, stops or asks anything; `parimg.cluster.elastic` does, by what this decides every two seconds.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from parimg.job.work_left import WorkLeft

IDLE_SECONDS = 60.0  # without work, until engines are given back
_LEAST_WORK_SECONDS = 10.0  # an engine that would have less is not worth its start
_WAITS = 5  # last ones that say what is usual
_MARGIN_SECONDS = 10.0  # beyond the usual wait: an engine that is there still has to answer, and to get the task


@dataclass(frozen=True, slots=True)
class Group:
    """Engines that were asked for together, and end together: a job of a batch system, or hosts' connections."""

    name: str
    engines: int
    """That live, or are awaited."""
    is_awaited: bool
    """Whether none has come yet."""
    seconds_lived: float
    """Since the first came."""
    seconds_left: float
    """Until its engines leave by themselves, infinite if that is not known."""
    is_busy: bool
    """Whether one of them has images."""


@dataclass(frozen=True, slots=True)
class Change:
    """What is to be done now."""

    more: int = 0
    """Engines to ask for."""
    give_back: tuple[str, ...] = ()
    """Groups that are not needed."""


class Elasticity:
    """Keeps between `least` and `most` engines, as many as the work that is left is worth.

    Strategy: only engines that stay count, which are those that live for longer than another takes to come, or
    are in the first half of their time. So what keeps the least of them asks for the next job of a batch system
    before the present one ends, and for a short while, until that end, there may be more than `most`. Every engine
    beyond the least must be worth its wait: its share of the work left takes at least as long. Those that had
    nothing to do for a minute are given back.

    Parameters
    ----------
    least, most : int

    Examples
    --------
    >>> elasticity = Elasticity(2, 64)
    >>> pair = Group("first", 2, is_awaited=False, seconds_lived=5, seconds_left=3600, is_busy=True)
    >>> elasticity.decide(0.0, [pair], WorkLeft(images=1000, seconds=200.0)).more
    18
    """

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most
        self._waits: deque[float] = deque(maxlen=_WAITS)
        self._idle_since: dict[tuple[str, bool], float] = {}

    def note_wait(self, seconds: float) -> None:
        """Learn how long engines took to come."""
        self._waits.append(seconds)

    @property
    def usual_wait(self) -> float:
        """The longest of the last waits, seconds."""
        return max(self._waits, default=0.0)

    @property
    def lead(self) -> float:
        """Seconds before the end of a job at which the next one is asked for."""
        return 1.5 * self.usual_wait + _MARGIN_SECONDS

    def wanted(self, work: WorkLeft | None) -> int:
        """Engines that the work left is worth; the least of them without work."""
        if work is None:
            return self._least
        worth = int(work.seconds / max(_LEAST_WORK_SECONDS, self.usual_wait))
        return max(self._least, min(self._most, work.images, worth))

    def decide(self, now: float, groups: Iterable[Group], work: WorkLeft | None) -> Change:
        """What to do, given what there is.

        Parameters
        ----------
        now : float
            Seconds by a clock that does not jump.
        groups : iterable of Group
        work : WorkLeft or None
            None if no job runs.
        """
        groups = list(groups)
        wanted = self.wanted(work)
        staying = [
            group
            for group in groups
            if group.is_awaited or group.seconds_left > min(self.lead, group.seconds_lived)
        ]
        n_staying = sum(group.engines for group in staying)
        self._note_idle(now, groups)
        given: list[str] = []
        n_left, n_here = n_staying, sum(group.engines for group in groups if not group.is_awaited)
        for group in sorted(groups, key=lambda group: (not group.is_awaited, group.seconds_left)):
            if now - self._idle_since.get((group.name, group.is_awaited), math.inf) < IDLE_SECONDS:
                continue
            after = n_left - (group.engines if group in staying else 0)
            here = n_here - (0 if group.is_awaited else group.engines)
            if after >= wanted and here >= min(self._least, n_here):
                given.append(group.name)
                n_left, n_here = after, here
        return Change(max(0, wanted - n_staying), tuple(given))

    def _note_idle(self, now: float, groups: Iterable[Group]) -> None:
        # Those that have just come get a minute to be given work, however long they were waited for.
        idle = [(group.name, group.is_awaited) for group in groups if not group.is_busy]
        self._idle_since = {one: self._idle_since.get(one, now) for one in idle}
