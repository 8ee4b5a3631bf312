"""NeighbourhoodFilter: SciPy's answers on images, on engines too, with functions from anywhere."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numba
import numpy as np
import PIL.Image
import PIL.ImageSequence
import pytest
import scipy.stats
import tifffile
from scipy import ndimage

from parimg.errors import TaskError
from parimg.images.decode import read_image
from parimg.protocol import shared_objects
from parimg.tasks.function import load_function
from parimg.tasks.neighbourhood_filter import NeighbourhoodFilter

if TYPE_CHECKING:
    from parimg import Controller

ROOT = Path(__file__).parents[2]
GRAY = np.random.default_rng(2).integers(0, 256, (11, 13), dtype=np.uint8)
RGB = np.random.default_rng(3).integers(0, 256, (11, 13, 3), dtype=np.uint8)


def spread(values):
    return values.max() - values.min()


def above(values, level):
    n = 0
    for v in values:
        n += v > level
    return n


def mean_and_spread(values):
    return values.mean(), values.max() - values.min()


def test_an_image_is_filtered_and_summed_up():
    values = NeighbourhoodFilter(above, size=3, extra_arguments=(100,))(GRAY)
    expected = ndimage.correlate((GRAY > 100).astype(np.uint8), np.ones((3, 3)))
    np.testing.assert_array_equal(values.pop("image"), expected)
    assert values == {
        "min": expected.min(),
        "max": expected.max(),
        "mean": pytest.approx(expected.mean()),
        "std": pytest.approx(expected.std()),
    }
    task = NeighbourhoodFilter(above, size=3, extra_keywords={"level": 100}, statistics_only=True)
    assert task(GRAY) == values
    assert list(task.declared_columns()) == list(values)


def test_channels_are_filtered_apart_and_several_results_come_first():
    found = NeighbourhoodFilter(
        mean_and_spread, footprint=np.ones((2, 3)), mode="wrap", dtype="float32"
    ).transform(RGB)
    assert (found.shape, found.dtype) == ((2, 11, 13, 3), np.float32)
    expected = ndimage.uniform_filter(RGB.astype(float), (2, 3, 1), mode="wrap")
    np.testing.assert_allclose(found[0], expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("image_format", "extension", "dtype", "color"),
    [
        (None, ".png", None, "color"),
        (None, ".tif", "float32", "gray"),
        ("npy", ".npy", "float64", "color"),
        ("bmp", ".bmp", None, "gray"),
        ("webp", ".webp", None, "color"),
    ],
)
def test_results_are_written_and_read_back(tmp_path, image_format, extension, dtype, color):
    image = GRAY if color == "gray" else RGB
    task = NeighbourhoodFilter(
        spread, size=3, output=tmp_path / "out", format=image_format, dtype=dtype, color=color
    )
    task.resolve()
    values = task.run(image, "views/a.png")
    assert values["path"] == str(tmp_path / "out" / f"views/a{extension}")
    expected = ndimage.maximum_filter(image, (3, 3, 1)[: image.ndim]) - ndimage.minimum_filter(
        image, (3, 3, 1)[: image.ndim]
    )
    if extension == ".npy":
        found = np.load(values["path"])
    else:
        found = cv2.imread(values["path"], cv2.IMREAD_UNCHANGED)
        found = found[..., ::-1] if found.ndim == 3 else found
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == np.dtype(dtype or np.uint8)
    assert list(task.declared_columns()) == list(values)
    assert [path.name for path in (tmp_path / "out" / "views").iterdir()] == [f"a{extension}"]


def lowest_and_highest(values):
    return values.min(), values.max()


@pytest.mark.parametrize("shape", [(20, 30), (20, 3), (20, 4), (3, 20), (1, 1), (20, 30, 3)])
@pytest.mark.parametrize("image_format", [None, "tiff"])
def test_several_results_are_pages_that_every_reader_reads(tmp_path, shape, image_format):
    image = np.random.default_rng(0).integers(0, 200, shape).astype(np.uint8)
    color = "color" if len(shape) == 3 else "gray"
    task = NeighbourhoodFilter(lowest_and_highest, size=3, output=tmp_path, format=image_format, color=color)
    task.resolve()
    path = task.run(image, "a.png")["path"]
    assert os.path.basename(path) == "a.tif"
    size = (3, 3, 1)[: image.ndim]
    wanted = [ndimage.minimum_filter(image, size), ndimage.maximum_filter(image, size)]
    with tifffile.TiffFile(path) as file:
        assert [page.asarray().tolist() for page in file.pages] == [one.tolist() for one in wanted]
    with PIL.Image.open(path) as picture:
        pages = [np.asarray(page) for page in PIL.ImageSequence.Iterator(picture)]
    np.testing.assert_array_equal(pages, wanted)
    read, pages = cv2.imreadmulti(path, flags=cv2.IMREAD_UNCHANGED)
    assert read
    np.testing.assert_array_equal([page[..., ::-1] if page.ndim == 3 else page for page in pages], wanted)
    if image.ndim == 2:
        np.testing.assert_array_equal(read_image(path, "stack"), wanted)


def test_float_results_are_pages_and_npy_holds_what_the_task_returns(tmp_path):
    task = NeighbourhoodFilter(mean_and_spread, size=3, output=tmp_path, dtype="float32")
    task.resolve()
    np.testing.assert_array_equal(tifffile.imread(task.run(GRAY, "a")["path"]), task.transform(GRAY))
    raw = dataclasses.replace(task, format="npy")
    np.testing.assert_array_equal(np.load(raw.run(GRAY, "a")["path"]), task.transform(GRAY))


@pytest.mark.parametrize("image_format", ["png", "jpeg", "webp", "bmp"])
@pytest.mark.parametrize("color", ["gray", "color", "unchanged"])
def test_several_results_are_refused_by_formats_of_one_image_before_anything_is_sent(
    tmp_path, image_format, color
):
    task = NeighbourhoodFilter(
        lowest_and_highest, size=3, output=tmp_path / "out", format=image_format, color=color
    )
    with pytest.raises(TaskError, match=f"'{image_format}' holds one image .*, take 'tiff' or 'npy'"):
        task.resolve()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"function": 3, "size": 3}, "function must be callable"),
        ({}, "either a size or a footprint"),
        ({"size": 3, "footprint": np.ones((3, 3))}, "either a size or a footprint"),
        ({"size": 3, "color": "grey"}, "color must be one of"),
        ({"size": 3, "output": "out", "format": "gif"}, "format must be one of"),
        ({"size": 3, "format": "png"}, "format needs output"),
        ({"size": 3, "dtype": "float31"}, "dtype must be a dtype"),
        ({"size": 3, "output": 3}, "output must be the path"),
        ({"size": 0}, "no side of 0"),
        ({"size": 3, "mode": "edge"}, "got 'edge'"),
        ({"size": 3, "origin": 5}, "origin must keep"),
        (
            {"size": 3, "output": "out", "format": "png", "dtype": "float32"},
            "'png' holds uint8, uint16; the image is float32",
        ),
        ({"size": 3, "function": lambda values: "a"}, "returns"),
        ({"size": 3, "function": lambda values: unknown}, "unknown"),  # noqa: F821
    ],
)
def test_what_is_wrong_is_told_before_anything_is_sent(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(TaskError, match=message):
        NeighbourhoodFilter(**{"function": spread, **options}).resolve()


def test_an_image_of_one_axis_is_refused():
    with pytest.raises(TaskError, match=r"got \(4,\)"):
        NeighbourhoodFilter(spread, size=3)(np.zeros(4))


@pytest.mark.parametrize("function", [scipy.stats.entropy, scipy.stats.gmean])
def test_what_numba_cannot_compile_is_a_task_error_with_the_way_out(function):
    with pytest.raises(TaskError, match="python=True"):
        NeighbourhoodFilter(function, size=3).resolve()


def test_a_function_that_fails_on_a_black_image_is_told_before_anything_is_sent():
    def inverse(values):
        if values[0] == 0:
            raise ArithmeticError("nothing to divide by")
        return 1 / values[0]

    for python in (False, True):
        with pytest.raises(TaskError, match=r"'inverse' .* fails on a black image: .*ArithmeticError"):
            NeighbourhoodFilter(inverse, size=3, python=python).resolve()


def test_a_jitted_function_travels_as_the_plain_one(tmp_path):
    task = NeighbourhoodFilter(numba.njit(spread), size=3)
    task.resolve()
    refs = shared_objects.write_task(str(tmp_path), task)
    again = shared_objects.load_task(refs[0], str(tmp_path))
    assert again.function.__name__ == "spread"
    np.testing.assert_array_equal(again.transform(GRAY), task.transform(GRAY))
    assert pickle.loads(pickle.dumps(task)).size == 3


# -- on engines -----------------------------------------------------------------------------------------------


def test_a_folder_with_an_unreadable_file_is_filtered_on_engines(
    tmp_path: Path, controller: Controller, temple_ring: list[str]
) -> None:
    folder = tmp_path / "views"
    folder.mkdir()
    for path in temple_ring[:6]:
        shutil.copy(path, folder)
    damaged = sorted(folder.iterdir())[2]
    os.truncate(damaged, 3000)
    weights = np.linspace(-1, 1, 25)

    @numba.njit
    def scaled(value, factor):  # of this module, which engines cannot import
        return value * factor

    def weighted(values, factors):
        total = 0.0
        for k in range(len(values)):
            total += scaled(values[k], factors[k])
        return total

    task = NeighbourhoodFilter(
        weighted, size=5, extra_arguments=(weights,), output=tmp_path / "out", format="tiff", dtype="float32"
    )
    job = controller.submit(task, str(folder), job_dir=tmp_path / "job")
    job.wait()
    assert (job.counts["ok"], job.counts["failed"]) == (5, 1)
    assert [os.path.basename(record.key) for record in job.failures] == [damaged.name]
    for record in job.in_order():
        if record.ok:
            image = cv2.imread(str(folder / os.path.basename(record.key)), cv2.IMREAD_GRAYSCALE)
            expected = ndimage.correlate(image.astype(float), weights.reshape(5, 5))
            found = cv2.imread(record["path"], cv2.IMREAD_UNCHANGED)
            np.testing.assert_allclose(found, expected, atol=1e-3)
            assert record["mean"] == pytest.approx(expected.mean(), abs=1e-3)
    assert len(list((tmp_path / "out").rglob("*.tif"))) == 5
    assert not list((tmp_path / "out").rglob("*.part"))


SCRIPT = """
import numpy as np
import PIL.Image
import PIL.ImageSequence
import parimg

