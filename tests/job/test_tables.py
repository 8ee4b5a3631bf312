"""Records as tables, against what Arrow and pandas read back."""

from __future__ import annotations

import csv
import dataclasses
import math
import os
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parimg.errors import JobError
from parimg.job import frames, tables
from parimg.record import Record

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FIXED = [
    "key", "status", "stage", "error", "message", "attempts", "engine", "host", "started", "decode_seconds",
    "task_seconds", "peak_memory", "uri",
]  # fmt: skip


def good(position: int, **values: Any) -> Record:
    return Record(
        f"{position}.png",
        "ok",
        values,
        engine=position % 2,
        host="node1",
        pid=77,
        started=1000.5 + position,
        decode_seconds=0.25,
        task_seconds=0.5,
        peak_memory=2**30,
        uri=f"/images/{position}.png",
        position=position,
    )


def bad(position: int) -> Record:
    return Record(
        f"{position}.png",
        "failed",
        stage="decode",
        error="ImageEmptyError",
        message='it has 0 bytes, "all" of them\nlost',
        attempts=3,
        uri=f"/images/{position}.png",
        position=position,
    )


def table_of(*records: Record, declared: dict[str, str] | None = None) -> pa.Table:
    return tables.to_arrow(lambda: iter(records), declared or {})


def column(values: list[Any], declared: dict[str, str] | None = None) -> tuple[pa.DataType, list[Any]]:
    """Type and content of the column that these values of a task make."""
    table = table_of(*(good(n, value=value) for n, value in enumerate(values)), declared=declared)
    return table.schema.field("value").type, table["value"].to_pylist()


# -- columns -------------------------------------------------------------------------------------------------


def test_the_columns_of_all_records_come_first() -> None:
    table = table_of(good(0, matches=812, ratio=0.5))
    assert table.column_names == [*FIXED, "matches", "ratio"]
    assert table.slice(0, 1).to_pylist() == [
        {
            "key": "0.png",
            "status": "ok",
            "stage": None,
            "error": None,
            "message": None,
            "attempts": 1,
            "engine": 0,
            "host": "node1",
            "started": 1000.5,
            "decode_seconds": 0.25,
            "task_seconds": 0.5,
            "peak_memory": 2**30,
            "uri": "/images/0.png",
            "matches": 812,
            "ratio": 0.5,
        }
    ]


def test_declared_columns_have_their_type_even_without_rows() -> None:
    table = table_of(declared={"matches": "int64", "distance": "double", "name": "string"})
    assert table.num_rows == 0
    assert table.column_names == [*FIXED, "matches", "distance", "name"]
    assert [table.schema.field(name).type for name in ("matches", "distance", "name")] == [
        pa.int64(),
        pa.float64(),
        pa.string(),
    ]


def test_declared_columns_have_their_type_if_all_images_failed() -> None:
    table = table_of(bad(0), declared={"matches": "int64"})
    assert table.schema.field("matches").type == pa.int64()
    assert table["matches"].to_pylist() == [None]


def test_declared_columns_come_before_those_found_in_the_values() -> None:
    table = table_of(good(0, found=1, declared=2), declared={"declared": "int32"})
    assert table.column_names[len(FIXED) :] == ["declared", "found"]
    assert table.schema.field("declared").type == pa.int32()


def test_a_failed_record_has_nulls_for_values_and_its_reason() -> None:
    table = table_of(good(0, matches=812), bad(1))
    assert table["matches"].to_pylist() == [812, None]
    assert table["status"].to_pylist() == ["ok", "failed"]
    assert table["stage"].to_pylist() == [None, "decode"]
    assert table["error"].to_pylist() == [None, "ImageEmptyError"]
    assert table["message"].to_pylist() == [None, 'it has 0 bytes, "all" of them\nlost']
    assert table["attempts"].to_pylist() == [1, 3]
    assert table["engine"].to_pylist() == [0, None]


def test_a_value_that_only_some_images_have_is_null_for_the_others() -> None:
    table = table_of(good(0, a=1), good(1, b="x"), good(2))
    assert table["a"].to_pylist() == [1, None, None]
    assert table["b"].to_pylist() == [None, "x", None]


def test_no_records_make_an_empty_table_with_the_fixed_columns() -> None:
    assert table_of().column_names == FIXED
    assert table_of().num_rows == 0


