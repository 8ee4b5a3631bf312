"""Encoding of what tasks return, and looking values up in a record."""

from __future__ import annotations

import json
import math
from collections import OrderedDict
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parimg.errors import ResultError
from parimg.record import Record, decode_values, encode_values, failed_row


def round_trip(values: object) -> tuple[dict[str, Any], dict[str, npt.NDArray[np.generic]]]:
    return decode_values(*encode_values(values))


# -- scalars -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        0,
        -3,
        2**70,
        0.1,
        1e300,
        -0.0,
        True,
        False,
        None,
        "",
        "Größe \n\t\"'",
        "\u4e2d",
        [],
        [1, 2.5, None, "a"],
        [[1], [2, [3]]],
    ],
)
def test_a_plain_value_comes_back_with_its_type(value: object) -> None:
    columns, arrays = round_trip({"value": value})
    assert repr(columns) == repr({"value": value})
    assert arrays == {}


def test_plain_scalars_are_compact_json() -> None:
    assert encode_values({"matches": 812, "ratio": 0.5, "name": "a"}) == (
        '{"matches":812,"ratio":0.5,"name":"a"}',
        None,
    )


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (np.int8(-7), -7),
        (np.uint64(2**64 - 1), 2**64 - 1),
        (np.float32(0.5), 0.5),
        (np.float64(0.1), 0.1),
        (np.float16(2), 2.0),
        (np.bool_(True), True),
        (np.str_("name"), "name"),
        (np.array(5), 5),
        (np.array(0.25, np.float32), 0.25),
        (np.array(True), True),
        (np.array("text"), "text"),
    ],
)
def test_a_numpy_scalar_or_0d_array_becomes_the_plain_value(value: object, expected: object) -> None:
    columns, arrays = round_trip({"value": value})
    assert columns == {"value": expected}
    assert type(columns["value"]) is type(expected)
    assert arrays == {}


def test_numpy_scalars_within_lists_become_plain_values() -> None:
    columns, _ = round_trip({"box": [np.int32(1), (np.float32(0.5), np.bool_(False))]})
    assert repr(columns) == "{'box': [1, [0.5, False]]}"


def test_a_tuple_comes_back_as_a_list() -> None:
    assert round_trip({"box": (1, 2, 3, 4)})[0] == {"box": [1, 2, 3, 4]}


def test_a_nested_dict_comes_back() -> None:
    assert round_trip({"fit": {"slope": np.float64(2.5), "points": [1, 2]}})[0] == {
        "fit": {"slope": 2.5, "points": [1, 2]}
    }


def test_numbers_that_are_names_of_a_nested_dict_become_text_as_in_json() -> None:
    assert round_trip({"counts": {1: 5, 2: 6}})[0] == {"counts": {"1": 5, "2": 6}}


@pytest.mark.parametrize("make", [float, np.float32, np.float64, np.array])
def test_nan_and_infinities_are_kept(make: Any) -> None:
    values = {"nan": make(math.nan), "high": make(math.inf), "low": make(-math.inf)}
    columns, _ = round_trip(values)
    assert math.isnan(columns["nan"])
    assert columns["high"] == math.inf
    assert columns["low"] == -math.inf


@pytest.mark.parametrize("make", [dict, OrderedDict, MappingProxyType])
def test_any_mapping_gives_columns_in_its_order(make: Any) -> None:
    columns, _ = round_trip(make({"b": 1, "a": 2}))
    assert list(columns.items()) == [("b", 1), ("a", 2)]


@pytest.mark.parametrize(
    ("value", "expected"), [(3, 3), (None, None), ("x", "x"), ([1, 2], [1, 2]), (np.float32(2), 2.0)]
)
def test_a_single_value_is_named_value(value: object, expected: object) -> None:
    assert round_trip(value) == ({"value": expected}, {})


def test_an_empty_mapping_gives_no_values() -> None:
    assert round_trip({}) == ({}, {})


