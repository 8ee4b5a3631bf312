"""SkeletonGraph: drawn images, volumes, pictures, and a folder that becomes two tables on two engines."""

from __future__ import annotations

import pickle
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import pytest
import tifffile
from numpy.testing import assert_array_equal
from skimage import data
from skimage.data import binary_blobs
from skimage.filters import sato, threshold_otsu
from skimage.morphology import skeletonize

import parimg
import parimg.kernels as pk
from parimg.errors import JobError, TaskError
from parimg.images.decode import read_image
from parimg.images.readers import Described
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
        ({"ridges": "frangi"}, "ridges must be 'sato' or None"),
        ({"ridges": "sato", "scales": ()}, "scales must be numbers above 0"),
        ({"ridges": "sato", "scales": (1, 0)}, "scales must be numbers above 0"),
        ({"ridges": "sato", "scales": 2}, "scales must be numbers above 0"),
        ({"ridges": "sato", "threshold": None}, "threshold must be 'otsu' or a number for ridges"),
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


PURPLE, RED, YELLOW = [114, 31, 129], [241, 96, 93], [252, 253, 191]


def test_a_picture_shows_paths_red_and_dots_at_tips_purple_at_junctions_yellow(tmp_path: Path) -> None:
    image = np.full((60, 128), 50, np.uint8)
    image[30, 10:119] = image[31:50, 64] = 150
    task = parimg.SkeletonGraph(overlays=tmp_path / "pictures")
    task.resolve()
    path = task.run(image, "a/tee.png")["overlay"]
    assert path == str(tmp_path / "pictures" / "a" / "tee.png")
    picture = cv2.imread(str(path))[:, :, ::-1]
    assert picture.shape == (240, 512, 3)  # four times as large
    for (y, x), color in {(30, 10): PURPLE, (30, 118): PURPLE, (49, 64): PURPLE, (30, 64): YELLOW}.items():
        assert picture[4 * y + 2, 4 * x + 2].tolist() == color
        assert picture[4 * y - 1, 4 * x + 2].tolist() == color  # a dot is larger than a line is wide
    across = (picture[:, 4 * 30 + 2] == RED).all(axis=1)
    assert 2 <= across.sum() <= 3
    assert across[4 * 30 + 1 : 4 * 30 + 3].all()
    assert picture[0, 0].tolist() == [0, 0, 0]


