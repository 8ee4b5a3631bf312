"""Skeletons as graphs: which pixels touch, and the branches between tips and junctions, with skan's answers.

Arrays in, arrays out, in any number of dimensions: no I/O, no cluster. After one look at the image, work and
memory grow with the pixels of the skeleton only. Tasks and users call this; `analysis.py` goes on from
here.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from parimg.kernels.skeletons import branch_tracing as tracing
from parimg.kernels.skeletons import pixel_links as linking

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import networkx as nx
    import scipy.sparse
    from numpy.typing import ArrayLike

TIP_JUNCTION, JUNCTION_JUNCTION, CYCLE = 1, 2, 3
"""Types of branches, as skan numbers them; 0 is from tip to tip."""

_SMALL_SIDE = 256  # px of the longer side of the picture in a notebook
_DEGREE_COLORS = np.array(
    [(0, 0, 0), (255, 255, 255), (183, 55, 121), (241, 96, 93), (252, 253, 191)], np.uint8
)  # of no pixel, isolated ones, tips, paths, junctions
_MOST_AXES = 8  # 3**8 places around a pixel
_LEAST_WIDE = 2**31  # pixels, or a side of the image, from which on their numbers need 64 bits

Index = NDArray[np.int32] | NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class PixelGraph:
    """The pixels of a skeleton and their links, as `pixel_graph` makes it.

    Pixels are numbered in C order. ``indptr, indices, distances`` are a symmetric matrix in compressed sparse
    rows: the neighbours of pixel i are ``indices[indptr[i]:indptr[i + 1]]``, ascending, and ``distances`` has
    how far they are. All arrays are read-only. Pixels and coordinates are int32 where all fit, otherwise int64.

    Attributes
    ----------
    indptr : ndarray of int64, shape (pixels + 1,)
    indices : ndarray of int32 or int64, shape (links,)
    distances : ndarray of float64, shape (links,)
        In the unit of `spacing`.
    coordinates : ndarray of int32 or int64, shape (pixels, ndim)
        Of each pixel, in pixels.
    shape : tuple of int
        Of the image.
    spacing : ndarray of float64, shape (ndim,)
        Distance of neighbouring pixels along each axis.

    Examples
    --------
    >>> graph = pixel_graph([[1, 1, 0], [0, 0, 1]])
    >>> graph
    <PixelGraph of 3 pixels in an image of 2 x 3>
    >>> graph.degrees
    array([1, 2, 1])
    >>> graph.to_scipy().toarray().round(3)
    array([[0.   , 1.   , 0.   ],
           [1.   , 0.   , 1.414],
           [0.   , 1.414, 0.   ]])
    """

    indptr: NDArray[np.int64]
    indices: Index
    distances: NDArray[np.float64]
    coordinates: Index
    shape: tuple[int, ...]
    spacing: NDArray[np.float64]

    def __post_init__(self) -> None:
        # Of one dtype, contiguous and read-only, whoever made them: numba compiles its functions once.
        index = _index_dtype(len(self.indptr) - 1, self.shape)
        dtypes = {"indptr": np.int64, "indices": index, "distances": float, "coordinates": index, "spacing": float}
        for name, dtype in dtypes.items():
            array = np.ascontiguousarray(getattr(self, name), dtype).view()
            array.flags.writeable = False
            object.__setattr__(self, name, array)

    def __len__(self) -> int:
        return len(self.coordinates)

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        return f"<PixelGraph of {len(self)} pixels in an image of {size}>"

    def _repr_html_(self) -> str:
        from parimg.notebook import markup

        counts = np.bincount(np.minimum(self.degrees, 3), minlength=4).tolist()
        names = ("isolated", "tips", "inside a branch", "at junctions")
        about = {"pixels": f"{len(self):,}", **{name: f"{n:,}" for name, n in zip(names, counts, strict=True)}}
        picture = markup.picture(markup.png(self._small_picture()), width=_SMALL_SIDE) if len(self) else None
        return markup.box("PixelGraph", " x ".join(map(str, self.shape)), [picture, markup.facts(about)])

    def _small_picture(self) -> NDArray[np.uint8]:
        """Pixels by degree on black; of volumes from the front, with the largest degree on top."""
        is_line = len(self.shape) == 1
        places: NDArray[Any] = np.pad(self.coordinates, ((0, 0), (1, 0))) if is_line else self.coordinates
        height, width = (1, *self.shape)[-2:]
        shrink = max(1.0, max(height, width) / _SMALL_SIDE)
        cells = np.floor_divide(places[:, -2:], shrink).astype(int)
        degrees = np.zeros((-int(-height // shrink), -int(-width // shrink)), np.int64)
        np.maximum.at(degrees, (cells[:, 0], cells[:, 1]), 1 + np.minimum(self.degrees, 3))
        return _DEGREE_COLORS[degrees]

    def __reduce__(self) -> tuple[type[PixelGraph], tuple[object, ...]]:
        return PixelGraph, tuple(getattr(self, item.name) for item in fields(self))

    @cached_property
    def degrees(self) -> NDArray[np.int64]:
        """Number of links of each pixel: 0 isolated, 1 a tip, 2 inside a branch, more: a junction."""
        degrees: NDArray[np.int64] = np.diff(self.indptr)
        degrees.flags.writeable = False
        return degrees

    def to_scipy(self) -> scipy.sparse.csr_array:
        """The matrix of distances, for `scipy.sparse.csgraph`."""
        from scipy.sparse import csr_array

        arrays = (self.distances.copy(), self.indices.copy(), self.indptr.copy())
        return csr_array(arrays, shape=(len(self), len(self)))

    def to_networkx(self) -> nx.Graph[int]:
        """An undirected graph of networkx.

        Its nodes are the pixels' numbers, with ``coordinates``, a tuple; its edges have ``weight``, the distance.
        """
        import networkx as nx

        graph: nx.Graph[int] = nx.Graph(shape=self.shape, spacing=tuple(self.spacing.tolist()))
        graph.add_nodes_from(
            (pixel, {"coordinates": tuple(place)}) for pixel, place in enumerate(self.coordinates.tolist())
        )
        pixels = np.repeat(np.arange(len(self)), self.degrees)
        once = pixels < self.indices
        ends = pixels[once].tolist(), self.indices[once].tolist(), self.distances[once].tolist()
        graph.add_weighted_edges_from(zip(*ends, strict=True))
        return graph


class BranchPaths(NamedTuple):
    """The pixels of every branch, from one end to the other.

    Those of branch i are ``pixels[starts[i]:starts[i + 1]]``, both ends included; a cycle ends with the pixel that
    it begins with.

    Attributes
    ----------
    starts : ndarray of int64, shape (branches + 1,)
    pixels : ndarray of int32 or int64
        Numbers of pixels of the graph.
    """

    starts: NDArray[np.int64]
    pixels: Index


class Tracing(NamedTuple):
    """The branches of a graph, and their lengths."""

    paths: BranchPaths
    lengths: NDArray[np.float64]


def pixel_graph(skeleton: ArrayLike, spacing: float | ArrayLike = 1.0) -> PixelGraph:
    """Make the graph of a skeleton's pixels.

    Pixels are linked with all neighbours, diagonal ones, too. Where three or more meet, they are clusters of
    pixels that have more than two neighbours each; of the links inside each cluster a minimum spanning tree is
    kept, so that a crossing is no tangle of short cycles.

    Parameters
    ----------
    skeleton : array_like, 1 to 8 axes
        Nonzero where the skeleton is: lines one pixel wide, as `skimage.morphology.skeletonize` makes them. Any
        other mask has a graph, too.
    spacing : float or array_like of float, shape (ndim,)
        Distance of neighbouring pixels, one for all axes or one each.

    Returns
    -------
    PixelGraph
        Of no pixels where all is background or the image is empty.

    Raises
    ------
    TypeError
        If the skeleton holds no real numbers.
    ValueError
        If it has NaN, no axis or more than 8; if `spacing` has another length, or is not positive and finite.

    Notes
    -----
    The graph is that of ``skan.csr.skeleton_to_csgraph``, link for link, also where lengths tie in a cluster.
    Boolean and 8-bit images are read in place, and once; others are compared with zero first.

    References
    ----------
    J. Nunez-Iglesias, A. J. Blanch, O. Looker, M. W. Dixon, L. Tilley, "A new Python library to analyse skeleton
    images confirms malaria parasite remodelling of the red blood cell membrane skeleton", PeerJ 6 (2018).

    Examples
    --------
    >>> cross = [[0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]
    >>> graph = pixel_graph(cross, spacing=0.5)
    >>> graph.coordinates[graph.degrees > 2]
    array([[1, 1]], dtype=int32)
    """
    mask = _as_bytes(np.asarray(skeleton))
    steps = _checked_spacing(spacing, mask.ndim)
    return _linked(linking.find_pixels(mask), mask.shape, steps)


def join_pixels(
    parts: Iterable[NDArray[np.integer[Any]]], shape: Sequence[int], spacing: float | ArrayLike = 1.0
) -> tuple[PixelGraph, NDArray[np.int64]]:
    """Make one graph of a skeleton whose pixels come in parts, as those of the tiles of a large image.

    Parameters
    ----------
    parts : iterable of ndarray of int, each of shape (pixels, ndim)
        Coordinates of pixels in the whole image, in any order; each pixel is in one part.
    shape : sequence of int
        Of the whole image.
    spacing : float or array_like of float, shape (ndim,)
        See `pixel_graph`.

    Returns
    -------
    graph : PixelGraph
        That of `pixel_graph` of the whole skeleton, to the last bit, wherever its parts meet.
    order : ndarray of int64, shape (pixels,)
        Which pixel of all parts, one behind the other, each pixel of the graph is.

    Raises
    ------
    ValueError
        If a pixel lies outside the image or comes twice, or `spacing` is wrong as for `pixel_graph`.

    Notes
    -----
    Memory and work grow with the pixels of the skeleton, not with the image.

    Examples
    --------
    >>> left, right = np.array([[1, 0], [1, 1]]), np.array([[0, 2]])
    >>> graph, order = join_pixels([left, right], shape=(2, 3))
    >>> graph.degrees, order
    (array([1, 1, 2]), array([2, 0, 1]))
    """
    steps = _checked_spacing(spacing, len(shape))
    found = [np.asarray(part, np.int64).reshape(-1, len(shape)) for part in parts]
    coordinates = np.concatenate(found) if found else np.empty((0, len(shape)), np.int64)
    if ((coordinates < 0) | (coordinates >= np.array(shape))).any():
        raise ValueError(f"pixels must lie within the image of shape {tuple(shape)}")
    positions = np.ravel_multi_index(tuple(coordinates.T), tuple(shape)).astype(np.int64)
    order = np.argsort(positions, kind="stable")
    positions = positions[order]
    if (positions[1:] == positions[:-1]).any():
        raise ValueError("each pixel must come once (got some twice)")
    return _linked(np.append(positions, [linking.BEHIND] * 3), tuple(shape), steps), order


def _linked(positions: NDArray[np.int64], shape: tuple[int, ...], steps: NDArray[np.float64]) -> PixelGraph:
    """The graph of pixels at these positions, which ascend, and three behind all."""
    around = linking.neighbourhood(tuple(steps.tolist()))
    like = np.empty(0, _index_dtype(len(positions), shape))
    sides = np.array(shape, np.int64)
    coordinates, counts, others, places = linking.link_pixels(positions, sides, around.lines, like)
    indptr, indices, distances = linking.thin_junctions(
        counts, others, places, around.distances, around.ranks, around.n_ranks
    )
    return PixelGraph(indptr, indices, distances, coordinates, shape, steps)


def branches(graph: PixelGraph, values: ArrayLike | None = None) -> dict[str, NDArray[Any]]:
    """Measure every branch of a skeleton.

    A branch is a path from a tip or junction to the next one, or a cycle without a junction. An isolated pixel
    is a skeleton without a branch.

    Parameters
    ----------
    graph : PixelGraph
    values : array_like, optional
        What to average along branches: an array of the image's shape, or one value a pixel of the graph. None:
        1 everywhere.

    Returns
    -------
    dict of str to ndarray
        A table with one row a branch, for ``pandas.DataFrame``. Columns, where ``_i`` is ``_0``, ``_1``, ... for
        every axis:

        - ``skeleton_id``: which connected skeleton, in the order of their first pixels; isolated pixels count;
        - ``node_id_src``, ``node_id_dst``: the ends, as numbers of pixels;
        - ``branch_distance``: length along the pixels;
        - ``branch_type``: 0 from tip to tip, 1 from tip to junction, 2 from junction to junction, 3 from a
          pixel to itself: a cycle;
        - ``mean_pixel_value``, ``stdev_pixel_value``: of `values`, with both ends; NaN where one is NaN;
        - ``image_coord_src_i``, ``image_coord_dst_i``: the ends in pixels;
        - ``coord_src_i``, ``coord_dst_i``: the ends in the unit of spacing;
        - ``euclidean_distance`` of the ends;
        - ``tortuosity``: branch distance over euclidean distance, infinite for cycles.

    Raises
    ------
    TypeError
        If the values are not real numbers.
    ValueError
        If they have another shape.

    Notes
    -----
    All columns but the last are those of ``skan.summarize(..., separator="_")``, and rows have the same order.

    Examples
    --------
    >>> cross = [[0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]
    >>> table = branches(pixel_graph(cross))
    >>> table["branch_type"]
    array([1, 1, 1, 1])
    >>> table["branch_distance"]
    array([1., 1., 2., 1.])
    """
    traced = trace(graph)
    paths = traced.paths
    src, dst = (paths.pixels[ends].astype(np.int64) for ends in (paths.starts[:-1], paths.starts[1:] - 1))
    labels = tracing.label_skeletons(graph.indptr, *paths)
    if values is None:
        means, deviations = np.ones(len(src)), np.zeros(len(src))
    else:
        means, deviations = tracing.mean_and_deviation(*paths, _values_of_pixels(graph, values))
    is_tip = graph.degrees == 1
    kinds = JUNCTION_JUNCTION - is_tip[src].astype(np.int64) - is_tip[dst]
    kinds[src == dst] = CYCLE
    table: dict[str, NDArray[Any]] = {
        "skeleton_id": labels,
        "node_id_src": src,
        "node_id_dst": dst,
        "branch_distance": traced.lengths,
        "branch_type": kinds,
        "mean_pixel_value": means,
        "stdev_pixel_value": deviations,
    }
    ends = {"src": graph.coordinates[src].astype(np.int64), "dst": graph.coordinates[dst].astype(np.int64)}
    places = {end: coordinates * graph.spacing for end, coordinates in ends.items()}
    for prefix, named in (("image_coord", ends), ("coord", places)):
        for end, coordinates in named.items():
            for axis in range(coordinates.shape[1]):
                table[f"{prefix}_{end}_{axis}"] = np.ascontiguousarray(coordinates[:, axis])
    straight = np.sqrt(((places["dst"] - places["src"]) ** 2).sum(axis=1))
    table["euclidean_distance"] = straight
    table["tortuosity"] = np.divide(traced.lengths, straight, out=np.full(len(src), np.inf), where=straight > 0)
    return table


def branch_paths(graph: PixelGraph) -> BranchPaths:
    """Pixels of every branch, in the order of the rows of `branches`.

    Parameters
    ----------
    graph : PixelGraph

    Returns
    -------
    BranchPaths

    Examples
    --------
    >>> graph = pixel_graph([[0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]])
    >>> starts, pixels = branch_paths(graph)
    >>> [pixels[start:end].tolist() for start, end in zip(starts, starts[1:])]
    [[0, 2], [1, 2], [2, 3, 4], [2, 5]]
    """
    return trace(graph).paths


def branch_label_image(graph: PixelGraph) -> NDArray[np.int32]:
    """Paint every branch with its number.

    Parameters
    ----------
    graph : PixelGraph

    Returns
    -------
    ndarray of int32, of the image's shape
        1 for the pixels of the first row of `branches`, 2 for the second, ...; a junction has the number of its
        last branch; 0 for background and isolated pixels.

    Examples
    --------
    >>> branch_label_image(pixel_graph([[0, 1, 0, 0], [1, 1, 1, 1], [0, 1, 0, 0]]))
    array([[0, 1, 0, 0],
           [2, 4, 3, 3],
           [0, 4, 0, 0]], dtype=int32)
    """
    starts, pixels = branch_paths(graph)
    labels = np.zeros(len(graph), np.int32)
    # Of equal indices the last one stays, as in a loop over the rows.
    labels[pixels] = np.repeat(np.arange(1, len(starts), dtype=np.int32), np.diff(starts))
    image = np.zeros(graph.shape, np.int32)
    image[tuple(graph.coordinates.T)] = labels
    return image


def trace(graph: PixelGraph) -> Tracing:
    """Walk along every branch of a graph."""
    starts, pixels, lengths = tracing.trace_paths(graph.indptr, graph.indices, graph.distances)
    return Tracing(BranchPaths(starts, pixels), lengths)


def _as_bytes(skeleton: NDArray[Any]) -> NDArray[np.uint8]:
    """The skeleton as a contiguous array of bytes, nonzero where it is; the same memory if possible."""
    if skeleton.dtype.kind not in "biuf":
        raise TypeError(f"a skeleton must hold bools or real numbers (got {skeleton.dtype})")
    if not 1 <= skeleton.ndim <= _MOST_AXES:
        raise ValueError(f"a skeleton must have 1 to {_MOST_AXES} axes (got shape {skeleton.shape})")
    if skeleton.dtype.itemsize == 1:
        mask = np.ascontiguousarray(skeleton).view(np.uint8)
    else:
        if skeleton.dtype.kind == "f" and np.isnan(skeleton).any():
            raise ValueError(
                f"the skeleton has {np.isnan(skeleton).sum()} NaN, which are neither skeleton nor background; say "
                "which by numpy.nan_to_num or a comparison"
            )
        mask = np.ascontiguousarray(skeleton != 0).view(np.uint8)
    mask = mask.view()
    mask.flags.writeable = False  # numba compiles another version for arrays that can be written
    return mask


def _index_dtype(n_pixels: int, shape: tuple[int, ...]) -> type[np.int32 | np.int64]:
    # Half the memory is a tenth of the time.
    return np.int32 if max(n_pixels, *shape) < _LEAST_WIDE else np.int64


def _checked_spacing(spacing: float | ArrayLike, ndim: int) -> NDArray[np.float64]:
    steps = np.asarray(spacing, np.float64)
    if steps.shape not in {(), (ndim,)}:
        raise ValueError(f"spacing must be a number or have one for each of {ndim} axes (got {spacing!r})")
    if not (np.isfinite(steps) & (steps > 0)).all():
        raise ValueError(f"spacing must be positive and finite (got {spacing!r})")
    return np.broadcast_to(steps, (ndim,)).copy()


def _values_of_pixels(graph: PixelGraph, values: ArrayLike) -> NDArray[np.float64]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise TypeError(f"values must be bools or real numbers (got {array.dtype})")
    if array.shape == graph.shape:
        array = array[tuple(graph.coordinates.T)]
    elif array.shape != (len(graph),):
        raise ValueError(
            f"values must have the image's shape {graph.shape}, or one value for each of {len(graph)} pixels "
            f"(got shape {array.shape})"
        )
    return np.array(array, np.float64)