# -- types found in the values -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "expected_type", "expected"),
    [
        ([1, 2], pa.int64(), [1, 2]),
        ([1, 0.5], pa.float64(), [1.0, 0.5]),
        ([0.5, None, 2], pa.float64(), [0.5, None, 2.0]),
        ([True, None, False], pa.bool_(), [True, None, False]),
        (["a", None], pa.string(), ["a", None]),
        ([1, "a"], pa.string(), ["1", "a"]),
        ([True, 1], pa.string(), ["True", "1"]),
        ([None, None], pa.string(), [None, None]),
        ([2**64, 1], pa.string(), ["18446744073709551616", "1"]),
        ([[1, 2], None, [3]], pa.list_(pa.int64()), [[1, 2], None, [3]]),
        ([[0.5], [1.5, 2]], pa.list_(pa.float64()), [[0.5], [1.5, 2.0]]),
        ([[1, "a"], [2]], pa.string(), ["[1, 'a']", "[2]"]),
        ([[[1], [2, 3]]], pa.list_(pa.list_(pa.int64())), [[[1], [2, 3]]]),
        ([{"x": 1}, {"x": 2}], pa.struct([("x", pa.int64())]), [{"x": 1}, {"x": 2}]),
        ([1, 2**63, None], pa.uint64(), [1, 2**63, None]),
        ([0, 2**64 - 1], pa.uint64(), [0, 2**64 - 1]),
        ([-1, 2**63], pa.string(), ["-1", "9223372036854775808"]),
        ([-(2**63), 2**63 - 1], pa.int64(), [-(2**63), 2**63 - 1]),
        ([2**64, 0.5], pa.float64(), [2.0**64, 0.5]),
        ([10**400, 0.5], pa.string(), [f"1{400 * '0'}", "0.5"]),
        (["fine", "caf\udce9"], pa.string(), ["fine", "caf\\udce9"]),
        ([["caf\udce9"], []], pa.list_(pa.string()), [["caf\\udce9"], []]),
        ([["caf\udce9", 1]], pa.string(), ["['caf\\udce9', 1]"]),
        ([{"caf\udce9": "\udcff"}], pa.struct([("caf\\udce9", pa.string())]), [{"caf\\udce9": "\\udcff"}]),
    ],
    ids=repr,
)
def test_the_type_of_a_column_is_found_from_its_values(
    values: list[Any], expected_type: pa.DataType, expected: list[Any]
) -> None:
    assert column(values) == (expected_type, expected)


def test_nan_and_infinities_are_values_and_no_nulls() -> None:
    found_type, values = column([math.nan, math.inf, None, -math.inf])
    assert found_type == pa.float64()
    assert math.isnan(values[0])
    assert values[1:] == [math.inf, None, -math.inf]


def test_an_empty_list_among_lists_is_an_empty_list() -> None:
    """An image in which nothing was found."""
    assert column([[], [1, 2], []]) == (pa.list_(pa.int64()), [[], [1, 2], []])


def test_lists_of_integers_and_of_floats_are_lists_of_floats() -> None:
    assert column([[1, 2], [0.5]]) == (pa.list_(pa.float64()), [[1.0, 2.0], [0.5]])


def test_an_integer_that_no_float_holds_does_not_stop_the_export() -> None:
    _, values = column([2**53 + 1, 0.5])
    assert len(values) == 2
    assert float(values[0]) == pytest.approx(2**53, rel=1e-12)
    assert float(values[1]) == 0.5


@pytest.mark.parametrize(
    ("declared", "values", "expected_type"),
    [
        ("int64", [1, 1.5], pa.float64()),
        ("int64", [1, 2**63], pa.uint64()),
        ("int32", [1, 2**40], pa.int64()),
        ("uint8", [-1, 2], pa.int64()),
        ("uint8", [255, 0], pa.uint8()),
        ("double", [1, 2**63], pa.float64()),
        ("bool", [True, None], pa.bool_()),
    ],
)
def test_a_value_that_does_not_fit_its_declared_type_is_not_changed(
    declared: str, values: list[Any], expected_type: pa.DataType
) -> None:
    assert column(values, declared={"value": declared}) == (expected_type, values)


# -- names of columns that records have, too -----------------------------------------------------------------


