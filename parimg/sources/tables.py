"""Text files and tables that name images, a path or URL a line or row, or hold them.

Called by `paths`. Rows are read when they are needed; the bytes of images that a table holds are read on engines.
"""

from __future__ import annotations

import csv
import os
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from parimg.errors import MissingColumnError, SourceError
from parimg.sources.names import escape_name, extension
from parimg.sources.source import QUOTED, Image, NamedSource

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parimg.sources.names import Place

TEXT_EXTENSIONS = frozenset((".txt", ".lst"))
TABLE_EXTENSIONS = frozenset((".csv", ".tsv", ".parquet", ".pq"))
PATH_COLUMNS = ("path", "file", "filename", "image", "uri", "url")
"""Columns of a table that are looked for when none is named."""

_BATCH_ROWS = 8192


class TextFile(NamedSource):
    """A path or URL a line."""

    def __init__(self, kind: str, path: str, place: Place, column: str | None = None) -> None:
        super().__init__(kind, path, place, column)
        self._file = place.absolute(path)
        self._place_inside = place.inside(os.path.dirname(self._file))
        if next(iter(self), None) is None:
            self._refuse_empty("names no image")

    def __iter__(self) -> Iterator[Image]:
        return self._named(text_lines(self._file))

    def _named(self, names: Iterator[str]) -> Iterator[Image]:
        image = self._place_inside.image
        for name in names:
            yield Image(name, name) if "://" in name else image(name)


class Table(TextFile):
    """A path or URL a row, or an encoded image a row."""

    def __iter__(self) -> Iterator[Image]:
        column = path_column(self._file, self._column)
        if not _is_parquet(self._file) or (names := _names_inside(self._file, column)) is None:
            yield from self._named(column_values(self._file, column))
            return
        # Where the table's own names do not tell its images apart, the number of the row does.
        prefix = "" if names.are_unique else f"{self._place.key(self._file)}#"
        address = f"parquet://{quote(os.fsencode(self._file))}?{quote(column)}#"
        for row, name in enumerate(names):
            key = escape_name(name or "") if not prefix else f"{prefix}{row}"
            yield Image(key, f"{address}{row}")

    def count(self) -> int:
        return count_rows(self._file)


# -- text files ----------------------------------------------------------------------------------------------


