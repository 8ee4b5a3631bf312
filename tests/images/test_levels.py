"""Large pictures in pieces: blocks, smaller levels, OME-TIFF and OME-Zarr, as other libraries read them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import tifffile
import zarr
from skimage.measure import block_reduce

from parimg.images.levels import BlockFiles, Picture, shrink
from parimg.images.ome_tiff import write_ome_tiff
from parimg.images.ome_zarr import ZarrPicture
from parimg.tasks.tiling import Grid

RNG = np.random.default_rng(6)
KINDS = [(1, 1, "uint16"), (1, 3, "uint8"), (3, 1, "float32"), (1, 4, "uint8"), (1, 2, "int16")]
HEIGHT, WIDTH, TILE = 2100, 1030, (512, 256)


def whole(planes: int, channels: int, dtype: str) -> npt.NDArray[Any]:
    return (RNG.random((planes, HEIGHT, WIDTH, channels)) * 200).astype(dtype)


def write_levels(target: BlockFiles | ZarrPicture, image: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    """Write tiles in an order as engines might; the levels as they should be."""
    levels = [image]
    picture = target.picture
    for number, shape in enumerate(picture.shapes):
        if number:
            levels.append(shrink(levels[-1]))
        for index in RNG.permutation(len(Grid(shape, picture.tile))).tolist():
            box = Grid(shape, picture.tile)[index]
            target.write(number, box.y1, box.x1, levels[-1][:, *box.slices])
    return levels


def picture_of(planes: int, channels: int, dtype: str, **options: Any) -> Picture:
    return Picture(planes, HEIGHT, WIDTH, channels, dtype, TILE, **options)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
def test_a_smaller_level_has_the_means_of_two_by_two(dtype: str) -> None:
    image = (RNG.random((1, 40, 60, 1)) * 200 - 20).astype(dtype)
    means = block_reduce(image.astype(np.float64), (1, 2, 2, 1), np.mean)
    wanted = np.rint(means) if np.dtype(dtype).kind in "iu" else means
    np.testing.assert_allclose(shrink(image), wanted.astype(dtype), rtol=1e-6)


def test_edges_of_odd_sides_are_means_of_what_is_there() -> None:
    image = np.arange(15, dtype=np.float32).reshape(1, 3, 5, 1)
    assert shrink(image)[0, ..., 0].tolist() == [[3, 5, 6.5], [10.5, 12.5, 14]]


@pytest.mark.parametrize(("planes", "channels", "dtype"), KINDS)
def test_any_part_of_blocks_is_read_back(tmp_path: Path, planes: int, channels: int, dtype: str) -> None:
    image = whole(planes, channels, dtype)
    blocks = BlockFiles(picture_of(planes, channels, dtype), str(tmp_path))
    levels = write_levels(blocks, image)
    assert [level.shape[1:3] for level in levels] == [(2100, 1030), (1050, 515), (525, 258)]
    for y1, x1, y2, x2 in [(0, 0, 2100, 1030), (511, 255, 513, 257), (2099, 1029, 2100, 1030), (9, 700, 19, 900)]:
        np.testing.assert_array_equal(blocks.read(0, y1, x1, y2, x2), image[:, y1:y2, x1:x2])
    np.testing.assert_array_equal(blocks.read(2, 3, 4, 500, 200), levels[2][:, 3:500, 4:200])


@pytest.mark.parametrize(("planes", "channels", "dtype"), KINDS)
def test_tifffile_reads_all_levels_of_an_ome_tiff(tmp_path: Path, planes: int, channels: int, dtype: str) -> None:
    image = whole(planes, channels, dtype)
    blocks = BlockFiles(picture_of(planes, channels, dtype, pixel_size=(0.5, 0.25), unit="µm"), str(tmp_path))
    levels = write_levels(blocks, image)
    file = io.BytesIO()
    write_ome_tiff(file, blocks)
    with tifffile.TiffFile(io.BytesIO(file.getvalue())) as read:
        series = read.series[0]
        assert read.is_ome
        assert 'PhysicalSizeX="0.25"' in str(read.ome_metadata)
        assert series.axes == ("CYX" if planes > 1 else "YXS" if channels > 1 else "YX")
        assert read.pages.first.is_tiled
        for level, wanted in zip(series.levels, levels, strict=True):
            np.testing.assert_array_equal(level.asarray().reshape(wanted.shape), wanted)


@pytest.mark.parametrize(("planes", "channels", "dtype"), KINDS)
def test_zarr_reads_all_levels_of_an_ome_zarr(tmp_path: Path, planes: int, channels: int, dtype: str) -> None:
    image = whole(planes, channels, dtype)
    target = ZarrPicture(
        picture_of(planes, channels, dtype, pixel_size=(0.5, 0.25), unit="µm"), str(tmp_path / "a.ome.zarr"), "a"
    )
    target.create()
    levels = write_levels(target, image)
    assert not (tmp_path / "a.ome.zarr").exists()  # it appears when all is there
    assert target.finish() == str(tmp_path / "a.ome.zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    for number, wanted in enumerate(levels):
        found = group[str(number)][:]
        if channels > 1:
            wanted = wanted[0].transpose(2, 0, 1)  # noqa: PLW2901
        np.testing.assert_array_equal(found, wanted.reshape(found.shape))
        # A block of a tile is a chunk: no two engines write the same.
        assert group[str(number)].chunks[-2:] == (512, 256)
    ome = group.attrs["ome"]
    (multiscale,) = ome["multiscales"]
    assert ome["version"] == "0.5"
    n_first = int(planes > 1 or channels > 1)
    assert [axis["name"] for axis in multiscale["axes"]] == ["c", "y", "x"][1 - n_first :]
    assert multiscale["axes"][-1] == {"name": "x", "type": "space", "unit": "micrometer"}
    second = multiscale["datasets"][1]["coordinateTransformations"]
    assert second[0]["scale"][n_first:] == [1.0, 0.5]
    assert second[1]["translation"][n_first:] == [0.25, 0.125]


def test_an_ome_zarr_that_was_there_is_replaced(tmp_path: Path) -> None:
    place = str(tmp_path / "a.ome.zarr")
    for value in (1, 2):
        target = ZarrPicture(Picture(1, 40, 40, 1, "uint8", (16, 16)), place)
        target.create()
        for box in Grid((40, 40), (16, 16)):
            target.write(0, box.y1, box.x1, np.full((1, *box.shape, 1), value, np.uint8))
        target.finish()
    assert (zarr.open_group(place, mode="r")["0"][:] == 2).all()
    assert [path.name for path in tmp_path.iterdir()] == ["a.ome.zarr"]
