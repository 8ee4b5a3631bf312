"""Retrieval: searching an index for the images that show what a query shows, and where in them it is.

`indexing.py` makes the index, a job of `FeatureMap`; `ImageIndex` searches it, in this process or on engines. Used
by ``parimg search``.
"""

from __future__ import annotations

import math
import operator
import os
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.errors import JobError, TaskError
from parimg.files.atomic import whole_file
from parimg.images.decode import read_image
from parimg.retrieval.descriptor_table import gather
from parimg.retrieval.indexing import REGIONS, open_journal
from parimg.tasks.feature_files import file_of
from parimg.tasks.feature_map import FeatureMap
from parimg.tasks.region_search import RegionSearch, open_index

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.controller import Controller

Box = tuple[int, int, int, int]

_ASPECT_RANGE = (1 / 1.1, 1.1)  # as in the paper
_STEP = 3  # cells, as in the paper
_CHUNKS_AN_ENGINE = 4  # of a search: few enough to cost nothing, enough for engines to finish together


class Hit(NamedTuple):
    """One image of a ranking.

    Attributes
    ----------
    rank : int
        From 1.
    key : str
        Name of the image in the index.
    score : float
        What images are ranked by: the cosine of the R-MAC descriptors of image and query, and for re-ranked ones
        that of the descriptors of their best region and the query added. After expansion both are those of the
        expanded query, so that `score` no longer follows from `similarity` and `distance`.
    similarity : float
        Cosine of the R-MAC descriptors of image and query, before expansion.
    distance : float or None
        Between the normalised descriptors of the image's best region and the query, 0 to 2, before expansion; None
        for images that were not re-ranked, and where no region counts.
    box, image_box : tuple of int or None
        That region, ``(y1, x1, y2, x2)``, in cells of the map and in pixels of the image.
    uri : str
        Where the image was read from.
    """

    rank: int
    key: str
    score: float
    similarity: float
    distance: float | None
    box: Box | None
    image_box: Box | None
    uri: str