# -- arrays --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.array([1.5, np.nan, -np.inf], np.float32),
        np.empty((0, 4), np.int32),
        np.empty(0),
        np.array([True, False]),
        np.array(["a", "bcd"]),
        np.array([1 + 2j]),
        np.array([1, 256], ">u2"),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(10)[::-2],
        np.zeros((2, 1, 3), bool),
    ],
    ids=lambda array: f"{array.dtype.str}{array.shape}",
)
def test_an_array_keeps_dtype_shape_and_values(array: npt.NDArray[Any]) -> None:
    columns, arrays = round_trip({"array": array})
    assert columns == {}
    assert arrays["array"].dtype == array.dtype
    assert arrays["array"].shape == array.shape
    np.testing.assert_array_equal(arrays["array"], array)


def test_a_single_array_is_named_value() -> None:
    columns, arrays = round_trip(np.array([1, 2]))
    assert columns == {}
    assert arrays["value"].tolist() == [1, 2]


def test_scalars_and_arrays_of_one_mapping_are_parted() -> None:
    columns, arrays = round_trip({"n": 2, "points": np.zeros((2, 2)), "name": "a", "ids": np.array([7])})
    assert columns == {"n": 2, "name": "a"}
    assert list(arrays) == ["points", "ids"]


@pytest.mark.parametrize(
    "name", ["file", "allow_pickle", "args", "self", "a/b", "x.npy", "ü", "", "two words", "../up"]
)
def test_an_array_may_have_any_name(name: str) -> None:
    _, arrays = round_trip({name: np.array([1, 2]), "other": np.array([3])})
    assert list(arrays) == [name, "other"]
    assert arrays[name].tolist() == [1, 2]


def test_the_arrays_are_a_plain_npz_without_pickles(tmp_path: Any) -> None:
    _, data = encode_values({"points": np.array([1, 2])})
    assert data is not None
    path = tmp_path / "arrays.npz"
    path.write_bytes(data)
    with np.load(path, allow_pickle=False) as archive:
        assert archive["points"].tolist() == [1, 2]


# -- what cannot be a row ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "array",
    [
        np.array([None, 1], object),
        np.array([{}], object),
        np.zeros(2, [("a", "O")]),
        np.array(["a"], np.dtypes.StringDType()),
    ],
    ids=["objects", "dicts", "structured", "StringDType"],
)
def test_an_object_array_is_refused_by_name(array: npt.NDArray[Any]) -> None:
    with pytest.raises(ResultError, match="array 'bad' has dtype object"):
        encode_values({"good": 1, "bad": array})


def test_a_masked_array_is_refused_rather_than_stored_without_its_mask() -> None:
    masked = np.ma.masked_array([1, 2], mask=[True, False])
    with pytest.raises(ResultError, match="masked"):
        encode_values({"points": masked})


@pytest.mark.parametrize(
    ("value", "named"),
    [
        (b"bytes", "bytes"),
        ({1, 2}, "set"),
        (1 + 2j, "complex"),
        (object(), "object"),
        (np.complex64(1), "complex64"),
        (np.datetime64("2026-01-01"), "datetime64"),
        (np.array(None, object), "ndarray"),
        ((x for x in "ab"), "generator"),
        ([np.zeros(3)], "ndarray"),
        ({"inner": np.zeros(3)}, "ndarray"),
        ([1, [2, {3}]], "set"),
    ],
)
def test_a_value_that_cannot_be_stored_is_named_with_its_type(value: object, named: str) -> None:
    with pytest.raises(ResultError, match=rf"a task returned .*, a {named}; wanted"):
        encode_values({"good": 1, "bad": value})


def test_a_long_value_that_cannot_be_stored_is_cut_in_the_message() -> None:
    with pytest.raises(ResultError) as caught:
        encode_values(bytes(10_000))
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("name", [1, None, (1, 2), b"x", np.int64(3)])
def test_a_name_that_is_no_string_is_refused_and_named(name: object) -> None:
    with pytest.raises(ResultError, match="must be named by strings") as caught:
        encode_values({"good": 1, name: 2})
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("name", [(1, 2), np.int64(3)])
def test_a_nested_name_that_json_cannot_hold_is_refused(name: object) -> None:
    with pytest.raises(ResultError):
        encode_values({"counts": {name: 2}})


