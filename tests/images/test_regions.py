"""Regions of an image are those of the whole image as `decode` gives it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from parimg.errors import ImageError, ImageMissingError
from parimg.images.decode import read_image
from parimg.images.regions import fingerprint, open_regions

RNG = np.random.default_rng(9)
GRAY8 = RNG.integers(0, 256, (90, 70)).astype(np.uint8)
GRAY16 = RNG.integers(0, 65536, (90, 70)).astype(np.uint16)
RGB = RNG.integers(0, 256, (90, 70, 3)).astype(np.uint8)


@pytest.mark.parametrize("color", ["gray", "color", "unchanged", "stack"])
@pytest.mark.parametrize("image", [GRAY8, GRAY16, RGB], ids=["gray8", "gray16", "rgb"])
@pytest.mark.parametrize(
    "layout", [{"tile": (32, 16)}, {"rowsperstrip": 7}, {}, {"tile": (16, 16), "compression": "zlib"}]
)
def test_regions_are_those_of_the_whole(tmp_path: Path, image: Any, layout: dict[str, Any], color: Any) -> None:
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, image, photometric="rgb" if image.ndim == 3 else "minisblack", **layout)
    whole = read_image(path, color)
    regions, reason = open_regions(path, color)
    assert regions is not None, reason
    assert (regions.shape, regions.dtype) == (whole.shape, whole.dtype)
    for y1, x1, y2, x2 in [(0, 0, 90, 70), (13, 5, 40, 69), (89, 69, 90, 70)]:
        np.testing.assert_array_equal(regions.read_region(y1, x1, y2, x2), whole[y1:y2, x1:x2])
    regions.close()


def test_planes_of_colours_become_channels(tmp_path: Path) -> None:
    path = str(tmp_path / "a.tif")
    tifffile.imwrite(path, RGB.transpose(2, 0, 1), photometric="rgb", planarconfig="separate", tile=(32, 32))
    regions, reason = open_regions(path, "unchanged")
    assert regions is not None, reason
    np.testing.assert_array_equal(regions.read_region(3, 4, 50, 60), RGB[3:50, 4:60])


def test_pixel_sizes_are_told(tmp_path: Path) -> None:
    path = str(tmp_path / "a.ome.tif")
    tifffile.imwrite(path, GRAY8, tile=(16, 16), metadata={"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25})
    regions, _ = open_regions(path, "unchanged")
    assert regions is not None
    assert (regions.pixel_size, regions.unit) == ((0.25, 0.5), "µm")


def test_arrays_of_zarr_and_hdf5_are_read_by_regions(tmp_path: Path) -> None:
    array = zarr.create_array(str(tmp_path / "a.zarr"), shape=(1, 90, 70), chunks=(1, 32, 32), dtype="uint16")
    array[0] = GRAY16
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("image", data=GRAY16, chunks=(30, 30))
    for uri in (str(tmp_path / "a.zarr"), str(tmp_path / "a.h5#image")):
        regions, reason = open_regions(uri, "unchanged")
        assert regions is not None, reason
        assert regions.shape == (90, 70)
        np.testing.assert_array_equal(regions.read_region(3, 4, 50, 60), GRAY16[3:50, 4:60])


def test_what_cannot_be_read_by_regions_says_why(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"\x89PNG")
    tifffile.imwrite(tmp_path / "stack.tif", np.zeros((7, 90, 70), np.uint8), tile=(16, 16))
    turned = tmp_path / "turned.tif"
    tifffile.imwrite(turned, GRAY8, tile=(16, 16), extratags=[(274, 3, 1, 6, True)])
    assert open_regions(str(tmp_path / "a.png"), "gray") == (None, "the format of 'a.png' cannot be")
    assert "has the axes" in open_regions(str(tmp_path / "stack.tif"), "gray")[1]
    assert "turned by its orientation" in open_regions(str(turned), "gray")[1]
    assert open_regions(str(turned), "unchanged")[0] is not None


def test_a_missing_or_cut_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ImageMissingError):
        open_regions(str(tmp_path / "no.tif"), "gray")
    path = tmp_path / "cut.tif"
    tifffile.imwrite(path, GRAY16, tile=(16, 16), compression="zlib")
    path.write_bytes(path.read_bytes()[:-3000])

    def read() -> None:
        regions, _ = open_regions(str(path), "unchanged")
        assert regions is not None
        regions.read_region(0, 0, 90, 70)

    with pytest.raises(ImageError):  # its directory, or a tile
        read()


def test_a_file_written_anew_has_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(b"1")
    before = fingerprint(str(path))
    path.write_bytes(b"22")
    assert fingerprint(str(path)) != before
    assert fingerprint("s3://bucket/a.tif") == {}
