"""Find the region of a CNN feature map that is most like a query: integral images and region search.

Arrays in, boxes and distances out; an index can be saved to one file and mapped from it. Tasks and users call
this; `search.py` calls the compiled search, and the modules it names hold the loops.
"""

from __future__ import annotations

import math
import operator
import os
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import numpy as np

from parimg.kernels.regions import max_pooling as maxima
from parimg.kernels.regions.arguments import (
    Box,
    address,
    channels_last,
    checked_box,
    checked_map,
    checked_query,
    checked_size,
    checked_walk,
)
from parimg.kernels.regions.array_file import read_fields, write_fields
from parimg.kernels.regions.index_arrays import IndexArrays, check_arrays, max_arrays, sum_arrays
from parimg.kernels.regions.integral_image import integral_image, region_descriptor
from parimg.kernels.regions.search import RegionMatch, RegionMatches, find
from parimg.kernels.regions.search_loop import (
    TOTAL,
    search_doubles,
    search_maxima,
    search_singles,
)
from parimg.kernels.regions.windows import LARGEST_SIDE, pack

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from parimg.kernels.regions.search import SearchLoop

__all__ = [
    "RegionIndex",
    "RegionMatch",
    "RegionMatches",
    "integral_image",
    "region_descriptor",
]

Pooling = Literal["sum", "max"]
_MADE_OF_OTHERS = ("_channels", "_loop", "_table")