def test_a_value_named_like_a_column_of_all_records_is_told_apart() -> None:
    table = table_of(good(0, status=7, host="server", n=1))
    assert table.column_names == [*FIXED, "task.status", "task.host", "n"]
    assert table["status"].to_pylist() == ["ok"]
    assert table["task.status"].to_pylist() == [7]
    assert table["host"].to_pylist() == ["node1"]
    assert table["task.host"].to_pylist() == ["server"]


def test_a_declared_column_named_like_one_of_all_records_is_told_apart() -> None:
    table = table_of(good(0, status=7), declared={"status": "int32"})
    assert table.column_names == [*FIXED, "task.status"]
    assert table["status"].to_pylist() == ["ok"]
    assert table["task.status"].to_pylist() == [7]


def test_a_value_whose_name_begins_with_task_keeps_its_value() -> None:
    table = table_of(good(0, **{"task.level": 3, "level": 4}))
    assert table["task.level"].to_pylist() == [3]
    assert table["level"].to_pylist() == [4]


def test_a_name_with_an_odd_byte_is_escaped_and_stays_apart_from_one_that_looks_so() -> None:
    table = table_of(good(0, **{"caf\udce9": 1, "caf\\udce9": 2}))
    assert table.column_names[len(FIXED) :] == ["caf\\udce9", "caf\\\\udce9"]
    assert table.slice(0, 1).to_pylist()[0]["caf\\\\udce9"] == 2


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet])
def test_one_odd_text_does_not_stop_an_export(tmp_path: Path, write: Any) -> None:
    odd = dataclasses.replace(good(1, label=os.fsdecode(b"caf\xe9")), message="\udcff", uri="/\udcff.png")
    write(lambda: iter([good(0, label="fine"), odd]), {"label": "string"}, tmp_path / "t")
    read = pd.read_parquet if write is tables.write_parquet else pd.read_csv
    assert read(tmp_path / "t")[["label", "uri"]].to_numpy().tolist() == [
        ["fine", "/images/0.png"],
        ["caf\\udce9", "/\\udcff.png"],
    ]


# -- data frames ---------------------------------------------------------------------------------------------


def test_integers_and_bools_with_nulls_stay_what_they_are_in_pandas() -> None:
    records = [good(0, n=1, flag=True, big=2**63, x=0.5, whole=3), bad(1)]
    frame = frames.to_pandas(table_of(*records, declared={"small": "int16"}))
    assert {name: str(frame[name].dtype) for name in ("n", "flag", "big", "x", "small", "engine", "attempts")} == {
        "n": "Int64",
        "flag": "boolean",
        "big": "UInt64",
        "x": "float64",
        "small": "Int16",
        "engine": "Int64",
        "attempts": "int64",
    }
    assert frame["big"].tolist() == [2**63, pd.NA]
    assert frame["n"].sum() == 1
    assert frame.columns.tolist() == [*FIXED, "small", "n", "flag", "big", "x", "whole"]


# -- batches -------------------------------------------------------------------------------------------------


def test_more_records_than_a_batch_holds_make_one_table(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH", 3)
    table = table_of(*(good(n, n=n) for n in range(7)))
    assert table["n"].to_pylist() == [0, 1, 2, 3, 4, 5, 6]
    assert [len(chunk) for chunk in table["n"].chunks] == [3, 3, 1]


def test_a_type_first_seen_in_a_late_batch_holds_for_the_whole_column(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "_BATCH", 2)
    assert column([1, 2, None, 4, 0.5]) == (pa.float64(), [1.0, 2.0, None, 4.0, 0.5])
    assert column([None, None, "a"]) == (pa.string(), [None, None, "a"])


class Watched(dict[str, Any]):
    """Columns of a record whose life can be watched; a record itself has slots."""

    __hash__ = object.__hash__  # type: ignore[assignment] # a weak set needs one


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet])
def test_no_more_than_two_batches_of_records_are_held_while_a_file_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Any
) -> None:
    monkeypatch.setattr(tables, "_BATCH", 10)
    alive: weakref.WeakSet[Watched] = weakref.WeakSet()
    most = 0

    def records() -> Iterator[Record]:
        nonlocal most
        for n in range(200):
            columns = Watched(n=n)
            alive.add(columns)
            most = max(most, len(alive))
            yield Record(f"{n}.png", "ok", columns)

    write(records, {}, tmp_path / "records")
    assert 10 <= most <= 21  # a batch just written, the one being read, and one record more


