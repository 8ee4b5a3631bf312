"""SkeletonGraph: drawn images, volumes, pictures, and a folder that becomes two tables on two engines."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from numpy.testing import assert_array_equal
from skimage.data import binary_blobs
from skimage.filters import threshold_otsu
from skimage.morphology import skeletonize

import parimg
import parimg.kernels as pk
from parimg.errors import JobError, TaskError
from parimg.images.decode import read_image
from parimg.tasks.skeleton_graph import draw_overlay

COUNTS = ("pixels", "branches", "junctions", "tips", "cycles")


def drawn() -> npt.NDArray[np.uint8]:
    """A bright T and a ring with thick lines on gray ground."""
    image = np.full((60, 90), 40, np.uint8)
    image[9:12, 5:40] = image[10:35, 21:24] = 200
    return np.asarray(cv2.circle(image, (65, 35), 15, 220, 3), np.uint8)


def counts(values: Any) -> dict[str, int]:
    return {name: values[name] for name in COUNTS if name != "pixels"}


# -- one image ---------------------------------------------------------------------------------------------------


def test_branches_junctions_tips_and_cycles_of_a_drawn_image_are_counted() -> None:
    values = parimg.SkeletonGraph()(drawn())
    assert counts(values) == {"branches": 4, "junctions": 1, "tips": 3, "cycles": 1}
    table = values["branch_table"]
    assert sorted(table["branch_type"].tolist()) == [1, 1, 1, 3]
    assert values["total_length"] == pytest.approx(table["branch_distance"].sum())
    assert values["longest_length"] == table["branch_distance"].max() == pytest.approx(2 * np.pi * 15, rel=0.1)


def test_the_table_is_that_of_the_kernels_with_gray_levels_as_values() -> None:
    image = (binary_blobs(128, volume_fraction=0.4, rng=0) * 100 + 30).astype(np.uint8)
    graph = pk.pixel_graph(skeletonize(image > threshold_otsu(image)), 0.5)
    rows = parimg.SkeletonGraph(spacing=0.5)(image)["branch_table"]
    expected = pk.branches(graph, image)
    assert list(rows.dtype.names) == list(expected)
    for name, column in expected.items():
        assert_array_equal(rows[name], column)


def test_dark_lines_are_found_by_inverting() -> None:
    assert counts(parimg.SkeletonGraph(invert=True)(255 - drawn())) == counts(parimg.SkeletonGraph()(drawn()))


def test_a_number_or_none_takes_the_place_of_otsu() -> None:
    assert parimg.SkeletonGraph(threshold=210)(drawn())["branches"] == 1
    mask = (drawn() > 100).astype(np.uint8)
    assert counts(parimg.SkeletonGraph(threshold=None)(mask)) == counts(parimg.SkeletonGraph()(drawn()))
    assert counts(parimg.SkeletonGraph(threshold=None)(mask.astype(bool))) == counts(
        parimg.SkeletonGraph()(drawn())
    )


def test_small_specks_are_left_out_before_thinning() -> None:
    image = drawn()
    image[55:57, 3:9] = 255
    assert parimg.SkeletonGraph()(image)["branches"] == 5
    assert parimg.SkeletonGraph(min_size=12)(image)["branches"] == 5
    assert parimg.SkeletonGraph(min_size=13)(image)["branches"] == 4


def test_spurs_are_pruned() -> None:
    image = drawn()
    image[5:9, 10:12] = 200
    assert parimg.SkeletonGraph()(image)["tips"] == 4
    assert parimg.SkeletonGraph(prune=8)(image)["tips"] == 3


@pytest.mark.parametrize(
    "image", [np.zeros((0, 5), np.uint8), np.zeros((4, 4), np.uint8), np.full((3, 4, 5), 7.0)]
)
def test_an_image_without_foreground_has_no_branches(image: npt.NDArray[Any]) -> None:
    values = parimg.SkeletonGraph()(image)
    assert {values[name] for name in COUNTS} == {0}
    assert (values["total_length"], values["longest_length"], len(values["branch_table"])) == (0.0, 0.0, 0)


def test_a_volume_is_measured_in_three_dimensions() -> None:
    volume = np.zeros((7, 20, 30), np.uint16)
    volume[3, 10, 5:25] = 900
    volume[1:6, 10, 15] = 900
    values = parimg.SkeletonGraph(spacing=(4, 1, 1))(volume)
    assert values["tips"] == 4
    assert "coord_dst_2" in values["branch_table"].dtype.names
    assert values["total_length"] == pytest.approx(19 + 4 * 4, abs=2)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.array([[1.0, np.nan], [0, 0]]), "the image has 1 NaN"),
        (np.zeros((2, 2, 2, 2)), r"shape \(h, w\) or \(d, h, w\) .got float64, shape \(2, 2, 2, 2\)"),
        (np.zeros((2, 2), complex), "got complex128"),
    ],
)
def test_what_cannot_be_thinned_is_told(image: npt.NDArray[Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parimg.SkeletonGraph()(image)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"threshold": "yen"}, "threshold must be a number, 'otsu' or None"),
        ({"threshold": float("nan")}, "threshold must be a number"),
        ({"invert": 1}, "invert must be True or False"),
        ({"min_size": -1}, "min_size must be an integer of at least 0"),
        ({"min_size": 2.5}, "min_size must be an integer"),
        ({"spacing": 0}, "spacing must be a positive number"),
        ({"spacing": (1, -1)}, "spacing must be a positive number, or one for each axis"),
        ({"spacing": ()}, "spacing must be a positive number"),
        ({"prune": -1}, "prune must be a number of at least 0"),
        ({"overlays": "s3://bucket"}, "overlays must be a folder that all engines see"),
    ],
)
def test_parameters_out_of_range_are_refused(parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parimg.SkeletonGraph(**parameters)


def test_a_prepared_task_goes_on_after_pickling() -> None:
    task = parimg.SkeletonGraph(overlays="pictures", prune=2)
    task.prepare()
    again = pickle.loads(pickle.dumps(task))
    assert counts(again(drawn())) == counts(task(drawn()))
    assert again.declared_columns()["overlay"] == "string"


# -- pictures ----------------------------------------------------------------------------------------------------


def test_a_picture_shows_tips_purple_paths_red_and_junctions_yellow(tmp_path: Path) -> None:
    image = np.full((5, 7), 50, np.uint8)
    image[2, 1:6] = image[3:, 3] = 150
    task = parimg.SkeletonGraph(overlays=tmp_path / "pictures")
    task.resolve()
    path = task.run(image, "a/tee.png")["overlay"]
    assert path == str(tmp_path / "pictures" / "a" / "tee.png.png")
    picture = cv2.imread(str(path))[:, :, ::-1]
    graph = task.graph(image)
    purple, red, yellow = [114, 31, 129], [241, 96, 93], [252, 253, 191]
    colors = {1: purple, 2: red, 3: yellow}
    assert set(graph.degrees.tolist()) == {1, 2, 3}
    for place, degree in zip(graph.coordinates, graph.degrees.tolist(), strict=True):
        assert picture[tuple(place)].tolist() == colors[degree]
    assert picture[0, 0].tolist() == [0, 0, 0]


def test_the_picture_of_a_volume_looks_along_its_first_axis() -> None:
    volume = np.zeros((4, 5, 6))
    volume[2, 1, 1:5] = 1
    volume[1, 4, 5] = 0.5
    picture = draw_overlay(volume, pk.pixel_graph(volume == 1))
    assert picture.shape == (5, 6, 3)
    assert picture[1, 1].tolist() == [114, 31, 129]
    assert picture[4, 5].tolist() == [128, 128, 128]


# -- jobs --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six gray images, one of them in colour, a stack, an image without foreground, and a damaged one."""
    folder = tmp_path_factory.mktemp("images")
    for number in range(5):
        image = binary_blobs(96, volume_fraction=0.4, rng=number).astype(np.uint8) * 180 + 20
        cv2.imwrite(str(folder / f"blobs{number}.png"), image)
    cv2.imwrite(str(folder / "color.png"), np.repeat(drawn()[:, :, None], 3, axis=2))
    stack = binary_blobs(24, n_dim=3, blob_size_fraction=0.2, volume_fraction=0.3, rng=0).astype(np.uint16) * 900
    tifffile.imwrite(folder / "stack.tif", stack)
    cv2.imwrite(str(folder / "empty.png"), np.zeros((20, 20), np.uint8))
    (folder / "zdamaged.png").write_bytes((folder / "color.png").read_bytes()[:100])
    return folder


