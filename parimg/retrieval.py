"""Retrieval: an index of many images, and the search for those that show what a query shows, and where.

`index_images` makes a job of `FeatureMap` whose files and descriptors are the index; `ImageIndex` searches it, in
this process or on a controller's engines. Used by ``parimg index`` and ``parimg search``.
"""

from __future__ import annotations

import math
import operator
import os
import tempfile
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from parimg.decode import DEFAULT_MAX_PIXELS, read_image
from parimg.errors import ImageError, JobError, TaskError
from parimg.gathered import gather
from parimg.job_directory import JOURNAL_FILE
from parimg.journal import Journal
from parimg.tasks.feature_files import file_of
from parimg.tasks.feature_map import FeatureMap, PerChannel
from parimg.tasks.region_search import RegionSearch

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.controller import Controller
    from parimg.job import Job
    from parimg.sources import Images

Box = tuple[int, int, int, int]

_ASPECT_RANGE = (1 / 1.1, 1.1)  # as in the paper
_STEP = 3  # cells, as in the paper
_CHUNKS_AN_ENGINE = 4  # of a search: few enough to cost nothing, enough for engines to finish together
_JOB, _REGIONS = "job", "regions"


class Hit(NamedTuple):
    """One image of a ranking.

    Attributes
    ----------
    rank : int
        From 1.
    key : str
        Name of the image in the index.
    score : float
        What images are ranked by: `similarity`, and for re-ranked ones the similarity of their region added.
    similarity : float
        Cosine of the R-MAC descriptors of image and query.
    distance : float or None
        Between the normalised descriptors of the image's best region and the query, 0 to 2; None for images that
        were not re-ranked.
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


def index_images(
    controller: Controller,
    images: Images,
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None = None,
    size: int | tuple[int, int] | None = 640,
    mean: PerChannel = 127.0,
    scale: PerChannel = 1 / 128,
    pooling: Literal["sum", "max"] = "max",
    **options: Any,
) -> Job:
    """Index images for retrieval, or go on with an index.

    Parameters
    ----------
    controller : Controller
        Whose engines see `directory`.
    images : see `Controller.submit`
        Those that are in the index already are left as they are.
    directory : path
        New, or that of an index made with the same parameters.
    model, layer, size, mean, scale
        As for `FeatureMap`. Files grow with the square of `size`.
    pooling : {"max", "sum"}
        How regions become vectors.
    **options
        As for `Controller.submit`.

    Returns
    -------
    Job
        Of `FeatureMap`, at once; what it has recorded can be searched while it runs.

    Raises
    ------
    JobError
        If the directory holds something else, or an index made with other parameters.
    SourceError, TaskError
        As `Controller.submit`.

    Notes
    -----
    In the directory, ``job`` is the job, which can be resumed like any other; ``regions`` has a `RegionIndex` for
    each image; ``gathered-...``, all names and descriptors, is made by the first search, and again when images
    were added. With EfficientNet-Lite0 and ``pooling="max"`` it takes about 3 MB an image at 640 pixels, 8 MB at
    1024.
    """
    task = check_index(directory, model=model, layer=layer, size=size, mean=mean, scale=scale, pooling=pooling)
    job_dir = os.path.join(os.path.abspath(directory), _JOB)
    if os.path.exists(os.path.join(job_dir, JOURNAL_FILE)):
        resumable = {name: options[name] for name in ("column", "listeners") if name in options}
        return controller.resume(job_dir, images=images, **resumable)
    return controller.submit(task, images, job_dir=job_dir, **options)


def check_index(
    directory: str | os.PathLike[str],
    *,
    model: str | os.PathLike[str],
    layer: str | None = None,
    size: int | tuple[int, int] | None = 640,
    mean: PerChannel = 127.0,
    scale: PerChannel = 1 / 128,
    pooling: Literal["sum", "max"] = "max",
) -> FeatureMap:
    """The task that `index_images` would submit, if it may be: the directory is new, or has such an index.

    Raises
    ------
    JobError, TaskError
        As `index_images`.
    """
    folder = os.path.abspath(directory)
    task = FeatureMap(
        model, layer, size, mean, scale, output=os.path.join(folder, _REGIONS), index=pooling, rmac=True
    )
    if os.path.exists(os.path.join(folder, _JOB, JOURNAL_FILE)):
        found, wanted = Journal(os.path.join(folder, _JOB)).meta("task")["parameters"], task.describe()
        if found["output"] != wanted["output"]:
            raise JobError(
                f"the index {folder!r} was moved: its regions would be written to {found['output']}; it can be "
                "searched here, but added to only there"
            )
        for name in wanted.keys() - {"model"}:  # which may be called otherwise from here
            if found.get(name) != wanted[name]:
                raise JobError(f"the index {folder!r} was made with {name}={found.get(name)}, not {wanted[name]}")
    elif os.path.isdir(folder) and (others := sorted(set(os.listdir(folder)) - {_JOB, _REGIONS})):
        raise JobError(f"{folder!r} is no index: it holds {others[0]!r}; choose a new folder")
    return task


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
        job_dir = os.path.join(self.directory, _JOB)
        if not os.path.exists(os.path.join(job_dir, JOURNAL_FILE)):
            raise JobError(f"{self.directory!r} is no index; `parimg index IMAGES --model M -o DIR` makes one")
        self._journal = Journal(job_dir)
        if not self._journal.count_by_status()["ok"]:
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
        if not isinstance(task, FeatureMap) or task.index is None or not task.rmac:
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
            Best first.

        Raises
        ------
        ImageError
            If the query cannot be read.
        TaskError
            If the box is not within it, or a number is below its least.

        References
        ----------
        G. Tolias, R. Sicre, H. Jégou, "Particular object retrieval with integral max-pooling of CNN activations",
        ICLR 2016. There the shortlist is ranked by the regions alone; the sum of both was better here, see the
        docs.
        """
        import numpy as np

        from parimg.kernels import expand_query

        for name, value, least in (("top_k", top_k, 1), ("rerank", rerank, 0), ("expand", expand, 0)):
            if not isinstance(value, int) or value < least:
                raise TaskError(f"{name} must be an integer of at least {least} (got {value!r})")
        looked_for = query if isinstance(query, Query) else self.describe(query, box)
        similarity = self.descriptors @ looked_for.rmac
        places = _largest(similarity, max(rerank, top_k, expand))
        regions = self._best_regions(places[:rerank], looked_for, controller)
        near, near_regions = similarity[places], np.array([_cosine(found.distance) for found in regions])
        order = _ranking(near, near_regions)
        if expand:
            best = order[:expand]
            near = self.descriptors[places] @ expand_query(looked_for.rmac, self.descriptors[places[best]])
            if regions:
                vectors = self._region_vectors(places, regions)
                near_regions = vectors @ expand_query(looked_for.mac, vectors[best[best < len(vectors)]])
            order = _ranking(near, near_regions)
        near[: len(regions)] += near_regions
        hits = []
        for rank, i in enumerate(order[:top_k].tolist(), 1):
            place, region = int(places[i]), regions[i] if i < len(regions) else _NO_REGION
            about = (self.keys[place], float(near[i]), float(similarity[place]))
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

        image = read_image(os.fspath(query), "color") if isinstance(query, str | os.PathLike) else query
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
        return Query(rmac(part), mac(part), (y2 - y1) / (x2 - x1))

    def _best_regions(
        self, places: npt.NDArray[np.int64], query: Query, controller: Controller | None
    ) -> list[_Region]:
        if not len(places):
            return []
        task = RegionSearch(query.mac, query.aspect_ratio, _ASPECT_RANGE, step=_STEP)
        paths = [self._region_file(place) for place in places.tolist()]
        if controller is None:
            return [_region(task(task.read(path, max_pixels=DEFAULT_MAX_PIXELS))) for path in paths]
        chunk_size = math.ceil(len(paths) / (_CHUNKS_AN_ENGINE * max(1, len(controller))))
        with tempfile.TemporaryDirectory(prefix="parimg-search-") as folder:
            job = controller.submit(task, paths, job_dir=os.path.join(folder, "job"), chunk_size=chunk_size)
            found = []
            for record in job.in_order():
                if not record.ok:
                    raise ImageError(f"the region index {record.uri!r}: {record.message}")
                found.append(_region(record.columns))
            return found

    def _region_vectors(self, places: npt.NDArray[np.int64], regions: list[_Region]) -> npt.NDArray[np.float32]:
        import numpy as np

        from parimg.kernels import RegionIndex

        vectors = np.zeros((len(regions), self.descriptors.shape[1]), np.float32)
        for vector, place, region in zip(vectors, places.tolist(), regions, strict=False):
            if region.box is not None:
                vector[:] = RegionIndex.load(self._region_file(place)).descriptor(region.box)
        return vectors

    def _region_file(self, place: int) -> str:
        return file_of(os.path.join(self.directory, _REGIONS), self.keys[place], ".npy")


