"""Ranking: what is looked for, the best region of each image that may show it, and the largest of many numbers.

Called by `image_index`, in this process; regions are also searched on engines.
"""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.retrieval.hits import Box
from parimg.tasks.region_search import RegionSearch, open_index

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.controller.controller import Controller

_CHUNKS_AN_ENGINE = 4  # of a search: few enough to cost nothing, enough for engines to finish together


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


class Region(NamedTuple):
    """The best region of an image; None where none counts, or none was looked for."""

    distance: float | None
    box: Box | None
    image_box: Box | None


NO_REGION = Region(None, None, None)


def _region(values: Mapping[str, Any]) -> Region:
    distance, box, image_box = (values[name] for name in ("distance", "box", "image_box"))
    if box is None:
        return NO_REGION
    return Region(distance, tuple(box), None if image_box is None else tuple(image_box))


def search_here(task: RegionSearch, paths: list[str]) -> Iterator[Region | str]:
    """The best region of each index, or what is wrong with its file."""
    for path in paths:
        try:
            yield _region(task(open_index(path)))
        except (OSError, ValueError) as error:
            yield f"{type(error).__name__}: {getattr(error, 'strerror', None) or error}"


def search_on(controller: Controller, task: RegionSearch, paths: list[str]) -> Iterator[Region | str]:
    """The same on engines."""
    chunk_size = math.ceil(len(paths) / (_CHUNKS_AN_ENGINE * max(1, len(controller))))
    with tempfile.TemporaryDirectory(prefix="parimg-search-") as folder:
        job = controller.submit(task, paths, job_dir=os.path.join(folder, "job"), chunk_size=chunk_size)
        for record in job.in_order():
            yield _region(record.columns) if record.ok else f"{record.error}: {record.message}"


def cosine(distance: float | None) -> float:
    """Of normalised descriptors at that distance; where there is no region, nothing is alike."""
    return 0.0 if distance is None else 1 - distance**2 / 2


def largest(values: npt.NDArray[np.float32], n: int) -> npt.NDArray[np.int64]:
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


def largest_others(values: npt.NDArray[np.float32], known: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Of those that are not `known`, so many that all together are `n`."""
    import numpy as np

    missing = min(n, len(values)) - len(known)
    if missing <= 0:
        return np.empty(0, np.int64)
    remaining = values.copy()
    remaining[known] = -np.inf
    return largest(remaining, missing)