def text_lines(path: str) -> Iterator[str]:
    r"""Give the lines of a text file, without blank ones and comments.

    Raises
    ------
    SourceError
        The file cannot be read, or is not UTF-8.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = os.path.join(folder, "views.txt")
    ...     with open(path, "w") as file:
    ...         _ = file.write("# the good ones\na.png\n\n  b.png\n")
    ...     list(text_lines(path))
    ['a.png', 'b.png']
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            for line in file:
                text = line.strip()
                if text and not text.startswith("#"):
                    yield text
    except (OSError, UnicodeDecodeError) as error:
        raise SourceError(f"{path!r} cannot be read as a text file in UTF-8: {error}") from error


# -- tables --------------------------------------------------------------------------------------------------


def path_column(table: str, wanted: str | None) -> str:
    r"""Find the column of a table that holds paths.

    Parameters
    ----------
    table : str
        Path of a CSV, TSV or Parquet file.
    wanted : str or None
        Name of the column; if None, the one that has a name out of `PATH_COLUMNS`, in whatever case.

    Raises
    ------
    MissingColumnError
        There is none, or more than one.
    SourceError
        The table cannot be read.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = os.path.join(folder, "views.csv")
    ...     with open(table, "w") as file:
    ...         _ = file.write("angle,file\n0,a.png\n")
    ...     path_column(table, None)
    'file'
    """
    columns = _parquet_columns(table) if _is_parquet(table) else _csv_columns(table)
    if wanted is None:
        found = [column for column in columns if column.lower() in PATH_COLUMNS]
        if len(found) == 1:
            return found[0]
        problem = f"{len(found)} columns that could hold the paths ({', '.join(PATH_COLUMNS)})"
    elif wanted in columns:
        return wanted
    else:
        problem = f"no column {wanted!r:.80}"
    raise MissingColumnError(
        f"{table!r:.{QUOTED}} has {problem}; name one of its columns {columns!s:.{QUOTED}} with column=..."
    )


def column_values(table: str, column: str) -> Iterator[str]:
    r"""Give the values of one column of text; rows are read when they are needed.

    Raises
    ------
    SourceError
        The table cannot be read, or a value is missing or no text.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = os.path.join(folder, "views.csv")
    ...     with open(table, "w") as file:
    ...         _ = file.write("angle,file\n0,a.png\n7,b.png\n")
    ...     list(column_values(table, "file"))
    ['a.png', 'b.png']
    """
    values = _parquet_values(table, column) if _is_parquet(table) else _csv_values(table, column)
    for row, value in enumerate(values, 1):
        if type(value) is not str or not value:
            raise SourceError(f"row {row} of {table!r} has no path in column {column!r} (got {value!r:.80})")
        yield value


def count_rows(table: str) -> int:
    """Count the rows of a table without its header; Parquet has the number stored."""
    if _is_parquet(table):
        with _open_parquet(table) as parquet:
            return int(parquet.metadata.num_rows)
    return sum(1 for _ in _csv_rows(table)) - 1


def _is_parquet(table: str) -> bool:
    return extension(table) in (".parquet", ".pq")


def _csv_rows(table: str) -> Iterator[list[str]]:
    """Give the rows, the header first; blank lines are no rows."""
    try:
        with open(table, encoding="utf-8-sig", newline="") as file:
            header = file.readline()
            if named := re.fullmatch(r"sep=(.)\s*", header):  # as spreadsheets understand it
                delimiter = named[1]
            else:
                file.seek(0)
                # Spreadsheets write semicolons where the comma is the decimal point. Quoted text has none.
                delimiter = max(",;\t|", key=re.sub(r'"[^"]*"?', "", header).count)
            for row in csv.reader(file, delimiter=delimiter):
                if row:
                    yield row
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise SourceError(f"{table!r} cannot be read as a table in UTF-8: {error}") from error


def _csv_columns(table: str) -> list[str]:
    return [name.strip() for name in next(_csv_rows(table), [])]


def _csv_values(table: str, column: str) -> Iterator[str | None]:
    position = _csv_columns(table).index(column)
    rows = _csv_rows(table)
    next(rows)
    for row in rows:
        yield row[position].strip() if position < len(row) else None


def _open_parquet(table: str) -> Any:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        return ParquetFile(table)
    except (OSError, ArrowException) as error:
        raise SourceError(f"{table!r} cannot be read as a Parquet file: {error}") from error


def _parquet_columns(table: str) -> list[str]:
    with _open_parquet(table) as parquet:
        return list(parquet.schema_arrow.names)


def _parquet_values(table: str, column: str) -> Iterator[object]:
    from pyarrow import ArrowException

    with _open_parquet(table) as parquet:
        try:
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=[column], use_threads=False):
                yield from batch.column(0).to_pylist()
        except (OSError, ArrowException) as error:
            raise SourceError(f"{table!r} cannot be read to its end: {error}") from error


# -- images inside a table -----------------------------------------------------------------------------------


class _Names:
    """What a table calls the images that it holds, row by row; None where it has no name."""

    def __init__(self, table: str, column: str | None) -> None:
        self._table = table
        self._column = column
        self.are_unique = column is not None and self._count_distinct(column) == count_rows(table)

    def __iter__(self) -> Iterator[str | None]:
        if self._column is None:
            return iter([None] * count_rows(self._table))
        return (value["path"] for value in _parquet_values(self._table, self._column))  # type: ignore[index]

    def _count_distinct(self, column: str) -> int:
        import pyarrow.compute as pc
        from pyarrow.parquet import read_table

        (names,) = read_table(self._table, columns=[column]).flatten().columns
        return int(pc.count_distinct(names, mode="only_valid").as_py())


def _names_inside(table: str, column: str) -> _Names | None:
    """Names of the images in a column of encoded images, None if it is none.

    Data sets are published with columns of ``{bytes, path}``; where all bytes are null, the paths lead to files.
    """
    from pyarrow import types

    with _open_parquet(table) as parquet:
        kind = parquet.schema_arrow.field(column).type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return _Names(table, None)
        if not types.is_struct(kind) or "bytes" not in {kind.field(n).name for n in range(kind.num_fields)}:
            return None
    return _Names(table, f"{column}.path" if kind.get_field_index("path") >= 0 else None)