class Query(NamedTuple):
    """What is looked for.

    Attributes
    ----------
    rmac, mac : ndarray of float32, shape (channels,)
        Its descriptors: `parimg.kernels.rmac` for whole images, `parimg.kernels.mac` for regions.
    aspect_ratio : float
        Height over width.
    """

    rmac: npt.NDArray[np.float32]
    mac: npt.NDArray[np.float32]
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


def _cosine(distance: float | None) -> float:
    """Of normalised descriptors at that distance; where there is no region, nothing is alike."""
    return 0.0 if distance is None else 1 - distance**2 / 2


def _largest(values: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.int64]:
    """Places of the n largest values, largest first, of equal ones the first first."""
    import numpy as np

    if n < len(values):
        threshold = np.partition(values, len(values) - n)[len(values) - n]
        candidates = np.flatnonzero(values >= threshold)
    else:
        candidates = np.arange(len(values))
    return candidates[np.argsort(-values[candidates], kind="stable")][:n]


def _ranking(near: npt.NDArray[np.float32], near_regions: npt.NDArray[np.floating]) -> npt.NDArray[np.int64]:
    """Order of a shortlist: first those whose regions are known, by the sum of both similarities."""
    import numpy as np

    n = len(near_regions)
    known = np.argsort(-(near[:n] + near_regions), kind="stable")
    return np.concatenate([known, n + np.argsort(-near[n:], kind="stable")])


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
    """Write a ranking as a table: Parquet, or CSV if the path ends in ``.csv``."""
    import pandas as pd

    table = pd.DataFrame(hits, columns=list(Hit._fields))
    if os.fspath(path).endswith(".csv"):
        table.to_csv(path, index=False)
    else:
        table.to_parquet(path, index=False)
