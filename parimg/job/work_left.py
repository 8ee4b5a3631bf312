"""What a running job has still to do, by which a cluster decides how many engines it is worth."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WorkLeft:
    """Of one job, or of all that run on a cluster.

    Examples
    --------
    >>> WorkLeft(3, 1.5, frozenset({0})) + WorkLeft(1, 1.0)
    WorkLeft(images=4, seconds=2.5, busy=frozenset({0}))
    """

    images: int
    """Without a record, as far as known."""
    seconds: float
    """That an engine would take for them, 0 until the first image has come back."""
    busy: frozenset[int] = frozenset()
    """Engines that have images."""

    def __add__(self, other: WorkLeft) -> WorkLeft:
        return WorkLeft(self.images + other.images, self.seconds + other.seconds, self.busy | other.busy)
