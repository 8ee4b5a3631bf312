"""Jobs over files that are called or made otherwise than most: no text in a name, pages, tables, volumes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import skimage.data
import tifffile

import parimg

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.cluster


def png(image: np.ndarray) -> bytes:
    return cv2.imencode(".png", image)[1].tobytes()


def test_a_file_whose_name_is_no_text_is_matched_drawn_and_exported(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    camera = np.ascontiguousarray(skimage.data.camera()[::2, ::2])
    for name in (b"caf\xe9.png", b"caf\\udce9.png"):
        (tmp_path / os.fsdecode(name)).write_bytes(png(camera))
    task = parimg.MatchSIFT(camera)
    records = controller.submit(task, tmp_path).get(60)
    assert [record.ok for record in records] == [True, True]
    assert len({record.key for record in records}) == 2
    assert {os.fsencode(os.path.basename(record.uri)) for record in records} == {b"caf\xe9.png", b"caf\\udce9.png"}
    job = parimg.open_job(records[0].job)
    for record in job:
        assert os.path.exists(record.uri)
        assert parimg.draw_matches(record).shape == (256, 512, 3)
    assert sorted(os.path.basename(uri) for uri in job.to_arrow()["uri"].to_pylist()) == [
        r"caf\\udce9.png",
        r"caf\udce9.png",
    ]
    # The source that the journal keeps leads to the same files.
    again = controller.resume(job.directory)
    assert again.wait(60)
    assert again.counts["done"] == again.counts["total"] == 2


def test_pages_and_frames_that_are_left_out_are_told(
    controller: parimg.Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    volume = np.arange(3 * 20 * 30, dtype=np.uint16).reshape(3, 20, 30)
    tifffile.imwrite(tmp_path / "a.ome.tif", volume, ome=True)
    tifffile.imwrite(tmp_path / "b.tif", volume, truncate=True, photometric="minisblack")
    tifffile.imwrite(tmp_path / "c.tif", volume[0])
    job = controller.map(np.shape, tmp_path, chunk_size=1)
    records = {os.path.basename(record.key): record for record in job.get(60)}
    assert {name: (record["value"], record.columns.get("pages")) for name, record in records.items()} == {
        "a.ome.tif": ([20, 30], 3),
        "b.tif": ([20, 30], 3),
        "c.tif": ([20, 30], None),
    }
    told = [message for message in caplog.messages if "only the first was taken" in message]
    assert len(told) == 1
    assert "an image has 3 pages" in told[0]
    assert sorted(job.to_pandas()["pages"].dropna()) == [3, 3]


def test_levels_colours_and_alpha_that_are_left_out_are_told_once_with_the_way_out(
    controller: parimg.Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    levels = np.arange(32 * 64, dtype=np.uint16).reshape(32, 64) * 31
    for name in ("a.png", "b.png"):
        cv2.imwrite(str(tmp_path / name), np.dstack([levels] * 4))
    tifffile.imwrite(tmp_path / "tiled.tif", np.dstack([levels] * 3), tile=(16, 16), photometric="rgb")

    def told(task: parimg.Task, **options: Any) -> list[str]:
        caplog.clear()
        job = controller.submit(task, tmp_path, chunk_size=1, **options)
        assert job.wait(60)
        assert job.counts["ok"] == 3
        return sorted(message.partition(":")[0] for message in caplog.messages)

    eight_bit = "images of more than 8 bit were read as 8 bit, without their lower bits"
    gray = "images in colours were read as gray"
    alpha = "alpha, or another fourth channel, of images was left out"
    assert told(parimg.Convolve("box(3)")) == [alpha, eight_bit]
    assert "color='unchanged' gives them as they are stored" in caplog.text
    assert eight_bit in told(parimg.Convolve("box(3)"), tiles=16)
    assert told(parimg.NeighbourhoodFilter(np.ptp, size=3)) == [alpha, gray, eight_bit]
    assert told(parimg.Convolve("box(3)", color="gray")) == [eight_bit]  # gray was asked for
    assert told(parimg.MatchSIFT(np.ones((2, 128), np.float32))) == [eight_bit]
    assert "color=" not in caplog.text  # which this task has not
    assert "percentile=(1, 99.8)" in caplog.text
    assert told(parimg.MatchSIFT(np.ones((2, 128), np.float32)), percentile=(0, 100)) == []
    assert told(parimg.Convolve("box(3)", color="unchanged")) == []


def test_images_inside_a_table_are_the_images_of_a_job(controller: parimg.Controller, tmp_path: Path) -> None:
    images = {f"{level}.png": np.full((4, 5), level, np.uint8) for level in range(0, 250, 10)}
    rows = [{"bytes": png(image), "path": name} for name, image in images.items()]
    rows[3]["bytes"] = b"no image"
    pq.write_table(pa.table({"image": rows}), tmp_path / "hub.parquet", row_group_size=4)
    job = controller.map(lambda image: int(image[0, 0]), tmp_path / "hub.parquet")
    job.wait(60)
    assert {record.key: record["value"] for record in job if record.ok} == {
        f"{level}.png": level for level in range(0, 250, 10) if level != 30
    }
    [failure] = job.failures
    assert (failure.key, failure.error) == ("30.png", "ImageFormatError")


def test_a_folder_may_hold_images_and_volumes(controller: parimg.Controller, tmp_path: Path) -> None:
    volume = np.zeros((5, 9, 20), np.uint8)
    volume[2, 4, 2:18] = 200
    np.save(tmp_path / "volume.npy", volume)
    tifffile.imwrite(tmp_path / "volume.tif", volume, photometric="minisblack")
    cv2.imwrite(str(tmp_path / "image.png"), volume[2])
    job = controller.submit(parimg.SkeletonGraph(), tmp_path)
    records = {os.path.basename(record.key): record for record in job.get(120)}
    assert {name: record["pixels"] for name, record in records.items()} == {
        "volume.npy": 16,
        "volume.tif": 16,
        "image.png": 16,
    }
