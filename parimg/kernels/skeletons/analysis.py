"""What is asked of a skeleton's graph: its parts, itself without spurs, main branches, crossings with spheres.

Graphs in, arrays and graphs out. Called by tasks and users; goes on from `graph.py`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.skeletons import longest_paths
from parimg.kernels.skeletons.graph import CYCLE, TIP_JUNCTION, PixelGraph, branches, trace

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import ArrayLike, NDArray


class SkeletonCounts(NamedTuple):
    """How many there are of what a skeleton is made of.

    Attributes
    ----------
    pixels, skeletons : int
        Isolated pixels are skeletons, too.
    junctions : int
        Groups of linked pixels with more than two links.
    tips : int
        Pixels with one link.
    cycles : int
        Independent ones: how many links could go before all loops are open.
    """

    pixels: int
    skeletons: int
    junctions: int
    tips: int
    cycles: int


def skeleton_counts(graph: PixelGraph) -> SkeletonCounts:
    """Count pixels, skeletons, junctions, tips and cycles.

    Parameters
    ----------
    graph : PixelGraph

    Returns
    -------
    SkeletonCounts

    Examples
    --------
    >>> from parimg.kernels.skeletons.graph import pixel_graph
    >>> skeleton_counts(pixel_graph([[0, 0, 0, 1, 0], [1, 1, 1, 0, 1], [0, 0, 0, 1, 0]]))
    SkeletonCounts(pixels=6, skeletons=1, junctions=1, tips=1, cycles=1)
    """
    from scipy.sparse.csgraph import connected_components

    links = graph.to_scipy()
    is_junction = graph.degrees > 2
    n_skeletons, _ = connected_components(links, directed=False)
    n_junctions, _ = connected_components(links[is_junction][:, is_junction], directed=False)
    return SkeletonCounts(
        pixels=len(graph),
        skeletons=int(n_skeletons),
        junctions=int(n_junctions),
        tips=int((graph.degrees == 1).sum()),
        cycles=len(graph.indices) // 2 - len(graph) + int(n_skeletons),
    )


def prune(graph: PixelGraph, min_length: float, types: Collection[int] = (TIP_JUNCTION,)) -> PixelGraph:
    """Leave out short branches.

    The branches that the table of `branches` tells to be shorter go, all at once; what was a junction and has
    two links left becomes the inside of a longer branch. That one, or a branch whose end lost all that grew from
    it, may be short as well: prune again where those should go, too.

    Parameters
    ----------
    graph : PixelGraph
    min_length : float
        Branches of at least this length stay, in the unit of spacing.
    types : collection of int
        Types of branches that may go, see `branches`; by default spurs: from a tip to a junction.

    Returns
    -------
    PixelGraph
        Of the pixels that are left, numbered anew. Junctions stay, if need be as isolated pixels.

    Raises
    ------
    ValueError
        If `min_length` is negative or NaN, or a type is none of 0 to 3.

    Examples
    --------
    >>> from parimg.kernels.skeletons.graph import pixel_graph
    >>> spur = [[0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]
    >>> graph = prune(pixel_graph(spur), min_length=1.5)
    >>> branches(graph)["branch_distance"]
    array([5.])
    """
    if not min_length >= 0:
        raise ValueError(f"min_length must be at least 0 (got {min_length!r})")
    unknown = sorted(set(types) - set(range(CYCLE + 1)))
    if unknown:
        raise ValueError(f"types must be among 0, 1, 2 and 3 (got {unknown[0]!r})")
    table, (paths, lengths) = branches(graph), trace(graph)
    goes = (lengths < min_length) & np.isin(table["branch_type"], list(types))
    if not goes.any():
        return graph
    is_gone = np.zeros(len(graph), bool)
    is_gone[paths.pixels[np.repeat(goes, np.diff(paths.starts))]] = True
    is_gone &= graph.degrees <= 2  # others are ends of branches that stay
    rows = np.repeat(np.arange(len(graph)), graph.degrees)
    stays = ~(is_gone[rows] | is_gone[graph.indices])
    # A branch of one link between two junctions has no pixel of its own.
    bare = goes & (np.diff(paths.starts) == 2)
    ends = np.sort([table["node_id_src"][bare], table["node_id_dst"][bare]], axis=0)
    links = np.sort([rows, graph.indices], axis=0)
    stays &= ~np.isin(links[0] * len(graph) + links[1], ends[0] * len(graph) + ends[1])
    numbers = np.cumsum(~is_gone) - 1
    degrees = np.bincount(rows[stays], minlength=len(graph))[~is_gone]
    return PixelGraph(
        np.concatenate([[0], np.cumsum(degrees)]),
        numbers[graph.indices[stays]],
        graph.distances[stays],
        graph.coordinates[~is_gone],
        graph.shape,
        graph.spacing,
    )


def main_branch(graph: PixelGraph) -> NDArray[np.bool_]:
    """Find the main branch of every skeleton: the longest shortest path between two ends of branches.

    Parameters
    ----------
    graph : PixelGraph

    Returns
    -------
    ndarray of bool, one for each row of `branches`
        True along the main branch of the row's skeleton. Of a lone cycle no row is.

    Notes
    -----
    ``skan.summarize(..., find_main_branch=True)`` computes all shortest paths for it; here bounds by the triangle
    inequality spare nearly all of them. Of several branches between the same two ends the shortest
    counts, where skan takes the last. skan 0.13 marks every branch.

    References
    ----------
    F. W. Takes, W. A. Kosters, "Determining the diameter of small world networks", CIKM 2011.

    Examples
    --------
    >>> from parimg.kernels.skeletons.graph import pixel_graph
    >>> main_branch(pixel_graph([[0, 0, 1, 0, 0, 0], [1, 1, 1, 1, 1, 1]]))
    array([False,  True,  True])
    """
    (starts, pixels), lengths = trace(graph)
    ends = np.concatenate([pixels[starts[:-1]], pixels[starts[1:] - 1]])
    nodes, ends = np.unique(ends, return_inverse=True)
    n_branches = len(lengths)
    order = np.argsort(ends, kind="stable")
    indptr = np.concatenate([[0], np.cumsum(np.bincount(ends, minlength=len(nodes)))])
    others = np.concatenate([ends[n_branches:], ends[:n_branches]])
    rows = order % max(n_branches, 1)
    marks: NDArray[np.bool_] = longest_paths.mark_longest(
        indptr.astype(np.int64), others[order].astype(np.int64), rows, lengths[rows], n_branches
    )
    return marks


def sholl(graph: PixelGraph, center: ArrayLike, radii: ArrayLike) -> NDArray[np.int64]:
    """Count how often a skeleton crosses spheres around a point (Sholl analysis).

    Parameters
    ----------
    graph : PixelGraph
    center : array_like of float, shape (ndim,)
        In the unit of spacing, as ``coord_src_0``, ... of `branches`.
    radii : array_like of float, shape (n,)
        Of the spheres, ascending, in the unit of spacing.

    Returns
    -------
    ndarray of int64, shape (n,)
        Links of the graph with one end inside the sphere and the other on or outside it.

    Raises
    ------
    ValueError
        If the center has another shape, a number is not finite, or radii are negative or do not ascend.

    Notes
    -----
    The counts of ``skan.csr.sholl_analysis`` where spheres are farther apart than neighbouring pixels; of closer
    ones it counts one for each link, here all that a link crosses are counted.

    References
    ----------
    D. A. Sholl, "Dendritic organization in the neurons of the visual and motor cortices of the cat", Journal of
    Anatomy 87 (1953).

    Examples
    --------
    >>> from parimg.kernels.skeletons.graph import pixel_graph
    >>> graph = pixel_graph([[0, 0, 1, 0, 0], [0, 0, 1, 0, 0], [1, 1, 1, 1, 1]])
    >>> sholl(graph, center=(2, 2), radii=[1, 2, 3])
    array([3, 3, 0])
    """
    middle, limits = np.asarray(center, float), np.asarray(radii, float)
    ndim = len(graph.shape)
    if middle.shape != (ndim,) or not np.isfinite(middle).all():
        raise ValueError(f"center must be {ndim} finite numbers, one for each axis (got {center!r})")
    if limits.ndim != 1 or not np.isfinite(limits).all() or (limits < 0).any() or (np.diff(limits) <= 0).any():
        raise ValueError(f"radii must be finite, at least 0, and ascend (got {radii!r})")
    away = np.sqrt(((graph.coordinates * graph.spacing - middle) ** 2).sum(axis=1))
    shells = np.searchsorted(limits, away, side="right")  # how many spheres each pixel is on or outside of
    rows = np.repeat(np.arange(len(graph)), graph.degrees)
    inner, outer = shells[rows], shells[graph.indices]
    crosses = inner < outer
    counts: NDArray[Any] = np.bincount(inner[crosses], minlength=len(limits) + 1)
    counts = counts - np.bincount(outer[crosses], minlength=len(limits) + 1)
    return np.cumsum(counts)[:-1].astype(np.int64)
