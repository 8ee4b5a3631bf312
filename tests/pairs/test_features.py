"""Feature files and the task that makes them: whole or made anew, in the coordinates of the stored pixels."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from PIL import Image

import parimg.kernels as pk
from parimg.errors import ImageEmptyError, ImageError, TaskError
from parimg.pairs.camera import Camera, read_camera
from parimg.pairs.feature_files import Features, open_features, path_of, write_features
from parimg.pairs.feature_task import DetectFeatures, features_of
from parimg.pairs.image_table import PairImage

COFFEE = skimage.data.coffee()


def save(path: Path, orientation: int | None = None, **tags: object) -> Path:
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    exif.get_ifd(0x8769).update(tags.pop("ifd", {}))
    Image.fromarray(COFFEE).save(path, exif=exif, quality=95)
    return path


def run(task: DetectFeatures, path: Path) -> dict[str, object]:
    return task.run(task.read(str(path), max_pixels=2**28), str(path))


def test_a_file_holds_what_was_written(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    features = Features(rng.random((7, 5), np.float32), rng.integers(0, 256, (7, 128), np.uint8), (640, 480))
    write_features(str(tmp_path), "abcd", features)
    found = open_features(str(tmp_path), "abcd")
    assert np.array_equal(found.points, features.points)
    assert np.array_equal(found.descriptors, features.descriptors)
    assert found.size == (640, 480)


def test_an_image_without_features_has_a_file_too(tmp_path: Path) -> None:
    empty = Features(np.empty((0, 5), np.float32), np.empty((0, 128), np.uint8), (9, 9))
    write_features(str(tmp_path), "abcd", empty)
    assert open_features(str(tmp_path), "abcd").points.shape == (0, 5)


def test_damaged_cut_and_foreign_files_are_not_taken(tmp_path: Path) -> None:
    folder = str(tmp_path)
    features = Features(np.ones((50, 5), np.float32), np.ones((50, 128), np.uint8), (9, 9))
    write_features(folder, "abcd", features)
    path = Path(path_of(folder, "abcd"))
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"\x01" * 64, b"\x01" * 63 + b"\x02", 1))
    assert open_features(folder, "abcd") is None
    path.write_bytes(whole[: len(whole) // 2])
    assert open_features(folder, "abcd") is None
    path.write_bytes(b"no Arrow file")
    assert open_features(folder, "abcd") is None
    Path(path_of(folder, "abce")).write_bytes(whole)
    assert open_features(folder, "abce") is None
    assert open_features(folder, "none") is None


def test_features_are_those_of_the_kernel_as_rooted_bytes(tmp_path: Path) -> None:
    gray = skimage.data.camera()
    cv2.imwrite(str(tmp_path / "camera.png"), gray)
    task = DetectFeatures(tmp_path / "features", n_features=300)
    values = run(task, tmp_path / "camera.png")
    found = open_features(str(tmp_path / "features"), values["file"])
    wanted = pk.detect_sift(gray, 300, contrast_threshold=0.016)
    assert np.array_equal(found.points[:, :2], wanted.points - np.float32(0.25))
    descriptors = wanted.descriptors.astype(float)
    rooted = np.sqrt(descriptors / descriptors.sum(axis=1, keepdims=True))
    assert np.abs(found.descriptors - rooted * 512).max() <= 0.51
    assert (values["features"], values["width"], values["height"]) == (len(wanted.points), 512, 512)
    assert (values["focal"], values["focal_known"]) == (614.4, False)


def test_a_blob_is_found_where_it_is(tmp_path: Path) -> None:
    y, x = np.mgrid[:201, :201]
    image = (30 + 200 * np.exp(-((x - 100) ** 2 + (y - 90) ** 2) / 18)).astype(np.uint8)
    found = DetectFeatures(tmp_path).detect(image)
    assert np.abs(found.points[0, :2] - [100, 90]).max() < 0.03


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_turned_photograph_has_the_features_of_its_stored_pixels(orientation: int, tmp_path: Path) -> None:
    task = DetectFeatures(tmp_path / "features", n_features=500)
    plain, turned = (
        open_features(str(tmp_path / "features"), run(task, save(tmp_path / name, tag))["file"])
        for name, tag in (("plain.jpg", None), ("turned.jpg", orientation))
    )
    assert turned.size == plain.size == (600, 400)
    assert np.array_equal(turned.points, plain.points)


def test_a_file_that_is_there_is_taken_and_a_damaged_one_made_anew(tmp_path: Path) -> None:
    path, folder = save(tmp_path / "a.jpg"), str(tmp_path / "features")
    task = DetectFeatures(folder)
    name = str(run(task, path)["file"])
    known = PairImage("a", str(path), name, 10, Camera(600, 400, 720.0, False, ""))
    file = Path(path_of(folder, name))
    written = file.stat().st_mtime_ns
    run(task, path)
    assert file.stat().st_mtime_ns == written
    whole = file.read_bytes()
    file.write_bytes(whole[:-1000])
    assert len(features_of(task, known).points)
    assert file.read_bytes() == whole
    file.unlink()
    path.write_bytes(b"")
    with pytest.raises(ImageEmptyError, match="features of 'a' are lost or damaged, and cannot be found anew: "):
        features_of(task, known)
    Image.fromarray(COFFEE[:-1]).save(path)
    with pytest.raises(ImageError, match="the image is another one now; put the earlier one back"):
        features_of(task, known)
    with pytest.raises(ImageError, match="it was given as an array, which is not kept"):
        features_of(task, known._replace(uri=""))


def test_other_options_have_other_files(tmp_path: Path) -> None:
    path = save(tmp_path / "a.jpg")
    tasks = [DetectFeatures(tmp_path / "f"), DetectFeatures(tmp_path / "f", root=False)]
    assert len({run(task, path)["file"] for task in tasks}) == 2


def test_colours_alpha_and_16_bit_are_made_gray(tmp_path: Path) -> None:
    gray = skimage.data.camera()
    images = {
        "gray": gray,
        "colour": cv2.merge([gray] * 3),
        "alpha": cv2.merge([*[gray] * 3, np.full_like(gray, 255)]),
        "deep": gray.astype(np.uint16) * 257,
    }
    task = DetectFeatures(tmp_path / "features", n_features=200)
    found = []
    for name, image in images.items():
        cv2.imwrite(str(tmp_path / f"{name}.png"), image)
        found.append(open_features(str(tmp_path / "features"), run(task, tmp_path / f"{name}.png")["file"]).points)
    assert all(np.array_equal(found[0], other) for other in found[1:])


def test_parts_of_files_and_levels_are_read_as_for_all_tasks(tmp_path: Path) -> None:
    import h5py

    gray = skimage.data.camera()
    deep = gray.astype(np.uint16) + 300
    with h5py.File(tmp_path / "run.h5", "w") as file:
        file["data"] = np.stack([np.zeros_like(gray), gray])
        file["deep"] = deep
    cv2.imwrite(str(tmp_path / "gray.png"), gray)
    cv2.imwrite(str(tmp_path / "deep.png"), deep)
    folder = str(tmp_path / "features")
    plain, stretched = (DetectFeatures(folder, n_features=300, percentile=p) for p in (None, (0, 100)))
    wanted = open_features(folder, run(plain, tmp_path / "gray.png")["file"])
    part = run(plain, tmp_path / "run.h5#/data?i=1")
    assert (part["width"], part["height"], part["focal_known"]) == (512, 512, False)
    assert np.array_equal(open_features(folder, part["file"]).points, wanted.points)
    name, uri = str(part["file"]), str(tmp_path / "run.h5#/data?i=1")
    Path(path_of(folder, name)).unlink()
    again = features_of(plain, PairImage("part", uri, name, 300, Camera(512, 512, 614.4, False, "")))
    assert np.array_equal(again.points, wanted.points)
    for deep_image in ("deep.png", "run.h5#/deep"):
        values = run(stretched, tmp_path / deep_image)
        assert np.array_equal(open_features(folder, values["file"]).points, wanted.points)
    with pytest.raises(ImageError, match="percentile"):
        run(plain, tmp_path / "run.h5#/deep")
    with pytest.raises(ImageError, match="holds 2 images along"):
        run(plain, tmp_path / "run.h5#/data")


def test_a_heif_photograph_has_the_features_of_its_stored_pixels_and_its_camera(tmp_path: Path) -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Image.Exif()
    exif[0x0112] = 6
    exif.get_ifd(0x8769)[0xA405] = 50
    image = pillow_heif.from_pillow(Image.fromarray(COFFEE))
    image.save(tmp_path / "a.heic", exif=exif.tobytes(), quality=-1)
    task = DetectFeatures(tmp_path / "features", n_features=300)
    values = run(task, tmp_path / "a.heic")
    assert values["focal"] == pytest.approx(50 / 43.27 * np.hypot(600, 400))
    assert values["focal_known"]
    found = open_features(str(tmp_path / "features"), values["file"])
    assert found.size == (values["width"], values["height"])
    assert len(found.points) >= 300


def test_large_images_are_scaled_down_and_their_points_are_of_the_original(tmp_path: Path) -> None:
    gray = np.kron(skimage.data.camera(), np.ones((2, 2), np.uint8))
    small = DetectFeatures(tmp_path, max_size=512).detect(gray)
    whole = DetectFeatures(tmp_path).detect(skimage.data.camera())
    assert np.allclose(small.points[:, :2], whole.points[:, :2] * 2 + 0.5, atol=1e-3)
    assert small.size == (1024, 1024)


def test_cameras_are_those_of_exif(tmp_path: Path) -> None:
    film = save(tmp_path / "film.jpg", ifd={0x920A: 35.0, 0xA405: 50})
    # pycolmap 4.2.1 reads this focal length from this file.
    assert read_camera(film.read_bytes(), 600, 400).focal == pytest.approx(833.2681477846056)
    sensor = save(tmp_path / "sensor.jpg", ifd={0x920A: 10.0, 0xA20E: 2540.0, 0xA210: 2})
    assert read_camera(sensor.read_bytes(), 600, 400).focal == pytest.approx(1000.0)
    assert read_camera(save(tmp_path / "none.jpg").read_bytes(), 600, 400)[2:] == (720.0, False, "")
    assert read_camera(b"broken", 600, 400)[2:] == (720.0, False, "")


@pytest.mark.parametrize("options", [{"n_features": -1}, {"max_size": 3}, {"contrast_threshold": -1.0}])
def test_parameters_out_of_range_are_refused(options: dict[str, object], tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=next(iter(options))):
        DetectFeatures(tmp_path, **options)
