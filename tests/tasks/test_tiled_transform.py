"""Images that are made by tiles are those that are made of the whole, bit for bit."""

from __future__ import annotations

import itertools
import os
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import scipy.ndimage
import tifffile
import zarr
from tiled_arrays import run_by_tiles

import parimg
from parimg.errors import TaskError
from parimg.kernels import convolve
from parimg.kernels.convolution import methods, tile
from parimg.kernels.convolution.tile import MOST_ROWS

RNG = np.random.default_rng(4)
MODES = ["reflect", "constant", "nearest", "mirror", "wrap"]


def picture(dtype: str, shape: tuple[int, ...] = (83, 67)) -> np.ndarray:
    return (RNG.random(shape) * (1 if np.dtype(dtype).kind == "f" else 250)).astype(dtype)


def assert_same(task: Any, image: np.ndarray, sides: tuple[int, int]) -> None:
    whole, tiled = task(image), run_by_tiles(task, image, sides)
    assert tiled.keys() == whole.keys()
    assert tiled["image"].dtype == whole["image"].dtype
    np.testing.assert_array_equal(tiled["image"], whole["image"])
    for name in task.columns:
        assert tiled[name] == pytest.approx(whole[name], rel=1e-12, nan_ok=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
@pytest.mark.parametrize("kernel", ["gaussian(1.3)", "sobel", "random", "even"])
def test_a_convolution_is_that_of_the_whole(mode: str, dtype: str, kernel: str) -> None:
    arrays = {"random": np.random.default_rng(1).normal(size=(7, 5)), "even": np.ones((4, 6))}
    task = parimg.Convolve(arrays.get(kernel, kernel), mode=mode, cval=3.0, color="unchanged")
    assert_same(task, picture(dtype), (32, 16))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "output", "casting"),
    [
        ("uint8", "uint8", "saturate"),
        ("uint16", "uint16", "round"),
        ("uint16", "float32", "saturate"),
        ("float32", "float32", "saturate"),
        ("float32", "int16", "truncate"),
        ("float32", "float64", "saturate"),
    ],
)
@pytest.mark.parametrize("side", [2, 3, 8, 15])
def test_sums_are_rounded_as_in_the_whole_at_every_row(
    mode: str, dtype: str, output: str, casting: Any, side: int
) -> None:
    kernel = np.random.default_rng(side).normal(size=(side, side))
    task = parimg.Convolve(kernel, dtype=output, mode=mode, cval=0.7, color="unchanged", casting=casting)
    image = RNG.random((263, 157)) * (1 if dtype == "float32" else np.iinfo(dtype).max)
    assert_same(task, image.astype(dtype), (64, 48))  # no multiple of the rows that are summed together


@pytest.mark.parametrize("mode", MODES)
def test_a_kernel_wider_than_the_image_is_that_of_the_whole(mode: str) -> None:
    task = parimg.Convolve(np.random.default_rng(2).normal(size=(31, 45)), mode=mode, dtype="float64")
    assert_same(task, picture("float64", (20, 26)), (16, 16))


def test_colours_are_convolved_by_tiles() -> None:
    assert_same(parimg.Convolve("box(5)"), picture("uint8", (50, 70, 3)), (16, 32))


