"""Engines that do not see the client's disk: in a mount namespace of their own, an empty disk lies over it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from waiting import wait_until

import parimg
from parimg.errors import ClusterError

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
N = 30
SHARPEN = np.array([[0, -1, 0], [-1, 5, -1], [0, -1, 0]])


@dataclass(frozen=True)
class Elsewhere:
    """A cluster with engines of another host, as far as the disk is concerned."""

    disk: Path
    """Holds the images, jobs and outputs of the client."""
    controller: parimg.Controller
    engines: list[subprocess.Popen[bytes]]

    def left_there(self) -> list[str]:
        """What lies on the disk that the engines see in the place of the client's."""
        return os.listdir(f"/proc/{self.engines[0].pid}/root{self.disk}")


@pytest.fixture(scope="module")
def elsewhere(private_folders: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Elsewhere]:
    apart = ["unshare", "--mount", "--uts", "--propagation", "private"]
    try:
        subprocess.run([*apart, "true"], check=True, stderr=subprocess.PIPE)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a mount namespace takes Linux and root ({error})")
    disk = tmp_path_factory.mktemp("disk")
    profile = Path(os.environ["IPYTHONDIR"]) / "profile_elsewhere"
    module = [sys.executable, "-m"]
    started = subprocess.Popen(
        [*module, "ipyparallel.controller", f"--profile-dir={profile}", "--nodb", "--HeartMonitor.period=200"],
        **QUIET,
    )
    file = profile / "security" / "ipcontroller-engine.json"
    wait_until(file.exists)
    hide = 'hostname elsewhere && mount -t tmpfs none "$0" && exec "$@"'
    engine = [*module, "ipyparallel.engine", f"--file={file}"]
    environment = {**os.environ, "PARIMG_SHARED_DIR": str(tmp_path_factory.mktemp("host"))}
    first = subprocess.Popen([*apart, "sh", "-c", hide, str(disk), *engine], env=environment, **QUIET)
    engines = [first]
    try:
        with parimg.connect(profile="elsewhere") as controller:
            inside = ["nsenter", f"--target={first.pid}", "--mount", "--uts"]
            engines.append(subprocess.Popen([*inside, *engine], env=environment, **QUIET))
            wait_until(lambda: len(controller) == 2)
            yield Elsewhere(disk, controller, engines)
    finally:
        for process in engines:
            process.kill()
            process.wait()
        started.terminate()  # ends its schedulers, too, which would outlive it if it were killed
        started.wait(30)


@pytest.fixture(scope="module")
def images(elsewhere: Elsewhere) -> list[str]:
    """Pictures, and at the end four files that are none."""
    folder = elsewhere.disk / "images"
    folder.mkdir()
    random = np.random.default_rng(1)
    paths = [str(folder / f"{number:02d}.png") for number in range(N)]
    for path in paths:
        assert cv2.imwrite(path, random.integers(0, 256, (60, 80), np.uint8))
    whole = Path(paths[0]).read_bytes()
    for name, data in {"cut": whole[:-30], "empty": b"", "text": b"no image"}.items():
        paths.append(str(folder / f"{name}.png"))
        Path(paths[-1]).write_bytes(data)
    return [*paths, str(folder / "missing.png")]


def told(job: parimg.Job) -> dict[str, tuple[object, ...]]:
    """What records say of images, whoever ran them."""
    return {
        record.key: (
            {name: value for name, value in record.columns.items() if name != "path"},
            record.stage,
            record.error,
            record.message,
        )
        for record in job
    }


def test_images_are_sent_outputs_come_back_and_all_is_as_with_a_shared_disk(
    elsewhere: Elsewhere, images: list[str], controller: parimg.Controller, capfd: pytest.CaptureFixture[str]
) -> None:
    results = {}
    for name, cluster in (("there", elsewhere.controller), ("here", controller)):
        output = elsewhere.disk / f"out-{name}"
        job = cluster.submit(
            parimg.Convolve(SHARPEN, output=output), images, job_dir=elsewhere.disk / f"job-{name}"
        )
        assert job.wait(90)
        results[name] = told(job), {path.name: path.read_bytes() for path in output.iterdir()}
        assert {record["path"] for record in job if record.ok} == {str(path) for path in output.iterdir()}
        assert {record.host == "elsewhere" for record in job} == {name == "there"}
    assert results["there"] == results["here"]
    records, files = results["there"]
    assert len(files) == N
    assert sorted(error for _, _, error, _ in records.values() if error) == [
        "ImageEmptyError",
        "ImageFormatError",
        "ImageMissingError",
        "ImageTruncatedError",
    ]
    assert elsewhere.left_there() == []
    err = capfd.readouterr().err
    assert err.count("elsewhere does not see the image") == 1
    assert "nor the output folder" in err
    assert "images are sent to it and outputs come back by message" in err


