"""How a `SkeletonGraph` is run by tiles: to the same table of branches as of the whole image.

The steps are ``levels`` and ``bins`` for Otsu's threshold; ``mask``; ``sift``, which leaves out small foreground;
``thin-1``, ``thin-2``, ... until nothing changes; ``pixels``, the skeleton's pixels and their gray levels, of
which one graph is made. Thinning of a tile begins with the masks of its neighbours, too: what its rounds do to a
pixel depends on so much around it. Called by `skeleton_graph` on engines.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from parimg.errors import TaskError
from parimg.kernels.skeletons.graph import join_pixels
from parimg.kernels.skeletons.thinning import REACH, thin
from parimg.tasks._otsu import count_bins, count_levels, otsu_of_bins, otsu_of_levels
from parimg.tasks.tiled_image import Step, TiledImage
from parimg.tasks.tiling import Box, Halo, read_around

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.tasks.skeleton_graph import SkeletonGraph

_ROUNDS = 32  # of thinning a step: lines up to 64 pixels wide are thin after one


def next_step(task: SkeletonGraph, image: TiledImage, after: str | None) -> Step | Mapping[str, object]:
    """What is to be done next, or the values of the image; see `Task.next_step`."""
    n = len(image.grid)
    if after is None:
        if len(image.shape) != 2:
            raise TaskError(f"a skeleton by tiles wants gray levels of shape (h, w) (got shape {image.shape})")
        return Step("levels" if task.threshold == "otsu" else "mask", n)
    if after == "levels":
        parts = (image.load("levels", index) for index in range(n))
        if "range" not in (first := image.load("levels", 0)):
            _note_threshold(image, otsu_of_levels(parts))
            return Step("mask", n)
        ends = np.array([part["range"] for part in parts])
        image.note(least=float(ends[:, 0].min()), most=float(ends[:, 1].max()), dtype=first["range"].dtype.name)
        return Step("bins", n)
    if after == "bins":
        counts = sum(image.load("bins", index)["counts"] for index in range(n))
        notes = image.noted()
        level = otsu_of_bins(np.asarray(counts), notes["least"], notes["most"], notes["dtype"])
        _note_threshold(image, np.float64(level))
        return Step("mask", n)
    if after == "mask" and task.min_size > 1:
        _note_small(task, image)
        return Step("sift", n)
    if after in {"mask", "sift"}:
        image.note(thick=after)
        return Step("thin-1", n)
    if after.startswith("thin-"):
        if any(image.load(after, index)["changed"] for index in range(n)):
            return Step(f"thin-{int(after.removeprefix('thin-')) + 1}", n)
        image.note(thin=after)
        return Step("pixels", n)
    return _values(task, image)


def run_tile(task: SkeletonGraph, image: TiledImage, step: str, index: int) -> None:
    """Do a step with one tile."""
    box = image.grid[index]
    if step in {"levels", "bins", "mask"}:
        region, core = image.read(box, task.halo())
        levels = task.levels(region)[core.slices]
        if step == "levels":
            image.save(step, index, **count_levels(levels))
        elif step == "bins":
            notes = image.noted()
            image.save(step, index, counts=count_bins(levels, notes["least"], notes["most"]))
        else:
            mask = task.mask_of(levels, _threshold(task, image))
            _save_mask(image, step, index, mask, with_edges=task.min_size > 1)
    elif step == "sift":
        labels, n = _labels(_load_mask(image, "mask", index))
        keeps = np.ones(n + 1, bool)
        keeps[image.load("small", index)["labels"]] = False
        keeps[0] = False
        _save_mask(image, step, index, keeps[labels])
    elif step == "pixels":
        ys, xs = np.nonzero(_load_mask(image, image.noted()["thin"], index))
        levels = image.read(box)[0][ys, xs] if len(ys) else np.empty(0, image.pixels.dtype)
        image.save(step, index, coordinates=np.stack([ys + box.y1, xs + box.x1], axis=1), levels=levels)
    else:
        number = int(step.removeprefix("thin-"))
        before = image.noted()["thick"] if number == 1 else f"thin-{number - 1}"
        region, core = read_around(
            lambda part: _read_mask(image, before, part), box, Halo.around(REACH * _ROUNDS), image.grid.shape
        )
        thinned, changed = thin(region, _ROUNDS)
        _save_mask(image, step, index, thinned[core.slices], changed=changed[core.slices].any())


def _save_mask(
    image: TiledImage,
    step: str,
    index: int,
    mask: npt.NDArray[np.bool_],
    *,
    changed: bool | np.bool_ = False,
    with_edges: bool = False,
) -> None:
    edges: dict[str, npt.ArrayLike] = {}
    if with_edges:
        labels, n = _labels(mask)
        edges = {
            "top": labels[0], "bottom": labels[-1], "left": labels[:, 0], "right": labels[:, -1],
            "sizes": np.bincount(labels.ravel(), minlength=n + 1),
        }  # fmt: skip
    image.save(step, index, bits=np.packbits(mask, axis=1), changed=changed, n=np.count_nonzero(mask), **edges)


def _load_mask(image: TiledImage, step: str, index: int) -> npt.NDArray[np.bool_]:
    bits = image.load(step, index)["bits"]
    return np.unpackbits(bits, axis=1, count=image.grid[index].shape[1]).astype(bool)


def _read_mask(image: TiledImage, step: str, part: Box) -> npt.NDArray[np.bool_]:
    """A part of the masks that all tiles left."""
    found = np.empty(part.shape, bool)
    for index in image.grid.overlapping(part):
        box = image.grid[index]
        y1, x1, y2, x2 = max(box.y1, part.y1), max(box.x1, part.x1), min(box.y2, part.y2), min(box.x2, part.x2)
        there = _load_mask(image, step, index)[y1 - box.y1 : y2 - box.y1, x1 - box.x1 : x2 - box.x1]
        found[y1 - part.y1 : y2 - part.y1, x1 - part.x1 : x2 - part.x1] = there
    return found


def _note_threshold(image: TiledImage, level: Any) -> None:
    # As an array: an integer of 64 bits is no number of JSON.
    image.save("threshold", 0, level=np.asarray(level))


def _threshold(task: SkeletonGraph, image: TiledImage) -> Any:
    return image.load("threshold", 0)["level"][()] if task.threshold == "otsu" else task.threshold


# -- small foreground ----------------------------------------------------------------------------------------


def _labels(mask: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.int32], int]:
    from scipy.ndimage import generate_binary_structure, label

    found: tuple[npt.NDArray[np.int32], int] = label(mask, generate_binary_structure(2, 2))
    return found


def _note_small(task: SkeletonGraph, image: TiledImage) -> None:
    """Find the foreground of fewer pixels than wanted, which may reach over several tiles."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    n = len(image.grid)
    tiles = [image.load("mask", index) for index in range(n)]
    firsts = np.concatenate([[0], np.cumsum([len(tile["sizes"]) for tile in tiles])])
    links: list[npt.NDArray[np.int64]] = []
    columns = image.grid.counts[1]
    for index, tile in enumerate(tiles):
        if (index + 1) % columns and index + 1 < n:
            links += _touching(tile["right"], tiles[index + 1]["left"], firsts[index], firsts[index + 1])
        if index + columns < n:
            below, under = index + columns, firsts[index + columns]
            links += _touching(tile["bottom"], tiles[below]["top"], firsts[index], under)
            if (index + 1) % columns:
                corner = tiles[below + 1]["top"][:1]
                links += _touching(tile["bottom"][-1:], corner, firsts[index], firsts[below + 1])
            if index % columns:
                corner = tiles[below - 1]["top"][-1:]
                links += _touching(tile["bottom"][:1], corner, firsts[index], firsts[below - 1])
    ends = np.concatenate([np.empty((0, 2), np.int64), *links])
    graph = coo_array((np.ones(len(ends), bool), (ends[:, 0], ends[:, 1])), shape=(firsts[-1], firsts[-1]))
    _, groups = connected_components(graph, directed=False)
    sizes = np.concatenate([tile["sizes"] for tile in tiles])
    totals = np.bincount(groups, sizes)[groups]
    for index in range(n):
        labels = np.nonzero(totals[firsts[index] : firsts[index + 1]] < task.min_size)[0]
        image.save("small", index, labels=labels)


