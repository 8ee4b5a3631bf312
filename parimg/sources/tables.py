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
from parimg.images.readers import reader_of
from parimg.sources.file_parts import listed_reader, part_elements
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
        for row, name in enumerate(names, 1):
            if name and (reader := listed_reader(name)) is not None:
                reader.check_installed(name)
                is_url = "://" in name
                for element in part_elements(name if is_url else self._place_inside.absolute(name)):
                    yield Image(element, element) if is_url else image(element)
            elif name:
                if "#" in name and (reader := reader_of(name.partition("#")[0])) is not None:
                    reader.check_installed(name)
                yield Image(name, name) if "://" in name else image(name)
            else:  # costs only its own record
                yield Image(f"{self._place.key(self._file)}, row {row}", "")


class Table(TextFile):
    """A path or URL a row, or an encoded image a row."""

    def __iter__(self) -> Iterator[Image]:
        column = path_column(self._file, self._column)
        holds_images, field = _look_inside(self._file, column) if _is_parquet(self._file) else (False, "")
        if not holds_images:
            yield from self._named(column_values(self._file, column, field))
            return
        address = f"parquet://{quote(os.fsencode(self._file))}?{quote(column)}#"
        if field and _are_unique(self._file, f"{column}.{field}"):
            for row, name in enumerate(_parquet_values(self._file, column, field)):
                yield Image(escape_name(str(name)), f"{address}{row}")
        else:
            prefix = self._place.key(self._file)
            for row in range(count_rows(self._file)):
                yield Image(f"{prefix}#{row}", f"{address}{row}")

    def count(self) -> int:
        if not _is_parquet(self._file):
            return super().count()
        # Rows of images, or of paths, of which only those of files with parts are more than one.
        column = path_column(self._file, self._column)
        holds_images, field = _look_inside(self._file, column)
        if holds_images or not any(map(listed_reader, column_values(self._file, column, field))):
            return count_rows(self._file)
        return super().count()


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
        raise SourceError(f"{path!r} cannot be read as a text file in UTF-8: {error!s:.300}") from error


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


def column_values(table: str, column: str, field: str = "") -> Iterator[str]:
    r"""Give the values of one column of text, or of a field of its structs; rows are read when they are needed.

    Raises
    ------
    SourceError
        The table cannot be read, or a value is no text; one that is missing is empty.

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
    values = _parquet_values(table, column, field) if _is_parquet(table) else _csv_values(table, column)
    for row, value in enumerate(values, 1):
        if value is not None and type(value) is not str:
            raise SourceError(f"row {row} of {table!r} has no path in column {column!r:.80} (got {value!r:.80})")
        yield value or ""


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
        raise SourceError(f"{table!r} cannot be read as a table in UTF-8: {error!s:.300}") from error


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
        raise SourceError(f"{table!r} cannot be read as a Parquet file: {error!s:.300}") from error


def _parquet_columns(table: str) -> list[str]:
    with _open_parquet(table) as parquet:
        return list(parquet.schema_arrow.names)


def _parquet_values(table: str, column: str, field: str) -> Iterator[object]:
    from pyarrow import ArrowException

    with _open_parquet(table) as parquet:
        try:
            wanted = f"{column}.{field}" if field else column
            for batch in parquet.iter_batches(_BATCH_ROWS, columns=[wanted], use_threads=False):
                values = batch.column(0)
                yield from (values.flatten()[0] if field else values).to_pylist()
        except (OSError, ArrowException) as error:
            raise SourceError(f"{table!r} cannot be read to its end: {error!s:.300}") from error


# -- images inside a table -----------------------------------------------------------------------------------


def _look_inside(table: str, column: str) -> tuple[bool, str]:
    """Whether a column holds encoded images, and which of its fields their paths.

    Data sets are published with columns of ``{bytes, path}``; where all bytes are null, the paths lead to files.
    """
    from pyarrow import types

    with _open_parquet(table) as parquet:
        kind = parquet.schema_arrow.field(column).type
        if types.is_binary(kind) or types.is_large_binary(kind):
            return True, ""
        if not types.is_struct(kind):
            return False, ""
        names = {kind.field(number).name for number in range(kind.num_fields)}
        return (
            "bytes" in names and _has_bytes(parquet.metadata, f"{column}.bytes"),
            "path" if "path" in names else "",
        )


def _are_unique(table: str, column: str) -> bool:
    """Whether the paths of images tell them apart."""
    import pyarrow.compute as pc
    from pyarrow.parquet import read_table

    (paths,) = read_table(table, columns=[column]).flatten().columns
    return bool(pc.count_distinct(paths, mode="only_valid").as_py() == len(paths))


def _has_bytes(metadata: Any, path: str) -> bool:
    """Whether any value of a nested column is not null, as far as the file's statistics tell."""
    for number in range(metadata.num_row_groups):
        group = metadata.row_group(number)
        for column in map(group.column, range(group.num_columns)):
            if column.path_in_schema == path:
                known = column.statistics
                if known is None or not known.has_null_count or known.null_count < group.num_rows:
                    return True
    return False
