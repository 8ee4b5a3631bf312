"""Files that hold many images: in paths, folders, globs, lists, tables and stores, one image a part."""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import format_files as files
import fsspec
import numpy as np
import pandas as pd
import pytest

from parimg.errors import EmptySourceError, ImageError, ReaderMissingError, SourceError
from parimg.images.decode import read_image
from parimg.images.readers import registry
from parimg.images.readers.opened import close_files
from parimg.sources import parts
from parimg.sources.as_source import as_source, source_from_spec


@pytest.fixture(autouse=True)
def _no_file_stays_open():
    yield
    close_files()


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def keys(images, **options) -> list[str]:
    source = as_source(images, **options)
    found = [image.key for image in source]
    assert source.count() == len(found)
    if source.restartable:
        assert [image.key for image in source_from_spec(json.loads(json.dumps(source.spec())))] == found
    return found


HDF5_PARTS = ["r.h5#/entry/data/images?i=0", "r.h5#/entry/data/images?i=1", "r.h5#/entry/tiled"]


def test_a_file_stands_for_all_its_parts_and_a_part_for_itself(here):
    files.hdf5(here / "r.h5")
    assert keys("r.h5") == HDF5_PARTS
    assert keys("r.h5#/entry/data/images?i=1") == HDF5_PARTS[1:2]
    assert keys(["r.h5#/entry/tiled", "r.h5"]) == [HDF5_PARTS[2], *HDF5_PARTS]
    (image,) = as_source(HDF5_PARTS[1])
    assert image.uri == f"{here}/{HDF5_PARTS[1]}"
    np.testing.assert_array_equal(read_image(image.uri, "unchanged"), files.VOLUME[1, 0])


def test_a_folder_is_listed_part_by_part_in_order(here):
    folder = here / "data"
    folder.mkdir()
    files.ome_tiff(folder / "b.ome.tif", files.VOLUME, "TCYX")
    files.ome_tiff(folder / "c.ome.tif", files.VOLUME, "ZCYX")
    files.plate(folder / "d.zarr")
    files.video(folder / "e.mp4", 3)
    cv2.imwrite(str(folder / "a.png"), files.COLORS)
    (folder / "notes.doc").touch()
    wanted = ["a.png", "b.ome.tif#t=0", "b.ome.tif#t=1", "c.ome.tif"]
    wanted += [f"d.zarr#{field}?t={t}" for field in ("A/1/0", "A/1/1", "B/03/0", "B/03/1") for t in (0, 1)]
    wanted += [f"e.mp4#frame={number}" for number in range(3)]
    assert keys("data") == [f"data/{name}" for name in wanted]
    assert keys("data/*") == [f"data/{name}" for name in wanted]
    assert keys("data/*.zarr#B/03/0?t=1") == ["data/d.zarr#B/03/0?t=1"]
    assert keys("data/*.zarr") == [f"data/{name}" for name in wanted if "zarr" in name]


def test_a_folder_within_a_zarr_is_never_looked_into(here):
    files.ome_zarr(here / "data" / "a.zarr")
    cv2.imwrite(str(here / "data" / "a.zarr" / "preview.png"), files.COLORS)
    assert keys("data") == ["data/a.zarr"]


def test_tiff_without_ome_in_its_name_is_one_image_as_ever(here):
    files.ome_tiff(here / "a.tif", files.VOLUME, "TCYX")
    assert keys("a.tif") == ["a.tif"]
    assert keys("a.tif#t=1&c=0") == ["a.tif#t=1&c=0"]


def test_text_files_and_tables_name_parts_and_files_of_parts(here):
    files.hdf5(here / "r.h5")
    files.ome_zarr(here / "a.zarr")
    lines = ["a.zarr#c=1", "r.h5", "r.h5#/entry/tiled", "x.png"]
    wanted = ["a.zarr#c=1", *HDF5_PARTS, HDF5_PARTS[2], "x.png"]
    (here / "list.txt").write_text("\n".join(["# all", *lines]))
    table = pd.DataFrame({"path": lines})
    table.to_csv("list.csv")
    table.to_parquet("list.parquet")
    for name in ("list.txt", "list.csv", "list.parquet"):
        assert keys(name) == wanted, name


def test_a_name_with_a_mark_that_exists_wins(here):
    for name in ("a#1.png", "b#c=1", "d.h5#x.png"):
        cv2.imwrite(str(here / "picture.png"), files.COLORS)
        os.replace("picture.png", name)
    assert keys(["a#1.png", "d.h5#x.png"]) == ["a#1.png", "d.h5#x.png"]
    assert keys("b#c=1") == ["b#c=1"]
    assert keys("*#1.png") == ["a#1.png"]
    assert keys(".") == ["a#1.png", "d.h5#x.png"]
    np.testing.assert_array_equal(read_image("a#1.png", "color"), files.COLORS[..., ::-1])
    with pytest.raises(EmptySourceError):
        as_source("x*#c=2")


