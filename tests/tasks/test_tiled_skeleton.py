"""A skeleton by tiles has the table of branches of the whole, wherever its tiles meet."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy.ndimage import gaussian_filter
from tiled_arrays import run_by_tiles

import parimg
from parimg.errors import TaskError
from parimg.tasks import _tiled_skeleton


def assert_same(task: parimg.SkeletonGraph, image: npt.NDArray[Any], tile: tuple[int, int]) -> None:
    whole, tiled = task(image), run_by_tiles(task, image, tile)
    assert tiled.keys() == whole.keys()
    for name, value in whole.items():
        if name == "branch_table":
            assert tiled[name].dtype == value.dtype  # type: ignore[attr-defined]
            assert tiled[name].tobytes() == value.tobytes()  # type: ignore[attr-defined]
        else:
            assert tiled[name] == value, name


def blobs(seed: int, shape: tuple[int, int], sigma: float) -> npt.NDArray[np.float64]:
    return gaussian_filter(np.random.default_rng(seed).normal(size=shape), sigma)


@pytest.mark.parametrize("seed", range(20))
def test_the_table_of_branches_is_that_of_the_whole(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(seed)
    # Few rounds a step, so that thick foreground takes several steps, with less around each tile.
    monkeypatch.setattr(_tiled_skeleton, "_ROUNDS", int(rng.integers(1, 5)))
    shape = (int(rng.integers(1, 60)), int(rng.integers(1, 60)))
    image = np.uint8(255) * (blobs(seed, shape, rng.uniform(0.4, 3)) > 0).astype(np.uint8)
    task = parimg.SkeletonGraph(threshold=0, spacing=(0.5, 2.0))
    assert_same(task, image, (int(rng.integers(3, 30)), int(rng.integers(3, 30))))


@pytest.mark.parametrize("tile", [(1, 1), (1, 9), (2, 3), (4, 4), (5, 7), (9, 9)])
def test_seams_through_junctions_and_loops_over_corners_change_nothing(tile: tuple[int, int]) -> None:
    image = np.zeros((9, 9), np.uint8)
    image[4, :] = image[:, 4] = 200  # a crossing
    image[2:7, [2, 6]] = image[[2, 6], 2:7] = 150  # and a loop around it
    assert_same(parimg.SkeletonGraph(threshold=None), image, tile)


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "bool", "float32", "float64"])
def test_the_threshold_by_otsus_method_is_that_of_the_whole(dtype: str) -> None:
    noise = blobs(3, (70, 50), 2.0)
    levels = (noise - noise.min()) / np.ptp(noise) * 1000
    image = levels > 500 if dtype == "bool" else (levels % 250 if dtype == "uint8" else levels).astype(dtype)
    assert_same(parimg.SkeletonGraph(), image, (16, 24))


def test_an_image_of_one_level_has_a_threshold_by_tiles_too() -> None:
    for image in (np.full((9, 9), 7, np.uint8), np.full((9, 9), 0.5, np.float32)):
        assert_same(parimg.SkeletonGraph(), image, (4, 4))


@pytest.mark.parametrize("seed", range(6))
def test_small_foreground_is_left_out_by_its_size_in_all_tiles_together(seed: int) -> None:
    image = (blobs(seed, (50, 61), 1.0) > 0.05).astype(np.uint8)
    rng = np.random.default_rng(seed)
    task = parimg.SkeletonGraph(threshold=None, min_size=30)
    assert_same(task, image, (int(rng.integers(4, 20)), int(rng.integers(4, 20))))


def test_spurs_are_pruned_after_tiles_are_joined() -> None:
    image = (blobs(5, (80, 80), 1.5) > 0).astype(np.uint8) * np.uint8(9)
    assert_same(parimg.SkeletonGraph(threshold=None, prune=5.0), image, (16, 16))


@pytest.mark.parametrize("scales", [(1.0, 2.0), (3,)])
def test_ridges_are_those_of_the_whole_to_the_last_bit(scales: tuple[float, ...]) -> None:
    image = (blobs(8, (120, 100), 2.0) * 500 + 100).clip(0, 255).astype(np.uint8)
    assert_same(parimg.SkeletonGraph(ridges="sato", scales=scales), image, (48, 32))


def test_nan_is_told() -> None:
    image = np.zeros((20, 20), np.float32)
    image[15, 3] = np.nan
    with pytest.raises(TaskError, match="the image has 1 NaN, neither foreground nor background"):
        run_by_tiles(parimg.SkeletonGraph(threshold=0.5), image, (8, 8))


def test_pictures_by_tiles_are_refused(tmp_path: object) -> None:
    with pytest.raises(TaskError, match="overlays are drawn of whole images; leave out overlays, or tiles"):
        parimg.SkeletonGraph(overlays=str(tmp_path)).halo()
