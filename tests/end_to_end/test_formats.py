"""Jobs over files of all formats: parts, what is cut, what is replaced, what is missing, stores that fail."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import command_line
import cv2
import format_files as files
import h5py
import numpy as np
import pandas as pd
import pytest
from flaky_store import FlakyStore, flaky_store

import parimg
from parimg.errors import TaskError
from parimg.images.readers import registry

pytestmark = pytest.mark.cluster


def mean(image: np.ndarray) -> dict[str, object]:
    return {"mean": float(image.mean()), "shape": list(image.shape)}


def table_of(job: parimg.Job) -> pd.DataFrame:
    job.get(120)
    return job.to_pandas().sort_values("key")


def test_a_folder_of_all_formats_is_one_record_a_part(controller, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "data"
    folder.mkdir()
    files.ome_tiff(folder / "a.ome.tif", files.VOLUME, "TCYX")
    files.plate(folder / "b.zarr")
    files.ome_zarr(folder / "c.zarr")
    files.hdf5(folder / "d.h5")
    files.fits_file(folder / "e.fits")
    files.dicom(folder / "f.dcm", compression="jpeg2000")
    files.nifti(folder / "g.nii.gz")
    files.video(folder / "h.mp4", 30)
    files.heif(folder / "i.heic")
    files.dng(folder / "j.dng")
    cv2.imwrite(str(folder / "k.png"), files.COLORS)
    job = controller.map(mean, "data", channel=0, project="max", metadata=["acquisition_time"])
    records = {record.key.removeprefix("data/"): record for record in job.get(120)}
    assert [record.message for record in records.values() if not record.ok] == []
    assert len(records) == 2 + 8 + 1 + 3 + 3 + 2 + 1 + 30 + 1 + 1 + 1 == job.counts["total"]
    for name, wanted in {
        "a.ome.tif#t=1": files.VOLUME[1, 0],
        "b.zarr#B/03/1?t=0": np.full((20, 30), 11),
        "c.zarr": files.VOLUME[:, 0].max(0),
        "d.h5#/entry/data/images?i=1": files.VOLUME[1, 0],
        "e.fits#hdu=3": files.VOLUME[1, 0],
        "f.dcm#frame=1": files.VOLUME[1, 0],
        "g.nii.gz": files.VOLUME[0].astype(np.int16).max(0),
        "k.png": files.COLORS[..., 2],
    }.items():
        assert records[name]["mean"] == pytest.approx(wanted.mean()), name
        assert records[name]["shape"] == list(wanted.shape), name
    assert records["f.dcm#frame=0"]["acquisition_time"] == "2024-05-17T12:30:01"
    assert records["c.zarr"]["acquisition_time"] is None
    assert {record.attempts for record in records.values()} == {1}


def test_cut_files_of_every_format_are_failed_records_and_no_engine_dies(controller, tmp_path):
    whole = {
        "a.ome.tif": files.ome_tiff, "d.h5": files.hdf5, "e.fits": files.fits_file, "g.nii": files.nifti,
        "g.nii.gz": files.nifti, "h.mp4": files.video, "i.heic": files.heif, "j.dng": files.dng,
        "f.dcm": lambda path: files.dicom(path, compression="rle"),
    }  # fmt: skip
    named = []
    for name, write in whole.items():
        path = Path(write(tmp_path / name))
        data = path.read_bytes()
        for share in range(10):
            cut = tmp_path / f"{share}-{name}"
            cut.write_bytes(data[: len(data) * share // 10])
            named.append(f"{cut}#hdu=3" if "fits" in name else f"{cut}#frame=1" if "dcm" in name else str(cut))
    before = controller.engines
    # As a generator names them: what is listed is not opened.
    job = controller.map(mean, (path for path in named), channel=0, project="max")
    records = job.get(120)
    assert {record.error for record in records} <= {
        "ImageTruncatedError", "ImageEmptyError", "ImageFormatError", "ImagePartError"
    }  # fmt: skip
    assert {record.attempts for record in records} == {1}
    assert controller.engines == before


def test_a_file_that_is_replaced_while_the_job_runs_is_read_as_it_is_then(controller, tmp_path):
    path = tmp_path / "run.h5"

    def write(level: int, n: int) -> None:
        with h5py.File(f"{path}.new", "w") as file:
            file["images"] = np.full((n, 3, 4), level, np.uint8)
        os.replace(f"{path}.new", path)

    write(1, 3)
    done: list[object] = []

    def elements() -> Iterator[str]:
        yield f"{path}#/images?i=0"
        deadline = time.monotonic() + 60
        while not done and time.monotonic() < deadline:
            time.sleep(0.05)
        write(2, 2)
        yield f"{path}#/images?i=1"
        yield f"{path}#/images?i=2"

    job = controller.map(
        mean, elements(), listeners=[lambda event: done.append(event) if "Record" in repr(event) else None]
    )
    records = {record.key[-3:]: record for record in job.get(120)}
    assert records["i=0"]["mean"] == 1
    assert records["i=1"]["mean"] == 2
    assert (records["i=2"].error, records["i=2"].attempts) == ("ImagePartError", 1)
    assert "names i=2, but i has 2 places, 0 to 1" in records["i=2"].message


def test_lengths_are_in_micrometres_where_the_file_has_them(controller, tmp_path):
    line = np.zeros((60, 80), np.uint8)
    line[30, 10:71] = 200  # 60 steps
    sized, plain = files.ome_tiff(tmp_path / "line.ome.tif", line, "YX"), str(tmp_path / "line.png")
    cv2.imwrite(plain, line)
    table = table_of(controller.submit(parimg.SkeletonGraph(), [sized, plain]))
    assert table["total_length"].tolist() == [30.0, 60.0]
    assert table["length_unit"].tolist() == ["µm", "px"]
    given = table_of(controller.submit(parimg.SkeletonGraph(spacing=2), [sized]))
    assert given["total_length"].tolist() == [120.0]
    assert given["length_unit"].isna().all()


def test_sift_sees_16_bit_by_percentiles_only(controller, tmp_path):
    picture = cv2.resize(cv2.imread(parimg_demo_view(tmp_path), cv2.IMREAD_GRAYSCALE), (300, 200))
    faint = files.ome_zarr(tmp_path / "faint.zarr", "0.5", picture.astype(np.uint16)[None, None] + 1000, "zcyx")
    task = parimg.MatchSIFT(picture)
    (refused,) = controller.submit(task, [faint]).get(60)
    assert "holds uint16, which is not made 8 bit unasked; percentile=(1, 99.8)" in refused.message
    (found,) = controller.submit(task, [faint], percentile=(0, 100)).get(60)
    # The levels are the picture's, stretched to the whole range.
    assert found["matches"] > 0.5 * found["features"] > 20


def parimg_demo_view(folder: Path) -> str:
    from parimg.demo import make_views

    return make_views(str(folder / "views"))[1][0].path


# -- engines that lack something, stores that fail -------------------------------------------------------------

READER = """
import numpy as np
from parimg.images.readers import Address, OpenedFile, Reader, StoredImage