class RegionIndex:
    """A feature map prepared for region search: built once, searched many times.

    Parameters
    ----------
    feature_map : array_like, shape (channels, height, width)
        Finite real numbers; with ``pooling="max"`` none below 0. It is copied.
    pooling : {"sum", "max"}
        What makes a vector of a region. "sum" is the published simplification. "max" is the paper's approximate
        max-pooling: values are rounded to nine levels, 0 to 8 eighths of their channel's largest, and pooled as
        ``sum(level ** alpha) ** (1 / alpha)``.
    alpha : int, default 10
        The exponent for "max"; unused for "sum".
    store_norms : bool, default True
        With "sum", compute the norms of all windows now. False is quicker for a map that is searched once: each
        search computes the norms of the windows that count.
    image_size : (int, int), optional
        Height and width in pixels of the image that the map was made from, for `in_pixels`. It is saved, too.

    Attributes
    ----------
    shape : tuple of int
        ``(channels, height, width)``.
    pooling, alpha, image_size
        As given.
    nbytes : int
        Memory of the arrays: at most three times the float32 map's.

    Raises
    ------
    TypeError
        When the map does not hold real numbers.
    ValueError
        When the map has another number of dimensions, an empty one, more than 32767 rows or columns, a NaN or
        infinite value, or a negative one with ``pooling="max"``; when `pooling` is none of the above; when `alpha`
        is below 1 or so large that the powers of the levels could overflow int64 when added up.

    Notes
    -----
    For "sum" the map is kept as float32, or as float64 where its values need that, with the inverse norm of
    every window beside it: ``height**2 * width**2`` bytes. Where that would exceed the limit, for maps with more
    than about eight cells a channel, norms are computed in each search for the windows that count.

    For "max" the sums of powers are kept as int64, exactly, twice the float32 map. Rounding to levels moves a
    pooled value by at most a sixteenth of the channel's largest. A sum of powers is larger than the maximum's by
    at most the number n of cells: pooled values are too large by a factor of at most ``n ** (1 / alpha)``, and
    directions suffer less, since that happens to most channels.

    References
    ----------
    G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
    ICLR 2016. The published simplification sums, and searches all windows of an aspect ratio.

    Examples
    --------
    >>> import numpy as np
    >>> feature_map = np.zeros((2, 4, 6))
    >>> feature_map[0] = 1
    >>> feature_map[1, 1:3, 2:4] = 5
    >>> index = RegionIndex(feature_map)
    >>> [(match.box, round(match.distance, 3)) for match in index.search([1, 4], aspect_ratio=1.0, top_k=2)]
    [((1, 2, 2, 3), 0.048), ((1, 3, 2, 4), 0.048)]
    """

    __slots__ = (
        "_channels", "_exact", "_loop", "_main", "_side", "_table", "_total", "_whole",
        "alpha", "image_size", "pooling",
    )  # fmt: skip

    def __init__(
        self,
        feature_map: ArrayLike,
        pooling: Pooling = "sum",
        alpha: int = 10,
        *,
        store_norms: bool = True,
        image_size: tuple[int, int] | None = None,
    ) -> None:
        if pooling not in ("sum", "max"):
            raise ValueError(f"pooling must be 'sum' or 'max' (got {pooling!r})")
        self.pooling: Pooling = pooling
        self.alpha = operator.index(alpha)
        if self.alpha < 1:
            raise ValueError(f"alpha must be at least 1 (got {alpha})")
        self.image_size = None if image_size is None else checked_size(image_size)
        given = checked_map(feature_map)
        if max(given.shape[1:]) > LARGEST_SIDE:
            raise ValueError(f"feature_map must have at most {LARGEST_SIDE} rows and columns (got {given.shape})")
        cells = channels_last(given)
        arrays = sum_arrays(cells, store_norms=store_norms) if pooling == "sum" else max_arrays(cells, self.alpha)
        self._main, self._side, self._whole, self._total, self._exact = arrays
        self._finish()

    def _finish(self) -> None:
        """Describe the arrays to the compiled search; they never change again."""
        main, side, whole = self._main, self._side, self._whole
        for array in (main, side, whole):
            array.flags.writeable = False
        places = address(main), address(side), len(side), address(whole), len(whole)
        self._table = np.array([[*self.shape, *places, self._exact, self.alpha, 0]], np.int64)
        self._table.view(np.float64)[0, TOTAL] = self._total
        self._channels = self.shape[0]
        of_sums = search_singles if main.itemsize == 4 else search_doubles
        self._loop: SearchLoop = search_maxima if self.pooling == "max" else of_sums

    @property
    def shape(self) -> tuple[int, int, int]:
        height, width, channels = self._main.shape
        return channels, height, width

    @property
    def nbytes(self) -> int:
        return self._main.nbytes + self._side.nbytes + self._whole.nbytes

    def __repr__(self) -> str:
        alpha = f", alpha={self.alpha}" if self.pooling == "max" else ""
        return f"<RegionIndex of {self.shape}, pooling={self.pooling!r}{alpha}, {self.nbytes} bytes>"

    def __getstate__(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__ if name not in _MADE_OF_OTHERS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self._whole = np.empty(0)  # indexes saved before there was one have none
        for name, value in state.items():
            setattr(self, name, value)
        arrays = IndexArrays(self._main, self._side, self._whole, self._total, self._exact)
        check_arrays(self.pooling, self.alpha, arrays)
        self._finish()

    def descriptor(self, box: Sequence[int]) -> NDArray[np.float64]:
        """Pool a region and normalise, as the search does for each window.

        Parameters
        ----------
        box : sequence of four int
            ``(y1, x1, y2, x2)``, half open.

        Returns
        -------
        ndarray of float64, shape (channels,)
            Of unit length; zeros where the region holds only zeros.

        Raises
        ------
        ValueError
            When the box is empty or leaves the map.
        """
        _, height, width = self.shape
        y1, x1, y2, x2 = checked_box(box, height, width)
        if self.pooling == "max":
            pooled = maxima.pool(self._main, self._side, self.alpha, pack(y1, x1, y2, x2))
        else:
            pooled = self._main[y1:y2, x1:x2].sum((0, 1), dtype=np.float64)
        norm = math.sqrt(np.sum(pooled * pooled))
        return pooled / norm if norm > 0 else np.zeros_like(pooled)

    def in_pixels(self, box: Sequence[int]) -> Box:
        """The pixels that a box of cells stands on, without what the network saw around them.

        Parameters
        ----------
        box : sequence of four int
            ``(y1, x1, y2, x2)`` in cells, half open.

        Returns
        -------
        tuple of int
            ``(y1, x1, y2, x2)`` in pixels, half open, rounded to the nearest edge; one pixel at least.

        Raises
        ------
        ValueError
            When the box is empty or leaves the map, or the index was made without `image_size`.

        Examples
        --------
        >>> import numpy as np
        >>> RegionIndex(np.ones((1, 4, 6)), image_size=(128, 190)).in_pixels((1, 0, 2, 3))
        (32, 0, 64, 95)
        """
        if self.image_size is None:
            raise ValueError(
                "boxes in pixels need the image's size: make the index with image_size=(height, width)"
            )
        _, rows, columns = self.shape
        y1, x1, y2, x2 = checked_box(box, rows, columns)
        height, width = self.image_size
        top, bottom = _stretch(y1, y2, height, rows)
        left, right = _stretch(x1, x2, width, columns)
        return top, left, bottom, right

    def search(
        self,
        query: ArrayLike,
        aspect_ratio: float | None = None,
        aspect_range: tuple[float, float] = (0.8, 1.2),
        step: int = 1,
        min_size: int = 1,
        refine: bool = True,
        top_k: int = 1,
        *,
        exact: bool = False,
    ) -> RegionMatches:
        """Find the windows whose descriptors are nearest to a query's.

        Parameters
        ----------
        query : array_like, shape (channels,)
            A descriptor. It is normalised, unless its length is 1 within float32 rounding.
        aspect_ratio : float, optional
            Height over width of the query, in cells: where cells are no squares, the ratio in pixels times
            ``(rows / image_height) / (columns / image_width)``. None allows every window.
        aspect_range : tuple of float
            A window counts when its height over its width, over `aspect_ratio`, lies strictly between these. The
            published search has (0.8, 1.2), the paper (1 / 1.1, 1.1).
        step : int, default 1
            Distance of the grid lines, in cells, on which a window's edges lie; the map's far edges are lines,
            too. 1 compares all windows. Where no window of the grid counts, 1 is used.
        min_size : int, default 1
            Smallest height and width.
        refine : bool, default True
            Move one or two edges of each of the best windows of the grid, by 3, 2 and then 1 cells, as long as
            that brings it nearer; it still has to count. Does nothing for ``step=1``.
        top_k : int, default 1
            How many windows to return at most. Windows that refine to the same one are returned once.
        exact : bool, default False
            Return the best of all windows that count, whatever `step` and `refine`. For ``pooling="max"`` that is
            proven by branch and bound; on sparse maps, as networks give them, it takes a fraction of the time of
            ``step=1``, which has the same answer, and up to twice as long on dense noise. For "sum" all windows
            are compared, as that is quicker.

        Returns
        -------
        RegionMatches
            A list of `RegionMatch`, nearest first, with the number of evaluated windows as an attribute. Of
            windows at the same distance, the one with the lowest ``(y2, x2, y1, x1)`` comes first. Empty where no
            window counts, or those that do hold only zeros, which have no direction.

        Raises
        ------
        TypeError
            When the query does not hold real numbers, or a whole number is asked for and something else comes.
        ValueError
            When the query has another shape, is NaN, infinite or zero; when another parameter is out of range.

        Notes
        -----
        With ``pooling="sum"``, ``step=1`` the best window is the published function's on
        ``integral_image(feature_map)``, also where windows tie or differ by float64 rounding.
        """
        vector = checked_query(query, self._channels)
        walk = checked_walk(aspect_ratio, aspect_range, step, min_size, refine, top_k, exact)
        return find(self._loop, self._table, vector, walk)[0]

    def search_many(
        self,
        queries: Iterable[ArrayLike],
        aspect_ratio: float | Sequence[float | None] | None = None,
        aspect_range: tuple[float, float] = (0.8, 1.2),
        step: int = 1,
        min_size: int = 1,
        refine: bool = True,
        top_k: int = 1,
        *,
        exact: bool = False,
    ) -> list[RegionMatches]:
        """Search for many queries in one compiled call.

        Parameters
        ----------
        queries : iterable of array_like, each of shape (channels,)
            Descriptors, for example an array of shape (queries, channels).
        aspect_ratio : float, sequence of float or None, optional
            One for all queries, or one for each.
        aspect_range, step, min_size, refine, top_k, exact
            As for `search`.

        Returns
        -------
        list of RegionMatches
            One for each query, as `search` returns it.

        Raises
        ------
        TypeError, ValueError
            As `search`; ValueError also when the numbers of queries and aspect ratios differ.
        """
        vectors = [checked_query(query, self._channels) for query in queries]
        walk = checked_walk(aspect_ratio, aspect_range, step, min_size, refine, top_k, exact, len(vectors))
        if not vectors:
            return []
        return find(self._loop, self._table, np.concatenate(vectors), walk, len(vectors))

    def save(self, file: str | os.PathLike[str] | BinaryIO) -> None:
        """Write the index as one ``.npy`` file.

        Parameters
        ----------
        file : path-like or binary file
            A path is used as it is; the file appears under it once it is whole, and replaces one of that name;
            who has that mapped keeps the old one.

        Raises
        ------
        OSError
            When the file cannot be written.
        """
        header = {
            "pooling": np.asarray(self.pooling, "S3"),
            "alpha": np.asarray(self.alpha, np.int32),
            "exact": np.asarray(self._exact),
            "total": np.asarray(self._total, np.float64),
            "image_size": np.asarray(self.image_size or (0, 0), np.int64),
        }
        write_fields(file, {**header, "main": self._main, "side": self._side, "whole": self._whole})

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, mmap: bool = True) -> RegionIndex:
        """Read an index that `save` wrote.

        Parameters
        ----------
        path : path-like
            The file.
        mmap : bool, default True
            Map the file into memory, read-only: it is shared by all processes that do so, and read as it is
            needed. False reads it at once. A mapped file stays open as long as the index, or arrays of it, live.

        Returns
        -------
        RegionIndex

        Raises
        ------
        OSError
            When the file cannot be read.
        ValueError
            When it holds something else.
        """
        fields = read_fields(path, mmap=mmap)
        index = cls.__new__(cls)
        try:
            height, width = fields["image_size"].tolist()
            index.__setstate__(
                {
                    "pooling": fields["pooling"].tobytes().decode("ascii", "replace"),
                    "alpha": int(fields["alpha"]),
                    "image_size": checked_size((height, width)) if height or width else None,
                    "_exact": bool(fields["exact"]),
                    "_total": float(fields["total"]),
                    "_main": fields["main"],
                    "_side": fields["side"],
                    **({"_whole": fields["whole"]} if "whole" in fields else {}),
                }
            )
        except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
            raise ValueError(f"{os.fspath(path)!r} is no index that RegionIndex.save wrote: {error}") from None
        return index


def _stretch(first: int, end: int, pixels: int, cells: int) -> tuple[int, int]:
    """The pixels of a side that cells stand on: one at least, also where there are more cells than pixels."""
    start = min(round(first * pixels / cells), pixels - 1)
    return start, max(start + 1, round(end * pixels / cells))