LEVEL = 3.0

def above(values, level):
    return (values > level + LEVEL).sum()

if __name__ == "__main__":
    image = np.arange(20, dtype=np.uint8).reshape(4, 5)
    with parimg.start(n=2) as controller:
        task = parimg.NeighbourhoodFilter(above, size=3, extra_arguments=(7,))
        job = controller.submit(task, [("a", image), ("b", image.T.copy())], job_dir="job")
        job.wait()
        print([record["image"].tolist() for record in job.in_order()])
"""


@pytest.mark.cluster
def test_a_function_of_the_main_module_runs_on_engines(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "script.py"], cwd=tmp_path, capture_output=True, text=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    image = np.arange(20).reshape(4, 5)
    expected = [ndimage.correlate((one > 10).astype(int), np.ones((3, 3))).tolist() for one in (image, image.T)]
    assert done.stdout.strip() == str(expected)


# -- functions by name ------------------------------------------------------------------------------------------


def test_a_function_is_found_by_name_in_a_module_and_in_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "filters_of_mine.py").write_text("def first(values):\n    return values[0]\n")
    (tmp_path / "others_of_mine.py").write_text("def last(values):\n    return values[-1]\n")
    assert load_function("filters_of_mine:first")([1, 2]) == 1
    assert load_function(f"{tmp_path}/others_of_mine.py:last")([1, 2]) == 2
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "beside_of_mine.py").write_text("def second(values): return values[1]\n")
    (tmp_path / "code" / "more_of_mine.py").write_text("from beside_of_mine import second\n")
    assert load_function("code/more_of_mine.py:second")([1, 2]) == 2


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("spread", "name a function as"),
        ("os.path:", "name a function as"),
        ("no_such_module:f", "ModuleNotFoundError"),
        ("none.py:f", "no file 'none.py'"),
        ("broken.py:f", "SyntaxError"),
        ("statistics:f", "has no function 'f'; it has "),
        ("os.path:sep", "has no function 'sep'"),
        ("statistics.py:f", "another module 'statistics'"),
    ],
)
def test_names_of_no_function_are_told(tmp_path, monkeypatch, name, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken.py").write_text("def f(:\n")
    (tmp_path / "statistics.py").write_text("")
    import statistics  # noqa: F401

    with pytest.raises(TaskError, match=message):
        load_function(name)