# -- any values at all ---------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), max_size=8)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
nested = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=8,
)
array_values = hnp.arrays(
    hnp.integer_dtypes()
    | hnp.floating_dtypes(sizes=(16, 32, 64))
    | hnp.boolean_dtypes()
    | hnp.complex_number_dtypes(),
    hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3),
)


@settings(deadline=None, max_examples=150)
@given(st.dictionaries(names, nested | array_values, max_size=5))
def test_whatever_can_be_encoded_is_decoded_to_the_same(values: dict[str, Any]) -> None:
    columns, arrays = round_trip(values)
    # By repr: it tells True from 1, 1 from 1.0 and -0.0 from 0.0, and one NaN is like another.
    assert repr(columns) == repr({name: v for name, v in values.items() if not isinstance(v, np.ndarray)})
    assert list(arrays) == [name for name, value in values.items() if isinstance(value, np.ndarray)]
    for name, array in arrays.items():
        assert array.dtype == values[name].dtype
        np.testing.assert_array_equal(array, values[name], strict=True)


@settings(deadline=None, max_examples=50)
@given(st.dictionaries(names, nested, max_size=5))
def test_columns_are_ascii_json_that_any_reader_can_load(values: dict[str, Any]) -> None:
    columns, arrays = encode_values(values)
    assert columns.isascii()
    assert list(json.loads(columns)) == list(values)
    assert arrays is None


# -- Record --------------------------------------------------------------------------------------------------


def test_a_record_looks_up_columns_and_arrays_by_name() -> None:
    record = Record("a.png", "ok", {"matches": 812}, {"pairs": np.array([[1, 2]])})
    assert record.ok
    assert record["matches"] == 812
    assert record["pairs"].tolist() == [[1, 2]]
    assert list(record) == ["matches", "pairs"]
    assert "matches" in record
    assert "pairs" in record
    assert "key" not in record


def test_a_record_is_a_mapping_of_its_values() -> None:
    record = Record("a.png", "ok", {"matches": 812, "key": "of the task"}, {"pairs": np.array([[1, 2]])})
    assert isinstance(record, Mapping)
    assert list(record.keys()) == ["matches", "key", "pairs"]
    assert list(dict(record)) == ["matches", "key", "pairs"]
    assert dict(record.items())["matches"] == 812
    assert (record.get("matches"), record.get("none", 5), record.get("none")) == (812, 5, None)
    assert len(record) == 3
    assert record._ipython_key_completions_() == ["matches", "key", "pairs"]
    failed = Record("a.png", "failed")
    assert dict(failed) == {}
    assert failed  # a record is one, also without values
    assert record != dict(record)


def test_an_unknown_name_is_told_with_the_names_there_are() -> None:
    record = Record("a.png", "ok", {"matches": 812, "features": 5000}, {"pairs": np.zeros((1, 2))})
    with pytest.raises(KeyError, match=r"'match'.*matches, features, pairs"):
        record["match"]


def test_a_record_without_values_says_so() -> None:
    with pytest.raises(KeyError, match="this record has no values"):
        Record("a.png", "ok")["matches"]


def test_a_lookup_in_a_failed_record_tells_the_failure() -> None:
    record = Record("a.png", "failed", stage="decode", error="ImageEmptyError", message="it has 0 bytes")
    assert not record.ok
    with pytest.raises(KeyError, match=r"'matches'.*'a\.png' failed in decode: ImageEmptyError: it has 0 bytes"):
        record["matches"]


def test_a_traceback_is_kept_out_of_the_representation() -> None:
    record = Record("a.png", "failed", traceback="Traceback (most recent call last)")
    assert "Traceback" not in repr(record)


def test_a_failed_row_has_no_values_and_no_engine_times() -> None:
    row = failed_row(3, "a.png", "/x/a.png", "engine", "EngineDied", "gone")
    assert (row.position, row.key, row.uri, row.status) == (3, "a.png", "/x/a.png", "failed")
    assert (row.stage, row.error, row.message, row.traceback) == ("engine", "EngineDied", "gone", None)
    assert (row.decode_seconds, row.task_seconds) == (0.0, 0.0)
    assert decode_values(row.columns, row.arrays) == ({}, {})
