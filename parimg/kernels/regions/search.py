"""What a region search finds, and the call into compiled code that finds it.

Called by `region_index.py`; `search_loop.py` holds the loop over indexes and queries.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.regions.arguments import Box, Options
from parimg.kernels.regions.search_loop import (
    HEIGHT,
    KIND,
    MAX,
    SUM_OF_DOUBLES,
    SUM_OF_SINGLES,
    WIDTH,
    search_all,
)
from parimg.kernels.regions.windows import KEY_BITS, LARGEST_SIDE

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

_LIKE: dict[int, NDArray[Any] | None] = {
    SUM_OF_SINGLES: np.empty(0, np.float32),
    SUM_OF_DOUBLES: np.empty(0, np.float64),
    MAX: None,
}
_SHOWN_MATCHES = 20  # in a notebook
_STEP_BEFORE_BOUNDS = 3  # the paper's grid, refined: what branch and bound starts from


class RegionMatch(NamedTuple):
    """One window of a feature map.

    Attributes
    ----------
    box : tuple of int
        ``(y1, x1, y2, x2)`` in cells of the map, half open, row first.
    distance : float
        Euclidean distance between the normalised descriptors of window and query, 0 to 2.
    """

    box: Box
    distance: float

    def _repr_html_(self) -> str:
        return _matches_html("RegionMatch", "", [self])


class RegionMatches(list[RegionMatch]):
    """The windows that a search found, best first: a list that also says how much work it was.

    Attributes
    ----------
    evaluated : int
        How many windows were compared with the query. With ``exact=True``, the sets of windows whose bound had to
        be computed count as well.
    """

    evaluated: int

    def __init__(self, matches: Iterable[RegionMatch] = (), evaluated: int = 0) -> None:
        super().__init__(matches)
        self.evaluated = evaluated

    def _repr_html_(self) -> str:
        return _matches_html("RegionMatches", f"{len(self)} found, {self.evaluated:,} windows compared", self)


def _matches_html(title: str, state: str, matches: list[RegionMatch]) -> str:
    from parimg.notebook import markup

    rows = [
        (*found.box, f"{found.box[2] - found.box[0]} x {found.box[3] - found.box[1]}", f"{found.distance:.4f}")
        for found in matches[:_SHOWN_MATCHES]
    ]
    more = f"{len(matches) - _SHOWN_MATCHES} more" if len(matches) > _SHOWN_MATCHES else None
    return markup.box(title, state, [markup.table(("y1", "x1", "y2", "x2", "cells", "distance"), rows), more])


def find(
    table: NDArray[np.int64],
    totals: NDArray[np.float64],
    queries: NDArray[np.float64],
    ratios: NDArray[np.float64],
    options: Options,
) -> list[list[RegionMatches]]:
    """For every index, for every query, the windows found."""
    top_k = options.top_k
    if top_k > 1:  # there are no more than there are windows
        heights, widths = table[:, HEIGHT], table[:, WIDTH]
        top_k = min(top_k, int((heights * (heights + 1) // 2 * (widths * (widths + 1) // 2)).max()))
    shape = (len(table), len(queries), top_k)
    distance, keys, looked_at = np.empty(shape), np.empty(shape, np.int64), np.empty(shape[:2], np.int64)
    kinds = table[:, KIND].tolist()
    if len(set(kinds)) == 1:  # mostly
        _search(kinds[0], table, totals, queries, ratios, options, distance, keys, looked_at)
    else:
        for kind in set(kinds):
            rows = np.flatnonzero(table[:, KIND] == kind)
            out = distance[rows], keys[rows], looked_at[rows]
            _search(kind, table[rows], totals[rows], queries, ratios, options, *out)
            distance[rows], keys[rows], looked_at[rows] = out
    of_indexes = zip(keys.tolist(), distance.tolist(), looked_at.tolist(), strict=True)
    return [[_matches(*found) for found in zip(*of_index, strict=True)] for of_index in of_indexes]


def _search(
    kind: int,
    table: NDArray[np.int64],
    totals: NDArray[np.float64],
    queries: NDArray[np.float64],
    ratios: NDArray[np.float64],
    options: Options,
    *out: NDArray[Any],
) -> None:
    """Search indexes of one kind."""
    low, high, step, min_size, refine, exact, _ = options
    bounded = True if exact and kind == MAX else None  # of sums, comparing all windows is quicker
    step = _STEP_BEFORE_BOUNDS if bounded else 1 if exact else step
    walk = low, high, step, min_size, refine or bool(bounded)
    search_all(_LIKE[kind], bounded, table, totals, queries, ratios, *walk, *out)


def _matches(keys: list[int], distances: list[float], evaluated: int) -> RegionMatches:
    found = [RegionMatch(_unpack(key), far) for key, far in zip(keys, distances, strict=True) if key >= 0]
    return RegionMatches(found, evaluated)


def _unpack(key: int) -> Box:
    y2, x2 = key >> 3 * KEY_BITS, key >> 2 * KEY_BITS & LARGEST_SIDE
    return key >> KEY_BITS & LARGEST_SIDE, key & LARGEST_SIDE, y2, x2
