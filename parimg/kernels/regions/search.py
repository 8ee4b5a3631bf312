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
    from collections.abc import Iterable, Iterator

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
    low, high, step, min_size, refine, exact, top_k = options
    if top_k > 1:  # there are no more than there are windows
        heights, widths = table[:, HEIGHT], table[:, WIDTH]
        top_k = min(top_k, int((heights * (heights + 1) // 2 * (widths * (widths + 1) // 2)).max()))
    shape = (len(table), len(queries), top_k)
    distance, keys, looked_at = np.empty(shape), np.empty(shape, np.int64), np.empty(shape[:2], np.int64)
    for kind, rows in _by_kind(table):
        bounded = True if exact and kind == MAX else None  # of sums, comparing all windows is quicker
        walk = (_STEP_BEFORE_BOUNDS if bounded else 1 if exact else step), min_size, refine or bool(bounded)
        out = distance[rows], keys[rows], looked_at[rows]
        search_all(_LIKE[kind], bounded, table[rows], totals[rows], queries, ratios, low, high, *walk, *out)
        if not isinstance(rows, slice):
            distance[rows], keys[rows], looked_at[rows] = out

    def matches(keys: list[int], distances: list[float], evaluated: int) -> RegionMatches:
        found = zip(keys, distances, strict=True)
        return RegionMatches([RegionMatch(_unpack(key), far) for key, far in found if key >= 0], evaluated)

    of_indexes = zip(keys.tolist(), distance.tolist(), looked_at.tolist(), strict=True)
    return [[matches(*found) for found in zip(*of_index, strict=True)] for of_index in of_indexes]


def _by_kind(table: NDArray[np.int64]) -> Iterator[tuple[int, slice | NDArray[np.int64]]]:
    """The kinds of index there are, and where; mostly there is one, and nothing need be copied."""
    kinds = table[:, KIND]
    first = int(kinds[0])
    if len(kinds) == 1 or (kinds == first).all():
        yield first, slice(None)
        return
    for kind in np.unique(kinds).tolist():
        yield kind, np.flatnonzero(kinds == kind)


def _unpack(key: int) -> Box:
    y2, x2, y1, x1 = (key >> shift * KEY_BITS & LARGEST_SIDE for shift in (3, 2, 1, 0))
    return y1, x1, y2, x2