@pytest.mark.parametrize("side", [100, 600, 4000])
def test_lines_are_two_pixels_wide_or_more_where_the_whole_picture_is_seen_on_a_screen(side: int) -> None:
    image = np.zeros((side, side), np.uint8)
    image[side // 2, 10:-10] = 1
    picture = draw_overlay(image, pk.pixel_graph(image))
    red = (picture[:, len(picture) // 4] == RED).all(axis=1).sum()
    assert red >= max(2, len(picture) // 500)


def test_the_picture_of_a_volume_looks_along_its_first_axis() -> None:
    volume = np.zeros((4, 50, 600))
    volume[2, 10, 10:500] = 1
    volume[1, 40, 500] = 0.5
    picture = draw_overlay(volume, pk.pixel_graph(volume == 1))
    assert picture.shape == (50, 600, 3)
    assert picture[10, 10].tolist() == PURPLE
    assert picture[10, 100].tolist() == RED
    assert picture[40, 500].tolist() == [128, 128, 128]


@pytest.mark.parametrize("shape", [(0, 5), (0, 0), (0, 3, 4), (1, 1), (1, 900)])
@pytest.mark.parametrize("dtype", ["uint8", "bool", "int16", "float32"])
def test_images_without_a_skeleton_have_pictures_too(shape: tuple[int, ...], dtype: str) -> None:
    image = np.zeros(shape, dtype)
    picture = draw_overlay(image, pk.pixel_graph(image))
    assert picture.ndim == 3
    assert not picture.any()


# -- thresholds --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["uint32", "int32", "int64", "uint64"])
def test_otsu_of_wide_integers_takes_the_memory_of_the_image(dtype: str) -> None:
    image = np.zeros((20, 20), dtype)
    image[9:12, 2:18] = 2_000_000_000
    tracemalloc.start()
    found = parimg.SkeletonGraph()(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert found["pixels"] == parimg.SkeletonGraph()((image > 0).astype(np.uint8))["pixels"] == 15
    assert peak < 20e6


def test_otsu_of_wide_integers_is_that_of_narrow_ones() -> None:
    image = data.camera()
    for dtype in ("int32", "uint32", "int64"):
        assert counts(parimg.SkeletonGraph()(image.astype(dtype))) == counts(parimg.SkeletonGraph()(image))
        apart = image.astype(dtype) * 1000 - (100_000 if dtype[0] == "i" else 0)
        assert parimg.SkeletonGraph()(apart)["pixels"] == parimg.SkeletonGraph()(image)["pixels"]


def test_a_mask_of_bools_draws_no_warning(recwarn: pytest.WarningsRecorder) -> None:
    assert parimg.SkeletonGraph()(drawn() > 100)["pixels"] == parimg.SkeletonGraph()(drawn())["pixels"]
    assert parimg.SkeletonGraph()(np.ones((9, 9), bool))["pixels"] == 0
    assert not recwarn.list


def test_infinite_levels_have_no_otsu_threshold_but_may_be_above_a_number() -> None:
    image = drawn().astype(np.float32)
    image[image > 100] = np.inf
    with pytest.raises(TaskError, match="infinite levels"):
        parimg.SkeletonGraph()(image)
    assert parimg.SkeletonGraph(100)(image)["pixels"] == parimg.SkeletonGraph()(drawn())["pixels"]


def test_the_foreground_is_a_share_of_the_image() -> None:
    image = np.zeros((10, 20), np.uint8)
    image[4:6, :10] = 9
    assert parimg.SkeletonGraph()(image)["foreground"] == 0.1
    assert parimg.SkeletonGraph(invert=True)(image)["foreground"] == 0.9
    assert parimg.SkeletonGraph()(np.zeros((0, 5)))["foreground"] is None


@pytest.mark.parametrize("is_dark", [False, True])
def test_ridges_find_thin_lines_on_uneven_ground_where_otsu_finds_the_ground(is_dark: bool) -> None:
    ground = np.linspace(20, 180, 200)[None, :] * np.ones((120, 1))
    image = ground.copy()
    image[59:62, 10:190] += 40
    image = (255 - image if is_dark else image).astype(np.uint8)
    plain = parimg.SkeletonGraph(invert=is_dark)(image)
    found = parimg.SkeletonGraph(invert=is_dark, ridges="sato", scales=(2.0,))(image)
    assert plain["foreground"] > 0.4
    assert 180 * 3 / image.size <= found["foreground"] < 0.05
    assert (found["branches"], found["tips"], found["junctions"]) == (1, 2, 0)
    assert 170 <= found["longest_length"] <= 190
    wanted = sato(image, (2.0,), black_ridges=is_dark)
    assert found["foreground"] == (wanted > threshold_otsu(wanted)).mean()


@pytest.mark.parametrize(
    ("dtype", "low", "high"),
    [
        (np.int64, -(2**63), 2**63 - 1),
        (np.uint64, 2**60, 2**60 + 3),
        (np.int64, 2**62, 2**62 + 1),
        (np.float64, -1.7e308, 1.7e308),
        (np.float64, 0, 1e-320),
        (np.float32, -3e38, 3e38),
        (np.float16, -6e4, 6e4),
    ],
)
def test_otsu_parts_two_levels_however_large_or_near(dtype: Any, low: float, high: float) -> None:
    image = np.full((40, 40), low, dtype)
    image[9:12, 2:38] = high
    assert parimg.SkeletonGraph()(image)["foreground"] == 3 * 36 / 1600


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
    table = job.table("branch_table")
    # Read back from a file, whole numbers with gaps (the third axis of images) are floats.
    pd.testing.assert_frame_equal(table, rows.astype(table.dtypes))
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


def test_lengths_are_in_the_files_unit_where_all_axes_have_one():
    line = np.zeros((9, 30), np.uint8)
    line[4, 5:26] = 1  # 20 steps
    volume = np.zeros((5, 9, 30), np.uint8)
    volume[2] = line
    task = parimg.SkeletonGraph(threshold=None)
    for image, sizes, unit, wanted in (
        (line, {"Y": 0.5, "X": 0.25}, "µm", (5.0, "µm")),
        (line, {"X": 0.25}, "µm", (20.0, "px")),
        (line, {"Y": 0.5, "X": 0.5}, "deg", (20.0, "px")),
        (line, {}, None, (20.0, "px")),
        (volume, {"Z": 3.0, "Y": 0.5, "X": 0.5}, "µm", (10.0, "µm")),
        (volume, {"Y": 0.5, "X": 0.5}, "µm", (20.0, "px")),
    ):
        values = task.run_described(Described(image, sizes, unit), "a")
        assert (values["total_length"], values["length_unit"]) == wanted
    task = parimg.SkeletonGraph(threshold=None, spacing=2)
    given = task.run_described(Described(line, {"Y": 1, "X": 1}, "µm"), "a")
    assert (given["total_length"], given["length_unit"]) == (40.0, None)
