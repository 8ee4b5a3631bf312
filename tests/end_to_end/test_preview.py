"""A task on some images: what they look like, what all would take, and that nothing stays."""

from __future__ import annotations

import math
import os
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import noise_pictures
import numpy as np
import pytest
from matplotlib import pyplot as plt

import parimg
from parimg.controller.previewing import Estimate
from parimg.errors import EmptySourceError, JobError, TaskError


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Temporary files of the test go into a folder of its own."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return noise_pictures.write_pictures(tmp_path / "photos", range(30))


def test_estimates_are_for_all_images_with_a_spread(controller: parimg.Controller, photos: Path) -> None:
    preview = controller.preview(parimg.Convolve("box(3)"), str(photos), 8)
    assert len(preview.records) == 8
    assert (preview.total, preview.images, preview.engines) == (30, 30, 2)
    spent = [record.decode_seconds + record.task_seconds for record in preview.records]
    assert preview.seconds.expected == pytest.approx(30 * np.mean(spent) / 2)
    assert preview.seconds.low < preview.seconds.expected < preview.seconds.high
    assert preview.memory.low <= preview.memory.expected <= preview.memory.high
    assert preview.memory.low > 2**20
    image = preview.records[0]["image"]
    assert preview.journal_bytes.expected == pytest.approx(30 * image.nbytes, rel=0.05)
    assert preview.output_bytes == (0, 0, 0)
    assert "30 images on 2 engines would take " in repr(preview)
    assert list(preview.to_pandas()["key"]) == [record.key for record in preview.records]


def test_an_interval_is_student_s() -> None:
    # Mean 2, standard deviation 1, t of 0.95 with two degrees of freedom 2.91999.
    low, expected, high = Estimate.of_sum([1.0, 2.0, 3.0], 10)
    assert (low, expected, high) == pytest.approx((20 - 16.858, 20, 20 + 16.858), abs=1e-2)
    assert Estimate.of_sum([4.0], 10) == (0, 40, math.inf)
    assert Estimate.of_sum([4.0, 4.0], 10) == (40, 40, 40)


@pytest.mark.parametrize("folder", ["new", "there"])
def test_nothing_is_written_where_the_user_looks_nor_left_elsewhere(
    controller: parimg.Controller, photos: Path, tmp_path: Path, temporary: Path, folder: str
) -> None:
    (tmp_path / "there").mkdir()
    jobs = Path(os.environ["PARIMG_JOBS_DIR"])
    before = sorted(jobs.iterdir()) if jobs.exists() else []
    task = parimg.Convolve("box(3)", output=tmp_path / folder)
    preview = controller.preview(task, str(photos), 5)
    assert [record.status for record in preview.records] == ["ok"] * 5
    sizes = [len(cv2.imencode(".png", cv2.imread(str(photos / Path(one.key).name)))[1]) for one in preview.records]
    assert preview.output_bytes.expected == pytest.approx(30 * np.mean(sizes), rel=0.5)
    assert not (tmp_path / "new").exists()
    assert list((tmp_path / "there").iterdir()) == []
    assert list(temporary.iterdir()) == []
    assert (sorted(jobs.iterdir()) if jobs.exists() else []) == before
    # Before and after are drawn although the file is gone; and the task is as it was.
    [drawn] = preview.plot()[0].get_images()
    assert drawn.get_array().shape[1] > 2 * cv2.imread(str(photos / "00.png")).shape[1]
    job = controller.submit(task, str(photos / "00.png"))
    assert job.get(60)[0]["path"].startswith(str(tmp_path / folder))


def test_failed_images_arrays_and_generators_are_previewed_too(controller: parimg.Controller) -> None:
    def arrays() -> Iterator[tuple[str, np.ndarray]]:
        for number in range(100):
            yield f"frame {number}", np.full((9, 9), number, np.uint8)

    def check(image: np.ndarray) -> int:
        if image[0, 0] == 1:
            raise ValueError("one")
        return int(image[0, 0])

    preview = controller.preview(parimg.Function(check), arrays(), 3)
    assert [record.key for record in preview.records] == ["frame 0", "frame 1", "frame 2"]
    assert [record.key for record in preview.failed] == ["frame 1"]
    assert (preview.total, preview.images) == (None, 1000)
    axes = preview.plot()
    assert [len(ax.get_images()) for ax in axes] == [1, 1, 1]
    assert axes[1].get_title() == "frame 1\nValueError"


def test_a_shard_of_the_source_is_previewed_alone(controller: parimg.Controller, photos: Path) -> None:
    parts = [controller.preview(parimg.Convolve("box(3)"), str(photos), 30, shard=(one, 2)) for one in (1, 2)]
    keys = [{record.key for record in part.records} for part in parts]
    assert len(keys[0] | keys[1]) == 30
    assert keys[0] & keys[1] == set()
    assert [part.total for part in parts] == [len(found) for found in keys]


def test_what_is_typed_wrong_is_told(controller: parimg.Controller, photos: Path, tmp_path: Path) -> None:
    task = parimg.Convolve("box(3)")
    with pytest.raises(JobError, match="n must be a number of images"):
        controller.preview(task, str(photos), 0)
    with pytest.raises(JobError, match="takes no job_dir"):
        controller.preview(task, str(photos), job_dir=tmp_path)
    with pytest.raises(EmptySourceError):
        controller.preview(task, [])
    with pytest.raises(TaskError, match="must be a parimg task"):
        controller.preview(np.mean, str(photos))  # type: ignore[arg-type]


def test_ctrl_c_ends_a_preview_at_once_and_leaves_nothing(
    photos: Path, temporary: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import _thread

    def rest(image: np.ndarray) -> int:
        time.sleep(60)
        return 0

    with parimg.start(1) as controller:
        timer = threading.Timer(2.0, _thread.interrupt_main)
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            controller.preview(parimg.Function(rest), str(photos), 3)
    assert list(temporary.iterdir()) == []
    assert "parimg resume" not in capfd.readouterr().err
