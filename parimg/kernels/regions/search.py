"""What a region search finds, and the call into compiled code that finds it.

Called by `region_index.py` and `many_indexes.py`; `search_loop.py` holds the loop over indexes and queries.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parimg.kernels.regions.arguments import Box, Walk, normalised
from parimg.kernels.regions.search_loop import (
    HEIGHT,
    NO_WINDOW,
    NOT_UNIT,
    WIDTH,
    WINDOW,
    is_unit,
    search_maxima,
    search_maxima_exactly,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from parimg.kernels.regions.search_loop import First

    SearchLoop = Callable[
        [NDArray[np.int64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]], First
    ]

_SHOWN_MATCHES = 20  # in a notebook
_NOTHING = np.empty(0)


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


_new_match = partial(tuple.__new__, RegionMatch)


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


def unit_query(query: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of unit length, which saves a search a second call; as it is where it is so within float32 rounding."""
    return query if is_unit(query) else normalised(query)


def find(
    loop: SearchLoop, table: NDArray[np.int64], queries: NDArray[np.float64], walk: Walk, n_queries: int = 1
) -> list[RegionMatches]:
    """For every index of a kind, for every query, the windows found, in one list.

    Out of cold caches each call of NumPy takes some microseconds, as each function of Python does: there are few.
    """
    numbers, top_k = walk.of_sums, walk.top_k
    if loop is search_maxima:
        numbers = walk.of_maxima
        loop = search_maxima_exactly if walk.exact else loop
    if top_k > 1:  # there are no more than there are windows
        heights, widths = table[:, HEIGHT], table[:, WIDTH]
        top_k = min(top_k, int((heights * (heights + 1) // 2 * (widths * (widths + 1) // 2)).max()))
    size = 1 + WINDOW * top_k
    is_one = top_k == n_queries == len(table) == 1
    found = _NOTHING if is_one else np.empty(len(table) * n_queries * size)
    first = loop(table, queries, numbers, found)
    if first[0] == NOT_UNIT:
        rows = queries.reshape(n_queries, -1)
        queries = np.concatenate([unit_query(row) for row in rows])
        first = loop(table, queries, numbers, found)
    values: Sequence[float] = first if is_one else found.tolist()
    return [_matches(values, first, size) for first in range(0, len(values), size)]


def _matches(values: Sequence[float], first: int, size: int) -> RegionMatches:
    matches = RegionMatches.__new__(RegionMatches)  # `__init__` would be one more function of Python
    matches.evaluated = int(values[first])
    for place in range(first + 1, first + size, WINDOW):
        distance, y1, x1, y2, x2 = values[place : place + WINDOW]
        if y1 != NO_WINDOW:
            matches.append(_new_match(((int(y1), int(x1), int(y2), int(x2)), distance)))
    return matches
