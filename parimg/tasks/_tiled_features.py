"""How a `FeatureMap` is run by tiles: each tile's cells of the map, from so much of the image as they depend on.

There is one step, ``cells``. Called by `feature_map` on engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import TaskError
from parimg.tasks.tiled_image import Step, TiledImage

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.tasks._receptive_field import Reach
    from parimg.tasks.feature_map import FeatureMap

_STEP = "cells"


def next_step(task: FeatureMap, image: TiledImage, after: str | None) -> Step | Mapping[str, object]:
    """What is to be done next, or the values of the image; see `Task.next_step`."""
    if after is None:
        return Step(_STEP, len(image.grid))
    sides = _padded(task, image)
    return task.values_of(_joined(image), image.grid.shape, sides, image.key)


def run_tile(task: FeatureMap, image: TiledImage, step: str, index: int) -> None:
    """Compute the cells of a tile."""
    box = image.grid[index]
    spans = []
    for axis in range(2):
        reach = task.reach[axis]
        end = box[axis + 2]
        padded = _padded(task, image)[axis]
        if end == image.grid.shape[axis]:
            end = padded
        spans.append(_span(reach, task.multiple, box[axis], end, padded))
    (y1, y2, top, bottom), (x1, x2, left, right) = spans
    height, width = image.grid.shape
    part = image.pixels.read_region(y1, x1, min(y2, height), min(x2, width))
    missing = [(0, y2 - y1 - part.shape[0]), (0, x2 - x1 - part.shape[1]), (0, 0)]
    cells = task.map_of(np.pad(part, missing[: part.ndim], "edge"))
    y, x = y1 // task.reach[0].step, x1 // task.reach[1].step
    image.save(step, index, cells=cells[:, top - y : bottom - y, left - x : right - x], at=np.array([top, left]))


def _span(reach: Reach, multiple: int, begin: int, end: int, length: int) -> tuple[int, int, int, int]:
    """Along an axis: the pixels that a tile's cells need, in whole multiples, and its cells."""
    step = int(np.lcm(multiple, reach.step))
    first, last = -(-begin // reach.step), -(-end // reach.step)
    low, high = first * reach.step + reach.first, (last - 1) * reach.step + reach.last + 1
    # So wide at least that the network's own borders, where the image goes on, are not those of the tile.
    pixels = max(0, low // step * step), min(length, -(-high // step) * step)
    return *pixels, first, last


def _padded(task: FeatureMap, image: TiledImage) -> tuple[int, int]:
    """Height and width of the image with its last row and column repeated up to the next multiples."""
    height, width = (-(-side // task.multiple) * task.multiple for side in image.grid.shape)
    return height, width


def _joined(image: TiledImage) -> npt.NDArray[np.float32]:
    """The map of all tiles."""
    parts: list[dict[str, npt.NDArray[Any]]] = [image.load(_STEP, index) for index in range(len(image.grid))]
    ends = np.array([part["at"] + part["cells"].shape[1:] for part in parts]).max(axis=0)
    found = np.empty((parts[0]["cells"].shape[0], *ends), np.float32)
    for part in parts:
        (y, x), cells = part["at"], part["cells"]
        found[:, y : y + cells.shape[1], x : x + cells.shape[2]] = cells
    if not found.size:
        raise TaskError(f"the map has no cells (got shape {found.shape})")
    return found
