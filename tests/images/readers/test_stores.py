"""Parts of files in an S3 store, which fails now and then."""

from __future__ import annotations

from pathlib import Path

import cv2
import format_files as files
import numpy as np
import pytest
from flaky_store import FlakyStore, flaky_store

from parimg.errors import ImageError, ImageMissingError
from parimg.files import retrying
from parimg.images.decode import read_image
from parimg.images.readers.opened import close_files
from parimg.sources.as_source import as_source


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("store") / "data"
    folder.mkdir()
    files.ome_zarr(folder / "a.zarr")
    files.hdf5(folder / "r.h5")
    files.ome_tiff(folder / "c.ome.tif", tile=(16, 16), compression="zlib")
    files.nifti(folder / "v.nii.gz")
    files.dicom(folder / "s.dcm")
    files.fits_file(folder / "i.fits")
    files.video(folder / "m.mp4", 5)
    files.heif(folder / "h.heic")
    files.dng(folder / "r.dng")
    cv2.imwrite(str(folder / "x.png"), files.COLORS)
    with pytest.MonkeyPatch.context() as patch, flaky_store(patch) as store:
        patch.setattr(retrying, "PAUSES", (0.01, 0.01, 0.01))
        store.put("bucket", folder)
        yield store, folder
        close_files()


PARTS = (
    "a.zarr#c=1&z=0", "r.h5#/entry/tiled", "r.h5#/entry/data/images?i=1", "c.ome.tif#c=2&z=1", "v.nii.gz#z=1",
    "s.dcm#frame=1", "i.fits#hdu=3", "m.mp4#frame=4", "h.heic", "r.dng", "x.png",
)  # fmt: skip


@pytest.mark.parametrize("failures", [0, 2])
@pytest.mark.parametrize("part", PARTS)
def test_a_part_in_a_store_is_that_of_the_file_though_the_store_fails(
    bucket: tuple[FlakyStore, Path], part: str, failures: int
) -> None:
    store, folder = bucket
    close_files()
    store.failed.clear()
    store.failures = failures
    found = read_image(f"s3://bucket/data/{part}", "unchanged")
    assert sum(store.failed.values()) >= failures
    np.testing.assert_array_equal(found, read_image(f"{folder}/{part}", "unchanged"))


def test_a_store_is_listed_into_parts_though_it_fails(bucket):
    store, _ = bucket
    store.failures = 0
    keys = [image.key for image in as_source("s3://bucket/data/")]
    assert keys[:2] == ["s3://bucket/data/a.zarr", "s3://bucket/data/c.ome.tif"]
    assert "s3://bucket/data/m.mp4#frame=4" in keys
    assert len(keys) == 2 + 1 + 3 + 5 + 1 + 3 + 2 + 1 + 1
    hdf5 = [key for key in keys if ".h5" in key]
    assert [image.key for image in as_source("s3://bucket/data/*.h5")] == hdf5
    assert len(hdf5) == 3


def test_a_store_that_does_not_come_back_is_an_error_that_says_so(bucket):
    store, _ = bucket
    close_files()
    store.failed.clear()
    store.failures = 99
    for name in ("x.png", "r.h5#/entry/tiled", "a.zarr"):
        with pytest.raises(ImageError, match="could not be read") as error:
            read_image(f"s3://bucket/data/{name}", "unchanged")
        assert "truncated" not in str(error.value)
    store.failures = 0


def test_an_object_that_is_not_there_is_missing(bucket):
    for name in ("no.png", "no.h5#/entry"):
        with pytest.raises(ImageMissingError):
            read_image(f"s3://bucket/data/{name}", "unchanged")