class ImageIndex:
    """The images that `index_images` recorded, ready to be searched.

    Parameters
    ----------
    directory : path
        That of `index_images`; it may have been moved, and can then be searched but not be added to.

    Raises
    ------
    JobError
        If it holds no index, or one without any image.

    Examples
    --------
    >>> index = ImageIndex("photos.index")  # doctest: +SKIP
    >>> for hit in index.search("tower.jpg", box=(40, 60, 300, 200)):  # doctest: +SKIP
    ...     print(hit.rank, hit.key, hit.image_box)
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = os.path.abspath(directory)
        self._journal = open_journal(self.directory)
        if not self._journal.count_by_status()["ok"]:
            job_dir = self._journal.directory
            raise JobError(f"the index {self.directory!r} holds no image yet; see `parimg status {job_dir}`")
        self.keys, self.uris, self.descriptors = gather(self._journal, self.directory)

    def __len__(self) -> int:
        return len(self.keys)

    def __repr__(self) -> str:
        return f"<ImageIndex of {len(self)} images in {self.directory!r}>"

    @cached_property
    def task(self) -> FeatureMap:
        """The task that made the index, with its model."""
        task = self._journal.load_task()
        if not isinstance(task, FeatureMap):
            raise JobError(f"{self.directory!r} is no index, but a job of {task.name}")
        return task

    def search(
        self,
        query: str | os.PathLike[str] | npt.NDArray[np.uint8] | Query,
        box: Sequence[int] | None = None,
        *,
        top_k: int = 20,
        rerank: int = 200,
        expand: int = 3,
        controller: Controller | None = None,
    ) -> list[Hit]:
        """Rank images by how much they, or a region of them, look like a query.

        Parameters
        ----------
        query : path, URL, ndarray of uint8, shape (height, width, 3), or Query
            The query image; an array is red, green, blue. Or what `describe` gave, which saves the network's time
            when a query is searched for again.
        box : sequence of four int, optional
            ``(y1, x1, y2, x2)``, the part of the query image that is looked for, in pixels, half open. By default
            all of it.
        top_k : int, default 20
            How many images to return at most.
        rerank : int, default 200
            So many of the images with the nearest R-MAC descriptors are searched for their best region, and ranked
            by the sum of both similarities. 0: none.
        expand : int, default 3
            The descriptors of the best so many are averaged with the query's, and similarities computed once
            more. 0: not.
        controller : Controller, optional
            Search regions on its engines instead of in this process.

        Returns
        -------
        list of Hit
            Best first. A smaller `top_k` gives the beginning of the same list.

        Raises
        ------
        ImageError
            If the query cannot be read.
        TaskError
            If it is none, the box is not within it, or a number is below its least.

        Notes
        -----
        Images whose file of regions cannot be read are ranked as if no region of theirs counted, with one
        RuntimeWarning that names the first.

        References
        ----------
        G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
        ICLR 2016. There the shortlist is ranked by the regions alone; the sum of both was better here, see the
        docs.
        """
        import numpy as np

        from parimg.kernels import expand_query

        top_k, rerank, expand = (
            _checked_count(name, value, least)
            for name, value, least in (("top_k", top_k, 1), ("rerank", rerank, 0), ("expand", expand, 0))
        )
        looked_for = self._checked_query(query, box)
        similarity = self.descriptors @ looked_for.rmac
        shortlist = _largest(similarity, rerank)
        regions = self._best_regions(shortlist, looked_for, controller)
        near, near_regions = similarity[shortlist], np.array([_cosine(found.distance) for found in regions])
        order = np.argsort(-(near + near_regions), kind="stable")
        rest = similarity
        if expand:
            best = np.concatenate([shortlist[order], _largest_others(similarity, shortlist, expand)])[:expand]
            expanded = expand_query(looked_for.rmac, self.descriptors[best])
            near = self.descriptors[shortlist] @ expanded
            if regions:
                vectors = self._region_vectors(shortlist, regions)
                near_regions = vectors @ expand_query(looked_for.region, vectors[order[:expand]])
            order = np.argsort(-(near + near_regions), kind="stable")
            if top_k > len(shortlist):  # as many bytes to read as there are descriptors
                rest = self.descriptors @ expanded
        order, others = order[:top_k], _largest_others(rest, shortlist, top_k)
        places = [*shortlist[order].tolist(), *others.tolist()]
        scores = [*(near + near_regions)[order].tolist(), *rest[others].tolist()]
        found_regions = [*(regions[i] for i in order.tolist()), *[_NO_REGION] * len(others)]
        hits = []
        for rank, (place, score, region) in enumerate(zip(places, scores, found_regions, strict=True), 1):
            about = (self.keys[place], score, float(similarity[place]))
            hits.append(Hit(rank, *about, region.distance, region.box, region.image_box, self.uris[place]))
        return hits

    def describe(
        self, query: str | os.PathLike[str] | npt.NDArray[np.uint8], box: Sequence[int] | None = None
    ) -> Query:
        """Descriptors of a query image, or of a box in it, as `search` uses them.

        Parameters
        ----------
        query, box
            As for `search`.

        Returns
        -------
        Query

        Raises
        ------
        ImageError, TaskError
            As `search`.
        """
        from parimg.kernels import mac, rmac

        image = _image_of(query)
        feature_map = self.task.feature_map(image)
        height, width = image.shape[:2]
        y1, x1, y2, x2 = (0, 0, height, width) if box is None else _checked_box(box, height, width)
        rows, columns = feature_map.shape[1:]
        # The box's cells in the map of the whole image: it is seen at the size that the index's images are.
        top, bottom = _cells(y1, y2, rows / height, rows)
        left, right = _cells(x1, x2, columns / width, columns)
        part = feature_map[:, top:bottom, left:right]
        if not part.any():
            raise TaskError("the network sees nothing in the query: all values of its map are 0")
        region = mac(part) if self.task.index == "max" else part.sum((1, 2))
        return Query(rmac(part), region, (y2 - y1) / (x2 - x1))

    def _checked_query(
        self, query: str | os.PathLike[str] | npt.NDArray[np.uint8] | Query, box: Sequence[int] | None
    ) -> Query:
        if not isinstance(query, Query):
            return self.describe(query, box)
        if box is not None:
            raise TaskError(f"box must be given to describe(), which made the Query (got {box!r})")
        width = self.descriptors.shape[1]
        if query.rmac.shape != (width,) or query.region.shape != (width,):
            raise TaskError(
                f"the Query must have descriptors of shape ({width},), as the index (got {query.rmac.shape} and "
                f"{query.region.shape}); describe() of this index makes one"
            )
        return query

    def _best_regions(
        self, places: npt.NDArray[np.int64], query: Query, controller: Controller | None
    ) -> list[_Region]:
        if not len(places):
            return []
        task = RegionSearch(query.region, query.aspect_ratio, _ASPECT_RANGE, step=_STEP)
        paths = [self._region_file(place) for place in places.tolist()]
        searched = _searched_here(task, paths) if controller is None else _searched_on(controller, task, paths)
        found, reasons = [], []
        for path, outcome in zip(paths, searched, strict=True):
            if isinstance(outcome, str):
                reasons.append(f"{path!r}: {outcome}")
            found.append(_NO_REGION if isinstance(outcome, str) else outcome)
        if reasons:
            warnings.warn(
                f"{len(reasons)} of {len(paths)} region indexes cannot be searched, and their images are ranked "
                f"without a region; the first is {reasons[0]}",
                RuntimeWarning,
                stacklevel=3,
            )
        return found

    def _region_vectors(self, places: npt.NDArray[np.int64], regions: list[_Region]) -> npt.NDArray[np.float32]:
        import numpy as np

        vectors = np.zeros((len(regions), self.descriptors.shape[1]), np.float32)
        for vector, place, region in zip(vectors, places.tolist(), regions, strict=False):
            if region.box is not None:
                vector[:] = open_index(self._region_file(place)).descriptor(region.box)
        return vectors

    def _region_file(self, place: int) -> str:
        return file_of(os.path.join(self.directory, REGIONS), self.keys[place], ".npy")


class Query(NamedTuple):
    """What is looked for.

    Attributes
    ----------
    rmac, region : ndarray of float32, shape (channels,)
        Its descriptors: `parimg.kernels.rmac` for whole images, and what regions are compared with, pooled as the
        index is: `parimg.kernels.mac`, or the sum over the cells.
    aspect_ratio : float
        Height over width.
    """

    rmac: npt.NDArray[np.float32]
    region: npt.NDArray[np.float32]
    aspect_ratio: float


class _Region(NamedTuple):
    """The best region of an image; None where none counts, or none was looked for."""

    distance: float | None
    box: Box | None
    image_box: Box | None


_NO_REGION = _Region(None, None, None)


def _region(values: Mapping[str, Any]) -> _Region:
    distance, box, image_box = (values[name] for name in ("distance", "box", "image_box"))
    if box is None:
        return _NO_REGION
    return _Region(distance, tuple(box), None if image_box is None else tuple(image_box))


def _searched_here(task: RegionSearch, paths: list[str]) -> Iterator[_Region | str]:
    """The best region of each index, or what is wrong with its file."""
    for path in paths:
        try:
            yield _region(task(open_index(path)))
        except (OSError, ValueError) as error:
            yield f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def _searched_on(controller: Controller, task: RegionSearch, paths: list[str]) -> Iterator[_Region | str]:
    """The same on engines."""
    chunk_size = math.ceil(len(paths) / (_CHUNKS_AN_ENGINE * max(1, len(controller))))
    with tempfile.TemporaryDirectory(prefix="parimg-search-") as folder:
        job = controller.submit(task, paths, job_dir=os.path.join(folder, "job"), chunk_size=chunk_size)
        for record in job.in_order():
            yield _region(record.columns) if record.ok else f"{record.error}: {record.message}"


def _cosine(distance: float | None) -> float:
    """Of normalised descriptors at that distance; where there is no region, nothing is alike."""
    return 0.0 if distance is None else 1 - distance**2 / 2


def _largest(values: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.int64]:
    """Places of the n largest values, largest first, of equal ones the first first."""
    import numpy as np

    if n == 0:
        return np.empty(0, np.int64)
    if n < len(values):
        threshold = np.partition(values, len(values) - n)[len(values) - n]
        candidates = np.flatnonzero(values >= threshold)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:n]


def _largest_others(
    values: npt.NDArray[np.float32], known: npt.NDArray[np.int64], n: int
) -> npt.NDArray[np.int64]:
    """Of those that are not `known`, so many that all together are `n`."""
    import numpy as np

    missing = min(n, len(values)) - len(known)
    if missing <= 0:
        return np.empty(0, np.int64)
    remaining = values.copy()
    remaining[known] = -np.inf
    return _largest(remaining, missing)


def _checked_count(name: str, value: object, least: int) -> int:
    try:
        count = -1 if isinstance(value, bool) else operator.index(value)  # type: ignore[arg-type]
    except TypeError:
        count = -1
    if count < least:
        raise TaskError(f"{name} must be an integer of at least {least} (got {value!r})")
    return count


def _image_of(query: object) -> npt.NDArray[np.uint8]:
    import numpy as np

    if isinstance(query, str | os.PathLike):
        return read_image(os.fspath(query), "color")
    if not isinstance(query, np.ndarray):
        raise TaskError(
            f"the query must be a path, URL or RGB array, or a Query that describe() gave (got a "
            f"{type(query).__name__})"
        )
    return query


def _checked_box(box: Sequence[int], height: int, width: int) -> Box:
    try:
        y1, x1, y2, x2 = (operator.index(edge) for edge in box)
    except (TypeError, ValueError):
        raise TaskError(f"box must be (y1, x1, y2, x2), whole pixels (got {box!r})") from None
    if not (0 <= y1 < y2 <= height and 0 <= x1 < x2 <= width):
        raise TaskError(
            f"box must be (y1, x1, y2, x2), not empty, within the query's {height} x {width} pixels (got {box!r})"
        )
    return y1, x1, y2, x2


def _cells(first: int, end: int, factor: float, cells: int) -> tuple[int, int]:
    """The cells nearest to a stretch of pixels, at least one."""
    start = min(round(first * factor), cells - 1)
    return start, max(start + 1, min(round(end * factor), cells))


def write_hits(hits: Sequence[Hit], path: str | os.PathLike[str]) -> None:
    """Write a ranking as a table, whole or not at all: Parquet, or CSV if the path ends in ``.csv``.

    Columns have the same types whatever the hits are; boxes are lists of four integers, or null.
    """
    if os.fspath(path).lower().endswith(".csv"):
        import pandas as pd

        with whole_file(path) as unfinished:
            pd.DataFrame(hits, columns=list(Hit._fields)).to_csv(unfinished, index=False)
        return
    import pyarrow as pa
    import pyarrow.parquet as pq

    box = pa.list_(pa.int64())
    types = (pa.int64(), pa.string(), pa.float64(), pa.float64(), pa.float64(), box, box, pa.string())
    schema = pa.schema(list(zip(Hit._fields, types, strict=True)))
    with whole_file(path) as unfinished:
        pq.write_table(pa.Table.from_pylist([hit._asdict() for hit in hits], schema), unfinished)
