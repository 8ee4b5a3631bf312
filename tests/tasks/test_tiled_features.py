"""Feature maps by tiles are those of the whole image, where a network looks at neighbourhoods."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiled_arrays import run_by_tiles
from tiny_model import TinyModel, ints, message, node, tensor, value
from tiny_model import integer as number

import parimg
from parimg.errors import TaskError
from parimg.tasks._receptive_field import Reach, reach_of_cells
from parimg.tasks.feature_files import load_feature_map

RNG = np.random.default_rng(11)


def deep_model() -> bytes:
    """Two convolutions, one of them wide and dilated, pooling between them, and a way past the second."""
    wide = ints("kernel_shape", [3, 3]) + ints("dilations", [2, 2]) + ints("pads", [2, 2, 2, 2])
    pool = ints("kernel_shape", [3, 3]) + ints("strides", [2, 2]) + ints("pads", [1, 1, 1, 1])
    first = ints("kernel_shape", [5, 5]) + ints("strides", [2, 2]) + ints("pads", [2, 2, 2, 2])
    graph = (
        node("Conv", "one", ["image", "w"], ["a"], first)
        + node("Relu", "act", ["a"], ["b"])
        + node("MaxPool", "pool", ["b"], ["c"], pool)
        + node("Conv", "two", ["c", "v"], ["d"], wide)
        + node("Add", "sum", ["c", "d"], ["e"])
        + message(2, "deep")
        + tensor("w", RNG.normal(size=(6, 3, 5, 5)).astype(np.float32))
        + tensor("v", RNG.normal(size=(6, 6, 3, 3)).astype(np.float32))
        + value(11, "image", ["n", 3, "h", "w"])
        + value(12, "e", ["n", 6, "p", "q"])
    )
    return number(1, 8) + message(8, message(1, "") + number(2, 13)) + message(7, graph)


def test_the_reach_of_a_cell_is_that_of_its_windows() -> None:
    # A convolution of 5 with stride 2 looks 2 to each side; pooling of 3 its neighbours, 2 pixels away each; the
    # dilated one 2 cells of 4 pixels: 2 + 2 + 8.
    assert reach_of_cells(deep_model()) == (Reach(4, -12, 12), Reach(4, -12, 12))


def test_a_layer_that_looks_at_the_whole_image_is_refused(tmp_path: Path, tiny: TinyModel) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny.encode())
    task = parimg.FeatureMap(tmp_path / "tiny.onnx", layer="mean", size=None)
    with pytest.raises(TaskError, match=r"'pooled' \(GlobalAveragePool\) looks at the whole image"):
        task.halo()


def test_another_size_than_the_images_own_is_refused(tmp_path: Path, tiny: TinyModel) -> None:
    (tmp_path / "tiny.onnx").write_bytes(tiny.encode())
    with pytest.raises(TaskError, match=r"size=None \(got 1024\)"):
        parimg.FeatureMap(tmp_path / "tiny.onnx").halo()


@pytest.mark.parametrize("tile", [(32, 32), (16, 48), (64, 160)])
@pytest.mark.parametrize("shape", [(96, 160), (64, 64)])
def test_the_map_is_that_of_the_whole(tmp_path: Path, shape: tuple[int, int], tile: tuple[int, int]) -> None:
    (tmp_path / "deep.onnx").write_bytes(deep_model())
    task = parimg.FeatureMap(tmp_path / "deep.onnx", size=None, rmac=True)
    image = RNG.integers(0, 256, (*shape, 3)).astype(np.uint8)
    whole, tiled = task(image), run_by_tiles(task, image, tile)
    assert {name: tiled[name] for name in task.columns} == {name: whole[name] for name in task.columns}
    # OpenCV sums in another order in images of other sizes.
    np.testing.assert_allclose(tiled["feature_map"], whole["feature_map"], rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(tiled["rmac"], whole["rmac"], rtol=1e-4, atol=1e-4)


def test_sides_that_are_no_multiples_are_filled_up_with_the_last_row_and_column(tmp_path: Path) -> None:
    (tmp_path / "deep.onnx").write_bytes(deep_model())
    task = parimg.FeatureMap(tmp_path / "deep.onnx", size=None)
    image = RNG.integers(0, 256, (70, 41, 3)).astype(np.uint8)
    whole, tiled = task(np.pad(image, [(0, 26), (0, 23), (0, 0)], "edge")), run_by_tiles(task, image, (32, 32))
    np.testing.assert_allclose(tiled["feature_map"], whole["feature_map"], rtol=1e-4, atol=1e-4)
    assert (tiled["image_height"], tiled["image_width"]) == (70, 41)


def test_a_map_is_written_and_read_back(tmp_path: Path) -> None:
    (tmp_path / "deep.onnx").write_bytes(deep_model())
    task = parimg.FeatureMap(tmp_path / "deep.onnx", size=None, output=tmp_path / "maps")
    image = RNG.integers(0, 256, (64, 96, 3)).astype(np.uint8)
    values = run_by_tiles(task, image, (32, 32), "a.tif")
    assert values["path"] == f"{tmp_path}/maps/a.npy"
    found = load_feature_map(values["path"])
    np.testing.assert_allclose(found, task.feature_map(image), rtol=1e-4, atol=1e-4)
