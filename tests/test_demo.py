"""The network that guides and the notebook on retrieval are tried with."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from skimage import data

import parimg
import parimg.kernels as pk
from parimg.demo import make_network

SIDE = 32  # px of a cell


def network(folder: Path) -> parimg.FeatureMap:
    return parimg.FeatureMap(make_network(str(folder / "network.onnx")), size=None)


def test_the_network_gives_a_map_of_256_channels_and_cells_of_32_pixels(tmp_path: Path) -> None:
    found = network(tmp_path).feature_map(data.astronaut())
    assert found.shape == (256, 512 // SIDE, 512 // SIDE)
    assert found.min() == 0
    assert np.isfinite(found).all()


def test_the_network_sees_nothing_in_the_middle_of_an_even_image(tmp_path: Path) -> None:
    found = network(tmp_path).feature_map(np.full((320, 320, 3), 90, np.uint8))
    assert found[:, 2:-2, 2:-2].max() < 1e-5 < found.max()


def test_two_writings_are_the_same_bytes(tmp_path: Path) -> None:
    paths = [make_network(str(tmp_path / name)) for name in ("a.onnx", "b.onnx")]
    assert Path(paths[0]).read_bytes() == Path(paths[1]).read_bytes()


def test_by_the_network_a_part_is_found_again_where_it_was_moved_to(tmp_path: Path) -> None:
    task = network(tmp_path)
    photograph = data.coffee()[:384, :576]
    query = pk.RegionIndex(task.feature_map(photograph), "max").descriptor((1, 5, 8, 13))
    # Three cells to the right, two down.
    moved = cv2.warpAffine(photograph, np.float32([[1, 0, 3 * SIDE], [0, 1, 2 * SIDE]]), (800, 512))
    [match] = pk.RegionIndex(task.feature_map(moved), "max").search(query, aspect_ratio=7 / 8)
    assert np.abs(np.subtract(match.box, (3, 8, 10, 16))).max() <= 1