def _touching(
    one: npt.NDArray[np.int32], other: npt.NDArray[np.int32], first: int, other_first: int
) -> list[npt.NDArray[np.int64]]:
    """Pairs of numbers of foreground along an edge of two tiles, straight on and diagonally."""
    found = []
    n = len(one)
    for shift in (-1, 0, 1):
        ones, others = one[max(0, -shift) : n - max(0, shift)], other[max(0, shift) : n - max(0, -shift)]
        touch = (ones > 0) & (others > 0)
        pairs = np.stack([ones[touch] + first, others[touch] + other_first], axis=1)
        found.append(np.unique(pairs.astype(np.int64), axis=0))
    return found


# -- the graph -----------------------------------------------------------------------------------------------


def _values(task: SkeletonGraph, image: TiledImage) -> dict[str, object]:
    """One graph of the pixels of all tiles, and its columns."""
    from parimg.kernels.skeletons.analysis import prune

    n = len(image.grid)
    parts = [image.load("pixels", index) for index in range(n)]
    size = {} if image.pixel_size is None else dict(zip("YX", image.pixel_size, strict=True))
    steps, unit = task.spacing_of(2, size, image.unit)
    graph, order = join_pixels([part["coordinates"] for part in parts], image.grid.shape, steps)
    levels = np.concatenate([part["levels"] for part in parts])[order]
    if task.prune:
        pruned = prune(graph, task.prune)
        # Both are in the order of their places, and one is a part of the other.
        places, kept = (
            np.ravel_multi_index(tuple(one.coordinates.T.astype(np.int64)), graph.shape) for one in (graph, pruned)
        )
        graph, levels = pruned, levels[np.searchsorted(places, kept)]
    step = image.noted()["thick"]
    foreground = sum(int(image.load(step, index)["n"]) for index in range(n))
    return task.values_of(graph, levels, foreground / (image.grid.shape[0] * image.grid.shape[1]), unit)
