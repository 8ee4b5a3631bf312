"""Convolve against scipy.ndimage on photographs, its kernels by name, and the files it writes."""

from __future__ import annotations

import os
import pickle
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import PIL.Image
import pytest
import scipy.ndimage
import tifffile
from skimage import data, filters

from parimg.errors import TaskError
from parimg.images.decode import read_image
from parimg.tasks._named_kernels import kernel_names, named_kernels
from parimg.tasks.convolve import Convolve

if TYPE_CHECKING:
    from parimg import Controller

CAMERA = data.camera()
COFFEE = data.coffee()
ONE_EACH = {"gaussian(sigma)": "gaussian(1.5)", "log(sigma)": "log(2)", "box(size)": "box(4)"}


# -- kernels -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", kernel_names())
def test_a_named_kernel_keeps_or_removes_what_is_even(name: str) -> None:
    for kernel in named_kernels(ONE_EACH.get(name, name)):
        keeps = name.partition("(")[0] in {"gaussian", "box", "sharpen", "emboss", "identity"}
        assert kernel.sum() == pytest.approx(1 if keeps else 0, abs=1e-12)


@pytest.mark.parametrize("name", ["sobel", "scharr", "prewitt"])
def test_gradients_are_skimages_up_to_their_scale(name: str) -> None:
    image = CAMERA.astype(np.float64)
    inner = (slice(1, -1), slice(1, -1))
    scale = {"sobel": 4, "scharr": 16, "prewitt": 3}[name]
    for part, axis in (("_x", 1), ("_y", 0)):
        found = Convolve(name + part)(image)["image"]
        expected = getattr(filters, name)(image, axis=axis) * scale
        np.testing.assert_allclose(found[inner], expected[inner], atol=1e-9)
    found = Convolve(name)(image)["image"]
    expected = getattr(filters, name)(image) * scale * np.sqrt(2)
    np.testing.assert_allclose(found[inner], expected[inner], atol=1e-9)


def test_gaussian_and_laplacian_are_scipys() -> None:
    image = CAMERA.astype(np.float64)
    found = Convolve("gaussian(2.5)", dtype="float64")(image)["image"]
    np.testing.assert_allclose(found, scipy.ndimage.gaussian_filter(image, 2.5, radius=10), rtol=1e-10)
    found = Convolve("laplacian")(image)["image"]
    np.testing.assert_allclose(found, scipy.ndimage.laplace(image), atol=1e-9)
    found = Convolve("log(3)")(image)["image"]
    expected = scipy.ndimage.gaussian_laplace(image, 3)
    assert np.abs(found - expected).max() < 0.01 * np.abs(expected).max()


def test_a_box_is_the_mean_of_its_pixels() -> None:
    found = Convolve(" box( 9 ) ", dtype="float32", mode="mirror")(CAMERA)["image"]
    expected = scipy.ndimage.uniform_filter(CAMERA.astype(np.float64), 9, mode="mirror")
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_an_array_is_convolved_not_correlated() -> None:
    kernel = np.arange(6.0).reshape(2, 3) / 15
    found = Convolve(kernel, dtype="float32")(CAMERA)["image"]
    np.testing.assert_allclose(found, scipy.ndimage.convolve(CAMERA, kernel, np.float32), atol=1e-3)


def test_a_kernel_from_a_file_travels_with_the_task(tmp_path: Path) -> None:
    kernel = np.random.default_rng(0).normal(size=(5, 4))
    np.save(tmp_path / "kernel.npy", kernel)
    task = Convolve(tmp_path / "kernel.npy", dtype="float64", color="gray")
    task.resolve()
    sent = pickle.dumps(task)
    os.unlink(tmp_path / "kernel.npy")
    found = pickle.loads(sent)(CAMERA)["image"]
    np.testing.assert_allclose(found, scipy.ndimage.convolve(CAMERA, kernel, np.float64), atol=1e-3)


# -- values --------------------------------------------------------------------------------------------------


