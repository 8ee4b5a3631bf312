"""Images that are run by tiles, on real engines: what is made, and what happens when something goes wrong."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile

import parimg
from parimg import events
from parimg.errors import JobError, TaskError
from parimg.tasks.tiling import Place

SIDE, TILE = 512, 128
PLACE = "tile 5 of 16, which begins at row 128, column 128 (level-0)"
MARK = 65535  # of one pixel, in tile 5: rows and columns 128 to 256
PIXELS = np.random.default_rng(12).integers(0, 60000, (SIDE, SIDE)).astype(np.uint16)


@pytest.fixture(scope="module")
def own() -> Iterator[parimg.Controller]:
    with parimg.start(n=2) as started:
        yield started


@dataclass(frozen=True, eq=False)
class Noted(parimg.Convolve):
    """A convolution that notes which process ran which tile, and does something where it meets the mark."""

    notes: str = ""
    deed: str = ""

    def transform_part(self, part: np.ndarray, place: Place) -> np.ndarray:
        core = part[1:-1, 1:-1] if part.shape[0] > TILE + 1 else part
        with open(f"{self.notes}/{os.getpid()}-{time.time_ns()}", "w") as file:
            file.write(str(int(core.astype(np.uint64).sum())))
        if self.deed == "slow":
            time.sleep(0.2)
        if (core == MARK).any():
            if self.deed == "raise":
                raise ValueError("there is a mark")
            if self.deed == "hang":
                time.sleep(600)
            if self.deed == "die" or (self.deed == "die once" and len(os.listdir(self.notes)) > 0):
                once = f"{self.notes}/died"
                if self.deed == "die" or not os.path.exists(once):
                    open(once, "w").close()
                    os.kill(os.getpid(), signal.SIGKILL)
        return super().transform_part(part, place)


def marked() -> np.ndarray:
    image = PIXELS.copy()
    image[200, 200] = MARK
    return image


def smoothed(image: np.ndarray) -> np.ndarray:
    found: np.ndarray = parimg.Convolve("box(3)", color="unchanged")(image)["image"]  # type: ignore[assignment]
    return found


def write(path: Path, image: np.ndarray) -> str:
    tifffile.imwrite(path, image, tile=(64, 64))
    return str(path)


def task_of(tmp_path: Path, deed: str = "", **options: Any) -> Noted:
    (tmp_path / "notes").mkdir(exist_ok=True)
    return Noted("box(3)", color="unchanged", notes=str(tmp_path / "notes"), deed=deed, **options)


def runs(tmp_path: Path) -> Counter[str]:
    """How often each tile was run, by the sum of its pixels."""
    return Counter(path.read_text() for path in (tmp_path / "notes").iterdir() if path.name != "died")


def wait_for_notes(tmp_path: Path, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(os.listdir(tmp_path / "notes")) < n:
        assert time.monotonic() < deadline, f"no {n} tiles after 60 s"
        time.sleep(0.02)


def test_transforms_by_tiles_are_those_of_the_whole(own: parimg.Controller, tmp_path: Path) -> None:
    image = np.random.default_rng(7).normal(size=(1900, 1300)).astype(np.float32)
    image[700:703, 640:650] = 1e6  # a star
    kernel = np.random.default_rng(8).normal(size=(31, 25))
    task = parimg.Convolve(kernel, color="unchanged", output=tmp_path / "out")
    assert task.alignment(image.shape, image.dtype).block > 1
    [record] = own.submit(task, write(tmp_path / "a.tif", image), tiles=272).get(120)
    assert record.ok, record.message
    np.testing.assert_array_equal(tifffile.imread(record["path"]), task.transform(image))


def test_one_image_is_run_by_all_engines_to_the_result_of_the_whole(
    own: parimg.Controller, tmp_path: Path
) -> None:
    heard: list[events.Event] = []
    task = task_of(tmp_path, "slow", output=tmp_path / "out")
    job = own.submit(task, write(tmp_path / "a.tif", PIXELS), tiles=TILE, listeners=[heard.append])
    wait_for_notes(tmp_path, 4)
    assert job.tiles is not None
    assert f"/{job.tiles[1]} tiles" in repr(job)
    [record] = job.get(120)
    assert record.ok, record.message
    assert record["path"] == str(tmp_path / "out" / "a.ome.tif")
    wanted = parimg.Convolve("box(3)", color="unchanged")(PIXELS)
    np.testing.assert_array_equal(tifffile.imread(record["path"]), wanted["image"])
    assert {name: record[name] for name in ("min", "max")} == {name: wanted[name] for name in ("min", "max")}
    processes = {path.name.partition("-")[0] for path in (tmp_path / "notes").iterdir()}
    assert len(processes) == 2
    assert sum(runs(tmp_path).values()) == 16
    assert job.tiles is None
    assert not os.path.exists(os.path.join(job.directory, "tiles"))
    told = [event for event in heard if isinstance(event, events.TilesDone)]
    assert told[0] == events.TilesDone(0, 16)
    assert events.TilesDone(16, 16) in told


def test_small_images_and_other_formats_stand_beside_large_ones(
    own: parimg.Controller, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "in").mkdir()
    write(tmp_path / "in" / "large.tif", PIXELS)
    write(tmp_path / "in" / "small.tif", PIXELS[:100, :100])
    tifffile.imwrite(tmp_path / "in" / "strips.tif", PIXELS, rowsperstrip=8)
    cv2.imwrite(str(tmp_path / "in" / "photo.png"), PIXELS)
    task = parimg.Convolve("sobel", color="unchanged", dtype="float32")
    job = own.submit(task, str(tmp_path / "in"), tiles=(TILE, 2 * TILE))
    found = {os.path.basename(record.key): record for record in job.get(120)}
    images = {"small.tif": PIXELS[:100, :100], "large.tif": PIXELS, "strips.tif": PIXELS, "photo.png": PIXELS}
    for name, image in images.items():
        np.testing.assert_array_equal(found[name]["image"], task(image)["image"])
    assert "the format of 'photo.png' cannot be read by tiles: images of its kind are run whole" in caplog.text


def test_a_failed_tile_fails_its_image_alone_and_says_where(own: parimg.Controller, tmp_path: Path) -> None:
    images = {"a.tif": PIXELS, "b.tif": marked(), "c.tif": PIXELS}
    paths = [write(tmp_path / name, image) for name, image in images.items()]
    job = own.submit(task_of(tmp_path, "raise"), paths, tiles=TILE)
    found = {os.path.basename(record.key): record for record in job.get(120)}
    assert [found[name].status for name in images] == ["ok", "failed", "ok"]
    bad = found["b.tif"]
    assert (bad.stage, bad.error) == ("task", "ValueError")
    assert bad.message == f"{PLACE}: there is a mark"
    assert "transform_part" in str(bad.traceback)


def test_an_engine_that_dies_loses_no_finished_tile(own: parimg.Controller, tmp_path: Path) -> None:
    job = own.submit(task_of(tmp_path, "die once"), write(tmp_path / "a.tif", marked()), tiles=TILE)
    [record] = job.get(120)
    assert (record.status, record.attempts) == ("ok", 2)
    np.testing.assert_array_equal(record["image"], smoothed(marked()))
    counts = runs(tmp_path)
    assert len(counts) == 16
    assert sorted(counts.values()) == [1] * 15 + [2]


def test_a_tile_that_kills_its_engines_is_named(own: parimg.Controller, tmp_path: Path) -> None:
    job = own.submit(task_of(tmp_path, "die"), write(tmp_path / "a.tif", marked()), tiles=TILE, retries=1)
    [record] = job.get(120)
    assert (record.error, record.attempts) == ("EngineDied", 2)
    assert str(record.message).startswith(f"{PLACE}: its engine died at each of 2 attempts")


def test_the_time_limit_is_that_of_a_tile(own: parimg.Controller, tmp_path: Path) -> None:
    slow = own.submit(task_of(tmp_path, "slow"), write(tmp_path / "a.tif", PIXELS), tiles=TILE, timeout=2.5)
    assert [record.status for record in slow.get(120)] == ["ok"]  # 16 tiles of 0.2 s
    job = own.submit(task_of(tmp_path, "hang"), write(tmp_path / "b.tif", marked()), tiles=TILE, timeout=2.5)
    [record] = job.get(120)
    assert record.error == "TimeoutError"
    assert str(record.message).startswith(f"{PLACE}: it ran longer than timeout=2.5 s")


def test_a_resumed_job_runs_only_the_tiles_that_are_missing(own: parimg.Controller, tmp_path: Path) -> None:
    job = own.submit(task_of(tmp_path, "slow"), write(tmp_path / "a.tif", PIXELS), tiles=TILE)
    wait_for_notes(tmp_path, 6)
    job.abort()
    before = sum(runs(tmp_path).values())
    assert 6 <= before < 16
    time.sleep(1.0)  # an aborted job does not wait for what runs
    again = own.resume(job.directory)
    [record] = again.get(120)
    assert record.ok
    np.testing.assert_array_equal(record["image"], smoothed(PIXELS))
    assert sum(runs(tmp_path).values()) <= 16 + 2  # those that ran when the job was aborted
    assert len(runs(tmp_path)) == 16


def test_a_file_that_is_written_anew_meanwhile_fails(own: parimg.Controller, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", PIXELS)
    job = own.submit(task_of(tmp_path, "slow"), path, tiles=TILE)
    wait_for_notes(tmp_path, 3)
    write(tmp_path / "b.tif", marked())
    os.replace(tmp_path / "b.tif", path)
    [record] = job.get(120)
    assert record.error == "ImageError"
    assert "the file changed while its tiles were run" in str(record.message)


def test_skeletons_and_filters_are_run_by_tiles(own: parimg.Controller, tmp_path: Path) -> None:
    blurred = cv2.GaussianBlur(PIXELS, (0, 0), 3)
    path = write(tmp_path / "a.tif", blurred)
    skeleton = parimg.SkeletonGraph(min_size=20, prune=3.0)
    [record] = own.submit(skeleton, path, tiles=TILE).get(120)
    wanted = skeleton(blurred)
    assert record.ok, record.message
    assert record["branch_table"].tobytes() == wanted["branch_table"].tobytes()  # type: ignore[attr-defined]
    assert record["cycles"] == wanted["cycles"]

    def spread(values: np.ndarray) -> float:
        found: float = values.max() - values.min()
        return found

    filtered = parimg.NeighbourhoodFilter(spread, size=5, color="unchanged", mode="wrap")
    [record] = own.submit(filtered, path, tiles=TILE).get(120)
    np.testing.assert_array_equal(record["image"], filtered(blurred)["image"])


def test_what_is_not_run_by_tiles_is_refused_before_anything_is_sent(
    own: parimg.Controller, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.tif", PIXELS)
    with pytest.raises(TaskError, match="MatchSIFT is not run by tiles"):
        own.submit(parimg.MatchSIFT(path), path, tiles=TILE)
    with pytest.raises(JobError, match=r"multiples of 16 such as \(2048, 2048\) \(got 100\)"):
        own.submit(parimg.Convolve("sobel"), path, tiles=100)


def test_the_command_line_runs_by_tiles(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", PIXELS)

    def parimg_command(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "parimg.cli", *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=tmp_path)

    convolve = ["convolve", path, "-k", "box(3)", "-o", "out", "--color", "unchanged", "-n", "1"]
    done = parimg_command(*convolve, "--tiles", "128x256", "--format", "ome-tiff")
    assert done.returncode == 0, done.stderr
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "out" / "a.ome.tif"), smoothed(PIXELS))
    typo = parimg_command(*convolve, "--tiles", "large")
    assert typo.returncode == 2
    assert "--tiles must be a number of pixels" in typo.stderr
