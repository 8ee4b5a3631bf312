"""Tiles, and what of an image each needs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from parimg.tasks.tiled_image import fit_tile, folder_of
from parimg.tasks.tiling import Box, Grid, Halo, needed_span, read_around

SIDES = st.integers(1, 25)
MODES = ["reflect", "mirror", "nearest", "wrap", "constant"]


@given(st.tuples(SIDES, SIDES), st.tuples(SIDES, SIDES))
def test_tiles_cover_each_pixel_once(shape: tuple[int, int], tile: tuple[int, int]) -> None:
    covered = np.zeros(shape, int)
    grid = Grid(shape, tile)
    for box in grid:
        covered[box.slices] += 1
    assert (covered == 1).all()
    assert len(grid) == len(list(grid))


def test_there_is_no_tile_behind_the_last() -> None:
    with pytest.raises(IndexError, match=r"there are 4 tiles \(got 4\)"):
        _ = Grid((5, 7), (4, 4))[4]


def test_a_box_overlaps_the_tiles_that_it_reaches_into() -> None:
    grid = Grid((10, 10), (4, 4))
    assert list(grid.overlapping(Box(0, 0, 4, 4))) == [0]
    assert list(grid.overlapping(Box(3, 4, 5, 9))) == [1, 2, 4, 5]


@settings(max_examples=300, deadline=None)
@given(
    st.data(),
    st.sampled_from(MODES),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.tuples(st.integers(1, 9), st.integers(1, 9)),
)
def test_a_filtered_tile_is_that_of_the_filtered_image(
    data: st.DataObject, mode: str, shape: tuple[int, int], tile: tuple[int, int], window: tuple[int, int]
) -> None:
    """Windows of all kinds, also such as lie wholly beside their pixel, in all modes at the image's own border."""
    origin = tuple(data.draw(st.integers(-(side // 2), (side - 1) // 2)) for side in window)
    image = np.random.default_rng(sum(shape)).integers(0, 1000, shape)
    weights = np.random.default_rng(sum(window)).integers(-9, 9, window)

    def filtered(array: np.ndarray) -> np.ndarray:
        found: np.ndarray = ndimage.correlate(array, weights, mode=mode, cval=7, origin=origin)
        return found

    reach = [(side // 2 + shift, side - 1 - side // 2 - shift) for side, shift in zip(window, origin, strict=True)]
    halo = Halo(max(0, reach[0][0]), max(0, reach[0][1]), max(0, reach[1][0]), max(0, reach[1][1]))
    wanted = filtered(image)
    for box in Grid(shape, tile):
        region, core = read_around(lambda part: image[part.slices], box, halo, shape, (mode == "wrap",) * 2)
        np.testing.assert_array_equal(filtered(region)[core.slices], wanted[box.slices])


def test_a_tile_inside_is_read_with_its_halo_only() -> None:
    assert needed_span(100, 200, 7, 9, 1000) == (93, 209)


@pytest.mark.parametrize(
    ("stored", "tile"),
    [
        (None, (2048, 2048)),
        ((256, 256), (2048, 2048)),
        ((4096, 512), (4096, 2048)),
        ((3000, 3000), (3008, 3008)),
        ((1, 30000), (144, 30000)),
        ((1000, 30000), (1008, 30000)),
    ],
)
def test_tiles_are_at_least_as_large_as_what_is_decoded_at_once(
    stored: tuple[int, int] | None, tile: tuple[int, int]
) -> None:
    assert fit_tile((2048, 2048), (30000, 30000), stored) == tile


def test_folders_of_images_differ_and_are_names_that_every_disk_takes() -> None:
    keys = ["a/b.tif", "a_b.tif", "../a/b.tif", "x" * 5000, "ü\udc80.tif", ""]
    names = [folder_of("tiles", key) for key in keys]
    assert len(set(names)) == len(keys)
    assert all(len(name) < 80 and name.isascii() and name.count("/") == 1 for name in names)