def test_each_channel_is_convolved_by_itself() -> None:
    task = Convolve("gaussian(1)", dtype="float32")
    found = task(COFFEE)["image"]
    assert found.shape == COFFEE.shape
    for channel in range(3):
        np.testing.assert_allclose(found[..., channel], task(COFFEE[..., channel])["image"], atol=1e-4)


def test_the_columns_are_those_of_the_result() -> None:
    values = Convolve("sharpen")(CAMERA)
    result = values.pop("image")
    assert result.dtype == np.uint8
    sums = scipy.ndimage.convolve(CAMERA, named_kernels("sharpen")[0], np.int64)
    np.testing.assert_array_equal(result, sums.clip(0, 255))
    assert values == pytest.approx(
        {"min": result.min(), "max": result.max(), "mean": result.mean(), "std": result.std()}
    )
    assert list(Convolve("sharpen").declared_columns()) == list(values)


def test_a_magnitude_stays_within_the_range_of_bytes() -> None:
    found = Convolve("sobel")(CAMERA)["image"]
    both = [scipy.ndimage.sobel(CAMERA.astype(np.float64), axis) for axis in (0, 1)]
    expected = np.rint(np.hypot(*both)).clip(0, 255)
    assert np.abs(found.astype(int) - expected).max() <= 1
    assert (found == expected).mean() > 0.999


def test_casting_and_cval_reach_the_kernel() -> None:
    ones = np.full((4, 5), 100, np.uint8)
    assert Convolve([[1, 1, 1]], casting="truncate")(ones)["image"][0, 1] == 300 - 256
    padded = Convolve([[1, 1, 1]], mode="constant", cval=7, dtype="int16")(ones)["image"]
    assert padded[0].tolist() == [207, 300, 300, 300, 207]


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "extension", "dtype"),
    [
        ({}, ".png", np.uint8),
        ({"dtype": "uint16"}, ".png", np.uint16),
        ({"dtype": "float32"}, ".tif", np.float32),
        ({"dtype": "int16"}, ".tif", np.int16),
        ({"dtype": "float64", "format": "npy"}, ".npy", np.float64),
        ({"format": "tiff"}, ".tif", np.uint8),
    ],
)
@pytest.mark.parametrize("image", [CAMERA, COFFEE], ids=["gray", "color"])
def test_files_hold_the_result(
    tmp_path: Path, options: dict[str, str], extension: str, dtype: type, image: np.ndarray
) -> None:
    task = Convolve("gaussian(2)", tmp_path, **options)
    values = task.run(image, "photos/a.jpg")
    assert values["path"] == str(tmp_path / "photos" / f"a{extension}")
    assert list(values) == list(task.declared_columns())
    stored = read_image(values["path"], "unchanged")
    assert stored.dtype == dtype
    np.testing.assert_array_equal(stored, task(image)["image"])
    assert os.listdir(tmp_path / "photos") == [f"a{extension}"]


def test_jpeg_is_close(tmp_path: Path) -> None:
    task = Convolve("gaussian(2)", tmp_path, format="jpeg")
    stored = read_image(task.run(COFFEE, "a.png")["path"], "color")
    assert np.abs(stored.astype(int) - task(COFFEE)["image"]).mean() < 2


def test_alpha_is_a_channel_like_others(tmp_path: Path) -> None:
    image = np.dstack([COFFEE, COFFEE[..., 0]])
    task = Convolve("box(3)", tmp_path, color="unchanged")
    for chosen in (task, Convolve("box(3)", tmp_path, color="unchanged", format="tiff")):
        stored = read_image(chosen.run(image, "a.png")["path"], "unchanged")
        np.testing.assert_array_equal(stored, task(image)["image"])


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 6])
def test_the_default_format_holds_any_channels(tmp_path: Path, dtype: str, channels: int) -> None:
    image = np.random.default_rng(0).integers(0, 200, (20, 30, channels)).astype(dtype)
    path = Convolve("identity", tmp_path, color="unchanged").run(image, "cube.tif")["path"]
    held_by_png = dtype != "float32" and channels in {1, 3, 4}
    assert os.path.basename(path) == ("cube.png" if held_by_png else "cube.tif")
    wanted = image[:, :, 0] if channels == 1 else image
    np.testing.assert_array_equal(read_image(path, "unchanged"), wanted)
    if not held_by_png:
        np.testing.assert_array_equal(tifffile.imread(path), wanted)