def test_a_part_that_is_not_there_is_told_before_anything_is_sent(here):
    files.hdf5(here / "r.h5")
    with pytest.raises(SourceError, match=r"has no data set '/entry/image'; its images are /entry/data/images"):
        as_source("r.h5#/entry/image")
    with pytest.raises(SourceError, match="names i=2, but i has 2 places, 0 to 1"):
        as_source("r.h5#/entry/data/images?i=2")
    with pytest.raises(SourceError, match="does not exist"):
        as_source("no.h5#/entry/data")
    with pytest.raises(SourceError, match="does not exist"):
        as_source(["no.h5"])


def test_a_damaged_file_in_a_folder_is_one_image_that_will_fail(here):
    (here / "data").mkdir()
    files.hdf5(here / "data" / "a.h5")
    (here / "data" / "b.h5").write_bytes((here / "data" / "a.h5").read_bytes()[:900])
    found = keys("data")
    assert found[-1] == "data/b.h5"
    assert len(found) == 4
    with pytest.raises(ImageError, match="truncated"):
        read_image(found[-1], "unchanged")


def test_parts_are_listed_lazily(here):
    """The second file is opened only when the listing comes to it."""
    (here / "data").mkdir()
    files.hdf5(here / "data" / "a.h5")
    (here / "data" / "b.h5").write_bytes(b"not yet")
    listed = iter(as_source("data"))
    assert next(listed).key == "data/" + HDF5_PARTS[0].replace("r.h5", "a.h5")
    files.hdf5(here / "data" / "b.h5")
    assert sum(1 for _ in listed) == 5


def test_urls_name_parts_and_stores_are_listed_up_to_zarr(here):
    store = fsspec.filesystem("memory")
    store.pipe("/parts/r.h5", Path(files.hdf5(here / "r.h5")).read_bytes())
    local = Path(files.ome_zarr(here / "a.zarr"))
    for file in local.rglob("*"):
        if file.is_file():
            store.pipe(f"/parts/a.zarr/{file.relative_to(local)}", file.read_bytes())
    wanted = ["memory:///parts/a.zarr", *(f"memory:///parts/{name}" for name in HDF5_PARTS)]
    assert keys("memory://parts/") == wanted
    assert keys("memory://parts/*") == wanted
    assert keys("memory://parts/a.zarr#c=1") == ["memory://parts/a.zarr#c=1"]
    np.testing.assert_array_equal(read_image("memory://parts/a.zarr#c=1&z=0", "unchanged"), files.VOLUME[0, 1])
    np.testing.assert_array_equal(read_image(wanted[2], "unchanged"), files.VOLUME[1, 0])


def test_objects_with_a_mark_in_their_name_are_read(here):
    store = fsspec.filesystem("memory")
    data = cv2.imencode(".png", files.COLORS)[1].tobytes()
    store.pipe("/marks/a#1.png", data)
    assert keys("memory://marks/") == keys("memory:///marks/a#1.png") == ["memory:///marks/a#1.png"]
    np.testing.assert_array_equal(read_image("memory://marks/a#1.png", "color"), files.COLORS[..., ::-1])


def test_a_missing_library_is_told_with_its_extra_wherever_its_files_are_met(here, monkeypatch):
    (here / "data").mkdir()
    files.hdf5(here / "data" / "r.h5")
    cv2.imwrite("data/a.png", files.COLORS)
    installed = registry._is_installed
    monkeypatch.setattr(registry, "_is_installed", lambda package: package != "h5py" and installed(package))
    for images in ("data/r.h5", "data/r.h5#/entry/tiled", ["data/a.png", "data/r.h5"], "s3://bucket/r.h5"):
        with pytest.raises(ReaderMissingError, match=r'is HDF5, which is read by h5py, .* "parimg\[hdf5\]"'):
            as_source(images)
    listed = iter(as_source("data"))
    assert next(listed).key == "data/a.png"
    with pytest.raises(ReaderMissingError):
        next(listed)


# -- parts() ---------------------------------------------------------------------------------------------------


def test_parts_tells_what_a_job_would_run(here):
    path = files.plate(here / "p.zarr")
    found = parts(path)
    assert [part.element for part in found] == [image.uri for image in as_source(path)]
    assert {(part.axes, part.shape, part.dtype, part.unit) for part in found} == {
        ("CYX", (2, 20, 30), "uint8", "µm")
    }
    assert found[0].metadata["channel_names"] == ["DAPI", "GFP", "RFP"]


def test_parts_of_a_part_and_of_a_picture_are_themselves(here):
    files.hdf5(here / "r.h5")
    (part,) = parts("r.h5#/entry/data/images?i=1")
    assert (part.element, part.axes, part.shape) == ("r.h5#/entry/data/images?i=1", "YX", (50, 70))
    cv2.imwrite("a.png", files.COLORS)
    (picture,) = parts("a.png")
    assert (picture.element, picture.axes, picture.shape, picture.dtype) == ("a.png", "YXS", (50, 70, 3), "uint8")