@pytest.fixture
def across(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Transforms are taken across lines wherever they are a way; says for which shapes they were."""
    seen: list[tuple[int, ...]] = []
    original = methods.plan_blocks

    def spy(shape: tuple[int, ...], *args: Any) -> Any:
        seen.append(shape)
        return original(shape, *args)

    monkeypatch.setattr(methods, "plan_blocks", spy)
    monkeypatch.setattr(methods, "_time_of_blocks", lambda *_: 1e-9)
    monkeypatch.setattr(methods, "time_across", lambda *_: 0.0)
    return seen


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("dtype", "output"),
    [
        ("uint8", "float32"),
        ("uint8", "uint8"),
        ("uint16", "float32"),
        ("int32", "float64"),
        ("float32", None),
        ("float64", None),
    ],
)
@pytest.mark.parametrize(
    ("kernel", "tile"), [((13, 13), (37, 41)), ((31, 24), (16, 500)), ((20, 31), (400, 16)), ((64, 17), (50, 64))]
)
def test_transforms_across_lines_are_those_of_the_whole(
    across: list[Any], mode: str, dtype: str, output: str | None, kernel: tuple[int, int], tile: tuple[int, int]
) -> None:
    weights = np.random.default_rng(5).normal(size=kernel)
    task = parimg.Convolve(weights, dtype=output, mode=mode, cval=3.0, color="unchanged")
    image = picture(dtype, (233, 97))
    whole = task.transform(image)
    assert across == [image.shape]
    expected = scipy.ndimage.convolve(image.astype(float), weights, mode=mode, cval=3.0)
    bound = 1e-5 * np.abs(expected).max()
    if output == "uint8":  # a sum beside a step may become the next level
        expected, bound = np.clip(np.rint(expected), 0, 255), 1.0
    np.testing.assert_allclose(whole, expected, rtol=0, atol=bound)
    assert_same(task, image, tile)
    assert len(set(across)) > 3


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("value", [np.nan, -np.inf, 3e7, 1e37])
def test_what_does_not_go_by_transforms_is_that_of_the_whole(
    across: list[Any], mode: str, dtype: str, value: float
) -> None:
    weights = np.random.default_rng(5).normal(size=(15, 13))
    weights[3:6, 4:7] = 0
    task = parimg.Convolve(weights, mode=mode, color="unchanged")
    image = picture(dtype, (233, 97))
    image[[30, 31, 140, 232], [50, 52, 3, 96]] = value
    whole = task.transform(image)
    expected = scipy.ndimage.convolve(image.astype(float), weights, mode=mode)
    np.testing.assert_allclose(whole, expected, rtol=3e-4 if dtype == "float32" else 1e-9, atol=1e-3)
    with np.errstate(invalid="ignore"):
        assert_same(task, image, (37, 41))
    assert across


def test_transforms_across_lines_of_colours_are_those_of_the_whole(across: list[Any]) -> None:
    task = parimg.Convolve(np.random.default_rng(6).normal(size=(14, 17)), dtype="float32", color="unchanged")
    for channels in (3, 32):
        across.clear()
        assert_same(task, picture("uint8", (150, 61, channels)), (48, 32))
        assert across


def test_many_channels_are_those_of_the_whole() -> None:
    task = parimg.Convolve(np.random.default_rng(6).normal(size=(14, 17)), dtype="float32", color="unchanged")
    assert task.alignment((1500, 610, 40), np.float32).block == 1
    assert_same(task, picture("uint8", (90, 61, 40)), (48, 32))


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("side", [13, 15, 21, 31])
def test_what_the_times_choose_is_that_of_the_whole(
    monkeypatch: pytest.MonkeyPatch, dtype: str, side: int
) -> None:
    monkeypatch.setattr(tile, "RELATIVE_SPEED", 1.0)  # that of AVX2
    task = parimg.Convolve(
        np.random.default_rng(side).normal(size=(side, side)),
        dtype="float64" if dtype == "float64" else "float32",
        color="unchanged",
    )
    image = picture(dtype, (701, 603))
    assert task.alignment(image.shape, image.dtype).block > 1
    np.testing.assert_array_equal(task.transform(image), convolve(image, task.kernel, task.dtype))
    assert_same(task, image, (256, 208))


def test_transforms_differ_by_their_rounding_only() -> None:
    task = parimg.Convolve(np.random.default_rng(3).normal(size=(41, 41)), dtype="float32", color="unchanged")
    image = picture("float32", (400, 300))
    whole, tiled = task(image)["image"], run_by_tiles(task, image, (128, 128))["image"]
    np.testing.assert_allclose(tiled, whole, atol=1e-5 * np.abs(whole).max())


@pytest.mark.parametrize(
    "options",
    [
        {"size": 3},
        {"size": (2, 5), "mode": ("wrap", "mirror"), "origin": (-1, 2)},
        {"footprint": [[0, 1, 1], [1, 0, 0]], "mode": "constant", "cval": 9.0, "origin": (0, -1)},
        {"size": 5, "mode": "nearest", "origin": 2},
    ],
)
def test_a_filter_is_that_of_the_whole(options: dict[str, Any]) -> None:
    def spread(values: np.ndarray) -> float:
        found: float = values.max() - values[0]
        return found

    assert_same(parimg.NeighbourhoodFilter(spread, **options), picture("uint8"), (16, 32))


def test_a_filter_of_several_results_is_that_of_the_whole() -> None:
    def ends(values: np.ndarray) -> tuple[float, float]:
        return values.min(), values.max()

    assert_same(parimg.NeighbourhoodFilter(ends, size=3), picture("uint8"), (32, 32))


def test_nan_and_infinity_have_the_columns_of_the_whole() -> None:
    image = picture("float32")
    for value in (np.nan, np.inf):
        image[40, 40] = value
        task = parimg.Convolve("identity", color="unchanged")
        with np.errstate(invalid="ignore"):
            whole, tiled = task(image), run_by_tiles(task, image, (16, 16))
        for name in task.columns:
            np.testing.assert_equal(tiled[name], whole[name])


def read(path: str) -> np.ndarray:
    if path.endswith(".zarr"):
        found: np.ndarray = zarr.open_group(path, mode="r")["0"][:]
        return found
    if path.endswith(".npy"):
        return np.asarray(np.load(path))
    return np.asarray(cv2.imread(path, cv2.IMREAD_UNCHANGED) if path.endswith(".png") else tifffile.imread(path))


@pytest.mark.parametrize("image_format", [None, "ome-tiff", "ome-zarr", "tiff", "npy", "png"])
def test_files_hold_the_result_of_the_whole(tmp_path: Path, image_format: Any) -> None:
    image = picture("uint16", (300, 260))
    task = parimg.Convolve("box(3)", tmp_path, format=image_format, color="unchanged")
    tiled = run_by_tiles(task, image, (64, 64), "a.tif")
    np.testing.assert_array_equal(read(tiled["path"]), task(image)["image"])
    assert os.listdir(tmp_path) == [os.path.basename(tiled["path"])]
    assert os.path.basename(tiled["path"]) == {
        None: "a.ome.tif", "ome-tiff": "a.ome.tif", "ome-zarr": "a.ome.zarr", "tiff": "a.tif", "npy": "a.npy",
        "png": "a.png",
    }[image_format]  # fmt: skip


@pytest.mark.parametrize("image_format", ["ome-tiff", "ome-zarr"])
@pytest.mark.parametrize("tile", [(512, 512), (1024, 1024), (2048, 1024)])  # with no, one, and one smaller level
def test_smaller_levels_are_means_of_the_whole(tmp_path: Path, image_format: Any, tile: tuple[int, int]) -> None:
    image = picture("uint16", (2101, 1100))
    task = parimg.Convolve("identity", tmp_path, format=image_format, color="unchanged")
    path = run_by_tiles(task, image, tile, "a.tif")["path"]
    if image_format == "ome-zarr":
        levels = [array[:] for _, array in sorted(zarr.open_group(path, mode="r").arrays())]
    else:
        with tifffile.TiffFile(path) as file:
            levels = [level.asarray() for level in file.series[0].levels]
    assert [level.shape for level in levels] == [(2101, 1100), (1051, 550), (526, 275)]
    for level, smaller in itertools.pairwise(levels):
        odd = level.shape[0] % 2, level.shape[1] % 2
        even = np.pad(level.astype(float), [(0, odd[0]), (0, odd[1])], "edge")
        np.testing.assert_array_equal(
            smaller, np.rint(cv2.resize(even, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA))
        )


@pytest.mark.parametrize("image_format", ["ome-tiff", "ome-zarr"])
def test_small_images_are_written_in_these_formats_too(tmp_path: Path, image_format: Any) -> None:
    image = picture("uint8", (1100, 30, 3))
    task = parimg.Convolve("box(3)", tmp_path, format=image_format)
    values = task.run(image, "a.png")
    found = read(str(values["path"]))
    found = found if image_format == "ome-tiff" else found.transpose(1, 2, 0)
    np.testing.assert_array_equal(found, task(image)["image"])


def test_a_result_too_large_for_a_record_is_told_before_any_tile() -> None:
    class Huge:
        shape = (30_000, 30_000)
        dtype = np.dtype(np.uint16)
        pixel_size = unit = None

        def read_region(self, y1: int, x1: int, y2: int, x2: int) -> np.ndarray:
            raise AssertionError("a tile was read")

    from parimg.engine.tiles import run_alone

    task = parimg.Convolve("box(3)", color="unchanged")
    with pytest.raises(TaskError, match="the result has 1800000000 bytes, a record holds 268435456; give output"):
        run_alone(task, "a.tif", Huge(), (2048, 2048))


def test_only_a_tile_and_its_halo_are_read_at_once() -> None:
    from tiled_arrays import ArrayPixels

    from parimg.engine.tiles import run_alone

    pixels = ArrayPixels(picture("uint8", (200, 200)))
    run_alone(parimg.Convolve("box(5)", color="unchanged"), "a.tif", pixels, (64, 64))
    # Rows 126 to 194 for those from 128 to 192, from a multiple of 60 or 12 on, and so many more: see Alignment.
    assert pixels.largest == (194 + MOST_ROWS - 120) * 68