def test_never_ends_the_job_with_one_error_and_resume_with_auto_goes_on(
    elsewhere: Elsewhere, images: list[str]
) -> None:
    output = elsewhere.disk / "out-never"
    place = elsewhere.disk / "job-never"
    task = parimg.Convolve(SHARPEN, output=output)
    job = elsewhere.controller.submit(task, images[:N], job_dir=place, ship="never")
    with pytest.raises(ClusterError, match=r"elsewhere does not see the image '.*00\.png', nor the output folder"):
        job.wait(60)
    assert job.counts["done"] == 0
    assert list(output.iterdir()) == []
    assert elsewhere.left_there() == []
    again = elsewhere.controller.resume(place, ship="auto")
    assert again.wait(60)
    assert again.counts == {"ok": N, "failed": 0, "done": N, "total": N}
    assert len(list(output.iterdir())) == N


def test_arrays_and_a_large_task_travel_by_message(elsewhere: Elsewhere) -> None:
    table = np.arange(100_000)
    arrays = {f"{number}": np.full(3, number) for number in range(200)}
    job = elsewhere.controller.map(
        lambda image: int(table[image].sum()), arrays, job_dir=elsewhere.disk / "job-arrays", ship="never"
    )
    assert job.wait(60)
    assert {record.key: record["value"] for record in job} == {f"{number}": 3 * number for number in range(200)}


def test_an_engine_that_sees_the_disk_works_beside_those_that_do_not(
    elsewhere: Elsewhere, images: list[str]
) -> None:
    file = Path(os.environ["IPYTHONDIR"]) / "profile_elsewhere" / "security" / "ipcontroller-engine.json"
    near = subprocess.Popen([sys.executable, "-m", "ipyparallel.engine", f"--file={file}"], **QUIET)
    try:
        wait_until(lambda: len(elsewhere.controller) == 3)

        def slowly(image: np.ndarray) -> int:
            time.sleep(0.1)
            return int(image.sum())

        job = elsewhere.controller.map(slowly, images[:N], job_dir=elsewhere.disk / "job-mixed", chunk_size=1)
        assert job.wait(60)
        expected = {path: int(cv2.imread(path, cv2.IMREAD_UNCHANGED).sum()) for path in images[:N]}
        assert {record.uri: record["value"] for record in job} == expected
        assert len({record.host for record in job}) == 2
    finally:
        near.kill()
        near.wait()
        wait_until(lambda: len(elsewhere.controller) == 2)


@pytest.mark.parametrize("image_format", ["ome-tiff", "npy"])
def test_a_large_image_is_run_by_tiles_on_one_engine_where_the_job_is_not_seen(
    elsewhere: Elsewhere, tmp_path: Path, image_format: Any
) -> None:
    image = np.random.default_rng(3).integers(0, 60000, (300, 400)).astype(np.uint16)
    paths = [str(tmp_path / f"{name}.tif") for name in "ab"]  # where engines see them
    for path in paths:
        tifffile.imwrite(path, image, tile=(64, 64))
    output = elsewhere.disk / f"out-tiles-{image_format}"
    task = parimg.Convolve("box(3)", output, color="unchanged", format=image_format)
    job = elsewhere.controller.submit(task, paths, job_dir=elsewhere.disk / f"job-{image_format}", tiles=128)
    assert job.wait(60)
    assert [record.message for record in job.failures] == []
    wanted = task(image)["image"]
    for record in job:
        found = np.load(record["path"]) if image_format == "npy" else tifffile.imread(record["path"])
        np.testing.assert_array_equal(found, wanted)
    assert len(list(output.iterdir())) == 2
    assert elsewhere.left_there() == []


def test_tiles_go_only_to_engines_that_see_what_the_others_left(elsewhere: Elsewhere) -> None:
    image = np.random.default_rng(4).integers(0, 60000, (512, 512)).astype(np.uint16)
    folder = elsewhere.disk / "large"
    folder.mkdir()
    for number in range(6):
        tifffile.imwrite(folder / f"{number}.tif", image, tile=(64, 64))
    file = Path(os.environ["IPYTHONDIR"]) / "profile_elsewhere" / "security" / "ipcontroller-engine.json"
    near = subprocess.Popen([sys.executable, "-m", "ipyparallel.engine", f"--file={file}"], **QUIET)
    try:
        wait_until(lambda: len(elsewhere.controller) == 3)
        task = parimg.Convolve("box(5)", elsewhere.disk / "out-mixed", color="unchanged", format="ome-tiff")
        job = elsewhere.controller.submit(
            task, str(folder), job_dir=elsewhere.disk / "job-mixed-tiles", tiles=128, chunk_size=1
        )
        assert job.wait(90)
        assert [record.message for record in job.failures] == []
        wanted = task(image)["image"]
        for record in job:
            np.testing.assert_array_equal(tifffile.imread(record["path"]), wanted)
    finally:
        near.kill()
        near.wait()
        wait_until(lambda: len(elsewhere.controller) == 2)
