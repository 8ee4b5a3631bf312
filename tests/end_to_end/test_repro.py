"""One image of a job alone: the written script is run, of images that went well, failed, crashed and hung."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from command_line import parimg as command

import parimg
from parimg.errors import JobError


def behave(image: np.ndarray) -> dict[str, float]:
    if image[0, 0] == 1:
        raise ValueError("level 1 is refused")
    if image[0, 0] == 2:
        import ctypes

        ctypes.string_at(0)
    if image[0, 0] == 3:
        import time

        time.sleep(600)
    return {"mean": float(image.mean())}


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> parimg.Job:
    folder = tmp_path_factory.mktemp("levels")
    for level, name in ((1, "failing"), (2, "crashing"), (3, "hanging"), (9, "good")):
        cv2.imwrite(str(folder / f"{name}.png"), np.full((4, 5), level, np.uint8))
    with parimg.start(1) as controller:
        job = controller.map(behave, str(folder / "*.png"), retries=0, timeout=8.0, job_dir=folder / "job")
        job.wait(240)
        return parimg.open_job(job.directory)


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(folder / "run.py")]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, cwd="/", check=False)


@pytest.mark.parametrize(
    ("name", "code", "said"),
    [
        ("good.png", 0, "{'mean': 9.0}"),
        ("failing.png", 1, "ValueError: level 1 is refused"),
        ("crashing.png", -11, "Fatal Python error: Segmentation fault"),
        ("hanging.png", 1, "Timeout (0:00:08)!"),
    ],
)
def test_the_script_does_what_the_engine_did(
    job: parimg.Job, tmp_path: Path, name: str, code: int, said: str
) -> None:
    assert parimg.write_repro(job, name, tmp_path / "alone") == ""
    ended = run(tmp_path / "alone")
    assert ended.returncode == code
    assert said in ended.stdout + ended.stderr
    if code:
        assert "in behave" in ended.stderr
    script = (tmp_path / "alone" / "run.py").read_text()
    assert len([line for line in script.splitlines() if not line.startswith("#")]) == 10
    about = json.loads((tmp_path / "alone" / "about.json").read_text())
    assert about["versions"]["parimg"] == parimg.__version__
    assert about["versions"]["numpy"] == np.__version__
    assert about["record"]["key"].endswith(name)


def test_the_folder_outlives_the_job_and_the_image(job: parimg.Job, tmp_path: Path) -> None:
    copy = tmp_path / "moved.png"
    copy.write_bytes(Path(job[0].uri).read_bytes())
    with parimg.start(1) as controller:
        second = controller.submit(parimg.Convolve("box(3)", output=tmp_path / "out"), [str(copy)])
        second.wait(60)
    parimg.write_repro(second, "moved.png", tmp_path / "alone")
    copy.unlink()
    second_output = Path(second[0]["path"])
    second_output.unlink()
    for path in Path(second.directory, "shared").iterdir():
        path.unlink()
    ended = run(tmp_path / "alone")
    assert ended.returncode == 0, ended.stderr
    assert not second_output.exists()
    [written] = (tmp_path / "alone" / "output").rglob("*.png")
    assert cv2.imread(str(written)).shape == (4, 5, 3)


def test_an_array_has_to_be_given_again(controller: parimg.Controller, tmp_path: Path) -> None:
    image = np.arange(6.0).reshape(2, 3)
    job = controller.map(np.sum, {"six": image})
    job.wait(60)
    assert "save it as image.npy" in parimg.write_repro(job, "six", tmp_path / "without")
    assert parimg.write_repro(job, "six", tmp_path / "with", image=image) == ""
    ended = run(tmp_path / "with")
    assert "15.0" in ended.stdout
    assert run(tmp_path / "without").returncode == 1


def test_an_image_that_is_gone_is_told_and_the_script_says_so_too(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    job = controller.map(np.sum, [str(tmp_path / "gone.png")])
    job.wait(60)
    assert "the image cannot be copied" in parimg.write_repro(job, "gone.png", tmp_path / "alone")
    assert "ImageMissingError" in run(tmp_path / "alone").stderr


def test_parts_of_files_options_of_reading_and_limits_are_those_of_the_job(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    levels = np.arange(2 * 3 * 4 * 5, dtype=np.uint16).reshape(2, 3, 4, 5)
    tifffile.imwrite(tmp_path / "cells.ome.tif", levels, metadata={"axes": "ZCYX"})

    def total(image: np.ndarray) -> dict[str, int]:
        return {"total": int(image.sum())}

    def hoard(image: np.ndarray) -> int:
        return len(bytearray(2**32))

    job = controller.map(total, [str(tmp_path / "cells.ome.tif")], channel=1, z=1, memory_limit="10 GiB")
    [record] = job.get(60)
    assert record["total"] == levels[1, 1].sum()
    parimg.write_repro(job, record.key, tmp_path / "alone")
    ended = run(tmp_path / "alone")
    assert str({"total": record["total"]}) in ended.stdout, ended.stderr
    small = controller.map(hoard, [str(tmp_path / "cells.ome.tif")], channel=1, z=1, memory_limit="3 GiB")
    assert small.get(60)[0].error == "MemoryError"
    parimg.write_repro(small, record.key, tmp_path / "small")
    assert run(tmp_path / "small").stderr.rstrip().endswith("MemoryError")


def test_the_command_says_how_to_run_it(job: parimg.Job, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = command("repro", job.directory, "failing.png")
    assert ended.code == 0, ended.err
    assert "it failed in task: ValueError: level 1 is refused" in ended.out
    assert "run it alone by  python repro-failing.png/run.py" in ended.out
    again = command("repro", job.directory, "failing.png")
    assert again.code == 2
    assert "is not empty; name a new one" in again.message
    unknown = command("repro", job.directory, "nothing.png", "-o", "other")
    assert unknown.code == 2
    assert "has no record of image 'nothing.png'; there are '" in unknown.message
    assert not Path("other").exists()


def test_a_key_is_found_by_its_last_parts_unless_two_have_them(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    job = controller.map(np.sum, {"a/x.png": np.ones(1), "b/x.png": np.ones(2), "b/y.png": np.ones(3)})
    job.wait(60)
    parimg.write_repro(job, "y.png", tmp_path / "alone")
    with pytest.raises(JobError, match=r"'x\.png' may be 'a/x\.png' or 'b/x\.png'"):
        parimg.write_repro(job, "x.png", tmp_path / "other")