@pytest.mark.parametrize(("channels", "mode"), [(2, "LA"), (3, "RGB"), (4, "RGBA")])
def test_a_tiff_of_bytes_says_what_its_channels_are(tmp_path: Path, channels: int, mode: str) -> None:
    image = np.arange(60 * channels, dtype=np.uint8).reshape(6, 10, channels)
    path = Convolve("identity", tmp_path, color="unchanged", format="tiff").run(image, "a")["path"]
    with PIL.Image.open(path) as picture:
        assert picture.mode == mode
        np.testing.assert_array_equal(picture, image)


def test_a_format_that_does_not_hold_the_image_is_told(tmp_path: Path) -> None:
    task = Convolve("box(3)", tmp_path, color="unchanged", format="png")
    with pytest.raises(TaskError, match="format 'png' holds uint8, uint16; the image is float32"):
        task.run(CAMERA.astype(np.float32), "a")
    with pytest.raises(TaskError, match=r"format 'png' holds 1, 3 or 4 channels \(got 6\)"):
        task.run(np.zeros((4, 5, 6), np.uint8), "a")
    assert os.listdir(tmp_path) == []


def test_a_key_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    path = Convolve("box(3)", tmp_path / "out").run(CAMERA, "../../a.png")["path"]
    assert path == str(tmp_path / "out" / "%2E%2E" / "%2E%2E" / "a.png")