def test_a_folder_becomes_a_table_of_images_and_one_of_branches(
    controller: parimg.Controller, folder: Path, tmp_path: Path
) -> None:
    task = parimg.SkeletonGraph(overlays=tmp_path / "overlays")
    job = controller.submit(task, str(folder))
    job.wait()
    job.to_parquet(tmp_path / "images.parquet")
    job.to_parquet(tmp_path / "branches.parquet", table="branch_table")
    images, rows = (pd.read_parquet(tmp_path / f"{name}.parquet") for name in ("images", "branches"))
    assert (len(images), (images["status"] == "ok").sum()) == (9, 8)
    good = images[images["status"] == "ok"].set_index("key")
    assert rows.columns[0] == "key"
    assert rows["key"].drop_duplicates().tolist() == [key for key in good.index if good["branches"][key]]
    assert rows.groupby("key").size().to_dict() == good["branches"][good["branches"] > 0].astype(int).to_dict()
    by_key = rows.groupby("key")["branch_distance"]
    for key, total in by_key.sum().items():
        assert total == pytest.approx(good["total_length"][key])
        assert by_key.max()[key] == good["longest_length"][key]
    [stack] = [key for key in good.index if key.endswith("stack.tif")]
    assert (rows["coord_dst_2"].notna() == (rows["key"] == stack)).all()
    assert all(Path(path).is_file() for path in good["overlay"])
    for name in ("blobs3.png", "stack.tif"):
        [key] = [key for key in good.index if key.endswith(name)]
        alone = task(read_image(str(folder / name), "stack"))
        assert counts(alone) == {column: good[column][key] for column in COUNTS if column != "pixels"}
        mine = rows[rows["key"] == key]
        assert_array_equal(mine["branch_distance"], alone["branch_table"]["branch_distance"])
    pd.testing.assert_frame_equal(job.table("branch_table"), rows)
    with pytest.raises(JobError, match="no record of this job has a table 'branches'; they have branch_table"):
        job.table("branches")


