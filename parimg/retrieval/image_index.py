"""Searching an index for the images that show what a query shows, and where in them it is.

`indexing.py` makes the index, a job of `FeatureMap`; `ImageIndex` searches it, in this process or on engines. Used
by ``parimg search``.
"""

from __future__ import annotations

import operator
import os
import warnings
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from parimg.errors import JobError, TaskError
from parimg.images.decode import read_image
from parimg.retrieval.descriptor_table import descriptor_table
from parimg.retrieval.hits import Box, Hit
from parimg.retrieval.indexing import REGIONS, IndexDescription, open_journal
from parimg.retrieval.ranking import (
    NO_REGION,
    Query,
    Region,
    cosine,
    largest,
    largest_others,
    search_here,
    search_on,
)
from parimg.tasks.feature_map import FeatureMap
from parimg.tasks.region_search import RegionSearch, open_index

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.controller.controller import Controller

_ASPECT_RANGE = (1 / 1.1, 1.1)  # as in the paper
_STEP = 3  # cells, as in the paper


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
        regions = IndexDescription.read(self.directory).regions
        table = descriptor_table(self._journal, self.directory, regions)
        self.keys, self.uris, self._files, self.descriptors = table

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
        shortlist = largest(similarity, rerank)
        regions = self._best_regions(shortlist, looked_for, controller)
        near, near_regions = similarity[shortlist], np.array([cosine(found.distance) for found in regions])
        order = np.argsort(-(near + near_regions), kind="stable")
        rest = similarity
        if expand:
            best = np.concatenate([shortlist[order], largest_others(similarity, shortlist, expand)])[:expand]
            expanded = expand_query(looked_for.rmac, self.descriptors[best])
            near = self.descriptors[shortlist] @ expanded
            if regions:
                vectors = self._region_vectors(shortlist, regions)
                near_regions = vectors @ expand_query(looked_for.region, vectors[order[:expand]])
            order = np.argsort(-(near + near_regions), kind="stable")
            if top_k > len(shortlist):  # as many bytes to read as there are descriptors
                rest = self.descriptors @ expanded
        order, others = order[:top_k], largest_others(rest, shortlist, top_k)
        places = [*shortlist[order].tolist(), *others.tolist()]
        scores = [*(near + near_regions)[order].tolist(), *rest[others].tolist()]
        found_regions = [*(regions[i] for i in order.tolist()), *[NO_REGION] * len(others)]
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
    ) -> list[Region]:
        if not len(places):
            return []
        task = RegionSearch(query.region, query.aspect_ratio, _ASPECT_RANGE, step=_STEP)
        paths = [self._region_file(place) for place in places.tolist()]
        searched = search_here(task, paths) if controller is None else search_on(controller, task, paths)
        found, reasons = [], []
        for path, outcome in zip(paths, searched, strict=True):
            if isinstance(outcome, str):
                reasons.append(f"{path!r}: {outcome}")
            found.append(NO_REGION if isinstance(outcome, str) else outcome)
        if reasons:
            warnings.warn(
                f"{len(reasons)} of {len(paths)} region indexes cannot be searched, and their images are ranked "
                f"without a region; the first is {reasons[0]}",
                RuntimeWarning,
                stacklevel=3,
            )
        return found

    def _region_vectors(self, places: npt.NDArray[np.int64], regions: list[Region]) -> npt.NDArray[np.float32]:
        import numpy as np

        vectors = np.zeros((len(regions), self.descriptors.shape[1]), np.float32)
        for vector, place, region in zip(vectors, places.tolist(), regions, strict=False):
            if region.box is not None:
                vector[:] = open_index(self._region_file(place)).descriptor(region.box)
        return vectors

    def _region_file(self, place: int) -> str:
        return os.path.join(self.directory, REGIONS, self._files[place])


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
