"""Records as tables: Arrow, pandas, Parquet, CSV.

A table has the columns of every record (``key``, ``status``, ...) and then the task's scalar columns; arrays
stay in the records. Parquet and CSV are written in batches, so a job of a million images needs no more memory
than one of a thousand.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from parimg.record import Record

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 10_000
_RECORD_FIELDS = (
    ("key", "string"),
    ("status", "string"),
    ("stage", "string"),
    ("error", "string"),
    ("message", "string"),
    ("attempts", "int32"),
    ("engine", "int32"),
    ("host", "string"),
    ("started", "double"),
    ("decode_seconds", "double"),
    ("task_seconds", "double"),
    ("uri", "string"),
)
Records = Callable[[], Iterable[Record]]


def to_arrow(records: Records, declared: dict[str, str]) -> pa.Table:
    """All records as one Arrow table.

    Parameters
    ----------
    records : callable
        Gives a fresh iterator of the records; called twice.
    declared : dict of str to str
        Arrow types of the columns that the task declares; others are found from the values.
    """
    import pyarrow as pa

    schema = _schema(records, declared)
    return pa.Table.from_batches(_batches(records(), schema), schema=schema)


def write_parquet(records: Records, declared: dict[str, str], path: str | os.PathLike[str]) -> None:
    """Write all records as a Parquet file; the file appears when it is complete."""
    import pyarrow.parquet as pq

    schema = _schema(records, declared)
    with _complete_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for batch in _batches(records(), schema):
            writer.write_batch(batch)


def write_csv(records: Records, declared: dict[str, str], path: str | os.PathLike[str]) -> None:
    """Write all records as a CSV file; the file appears when it is complete."""
    import csv

    schema = _schema(records, declared)
    with _complete_file(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(schema.names)
        for batch in _batches(records(), schema):
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def _schema(records: Records, declared: dict[str, str]) -> pa.Schema:
    """Fields of all records, then the task's; found by looking at every value once."""
    import pyarrow as pa

    found: dict[str, set[pa.DataType]] = {}
    for record in records():
        for name, value in record.columns.items():
            if name not in declared:
                found.setdefault(name, set()).add(_arrow_type(value))
    reserved = {name for name, _ in _RECORD_FIELDS}
    fields = [pa.field(name, pa.type_for_alias(alias)) for name, alias in _RECORD_FIELDS]
    fields += [pa.field(name, pa.type_for_alias(alias)) for name, alias in declared.items()]
    fields += [pa.field(_task_name(name, reserved), _common_type(types)) for name, types in found.items()]
    return pa.schema(fields)


def _batches(records: Iterable[Record], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    record_names = [name for name, _ in _RECORD_FIELDS]
    task_fields = [schema.field(index) for index in range(len(record_names), len(schema))]
    iterator = iter(records)
    while batch := list(itertools.islice(iterator, _BATCH)):
        columns = [
            pa.array([getattr(record, name) for record in batch], schema.field(name).type) for name in record_names
        ]
        for task_field in task_fields:
            name = task_field.name.removeprefix("task.")
            values = [record.columns.get(name) for record in batch]
            if task_field.type == pa.string():
                values = [value if value is None or isinstance(value, str) else str(value) for value in values]
            columns.append(pa.array(values, task_field.type))
        yield pa.RecordBatch.from_arrays(columns, schema=schema)


def _task_name(name: str, reserved: set[str]) -> str:
    return f"task.{name}" if name in reserved else name


def _arrow_type(value: Any) -> pa.DataType:
    import pyarrow as pa

    try:
        return pa.scalar(value).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()  # mixed lists, integers beyond 64 bits


def _common_type(types: set[pa.DataType]) -> pa.DataType:
    """One type for a column whose values had these: numbers widen, anything else that differs is text."""
    import pyarrow as pa

    types = types - {pa.null()}
    if len(types) == 1:
        return next(iter(types))
    if types == {pa.int64(), pa.float64()}:
        return pa.float64()
    return pa.string()


@contextlib.contextmanager
def _complete_file(path: str | os.PathLike[str]) -> Iterator[str]:
    path = os.fspath(path)
    unfinished = f"{path}.partial"
    try:
        yield unfinished
        os.replace(unfinished, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.remove(unfinished)
        raise
