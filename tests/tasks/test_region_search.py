"""RegionSearch over indexes, maps and arrays, without a cluster; tests/test_retrieval.py runs it on one."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

import parimg.kernels as pk
from parimg.engine.runner import _run
from parimg.errors import ImageFormatError, ImageMissingError, TaskError
from parimg.protocol.messages import VERSION, Chunk, ChunkImage
from parimg.tasks.region_search import RegionSearch

RNG = np.random.default_rng(11)
FEATURE_MAP = np.maximum(RNG.normal(size=(24, 9, 12)), 0).astype(np.float32)
QUERY = FEATURE_MAP[:, 2:6, 3:7].max((1, 2))


@pytest.fixture
def index_path(tmp_path):
    path = tmp_path / "index.npy"
    pk.RegionIndex(FEATURE_MAP, "max", image_size=(288, 384)).save(path)
    return str(path)


def run(task, image):
    return task.run(task.read(image, max_pixels=1), "key")


def test_an_index_file_gives_what_its_search_gives(index_path):
    found = pk.RegionIndex(FEATURE_MAP, "max").search(QUERY, 1.0, (0.5, 2), step=3)[0]
    values = run(RegionSearch(QUERY, 1.0, (0.5, 2), step=3), index_path)
    assert values["box"] == list(found.box)
    assert values["distance"] == found.distance
    assert values["image_box"] == [32 * edge for edge in found.box]


def test_the_window_that_the_query_is_of_is_found_by_the_exact_search(index_path):
    assert run(RegionSearch(QUERY, 1.0, min_size=3, exact=True), index_path)["box"] == [2, 3, 6, 7]


def test_a_task_that_has_searched_is_stored_as_one_that_has_not(index_path):
    used, new = RegionSearch(QUERY), RegionSearch(QUERY)
    run(used, index_path)
    new.resolve()
    assert pickle.dumps(used) == pickle.dumps(new)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_maps_are_indexed_as_they_come(tmp_path, pooling):
    path = str(tmp_path / "map.npy")
    np.save(path, FEATURE_MAP.astype(np.float16))
    task = RegionSearch(QUERY, pooling=pooling)
    values = run(task, path)
    found = pk.RegionIndex(FEATURE_MAP.astype(np.float16), pooling).search(QUERY)[0]
    assert (values["box"], values["distance"]) == (list(found.box), found.distance)
    assert values["image_box"] is None
    assert task(FEATURE_MAP.astype(np.float16)) == values


def test_more_windows_come_in_order_of_rank(index_path):
    values = run(RegionSearch(QUERY, 1.0, top_k=5), index_path)
    assert values["boxes"].shape == values["image_boxes"].shape == (5, 4)
    assert values["boxes"][0].tolist() == values["box"]
    assert np.all(np.diff(values["distances"]) >= 0)
    np.testing.assert_array_equal(values["image_boxes"], 32 * values["boxes"])


def test_where_no_window_counts_there_is_none(index_path):
    values = run(RegionSearch(QUERY, 1.0, min_size=20, top_k=2), index_path)
    assert [values[name] for name in ("distance", "box", "image_box", "evaluated")] == [None, None, None, 0]
    assert values["boxes"].shape == (0, 4)


def test_aspect_ratios_are_measured_in_pixels_where_the_image_s_size_is_known(tmp_path):
    path = tmp_path / "index.npy"
    pk.RegionIndex(FEATURE_MAP, "max", image_size=(288, 768)).save(path)  # cells of 32 x 64 pixels
    found = run(RegionSearch(QUERY, 0.5, (0.99, 1.01), min_size=2, top_k=20), str(path))
    y1, x1, y2, x2 = found["boxes"].T
    assert len(y1) == 20
    assert (y2 - y1 == x2 - x1).all()
    y1, x1, y2, x2 = found["image_boxes"].T
    assert (2 * (y2 - y1) == x2 - x1).all()
    pk.RegionIndex(FEATURE_MAP, "max").save(path)
    y1, x1, y2, x2 = run(RegionSearch(QUERY, 0.5, (0.99, 1.01), top_k=20), str(path))["boxes"].T
    assert (2 * (y2 - y1) == x2 - x1).all()


def test_a_query_may_be_a_file_which_engines_do_not_need(tmp_path, index_path):
    path = tmp_path / "query.npy"
    np.save(path, QUERY)
    task = RegionSearch(path, 1.0)
    task.resolve()
    sent = pickle.dumps(task)
    path.unlink()
    assert run(pickle.loads(sent), index_path) == run(RegionSearch(QUERY, 1.0), index_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"query": np.zeros(3)}, "zeros only"),
        ({"query": [1, np.nan]}, "finite"),
        ({"query": np.ones((2, 2))}, "shape"),
        ({"query": ["a"]}, "real numbers"),
        ({"step": 0}, "step must be at least 1"),
        ({"top_k": 0}, "top_k must be at least 1"),
        ({"min_size": 1.5}, "integer"),
        ({"aspect_range": (2, 1)}, "aspect_range"),
        ({"aspect_ratio": -1.0}, "aspect_ratio"),
        ({"pooling": "mean"}, "pooling must be 'sum' or 'max'"),
    ],
)
def test_what_was_typed_wrong_is_told(options, message):
    with pytest.raises(TaskError, match=message):
        RegionSearch(**{"query": QUERY, **options})


def test_a_query_file_that_is_none_is_told(tmp_path):
    (tmp_path / "query.npy").write_text("no array")
    for name in ("query.npy", "absent.npy"):
        with pytest.raises(TaskError, match=name):
            RegionSearch(tmp_path / name).resolve()


def test_files_that_are_neither_index_nor_map_fail_with_a_reason(tmp_path, index_path):
    task = RegionSearch(QUERY)
    with pytest.raises(ImageMissingError, match="does not exist"):
        run(task, str(tmp_path / "absent.npy"))
    whole = Path(index_path).read_bytes()
    for name, content in (("cut.npy", whole[:-5]), ("text.npy", b"no array"), ("short.npy", whole[:7])):
        (tmp_path / name).write_bytes(content)
        reason = "is cut off" if name == "cut.npy" else "must be a file that RegionIndex.save wrote"
        with pytest.raises(ImageFormatError, match=rf"neither a region index .*{reason}.* nor a feature map"):
            run(task, str(tmp_path / name))


def test_an_index_of_another_width_is_a_failed_record(tmp_path, index_path):
    images: list[ChunkImage] = [(0, "a", index_path, None)]
    [row] = _run(RegionSearch(np.ones(5)), Chunk(VERSION, (), str(tmp_path), 1, images))
    assert (row.status, row.error) == ("failed", "ValueError")
    assert "shape (24,)" in row.message


def test_a_file_is_mapped_once_and_again_when_it_was_replaced(index_path):
    task = RegionSearch(QUERY)
    first = task.read(index_path, max_pixels=1)
    assert task.read(index_path, max_pixels=1) is first
    pk.RegionIndex(FEATURE_MAP[:, :5], "max").save(index_path)
    assert task.read(index_path, max_pixels=1).shape == (24, 5, 12)
    assert first.shape == (24, 9, 12)
