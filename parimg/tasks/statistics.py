"""Minimum, maximum, mean and standard deviation of a picture, from those of its tiles."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import numpy.typing as npt


class Moments(NamedTuple):
    """What is known of some values."""

    number: int
    least: float
    most: float
    mean: float
    squares: float
    """Sum of the squared differences from the mean."""

    @classmethod
    def of(cls, values: npt.NDArray[Any]) -> Moments:
        """Those of an array."""
        mean = float(values.mean(dtype="float64"))
        variance = float(values.var(dtype="float64"))
        return cls(values.size, float(values.min()), float(values.max()), mean, variance * values.size)

    def columns(self) -> dict[str, float]:
        """As columns of a record."""
        deviation = math.sqrt(self.squares / self.number)
        return {"min": self.least, "max": self.most, "mean": self.mean, "std": deviation}


def joined(parts: Iterable[Moments]) -> Moments:
    """Those of all values together.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Updating formulae and a pairwise algorithm for computing sample
    variances", COMPSTAT (1982).

    Examples
    --------
    >>> import numpy as np
    >>> joined([Moments.of(np.array([1, 2, 3])), Moments.of(np.array([6]))]).columns()
    {'min': 1.0, 'max': 6.0, 'mean': 3.0, 'std': 1.8708286933869707}
    """
    found = list(parts)
    if any(math.isnan(part.mean) for part in found):  # NumPy's minimum is NaN then, Python's may not be
        return Moments(sum(part.number for part in found), *(math.nan,) * 4)
    count = sum(part.number for part in found)
    mean = sum(part.mean * part.number for part in found) / count
    squares = sum(part.squares + part.number * (part.mean - mean) ** 2 for part in found)
    return Moments(count, min(part.least for part in found), max(part.most for part in found), mean, squares)