READER = Reader("an odd file", (".odd",), "odd_reader", "odd_library")

class Odd(StoredImage):
    axes, shape, dtype = "YX", (4, 5), np.dtype(np.uint8)
    def read(self, index):
        return np.full((4, 5), 7, np.uint8)[index]

class File(OpenedFile):
    def addresses(self):
        return [Address()]
    def image(self, address):
        return Odd(), frozenset()
    def close(self):
        pass

def open_file(uri):
    return File()
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[parimg.Controller, FlakyStore]]:
    """A cluster whose engine lacks a library that the client has, and a store that fails."""
    both, client = tmp_path_factory.mktemp("both"), tmp_path_factory.mktemp("client")
    (both / "odd_reader.py").write_text(READER)
    info = both / "odd-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[parimg.readers]\nodd = odd_reader:READER\n")
    (client / "odd_library.py").touch()
    caches = registry.readers, registry._by_suffix, registry._is_installed
    with pytest.MonkeyPatch.context() as patch, flaky_store(patch) as store:
        patch.setenv("PYTHONPATH", str(both))
        patch.syspath_prepend(str(both))
        patch.syspath_prepend(str(client))
        for cached in caches:
            cached.cache_clear()
        with parimg.start(1) as controller:
            yield controller, store
    for cached in caches:
        cached.cache_clear()


def test_a_library_that_only_engines_lack_ends_the_job_with_one_error(elsewhere, tmp_path):
    controller, _ = elsewhere
    for number in range(50):
        (tmp_path / f"{number}.odd").touch()
    job = controller.map(mean, tmp_path)
    with pytest.raises(TaskError) as error:
        job.get(60)
    assert "on an engine of " in str(error.value)
    assert "is an odd file, which is read by odd_library, and that is not installed" in str(error.value)
    assert "pip install odd_library" in str(error.value)
    assert job.counts["failed"] == 0


def test_a_bucket_that_fails_now_and_then_costs_no_image_an_attempt(elsewhere, tmp_path):
    controller, store = elsewhere
    folder = tmp_path / "data"
    folder.mkdir()
    files.plate(folder / "p.zarr")
    for number in range(5):
        cv2.imwrite(str(folder / f"{number}.png"), np.full((6, 7), number, np.uint8))
    store.put("jobs", folder)
    store.failed.clear()
    store.failures = 1
    job = controller.map(mean, "s3://jobs/data/", channel=0)
    table = table_of(job)
    assert table["status"].tolist() == ["ok"] * 13
    assert table["mean"].tolist() == [0, 1, 2, 3, 4, 0, 0, 1, 1, 10, 10, 11, 11]
    assert set(table["attempts"]) == {1}
    assert sum(store.failed.values()) > 5


def test_the_command_line_reads_parts_with_its_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files.ome_zarr(tmp_path / "a.zarr")
    ended = command_line.parimg(
        "skeleton",
        "a.zarr",
        "-n",
        1,
        "-q",
        "--channel",
        "GFP",
        "--project",
        "max",
        "--metadata",
        "name",
        "-o",
        "t.csv",
    )
    assert ended.code == 0, ended.err
    table = pd.read_csv("t.csv")
    assert table["key"].tolist() == ["a.zarr"]
    assert table["length_unit"].tolist() == ["µm"]
    assert "name" in table
