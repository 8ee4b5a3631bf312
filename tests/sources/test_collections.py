"""Lists, generators, and arrays with names."""

from __future__ import annotations

import tracemalloc
from collections import OrderedDict
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from source_lists import ARRAY, keys

from parimg.errors import SourceError
from parimg.sources.as_source import as_source


def test_a_list_may_mix_everything(views):
    (views / "list.txt").write_text("b.png\n")
    given = ["left", "*.png", Path("a.JPG"), ("named", ARRAY), "file:///x/y.png", "list.txt", "missing.png"]
    source = as_source(given)
    expected = [
        *("left/10.tif", "left/2.tif", "left/deep/1.png", "b.png", "a.JPG", "named"),
        *("file:///x/y.png", "b.png", "missing.png"),
    ]
    assert keys(source) == expected
    assert source.count() == len(expected)
    assert keys(as_source(iter(given))) == expected


def test_an_image_of_a_list_need_not_exist_since_the_disk_is_not_asked(views):
    paths = [f"missing/{number}.png" for number in range(1000)]
    source = as_source(paths)
    assert source.count() == 1000
    assert keys(source) == paths


def test_a_list_that_is_changed_later_is_the_one_that_was_given():
    paths = ["a.png"]
    source = as_source(paths)
    paths.append("b.png")
    assert keys(source) == ["a.png"]


def test_a_set_is_sorted(views):
    assert keys(as_source({"c.png", "a.png", "b.png"})) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "make", [tuple, np.array, pd.Series, pd.Index, lambda paths: np.array(paths, object), dict.fromkeys, iter]
)
def test_other_collections_of_paths_are_taken(make):
    given = make(["a.png", "b.png"])
    if isinstance(given, dict):
        given = given.keys()
    assert keys(as_source(given)) == ["a.png", "b.png"]


def test_a_generator_is_run_through_only_as_far_as_needed(views):
    asked = []

    def paths():
        for number in range(1000):
            asked.append(number)
            yield f"{number}.png"

    source = as_source(paths())
    assert asked == [0]
    assert [image.key for image in islice(source, 3)] == ["0.png", "1.png", "2.png"]
    assert asked == [0, 1, 2]
    assert source.count() is None
    assert not source.restartable


def test_a_generator_that_is_used_up_is_told():
    source = as_source(path for path in ["a.png", "b.png"])
    assert keys(source) == ["a.png", "b.png"]
    with pytest.raises(SourceError, match=r"can be run through only once"):
        list(source)


def test_a_generator_is_not_held_in_memory():
    source = as_source((f"key {number}", np.zeros(1000, np.uint8)) for number in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6


def test_a_wrong_element_late_in_a_generator_is_told_with_its_index():
    source = as_source(element for element in ["a.png", "b.png", 3.5])
    images = iter(source)
    assert [next(images).key, next(images).key] == ["a.png", "b.png"]
    with pytest.raises(SourceError, match=r"element 2 of images must be a path.*got 3.5 that is a float"):
        next(images)


def test_arrays_with_names_keep_them():
    (image,) = as_source([("black", ARRAY)])
    assert image.key == "black"
    assert image.uri == ""
    assert image.array is ARRAY


@pytest.mark.parametrize(
    "images",
    [
        {"a": ARRAY, "b": ARRAY},
        OrderedDict(a=ARRAY, b=ARRAY),
        [("a", ARRAY), ("b", ARRAY)],
        (("a", ARRAY), ("b", ARRAY)),
        zip("ab", [ARRAY, ARRAY], strict=True),
        {"a": ARRAY, "b": ARRAY}.items(),
    ],
)
def test_arrays_with_names_come_in_many_ways(images):
    source = as_source(images)
    assert keys(source) == ["a", "b"]
    assert not source.restartable


def test_one_pair_is_one_image():
    assert keys(as_source(("a.png", ARRAY))) == ["a.png"]


def test_the_number_of_arrays_is_known_unless_they_are_generated():
    assert as_source({"a": ARRAY, "b": ARRAY}).count() == 2
    assert as_source({"a": ARRAY, "b": ARRAY}.items()).count() == 2
    assert as_source(iter([("a", ARRAY)])).count() is None


def test_a_file_of_arrays_is_read_one_by_one(tmp_path):
    np.savez(tmp_path / "arrays.npz", first=ARRAY, second=ARRAY[::-1])
    with np.load(tmp_path / "arrays.npz") as arrays:
        source = as_source(arrays)
        for _ in range(2):
            first, second = source
            assert (first.key, second.key) == ("first", "second")
            np.testing.assert_array_equal(second.array, ARRAY[::-1])


def test_integers_become_names():
    assert keys(as_source(enumerate([ARRAY, ARRAY]))) == ["0", "1"]
    assert keys(as_source([(np.int64(7), ARRAY)])) == ["7"]


@pytest.mark.parametrize("name", [None, 1.5, True, b"a", ("a",)])
def test_other_names_of_arrays_are_refused(name):
    with pytest.raises(SourceError, match=r"element 0 of images: the name of an array must be a str"):
        as_source([(name, ARRAY)])


def test_arrays_without_names_are_refused_with_the_way_out():
    with pytest.raises(SourceError, match=r"images is an array of shape \(3, 4\).*enumerate\(arrays\)"):
        as_source(ARRAY)
    with pytest.raises(
        SourceError, match=r"element 1 of images is an array without a name: .*enumerate\(arrays\)"
    ):
        as_source([("a", ARRAY), ARRAY])
    with pytest.raises(SourceError, match=r"element 0 of images is an array without a name"):
        as_source(array for array in [ARRAY])
