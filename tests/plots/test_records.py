"""Records on axes, from real jobs of each task."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib as mpl
import numpy as np
import pytest
from matplotlib import pyplot as plt
from skimage import data

import parimg
from parimg.errors import TaskError
from parimg.kernels import pixel_graph
from parimg.retrieval.hits import Hit


@pytest.fixture(autouse=True)
def figures() -> Iterator[None]:
    mpl.use("Agg")
    yield
    plt.close("all")


def write(path: Path, image: np.ndarray) -> str:
    cv2.imwrite(str(path), image)
    return str(path)


def rectangle(ax: plt.Axes) -> tuple[float, ...]:
    [found] = ax.patches
    return (*found.get_xy(), found.get_width(), found.get_height())


def test_matches_stand_on_axes_as_they_are_drawn(controller: parimg.Controller, temple_ring: list[str]) -> None:
    task = parimg.MatchSIFT(temple_ring[0])
    [record] = controller.submit(task, temple_ring[1:2]).get(60)
    ax = parimg.plot_matches(record)
    np.testing.assert_array_equal(ax.get_images()[0].get_array()[:, :, 0].shape, (375, 1000))
    assert "matches" in ax.get_title()
    [other] = parimg.plot_record(record).get_images()
    assert other.get_array().shape == (375, 1000, 3)


def test_the_published_sequence_is_what_a_match_job_draws(
    controller: parimg.Controller, temple_ring: list[str]
) -> None:
    job = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:4])
    counts = [record["matches"] for record in job.get(60)]
    [ax] = job.plot()
    [line] = ax.get_lines()
    assert list(line.get_ydata()) == counts
    assert job.plot_timeline().get_title(loc="left").startswith("4 images on ")


def test_a_skeleton_is_coloured_by_degree(controller: parimg.Controller, tmp_path: Path) -> None:
    image = np.zeros((40, 60), np.uint8)
    image[20, 5:55] = image[5:20, 30] = 255
    job = controller.submit(parimg.SkeletonGraph(threshold=0), [write(tmp_path / "t.png", image)])
    [record] = job.get(120)
    for ax in (parimg.plot_skeleton(record), *job.plot()):
        dots = {dot.get_label(): dot.get_offsets() for dot in ax.collections if len(dot.get_offsets())}
        assert sorted(map(tuple, dots["tips"].tolist())) == [(5, 20), (30, 5), (54, 20)]
        assert (30, 20) in map(tuple, dots["junctions"].tolist())
    graph = pixel_graph(np.eye(9))
    ax = parimg.plot_skeleton(graph)
    assert ax.collections[0].get_segments()[0].tolist() == [[0, 0], [1, 1]]
    with pytest.raises(TaskError, match="wants a PixelGraph or a record"):
        parimg.plot_skeleton(np.eye(3))  # type: ignore[arg-type]


def test_a_region_is_a_box_in_its_image_or_in_its_map(controller: parimg.Controller, tmp_path: Path) -> None:
    feature_map = np.full((2, 6, 8), 0.1, np.float32)
    feature_map[1, 2:4, 3:6] = 5
    np.save(tmp_path / "map.npy", feature_map)
    task = parimg.RegionSearch([0.1, 5], min_size=2, refine=False)
    [record] = controller.submit(task, [str(tmp_path / "map.npy")]).get(120)
    ax = parimg.plot_region(record)
    y1, x1, y2, x2 = record["box"]
    assert rectangle(ax) == (x1 - 0.5, y1 - 0.5, x2 - x1, y2 - y1)
    likeness = ax.get_images()[0].get_array()
    assert likeness.shape == (6, 8)
    np.testing.assert_allclose(likeness[2:4, 3:6], 1, atol=1e-3)
    photo = write(tmp_path / "photo.png", np.zeros((50, 70), np.uint8))
    hit = Hit(1, "a", 0.5, 0.5, None, None, (10, 20, 30, 60), photo)
    for found, image in (((10, 20, 30, 60), photo), (hit, None)):
        assert rectangle(parimg.plot_region(found, image)) == (19.5, 9.5, 40, 20)
    with pytest.raises(TaskError, match="a box alone shows nothing"):
        parimg.plot_region((1, 2, 3, 4))
    with pytest.raises(TaskError, match="a box is"):
        parimg.plot_region((1, 2, 3), photo)


def test_a_filter_shows_before_and_after_wherever_its_result_is(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    photo = write(tmp_path / "camera.png", data.camera())
    for options in ({}, {"output": tmp_path / "out"}):
        [record] = controller.submit(parimg.Convolve("box(31)", **options), [photo]).get(60)
        [picture] = parimg.plot_record(record).get_images()
        height, width, _ = picture.get_array().shape
        assert (height, width) == (480, 969)
        left, right = picture.get_array()[:, :480, 0], picture.get_array()[:, 489:, 0]
        assert np.abs(np.diff(left.astype(int))).mean() > 3 * np.abs(np.diff(right.astype(int))).mean()


def test_a_failed_record_shows_its_image_with_the_error(controller: parimg.Controller, tmp_path: Path) -> None:
    def refuse(image: np.ndarray) -> int:
        raise ValueError("too dark")

    [record] = controller.map(refuse, [write(tmp_path / "dark.png", np.zeros((20, 30), np.uint8))]).get(60)
    ax = parimg.plot_record(record)
    assert ax.get_title() == "dark.png\nValueError"
    assert ax.get_images()[0].get_array().shape == (20, 30, 3)
    [missing] = controller.map(refuse, [str(tmp_path / "none.png")]).get(60)
    assert "ImageMissingError" in parimg.plot_record(missing).get_title()


def test_a_task_draws_its_own_picture_and_its_mistakes_stop_nothing(controller: parimg.Controller) -> None:
    class Drawn(parimg.Task):
        plotted = ()

        def __call__(self, image: np.ndarray) -> dict[str, int]:
            return {"sum": int(image.sum())}

        def plot(self, record: parimg.Record, image: np.ndarray | None, ax: plt.Axes) -> None:
            ax.bar([0], [record["sum"]])
            if record["sum"] > 5:
                raise RuntimeError("I cannot draw that")

    job = controller.submit(Drawn(), {"small": np.ones(3), "large": np.ones(9)})
    job.wait(60)
    small, large = job.plot()
    assert small.patches[0].get_height() == 3
    assert large.texts[0].get_text() == "RuntimeError: I cannot draw that"