# -- files ---------------------------------------------------------------------------------------------------

MIXED = [
    good(0, matches=812, ratio=0.5, name="a,b", flag=True, nothing=math.nan),
    bad(1),
    good(2, matches=3, ratio=2, name='say "hi"', flag=False, nothing=1.0),
    good(3, matches=-1, ratio=0.125, name="line\nbreak", flag=True, nothing=None),
]


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_parquet_file_holds_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(tables, "_BATCH", batch)
    path = tmp_path / "records.parquet"
    tables.write_parquet(lambda: iter(MIXED), {"matches": "int64"}, path)
    expected = table_of(*MIXED, declared={"matches": "int64"})
    assert pq.read_schema(path).equals(expected.schema)
    pd.testing.assert_frame_equal(pd.read_parquet(path), expected.to_pandas())


@pytest.mark.parametrize("batch", [1, 2, 100])
def test_a_csv_file_holds_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, batch: int) -> None:
    monkeypatch.setattr(tables, "_BATCH", batch)
    path = tmp_path / "records.csv"
    tables.write_csv(lambda: iter(MIXED), {"matches": "int64"}, path)
    expected = table_of(*MIXED, declared={"matches": "int64"}).to_pandas()
    # CSV cannot tell null from NaN, and a column of numbers with nulls is read as floats.
    pd.testing.assert_frame_equal(pd.read_csv(path), expected, check_dtype=False, check_exact=True)


def test_a_csv_file_keeps_every_digit(tmp_path: Path) -> None:
    values = [1e-300, 0.1, 1 / 3, 2**53 + 0.0, -5e-324]
    path = tmp_path / "records.csv"
    tables.write_csv(lambda: (good(n, ratio=value) for n, value in enumerate(values)), {}, path)
    with path.open(newline="") as file:
        assert [float(row["ratio"]) for row in csv.DictReader(file)] == values


def test_lists_survive_a_parquet_file(tmp_path: Path) -> None:
    path = tmp_path / "records.parquet"
    tables.write_parquet(lambda: iter([good(0, box=[1, 2, 3, 4]), bad(1)]), {}, str(path))
    assert pq.read_table(path)["box"].to_pylist() == [[1, 2, 3, 4], None]


@pytest.mark.parametrize("value", [{}, [], {"inner": {}}, [{}]], ids=repr)
def test_empty_lists_and_dicts_can_be_written(tmp_path: Path, value: object) -> None:
    path = tmp_path / "records.parquet"
    tables.write_parquet(lambda: iter([good(0, value=value)]), {}, path)
    assert pq.read_table(path).num_rows == 1


def test_an_empty_job_makes_files_with_a_header(tmp_path: Path) -> None:
    tables.write_csv(lambda: iter([]), {"matches": "int64"}, tmp_path / "records.csv")
    tables.write_parquet(lambda: iter([]), {"matches": "int64"}, tmp_path / "records.parquet")
    assert (tmp_path / "records.csv").read_text().splitlines() == [",".join([*FIXED, "matches"])]
    assert pq.read_table(tmp_path / "records.parquet").column_names == [*FIXED, "matches"]


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet])
def test_a_file_that_could_not_be_finished_is_removed_and_the_old_one_stays(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "records"
    path.write_text("of an earlier export")
    passes = 0

    def records() -> Iterator[Record]:
        nonlocal passes
        passes += 1
        yield good(0)
        if passes == 2:  # the first looks at types, the second writes
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write(records, {}, path)
    assert os.listdir(tmp_path) == ["records"]
    assert path.read_text() == "of an earlier export"


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet])
def test_a_new_file_takes_the_place_of_the_old_one(tmp_path: Path, write: Any) -> None:
    path = tmp_path / "records"
    path.write_text("of an earlier export")
    write(lambda: iter([good(0, n=1)]), {}, path)
    assert os.listdir(tmp_path) == ["records"]
    assert "of an earlier export" not in path.read_bytes().decode("latin-1")


@pytest.mark.parametrize("write", [tables.write_csv, tables.write_parquet])
def test_a_folder_that_does_not_exist_is_told(tmp_path: Path, write: Any) -> None:
    with pytest.raises(FileNotFoundError):
        write(lambda: iter([good(0)]), {}, tmp_path / "nowhere" / "records")


