"""Records as tables: Arrow, pandas, Parquet, CSV.

A table has the columns of every record (``key``, ``status``, ...) and then the task's scalar columns; arrays
stay in the records. An array with named fields is itself a table; such inner tables of all records make one, with
the image's key before each row. Parquet and CSV are written in batches, so a job of a million images needs no more
memory than one of a thousand.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from parimg.errors import JobError
from parimg.files.atomic import whole_file
from parimg.record import Record
from parimg.sources.names import escape_name

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_BATCH = 10_000
_NO_COLUMNS = {"columns", "arrays", "traceback", "pid", "position", "job"}  # fields that tables leave out
_ARROW_TYPES = {"int": "int64", "float": "double"}  # all others are text
_RECORD_FIELDS = {
    item.name: _ARROW_TYPES.get(str(item.type).partition(" ")[0], "string")
    for item in fields(Record)
    if item.name not in _NO_COLUMNS
}
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

    layout = _layout(records, declared)
    return pa.Table.from_batches(_batches(records(), layout), schema=layout.schema)


def write_parquet(
    records: Records, declared: dict[str, str], path: str | os.PathLike[str], inner: str | None = None
) -> None:
    """Write all records, or their inner tables of one name, as a Parquet file; it appears when it is complete."""
    import pyarrow.parquet as pq

    schema, batches = _table(records, declared, inner)
    with whole_file(path) as unfinished, pq.ParquetWriter(unfinished, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)


def write_csv(
    records: Records, declared: dict[str, str], path: str | os.PathLike[str], inner: str | None = None
) -> None:
    """Write all records, or their inner tables of one name, as a CSV file; it appears when it is complete."""
    import csv

    schema, batches = _table(records, declared, inner)
    with whole_file(path) as unfinished, open(unfinished, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(schema.names)
        for batch in batches:
            writer.writerows(zip(*(column.to_pylist() for column in batch.columns), strict=True))


def inner_to_arrow(records: Records, inner: str) -> pa.Table:
    """The inner tables of one name of all records as one Arrow table.

    Parameters
    ----------
    records : callable
        Gives a fresh iterator of the records, with their arrays; called twice.
    inner : str
        Name of the table.

    Raises
    ------
    JobError
        If there are good records, but none with such a table.
    """
    import pyarrow as pa

    schema, batches = _table(records, {}, inner)
    return pa.Table.from_batches(batches, schema=schema)


def _table(
    records: Records, declared: dict[str, str], inner: str | None
) -> tuple[pa.Schema, Iterator[pa.RecordBatch]]:
    if inner is not None:
        schema, names = _inner_layout(records, inner)
        return schema, _inner_batches(records(), inner, schema, names)
    layout = _layout(records, declared)
    return layout.schema, _batches(records(), layout)


class _Layout(NamedTuple):
    """Columns of a table: those of every record, then the task's."""

    schema: pa.Schema
    task_names: list[str]
    """Names that the task gave to its columns; where a record has such a name, the table's is another."""


def _layout(records: Records, declared: dict[str, str]) -> _Layout:
    """Find the columns by looking at every value once."""
    import pyarrow as pa

    found = {name: _Seen() for name in declared}
    for record in records():
        for name, value in record.columns.items():
            found.setdefault(name, _Seen()).add(value)
    taken = list(_RECORD_FIELDS)
    columns = [pa.field(name, pa.type_for_alias(alias)) for name, alias in _RECORD_FIELDS.items()]
    for name, seen in found.items():
        shown = escaped = escape_name(name)
        while shown in taken or (shown != escaped and shown in found):
            shown = f"task.{shown}"
        taken.append(shown)
        columns.append(pa.field(shown, seen.type(declared.get(name))))
    return _Layout(pa.schema(columns), list(found))


def _batches(records: Iterable[Record], layout: _Layout) -> Iterator[pa.RecordBatch]:
    import pyarrow as pa

    n = len(_RECORD_FIELDS)
    types = [field.type for field in layout.schema]
    iterator = iter(records)
    while batch := list(itertools.islice(iterator, _BATCH)):
        columns = []
        for name, kind in zip(_RECORD_FIELDS, types[:n], strict=True):
            values = [escape_name(record.uri) if name == "uri" else getattr(record, name) for record in batch]
            columns.append(pa.array(_escape(values) if pa.types.is_string(kind) else values, kind))
        for name, kind in zip(layout.task_names, types[n:], strict=True):
            columns.append(pa.array([_fit(record.columns.get(name), kind) for record in batch], kind))
        yield pa.RecordBatch.from_arrays(columns, schema=layout.schema)


def _inner_layout(records: Records, inner: str) -> tuple[pa.Schema, list[str]]:
    """Columns of the inner tables of all records, and the names of the fields that they show."""
    import pyarrow as pa

    found: dict[str, set[pa.DataType]] = {}
    n_good = n_tables = 0
    others: set[str] = set()
    for record in records():
        n_good += record.ok
        array = _inner_of(record, inner)
        if array is None:
            others.update(name for name, other in record.arrays.items() if other.dtype.names is not None)
            continue
        n_tables += 1
        for name, (kind, *_) in (array.dtype.fields or {}).items():
            found.setdefault(name, set()).add(pa.from_numpy_dtype(kind))
    if n_good and not n_tables:
        known = f"they have {', '.join(sorted(others))}" if others else "they have none"
        raise JobError(f"no record of this job has a table {inner!r}; {known}")
    shown = [f"task.{name}" if name == "key" else name for name in found]
    columns = [pa.field(name, _common_type(types)) for name, types in zip(shown, found.values(), strict=True)]
    return pa.schema([pa.field("key", pa.string()), *columns]), list(found)