def test_a_job_goes_on_past_an_unreadable_image_on_two_engines(
    tmp_path: Path, controller: Controller, temple_ring: list[str]
) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    for path in temple_ring[:9]:
        shutil.copy(path, folder)
    damaged = folder / os.path.basename(temple_ring[4])
    os.truncate(damaged, damaged.stat().st_size // 2)
    task = Convolve("gaussian(2)", tmp_path / "out")
    job = controller.submit(task, str(folder), job_dir=tmp_path / "job")
    records = list(job.in_order())
    assert [record.status for record in records] == ["ok"] * 4 + ["failed"] + ["ok"] * 4
    assert records[4].error == "ImageTruncatedError"
    for record, path in zip(records, temple_ring, strict=False):
        if record.ok:
            expected = task(read_image(path, "color"))["image"]
            np.testing.assert_array_equal(cv2.imread(record["path"])[..., ::-1], expected)
            assert record["mean"] == expected.mean()
    written = [name for _, _, names in os.walk(tmp_path / "out") for name in names]
    assert len(written) == 8
    assert sorted(written) == [os.path.basename(path) for path in (*temple_ring[:4], *temple_ring[5:9])]


def test_files_lie_as_images_do_and_a_second_run_eats_nothing_of_the_first(
    tmp_path: Path, controller: Controller, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, elsewhere = tmp_path / "photos", tmp_path / "elsewhere"
    for name in ("22.png", "day/23.png", "day/24.jpg", "day/24.png"):
        (photos / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(photos / name), CAMERA[:20, :30])
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)  # images have absolute keys, then
    wanted = ["22.png", "day/23.png", "day/24~jpg.png", "day/24~png.png"]
    for folder in (photos / "out", elsewhere / "out"):
        for _ in range(2):
            records = controller.submit(Convolve("box(3)", folder), photos).get(60)
            assert sorted(record["path"] for record in records) == [str(folder / name) for name in wanted]
        written = [path.relative_to(folder).as_posix() for path in folder.rglob("*.*")]
        assert sorted(written) == wanted
        shutil.rmtree(folder)
    assert "4 images in the output folder" in capsys.readouterr().err


def test_a_job_that_goes_on_names_files_as_before_and_new_images_take_nobody_s(
    tmp_path: Path, controller: Controller
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    cv2.imwrite(str(photos / "1.png"), CAMERA[:20, :30])
    task = Convolve("box(3)", photos / "out", format="png")
    job = controller.submit(task, photos, job_dir=tmp_path / "job")
    assert [os.path.basename(record["path"]) for record in job.get(60)] == ["1.png"]
    for name in ("1.jpg", "2.png"):
        cv2.imwrite(str(photos / name), CAMERA[:20, :30])
    for images in (None, photos):
        job = controller.resume(tmp_path / "job", images=images)
        assert sorted(os.path.basename(record["path"]) for record in job.get(60)) == [
            "1.png",
            "1~jpg.png",
            "2.png",
        ]
        assert job.duplicates == 0


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kernel", "options", "message"),
    [
        ("gauss(2)", {}, r"one of sobel, .*gaussian\(sigma\), .* \(got 'gauss\(2\)'\)"),
        ("gaussian", {}, r"kernel gaussian\(sigma\) takes 1 numbers \(got 'gaussian'\)"),
        ("gaussian(a)", {}, r"kernel gaussian\(sigma\) takes a number \(got 'gaussian\(a\)'\)"),
        ("gaussian(0)", {}, r"needs 0 < sigma <= 512 pixels \(got 0\)"),
        ("log(0.1)", {}, r"needs 0.3 <= sigma"),
        ("box(2.5)", {}, r"needs a whole number from 1 to 4096 \(got 2.5\)"),
        ("sobel(1)", {}, r"kernel sobel takes 0 numbers"),
        (np.ones(3), {}, r"kernel must hold real numbers in two axes \(got float64 of shape \(3,\)\)"),
        (np.ones((2, 0)), {}, r"two axes"),
        (np.ones((2, 2), complex), {}, r"real numbers"),
        ([[np.nan]], {}, r"finite numbers"),
        ("sobel", {"dtype": "int64"}, r"dtype must be one of None, 'uint8'"),
        ("sobel", {"mode": "edge"}, r"mode must be one of 'reflect'"),
        ("sobel", {"color": "rgb"}, r"color must be one of"),
        ("sobel", {"casting": "floor"}, r"casting must be one of"),
        ("sobel", {"cval": "0"}, r"cval must be a number \(got '0', a str\)"),
        ("sobel", {"format": "png"}, r"format needs output"),
        ("sobel", {"output": "out", "format": "gif"}, r"format must be one of 'png', 'jpeg', 'webp'"),
        (
            "sobel",
            {"output": "out", "format": "png", "dtype": "float32"},
            r"holds uint8, uint16; the image is float32",
        ),
        ("sobel", {"output": 3}, r"output must be the path of a folder"),
    ],
)
def test_what_is_wrong_is_told_at_once(kernel: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        Convolve(kernel, **options)


def test_a_kernel_file_that_cannot_be_used_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"the kernel cannot be read: .*does not exist"):
        Convolve(tmp_path / "none.npy").resolve()
    (tmp_path / "text.npy").write_text("text")
    with pytest.raises(TaskError, match=r"is no \.npy file of numbers"):
        Convolve(str(tmp_path / "text.npy")).resolve()
    np.savez(tmp_path / "several.npz", a=np.ones(3))
    with pytest.raises(TaskError, match="holds several arrays"):
        Convolve(tmp_path / "several.npz").resolve()


def test_an_output_folder_that_cannot_be_made_is_told_before_anything_is_sent(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskError, match="the output folder cannot be made"):
        Convolve("sobel", tmp_path / "file" / "out").resolve()


@pytest.mark.parametrize("shape", [(5,), (0, 4), (2, 3, 3, 1)])
def test_what_is_no_image_is_told(shape: tuple[int, ...]) -> None:
    with pytest.raises(TaskError, match="an image of shape"):
        Convolve("sobel").transform(np.zeros(shape, np.uint8))
