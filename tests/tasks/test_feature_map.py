"""FeatureMap with a network computed by hand and with a real one on photographs, without a cluster."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
from skimage import data

from parimg.engine.runner import _run
from parimg.errors import TaskError
from parimg.images.decode import read_image
from parimg.kernels.pooling.global_descriptors import rmac
from parimg.protocol import shared_objects
from parimg.protocol.messages import VERSION, Chunk, ChunkImage
from parimg.record import decode_values
from parimg.tasks.feature_files import load_feature_map
from parimg.tasks.feature_map import FeatureMap

if TYPE_CHECKING:
    from tiny_model import TinyModel

    from parimg import Controller

IMAGE = np.random.default_rng(5).integers(0, 256, (8, 12, 3), dtype=np.uint8)


def plain(path: str, **options: object) -> FeatureMap:
    """A task for the tiny model that leaves images as they are."""
    return FeatureMap(path, **{"size": None, "multiple": 4, "mean": 0, "scale": 1, **options})


# -- the tiny network ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("layer", "output"), [(None, "features"), ("act", "act_output"), ("stem_output", "stem_output")]
)
def test_a_map_is_that_of_the_network_computed_by_hand(
    tiny: TinyModel, tiny_path: Callable[..., str], layer: str | None, output: str
) -> None:
    task = plain(tiny_path(), layer=layer, mean=(120, 130, 140.5), scale=(0.01, 0.02, 0.03))
    pixels = (IMAGE - np.array([120, 130, 140.5])) * [0.01, 0.02, 0.03]
    expected = tiny.evaluate(pixels.transpose(2, 0, 1))[output]
    values = task(IMAGE)
    assert values["feature_map"].dtype == np.float32
    np.testing.assert_allclose(values.pop("feature_map"), expected, rtol=1e-4, atol=1e-5)
    assert values == {
        "channels": len(expected),
        "height": 4,
        "width": 6,
        "image_height": 8,
        "image_width": 12,
    }
    assert list(task.declared_columns()) == list(values)


def test_channels_are_red_green_blue(tiny: TinyModel, tiny_path: Callable[..., str]) -> None:
    tiny.stem[:, 1:] = 0
    task = plain(tiny_path(), layer="stem")
    red_only = IMAGE * np.array([1, 0, 0], np.uint8)
    np.testing.assert_array_equal(task.feature_map(IMAGE), task.feature_map(red_only))
    assert not np.array_equal(task.feature_map(IMAGE), task.feature_map(IMAGE[:, :, ::-1]))


def test_a_gray_image_is_taken_as_one_of_three_equal_colours(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path())
    gray = IMAGE[:, :, 0]
    np.testing.assert_array_equal(task.feature_map(gray), task.feature_map(np.repeat(gray[:, :, None], 3, axis=2)))


def test_read_only_and_strided_images_are_taken_and_not_changed(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path(), size=24)
    mirrored = IMAGE[:, ::-1]
    mirrored.flags.writeable = False
    before = mirrored.copy()
    np.testing.assert_array_equal(task.feature_map(mirrored), task.feature_map(before))
    np.testing.assert_array_equal(mirrored, before)


def test_an_earlier_map_is_not_written_over_by_a_later_one(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path())
    first = task.feature_map(IMAGE)
    kept = first.copy()
    task.feature_map(255 - IMAGE)
    np.testing.assert_array_equal(first, kept)


def test_threads_may_share_a_task(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path())
    images = [np.full((8 + 4 * (i % 3), 12, 3), i, np.uint8) for i in range(60)]
    expected = [task.feature_map(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for found, value in zip(pool.map(task.feature_map, images), expected, strict=True):
            np.testing.assert_array_equal(found, value)


# -- sizes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "image", "given"),
    [
        (None, (480, 640), (480, 640)),
        (None, (500, 650), (512, 640)),
        (None, (5, 700), (32, 704)),
        (640, (480, 640), (480, 640)),
        (640, (768, 1024), (480, 640)),
        (640, (1024, 768), (640, 480)),
        (1024, (480, 640), (768, 1024)),
        (600, (300, 600), (288, 608)),
        (640, (3, 5000), (32, 640)),
        ((224, 320), (480, 640), (224, 320)),
        ([224, 320], (640, 480), (224, 320)),
    ],
)
def test_images_are_given_to_the_network_at_a_multiple_of_32(
    size: object, image: tuple[int, int], given: tuple[int, int]
) -> None:
    assert FeatureMap("model.onnx", size=size).input_size(*image) == given


def test_sizes_that_come_to_the_same_give_the_same_map(tiny_path: Callable[..., str]) -> None:
    maps = [plain(tiny_path(), size=size).feature_map(IMAGE) for size in (None, 12, (8, 12))]
    np.testing.assert_array_equal(maps[0], maps[1])
    np.testing.assert_array_equal(maps[0], maps[2])


def test_a_doubled_image_scaled_down_again_has_the_map_of_the_original(tiny_path: Callable[..., str]) -> None:
    doubled = np.repeat(np.repeat(IMAGE, 2, axis=0), 2, axis=1)
    task = plain(tiny_path(), size=12)
    np.testing.assert_array_equal(task.feature_map(doubled), task.feature_map(IMAGE))


# -- files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("dtype", "error"), [("float32", 0), ("float16", 2**-11), ("uint8", 1 / 510)])
def test_maps_are_written_to_files_named_after_their_images(
    tiny_path: Callable[..., str], tmp_path: Path, dtype: str, error: float
) -> None:
    task = plain(tiny_path(), output=tmp_path / "maps", dtype=dtype)
    expected = task.feature_map(IMAGE)
    values = task.run(IMAGE, "views/a.png")
    extension = "npz" if dtype == "uint8" else "npy"
    assert values.pop("path") == str(tmp_path / "maps" / "views" / f"a.{extension}")
    assert values == {"channels": 2, "height": 4, "width": 6, "image_height": 8, "image_width": 12}
    loaded = load_feature_map(tmp_path / "maps" / "views" / f"a.{extension}")
    span = np.ptp([0, expected.min(), expected.max()])  # bytes hold zero, too
    assert np.abs(loaded - expected).max() <= 1.01 * error * span
    assert list(task.declared_columns()) == [*values, "path"]


def test_a_written_map_of_floats_is_a_source_of_other_jobs(tiny_path: Callable[..., str], tmp_path: Path) -> None:
    task = plain(tiny_path(), output=tmp_path, dtype="float16")
    path = task.run(IMAGE, "a.png")["path"]
    np.testing.assert_array_equal(read_image(path, "unchanged"), task.feature_map(IMAGE).astype(np.float16))


@pytest.mark.parametrize("key", ["../a.png", "/etc/a.png", "..", "a/../../../b"])
def test_no_image_is_written_outside_the_folder(tiny_path: Callable[..., str], tmp_path: Path, key: str) -> None:
    task = plain(tiny_path(), output=tmp_path / "maps")
    path = task.run(IMAGE, key)["path"]
    assert Path(path).resolve().is_relative_to(tmp_path / "maps")
    assert os.listdir(tmp_path) == ["maps"]


def test_the_folder_is_the_clients_whatever_the_engines_directory(
    tiny_path: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "client").mkdir()
    (tmp_path / "engine").mkdir()
    monkeypatch.chdir(tmp_path / "client")
    task = plain(tiny_path(), output="maps")
    task.resolve()
    assert os.listdir(tmp_path / "client") == ["maps"]
    sent = pickle.dumps(task)
    monkeypatch.chdir(tmp_path / "engine")
    assert pickle.loads(sent).run(IMAGE, "a.png")["path"] == str(tmp_path / "client" / "maps" / "a.npy")


def test_without_a_folder_the_map_is_returned_whatever_the_key(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path(), dtype="float16")
    values = task.run(IMAGE, "../a.png")
    assert values["feature_map"].dtype == np.float16
    assert "path" not in values


def test_an_output_that_cannot_be_made_is_told_when_it_is_resolved(
    tiny_path: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(TaskError, match="the output folder cannot be made"):
        plain(tiny_path(), output=tmp_path / "file" / "maps").resolve()


# -- on the way to an engine ---------------------------------------------------------------------------------


def test_a_pickled_task_gives_the_same_map(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path(), layer="act")
    expected = task.feature_map(IMAGE)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(task)).feature_map(IMAGE), expected)


def test_engines_need_no_model_file(tiny: TinyModel, tiny_path: Callable[..., str]) -> None:
    path = tiny_path()
    task = plain(path)
    task.resolve()
    sent = pickle.dumps(task)
    os.unlink(path)
    expected = tiny.evaluate(IMAGE.transpose(2, 0, 1))["features"]
    np.testing.assert_allclose(pickle.loads(sent).feature_map(IMAGE), expected, rtol=1e-4, atol=1e-3)


def test_the_model_travels_as_one_shared_object(data_folder: Path, tmp_path: Path) -> None:
    task = real(data_folder, layer="/_blocks.2/Add")
    task.resolve()
    folder = str(tmp_path / "shared")
    refs = shared_objects.write_task(folder, task)
    sizes = {ref.kind: os.path.getsize(os.path.join(folder, ref.digest)) for ref in refs}
    assert sizes.keys() == {"task", "array"}
    assert sizes["task"] < 2000
    assert sizes["array"] < 100_000  # of 13 million bytes
    received = shared_objects.load_task(refs[0], folder)
    assert isinstance(received._model.data, np.memmap)
    image = data.astronaut()[:96, :128]
    np.testing.assert_array_equal(received.feature_map(image), task.feature_map(image))


def test_an_engine_names_the_files_after_the_keys_of_its_chunk(
    tiny_path: Callable[..., str], tmp_path: Path
) -> None:
    images: list[ChunkImage] = [(0, "a.png", "", IMAGE), (1, "b/c.png", "", np.zeros((8, 8), np.float32))]
    chunk = Chunk(VERSION, (), str(tmp_path), 2**20, images)
    rows = _run(plain(tiny_path(), output=tmp_path), chunk)
    assert [row.status for row in rows] == ["ok", "failed"]
    assert decode_values(rows[0].columns, rows[0].arrays)[0]["path"] == str(tmp_path / "a.npy")
    assert "got float32, shape (8, 8)" in rows[1].message
    assert os.listdir(tmp_path) == ["a.npy"]


def test_a_job_writes_the_same_maps_on_its_engines(
    data_folder: Path, tmp_path: Path, controller: Controller, temple_ring: list[str]
) -> None:
    task = real(data_folder, size=160, output=tmp_path / "maps", dtype="float16")
    job = controller.submit(task, temple_ring[:6], job_dir=tmp_path / "job")
    records = list(job.in_order())
    assert [record.status for record in records] == ["ok"] * 6
    for record, path in zip(records, temple_ring, strict=False):
        expected = task.feature_map(read_image(path, "color"))
        assert expected.shape == (record["channels"], record["height"], record["width"]) == (1280, 4, 5)
        assert record["path"].startswith(str(tmp_path / "maps"))
        np.testing.assert_array_equal(load_feature_map(record["path"]), expected.astype(np.float16))


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"model": 3}, r"model must be a path or URL \(got 3, a int\)"),
        ({"layer": ""}, "layer must be the name of a layer"),
        ({"layer": 5}, "layer must be the name of a layer"),
        ({"size": 0}, "size must be an integer, a pair .height, width., or None .got 0"),
        ({"size": 640.0}, "size must be an integer"),
        ({"size": (480,)}, "size must be an integer"),
        ({"size": (480, 650)}, r"multiples of 32, such as \(480, 640\) \(got \(480, 650\)\)"),
        ({"multiple": 0}, "multiple must be an integer of at least 1"),
        ({"mean": (1, 2)}, r"mean must be a number, or three .* \(got \(1, 2\)\)"),
        ({"mean": float("nan")}, "mean must be a number"),
        ({"scale": "a"}, "scale must be a number"),
        ({"scale": (1, 0, 1)}, "scale must not be 0"),
        ({"dtype": "float64"}, "dtype must be 'float32', 'float16' or 'uint8' .got 'float64'"),
        ({"dtype": "uint8"}, "dtype='uint8' needs output"),
        ({"output": 3}, "output must be the path of a folder"),
    ],
)
def test_parameters_out_of_range_are_refused_at_once(options: dict, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        FeatureMap(**{"model": "model.onnx", **options})


def test_a_missing_model_is_told_when_it_is_resolved(tmp_path: Path) -> None:
    with pytest.raises(TaskError, match=r"the model cannot be read: .*missing.onnx' does not exist"):
        FeatureMap(tmp_path / "missing.onnx").resolve()


def test_a_file_that_is_no_onnx_model_is_told(data_folder: Path) -> None:
    with pytest.raises(
        TaskError, match=r"01.jpg' cannot be used: it is no ONNX model: its 237071 bytes begin with"
    ):
        FeatureMap(data_folder / "lund" / "01.jpg").resolve()


def test_an_unknown_layer_is_told_with_close_names(data_folder: Path) -> None:
    with pytest.raises(TaskError, match=r"layers is named '/_conv_haed/Conv'; close to it: '/_conv_head/Conv'"):
        real(data_folder, layer="/_conv_haed/Conv").resolve()


def test_a_layer_that_gives_no_map_is_told(tiny_path: Callable[..., str]) -> None:
    with pytest.raises(TaskError, match=r"layer 'flat' gives an array of shape \(1, 4\) for an image of 28 x 28"):
        plain(tiny_path(), layer="flat").resolve()


def test_a_layer_that_needs_no_image_is_told(data_folder: Path) -> None:
    with pytest.raises(TaskError, match=r"it takes 0 inputs .*, wanted one, an image"):
        real(data_folder, layer="/_conv_stem/static_padding/Constant").resolve()


def test_a_model_of_gray_images_is_told(tiny_path: Callable[..., str]) -> None:
    with pytest.raises(TaskError, match="its input 'image' has 1 channels, wanted 3"):
        plain(tiny_path(shape=["n", 1, "h", "w"])).resolve()


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((8, 8, 3)), r"got float64, shape \(8, 8, 3\)"),
        (np.zeros((8, 8, 4), np.uint8), r"got uint8, shape \(8, 8, 4\)"),
        (np.zeros(8, np.uint8), r"got uint8, shape \(8,\)"),
        (np.zeros((0, 8, 3), np.uint8), "the image has no pixels"),
    ],
)
def test_an_image_of_another_kind_is_told(tiny_path: Callable[..., str], image: np.ndarray, message: str) -> None:
    with pytest.raises(TaskError, match=message):
        plain(tiny_path()).feature_map(image)


# -- the real network ----------------------------------------------------------------------------------------


def real(data_folder: Path, **options: object) -> FeatureMap:
    return FeatureMap(data_folder / "models" / "efficientnet_lite0_features.onnx", **options)


def test_real_maps_have_a_cell_for_32_pixels_and_values_from_0_to_6(data_folder: Path) -> None:
    task = real(data_folder, size=None)
    image = read_image(str(data_folder / "templeRing" / "templeR0001.png"), "color")
    found = task.feature_map(image)
    assert found.shape == (1280, 15, 20)
    assert found.min() == 0
    assert 3 < found.max() <= 6
    for size in (640, (480, 640)):
        np.testing.assert_array_equal(real(data_folder, size=size).feature_map(image), found)


def test_a_real_map_is_that_of_opencv_on_the_same_file(data_folder: Path) -> None:
    path = str(data_folder / "models" / "efficientnet_lite0_features.onnx")
    image = cv2.imread(str(data_folder / "lund" / "01.jpg"))
    small = cv2.resize(image, (320, 256), interpolation=cv2.INTER_AREA)
    net = cv2.dnn.readNetFromONNX(path)
    net.setInput(cv2.dnn.blobFromImage(small, 1 / 128, mean=(127, 127, 127), swapRB=True))
    expected = net.forward()[0]
    found = real(data_folder, size=(256, 320)).feature_map(np.ascontiguousarray(image[:, :, ::-1]))
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_the_number_of_threads_and_the_images_before_change_no_value(data_folder: Path) -> None:
    task, image = real(data_folder, size=256), data.astronaut()
    expected = task.feature_map(image)
    threads = cv2.getNumThreads()
    try:
        for n in (1, 2, 4):
            cv2.setNumThreads(n)
            task.feature_map(data.coffee())
            np.testing.assert_array_equal(task.feature_map(image), expected)
            np.testing.assert_array_equal(real(data_folder, size=256).feature_map(image), expected)
    finally:
        cv2.setNumThreads(threads)


def test_a_shift_by_one_cell_shifts_the_map(data_folder: Path) -> None:
    """Away from the borders; the network sees about 600 pixels around a cell, the far ones hardly."""
    image = np.pad(data.astronaut(), ((256, 256), (256, 256), (0, 0)), mode="reflect")
    task = real(data_folder, size=None)
    here, there = task.feature_map(image[:, :960]), task.feature_map(image[:, 32:992])
    inner, moved = here[:, 10:-10, 11:-9], there[:, 10:-10, 10:-10]
    assert np.corrcoef(inner.ravel(), moved.ravel())[0, 1] > 0.995
    assert np.corrcoef(inner.ravel(), there[:, 10:-10, 11:-9].ravel())[0, 1] < 0.9


def test_photographs_of_a_place_are_nearest_to_each_other(data_folder: Path, temple_ring: list[str]) -> None:
    task = real(data_folder, size=320)
    paths = [*sorted(map(str, (data_folder / "lund").glob("*.jpg")))[::3], *temple_ring[::5]]
    images = [read_image(path, "color") for path in paths]
    images += [data.astronaut(), data.astronaut()[:, ::-1], data.coffee(), data.coffee()[20:, 40:]]
    images += [data.chelsea(), data.chelsea()[:, ::-1], *data.stereo_motorcycle()[:2]]
    places = [os.path.dirname(path) for path in paths] + [place for place in "abcd" for _ in range(2)]
    vectors = np.array([rmac(task.feature_map(image)) for image in images])
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -1)
    nearest = similarity.argmax(axis=1)
    assert all(places[i] == places[nearest[i]] for i in range(len(places)))


@pytest.mark.parametrize(
    "options",
    [{"index": "max"}, {"index": "mean", "output": "o"}, {"index": "sum", "output": "o", "dtype": "uint8"}],
)
def test_an_index_needs_a_folder_and_a_pooling(options: dict[str, object]) -> None:
    with pytest.raises(TaskError, match="index"):
        FeatureMap("model.onnx", **options)


def test_the_descriptor_comes_with_the_map(tiny_path: Callable[..., str]) -> None:
    task = plain(tiny_path(), layer="act", rmac=True)
    values = task(IMAGE)
    np.testing.assert_array_equal(values["rmac"], rmac(values["feature_map"]))