@pytest.mark.cluster
def test_the_command_line_writes_both_tables_and_the_pictures(folder: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "parimg.cli"]
    arguments = [
        "skeleton", str(folder), "-n", "2", "-o", "skeletons.parquet", "--branches", "branches.csv", "--overlays",
        "overlays", "--spacing", "0.5", "--prune", "2", "--threshold", "100", "--min-size", "5", "--job", "job",
    ]  # fmt: skip
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 3, done.stderr
    assert "SkeletonGraph, finished: 9 of 9 images, 1 failed" in done.stdout
    images, rows = pd.read_parquet(tmp_path / "skeletons.parquet"), pd.read_csv(tmp_path / "branches.csv")
    assert images["branches"].sum() == len(rows) > 100
    assert len(list((tmp_path / "overlays").glob("**/*.png"))) == 8
    export = ["status", "job", "-o", "again.csv", "--table", "branch_table"]
    subprocess.run([*command, *export], cwd=tmp_path, capture_output=True, timeout=60)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "branches.csv").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--threshold", "yen"), "--threshold wants a number (got 'yen')"),
        (("--spacing", "1,x"), "--spacing wants a number (got 'x')"),
        (("--spacing", "1,0"), "spacing must be a positive number"),
        (("--branches", "b.xlsx"), "--branches must end in .parquet, .csv, .json or .arrow"),
    ],
)
def test_what_was_typed_wrong_is_told_with_exit_code_2(
    folder: Path, arguments: tuple[str, ...], message: str
) -> None:
    command = [sys.executable, "-m", "parimg.cli", "skeleton", str(folder), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2, done.stdout
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert "Traceback" not in done.stderr
