"""Parts of TIFF, Zarr and HDF5 files: whole, by regions, and what is wrong with them told well."""

from __future__ import annotations

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from parimg.errors import ImageError, ImageMissingError, ImagePartError
from parimg.images.readers import open_part, split_address
from parimg.images.readers.address import Address
from parimg.images.readers.opened import close_files

RNG = np.random.default_rng(0)
VOLUME = RNG.integers(0, 60_000, (2, 3, 50, 70)).astype(np.uint16)
COLORS = RNG.integers(0, 255, (50, 70, 3)).astype(np.uint8)


@pytest.fixture(autouse=True)
def _no_file_stays_open():
    yield
    close_files()


def ome_zarr(path: Path, version: str) -> str:
    """An OME-Zarr image of `VOLUME`, as z, c, y, x, of 2 x 0.5 x 0.5 micrometres."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    group.create_array("0", data=VOLUME, chunks=(1, 1, 16, 32))
    group.create_array("1", data=VOLUME[..., ::2, ::2], chunks=(1, 1, 16, 32))
    kinds = (("z", "space"), ("c", "channel"), ("y", "space"), ("x", "space"))
    scale = {
        "axes": [{"name": n, "type": t, **({"unit": "micrometer"} if t == "space" else {})} for n, t in kinds],
        "datasets": [
            {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [2, 1, 0.5 * f, 0.5 * f]}]}
            for n, f in enumerate((1, 2))
        ],
    }
    if version == "0.4":
        group.attrs["multiscales"] = [{"version": "0.4", **scale}]
    else:
        group.attrs["ome"] = {"version": "0.5", "multiscales": [scale]}
    return str(path)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (16, 32)},
        {"compression": "zlib"},
        {"tile": (16, 16), "compression": "zlib", "predictor": True},
        {"rowsperstrip": 7, "compression": "lzw"},
        {"bigtiff": True},
        {"byteorder": ">"},
        {"byteorder": ">", "tile": (16, 16)},
    ],
)
def test_a_plane_and_a_region_of_an_ome_tiff_are_what_was_written(tmp_path, options):
    path = str(tmp_path / "stack.ome.tif")
    tifffile.imwrite(path, VOLUME, metadata={"axes": "ZCYX"}, photometric="minisblack", **options)
    with open_part(f"{path}#c=1&z=0") as part:
        assert (part.axes, part.shape, part.dtype) == ("YX", (50, 70), np.uint16)
        np.testing.assert_array_equal(part.read(), VOLUME[0, 1])
        np.testing.assert_array_equal(part.read_region(3, 5, 40, 66), VOLUME[0, 1, 3:40, 5:66])
    with open_part(path) as whole:
        assert whole.axes == "ZCYX"
        np.testing.assert_array_equal(whole.read(), VOLUME)
        np.testing.assert_array_equal(whole.read_region(3, 5, 40, 66), VOLUME[..., 3:40, 5:66])


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tile": (16, 32)},
        {"tile": (16, 16), "compression": "jpeg"},
        {"planarconfig": "separate"},
        {"planarconfig": "separate", "tile": (16, 16), "compression": "zlib"},
        {"planarconfig": "separate", "rowsperstrip": 7, "compression": "zlib"},
    ],
)
def test_regions_of_coloured_tiff_are_those_of_the_whole_by_tifffile(tmp_path, options):
    path = str(tmp_path / "colors.tif")
    planes = COLORS if "planarconfig" not in options else np.moveaxis(COLORS, 2, 0)
    tifffile.imwrite(path, planes, photometric="rgb", **options)
    whole = tifffile.imread(path)
    with open_part(path) as part:
        np.testing.assert_array_equal(part.read(), whole)
        region = whole[3:40, 5:66] if part.axes == "YXS" else whole[:, 3:40, 5:66]
        np.testing.assert_array_equal(part.read_region(3, 5, 40, 66), region)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_ome_zarr_of_both_versions_gives_levels_and_pixel_sizes(tmp_path, version):
    path = ome_zarr(tmp_path / "cells.zarr", version)
    with open_part(f"{path}#c=2") as part:
        assert (part.axes, part.unit, part.tile_shape) == ("ZYX", "µm", (16, 32))
        assert part.pixel_size == {"Z": 2.0, "Y": 0.5, "X": 0.5}
        np.testing.assert_array_equal(part.read(), VOLUME[:, 2])
        np.testing.assert_array_equal(part.read_region(15, 1, 17, 70), VOLUME[:, 2, 15:17, 1:70])
    for name in ("level=1", "1"):
        with open_part(f"{path}#{name}") as half:
            assert half.pixel_size == {"Z": 2.0, "Y": 1.0, "X": 1.0}
            np.testing.assert_array_equal(half.read(), VOLUME[..., ::2, ::2])


def test_hdf5_data_sets_are_images_and_their_leading_axis_counts_them(tmp_path):
    path = str(tmp_path / "run.h5")
    with h5py.File(path, "w") as file:
        file["/entry/data/images"] = VOLUME[:, 0]
        file.create_dataset("/tiled", data=VOLUME[0, 0], chunks=(16, 32))
    with open_part(f"{path}#/entry/data/images?i=1") as part:
        np.testing.assert_array_equal(part.read(), VOLUME[1, 0])
    with open_part(f"{path}#/tiled") as part:
        assert part.tile_shape == (16, 32)
        np.testing.assert_array_equal(part.read_region(15, 0, 17, 3), VOLUME[0, 0, 15:17, :3])
    with open_part(f"{path}#/entry/data/images?axes=ZYX") as part:
        assert part.axes == "ZYX"


@pytest.mark.parametrize(
    ("part", "message"),
    [
        ("series=9", "names series=9, but has 2 series, 0 to 1"),
        ("series=1&c=3", "names c=3, but c has 3 places, 0 to 2"),
        ("series=0&q=1", "names q=1, but its axes are YX, and it has no parts"),
        ("series=1&q=1", "names q=1, but its axes are CYX; parts are named by c"),
        ("c=one", "c=one of 'c=one' names no part"),
        ("t=2s&series=1", "only videos know times"),
        ("axes=ZYXS", "is told axes=ZYXS, but has 2 axes of 50 x 70"),
        ("level=2", "names level=2, but has 1 level, 0 to 0"),
        ("B/03", "names 'B/03', but its images have numbers: series=0"),
    ],
)
def test_a_part_that_is_not_there_is_told_with_those_that_are(tmp_path, part, message):
    path = str(tmp_path / "two.ome.tif")
    with tifffile.TiffWriter(path, ome=True) as file:
        file.write(VOLUME[0, 0])
        file.write(VOLUME[0], metadata={"axes": "CYX"})
    with pytest.raises(ImagePartError) as error:
        open_part(f"{path}#{part}")
    assert message in str(error.value)
    assert path in str(error.value)


def test_a_region_outside_the_image_is_refused(tmp_path):
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, VOLUME[0, 0])
    with open_part(path) as part, pytest.raises(ValueError, match="within the image of 50 x 70"):
        part.read_region(0, 0, 51, 70)


def test_a_file_that_was_replaced_is_read_anew(tmp_path):
    path = str(tmp_path / "run.h5")
    for level in (1, 2):
        with h5py.File(f"{path}.new", "w") as file:
            file["images"] = np.full((2, 3, 4), level, np.uint8)
        os.replace(f"{path}.new", path)
        with open_part(f"{path}#/images?i=1") as part:
            assert part.read().max() == level


def test_files_are_kept_open_between_parts_and_closed_when_others_come(tmp_path):
    paths = [str(tmp_path / f"{n}.h5") for n in range(9)]
    for n, path in enumerate(paths):
        with h5py.File(path, "w") as file:
            file["images"] = np.full((2, 3, 4), n, np.uint8)
    parts = [open_part(f"{path}#/images?i=0") for path in paths]
    assert [part.read().max() for part in parts] == list(range(9))
    for part in parts:
        part.close()
    # HDF5 refuses to write what it has open for reading.
    with h5py.File(paths[0], "a") as file:
        file["more"] = 1


def test_a_missing_file_is_told_as_one(tmp_path):
    with pytest.raises(ImageMissingError, match="does not exist"):
        open_part(str(tmp_path / "no.h5") + "#/images")
    with pytest.raises(ImageError):
        open_part(str(tmp_path / "no.zarr"))


@pytest.mark.parametrize("name", ["a#1.tif", "set#2/run#3.h5", "x#c=1.tif"])
def test_a_name_with_a_mark_that_exists_is_the_file(tmp_path, name):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.touch()
    assert split_address(str(path)) == (str(path), "")
    assert split_address(f"{path}#c=1") == (str(path), "c=1")


@pytest.mark.parametrize("text", ["", "c=1", "/entry/images?i=17", "B/03/0?t=0&c=1", "t=12.5s", "a=1?", "a%3Fb"])
def test_an_address_is_written_as_it_was_read(text):
    assert str(Address.parse(text)) == text


@pytest.mark.parametrize(
    ("url", "file"),
    [
        ("s3://bucket/a#1.png", "s3://bucket/a#1.png"),
        ("s3://bucket/a.tif#1.png", "s3://bucket/a.tif#1.png"),
        ("s3://bucket/a#1.tif#c=1", "s3://bucket/a#1.tif"),
        ("s3://bucket/p.zarr#B/03/0?t=0", "s3://bucket/p.zarr"),
        ("s3://bucket/i.fits#SCI", "s3://bucket/i.fits"),
        ("https://host/page#top", "https://host/page#top"),
    ],
)
def test_a_mark_in_a_url_begins_a_part_where_a_file_of_parts_is_before_it(url, file):
    assert split_address(url)[0] == file
