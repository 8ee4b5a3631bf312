"""When a job will have ended, and how sure that is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_LOOKED_AT = 60  # bins; older ones say little of now
_FEWEST = 4


class Forecast(NamedTuple):
    """Seconds that are left, and a range that holds the end in 19 of 20 cases if the job goes on as it does."""

    seconds: float
    least: float
    most: float
    """Infinite if the rate varies so much that nothing can be said."""


def forecast(images: int, done: npt.NDArray[np.int64], width: float) -> Forecast | None:
    """Say when so many images will be done.

    Parameters
    ----------
    images : int
        That are left.
    done : ndarray of int, shape (n,)
        Images that became ready in the last bins, whole ones; the newest last.
    width : float
        Of a bin, seconds.

    Returns
    -------
    Forecast or None
        None if there are too few bins, or nothing was done in them.

    Examples
    --------
    >>> import numpy as np
    >>> forecast(1000, np.array([10, 10, 10, 10]), 2.0)
    Forecast(seconds=200.0, least=200.0, most=200.0)
    """
    looked_at = done[-_LOOKED_AT:]
    if len(looked_at) < _FEWEST or not looked_at.any():
        return None
    mean, spread = float(looked_at.mean()), float(looked_at.std(ddof=1))
    bins = images / mean
    # The mean is known from n bins only, and the bins to come vary like these.
    share = 2 * spread / mean * math.sqrt(1 / len(looked_at) + 1 / max(bins, 1.0))
    most = bins * width / (1 - share) if share < 1 else math.inf
    return Forecast(bins * width, bins * width / (1 + share), most)
