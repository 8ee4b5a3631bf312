"""One query for many region indexes: in one compiled call, or checked and prepared before there is an index.

Users search many indexes with it; `tasks/region_search.py` prepares the query of a job.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parimg.kernels.regions.arguments import checked_query, checked_walk, normalised
from parimg.kernels.regions.search import find, unit_query

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import ArrayLike, NDArray

    from parimg.kernels.regions.region_index import RegionIndex
    from parimg.kernels.regions.search import RegionMatches, SearchLoop


def check_search(
    query: ArrayLike,
    aspect_ratio: float | None = None,
    aspect_range: tuple[float, float] = (0.8, 1.2),
    step: int = 1,
    min_size: int = 1,
    refine: bool = True,
    top_k: int = 1,
    *,
    exact: bool = False,
) -> None:
    """Raise what `RegionIndex.search` would raise, before there is an index.

    Raises
    ------
    TypeError, ValueError
        As `RegionIndex.search`, but for the number of channels.
    """
    normalised(checked_query(query, max(np.size(query), 1)))
    checked_walk(aspect_ratio, aspect_range, step, min_size, refine, top_k, exact)


def direction(query: ArrayLike) -> NDArray[np.float64]:
    """A query as searches take it without another look, for one that is used many times.

    Parameters
    ----------
    query : array_like, shape (channels,)

    Returns
    -------
    ndarray of float64, shape (channels,)
        What `RegionIndex.search` makes of it.

    Raises
    ------
    TypeError, ValueError
        As `RegionIndex.search`.
    """
    return unit_query(checked_query(query, max(np.size(query), 1)))


def search_indexes(
    indexes: Iterable[RegionIndex],
    query: ArrayLike,
    aspect_ratio: float | None = None,
    aspect_range: tuple[float, float] = (0.8, 1.2),
    step: int = 1,
    min_size: int = 1,
    refine: bool = True,
    top_k: int = 1,
    *,
    exact: bool = False,
) -> list[RegionMatches]:
    """Search many indexes for one query in one compiled call.

    Parameters
    ----------
    indexes : iterable of RegionIndex
        With as many channels each; maps of any size, poolings of either kind. All are kept until they are
        searched: of loaded ones each has an open file, of which many systems allow 1 024 a process.
    query, aspect_ratio, aspect_range, step, min_size, refine, top_k, exact
        As for `RegionIndex.search`.

    Returns
    -------
    list of RegionMatches
        One for each index, as `RegionIndex.search` returns it.

    Raises
    ------
    TypeError, ValueError
        As `RegionIndex.search`; ValueError also when an index has another number of channels than the query.
    """
    kept = list(indexes)
    walk = checked_walk(aspect_ratio, aspect_range, step, min_size, refine, top_k, exact)
    if not kept:
        return []
    vector = checked_query(query, kept[0].shape[0])
    of_kind: dict[SearchLoop, list[int]] = {}
    for place, index in enumerate(kept):
        if index.shape[0] != len(vector):
            raise ValueError(f"indexes must all have {len(vector)} channels (got {index.shape[0]} at {place})")
        of_kind.setdefault(index._loop, []).append(place)  # noqa: SLF001  # of its own room
    found: dict[int, RegionMatches] = {}
    for loop, places in of_kind.items():
        table = np.concatenate([kept[place]._table for place in places])  # noqa: SLF001
        found.update(zip(places, find(loop, table, vector, walk), strict=True))
    return [found[place] for place in range(len(kept))]