def _inner_of(record: Record, inner: str) -> npt.NDArray[np.void] | None:
    array = record.arrays.get(inner)
    return None if array is None or array.dtype.names is None else cast("npt.NDArray[np.void]", array)


def _inner_batches(
    records: Iterable[Record], inner: str, schema: pa.Schema, names: list[str]
) -> Iterator[pa.RecordBatch]:
    import numpy as np
    import pyarrow as pa

    def batch() -> pa.RecordBatch:
        keys = pa.array([_fit(key, pa.string()) for key, _ in waiting], pa.string())
        rows = np.concatenate([array for _, array in waiting])
        columns = [keys.take(pa.array(np.repeat(np.arange(len(waiting)), [len(array) for _, array in waiting])))]
        for name, field in zip(names, list(schema)[1:], strict=True):
            if name in (rows.dtype.names or ()):
                values = np.ascontiguousarray(rows[name])
                texts = [_escape(text) for text in values.tolist()] if values.dtype.kind == "U" else values
                columns.append(pa.array(texts).cast(field.type))
            else:
                columns.append(pa.nulls(len(rows), field.type))
        return pa.RecordBatch.from_arrays(columns, schema=schema)

    waiting: list[tuple[str, npt.NDArray[np.void]]] = []
    n_rows = 0
    for record in records:
        array = _inner_of(record, inner)
        if array is None or not len(array):
            continue
        if waiting and (n_rows >= _BATCH or array.dtype != waiting[0][1].dtype):
            yield batch()
            waiting, n_rows = [], 0
        waiting.append((record.key, array))
        n_rows += len(array)
    if waiting:
        yield batch()


class _Seen:
    """What is known of the values of a column: their Arrow types, and the range of those that are integers."""

    def __init__(self) -> None:
        self._types: set[pa.DataType] = set()
        self._least = self._most = 0

    def add(self, value: Any) -> None:
        if type(value) is int:
            self._least, self._most = min(self._least, value), max(self._most, value)
        self._types.add(_arrow_type(value))

    def type(self, declared: str | None) -> pa.DataType:
        """The declared type if all values can be had in it unchanged, else one that fits them."""
        import pyarrow as pa

        types = self._types - {pa.null()}
        if declared is None:
            return self._found(types)
        wanted = pa.type_for_alias(declared)
        if pa.types.is_string(wanted) or all(self._holds(wanted, found) for found in types):
            return wanted
        return self._found(types)

    def _found(self, types: set[pa.DataType]) -> pa.DataType:
        import pyarrow as pa

        if types == {pa.int64()}:
            return next((kind for kind in (pa.int64(), pa.uint64()) if self._is_within(kind)), pa.string())
        common = _common_type(types)
        return pa.string() if pa.types.is_floating(common) and not self._are_floats() else common

    def _holds(self, wanted: pa.DataType, found: pa.DataType) -> bool:
        import pyarrow as pa

        if pa.types.is_floating(wanted):
            return bool(pa.types.is_floating(found) or found == pa.int64()) and self._are_floats()
        if pa.types.is_integer(wanted):
            return bool(found == pa.int64()) and self._is_within(wanted)
        return bool(wanted == found)

    def _are_floats(self) -> bool:
        """Whether a float holds the integers, rounded."""
        return max(-self._least, self._most) < 2**1023

    def _is_within(self, kind: pa.DataType) -> bool:
        import numpy as np

        limits = np.iinfo(kind.to_pandas_dtype())
        return limits.min <= self._least and self._most <= limits.max


def _arrow_type(value: Any) -> pa.DataType:
    import pyarrow as pa

    if type(value) is int:
        return pa.int64()
    try:
        found = pa.scalar(_escape(value)).type
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        return pa.string()  # mixed lists, integers beyond 64 bits
    return pa.string() if "struct<>" in str(found) else found  # Parquet has no struct without fields


def _common_type(types: set[pa.DataType]) -> pa.DataType:
    """One type for a column whose values had these: numbers widen, anything else that differs is text."""
    import pyarrow as pa

    types = types - {pa.null()}
    if len(types) == 1:
        return next(iter(types))
    if types == {pa.int64(), pa.float64()}:
        return pa.float64()
    if types and all(pa.types.is_list(found) for found in types):
        items = {found.value_type for found in types} - {pa.null()}
        item = _common_type(items)
        if not pa.types.is_string(item) or items == {pa.string()}:
            return pa.list_(item)
    return pa.string()


def _fit(value: Any, wanted: pa.DataType) -> Any:
    """A value as the column's type has it; Arrow itself refuses integers that a float rounds."""
    import pyarrow as pa

    if value is None:
        return None
    if pa.types.is_string(wanted):
        return _escape(value if isinstance(value, str) else str(value))
    if pa.types.is_floating(wanted):
        return float(value)
    if pa.types.is_list(wanted):
        return [_fit(item, wanted.value_type) for item in value]
    return _escape(value)


def _escape(value: Any) -> Any:
    r"""A value whose texts, inside lists and mappings too, are such as Arrow takes: no lone surrogates.

    They come from names and texts in another encoding, and keep their odd bytes as escapes: ``caf\udce9``.
    """
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, list):
        return [_escape(item) for item in value]
    if isinstance(value, dict):
        return {escape_name(name): _escape(item) for name, item in value.items()}
    return value