# -- inner tables ------------------------------------------------------------------------------------------------

FLAT = [("length", "f8"), ("kind", "i8")]
DEEP = [("length", "f8"), ("kind", "i8"), ("z", "i4")]


def with_table(position: int, rows: list[tuple[Any, ...]], dtype: Any = FLAT) -> Record:
    return dataclasses.replace(good(position, branches=len(rows)), arrays={"rows": np.array(rows, dtype)})


def inner_of(*records: Record) -> pa.Table:
    return tables.inner_to_arrow(lambda: iter(records), "rows")


def test_inner_tables_follow_each_other_with_the_key_before_each_row() -> None:
    table = inner_of(with_table(0, [(1.5, 2), (0.5, 1)]), bad(1), with_table(2, []), with_table(3, [(7.0, 0)]))
    assert table.schema == pa.schema([("key", pa.string()), ("length", pa.float64()), ("kind", pa.int64())])
    assert table.to_pydict() == {
        "key": ["0.png", "0.png", "3.png"],
        "length": [1.5, 0.5, 7.0],
        "kind": [2, 1, 0],
    }


def test_fields_that_some_tables_lack_are_null_there() -> None:
    table = inner_of(with_table(0, [(1.5, 2)]), with_table(1, [(2.5, 1, 9)], DEEP), with_table(2, [(3.5, 0)]))
    assert table.column("z").to_pylist() == [None, 9, None]
    assert table.column("length").to_pylist() == [1.5, 2.5, 3.5]


def test_a_field_named_key_is_shown_under_another_name() -> None:
    table = inner_of(with_table(0, [(4, 1.0)], [("key", "i8"), ("length", "f8")]))
    assert table.to_pydict() == {"key": ["0.png"], "task.key": [4], "length": [1.0]}


def test_a_job_without_good_records_has_an_empty_inner_table() -> None:
    assert inner_of(bad(0)).to_pydict() == {"key": []}
    assert inner_of().to_pydict() == {"key": []}


def test_texts_of_inner_tables_with_odd_bytes_are_escaped() -> None:
    table = inner_of(with_table(0, [("fine", 1), ("caf\udce9", 2)], [("name", "U8"), ("n", "i8")]))
    assert table.to_pydict() == {"key": ["0.png"] * 2, "name": ["fine", "caf\\udce9"], "n": [1, 2]}


def test_an_unknown_inner_table_is_told_with_those_there_are() -> None:
    plain = dataclasses.replace(good(0), arrays={"rows": np.zeros(3)})
    with pytest.raises(JobError, match="no record of this job has a table 'rows'; they have none"):
        inner_of(plain)
    with pytest.raises(JobError, match="has a table 'branches'; they have rows"):
        tables.inner_to_arrow(lambda: iter([with_table(0, [(1.0, 1)])]), "branches")


def test_inner_tables_are_written_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "_BATCH", 4)
    records = [with_table(number, [(number + k / 8, k) for k in range(3)]) for number in range(10)]
    tables.write_parquet(lambda: iter(records), {}, tmp_path / "rows.parquet", "rows")
    file = pq.ParquetFile(tmp_path / "rows.parquet")
    assert (file.num_row_groups, file.metadata.num_rows) == (5, 30)
    assert file.read().column("length").to_pylist() == [number + k / 8 for number in range(10) for k in range(3)]
    tables.write_csv(lambda: iter(records[:1]), {}, tmp_path / "rows.csv", "rows")
    assert (tmp_path / "rows.csv").read_text().splitlines() == [
        "key,length,kind", "0.png,0.0,0", "0.png,0.125,1", "0.png,0.25,2",
    ]  # fmt: skip


def test_no_more_inner_tables_than_a_batch_are_held_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_BATCH", 8)
    alive: list[weakref.ref[Any]] = []
    most = 0

    def records() -> Iterator[Record]:
        nonlocal most
        for number in range(50):
            record = with_table(number, [(1.0, 1)] * 4)
            alive.append(weakref.ref(record.arrays["rows"]))
            yield record
            most = max(most, sum(array() is not None for array in alive))

    tables.write_parquet(records, {}, tmp_path / "rows.parquet", "rows")
    assert pq.read_metadata(tmp_path / "rows.parquet").num_rows == 200
    assert most <= 5
