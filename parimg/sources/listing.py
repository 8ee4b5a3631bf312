"""Listings that name images: folder trees, text files, tables, stores behind URLs.

Each function gives paths or URLs as strings, in an order that is the same every time, and none opens an
image. Called by `sources`, in the client.
"""

from __future__ import annotations

import csv
import fnmatch
import os
import re
from functools import cache
from typing import TYPE_CHECKING, Any

from parimg.errors import MissingColumnError, SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator

PATH_COLUMNS = ("path", "file", "filename", "image", "uri", "url")
"""Columns of a table that are looked for when none is named."""

_BATCH_ROWS = 8192


def extension(path: str) -> str:
    """Give the extension in lower case, with its dot.

    Examples
    --------
    >>> extension("views/A.PNG")
    '.png'
    """
    dot = path.rfind(".")
    return path[dot:].lower() if dot >= 0 else ""


# -- folders -------------------------------------------------------------------------------------------------


def walk(root: str, patterns: list[str]) -> Iterator[str]:
    """Give the files below a folder whose path matches, folder by folder in sorted order.

    Strategy: a folder is visited with the set of patterns that its entries may match, as an automaton whose
    letters are the parts of a path. So ``**/b/**`` gives no file twice, and folders that cannot lead to a
    match stay closed. `glob.glob` does neither, and follows a circular link until the path is too long.

    Parameters
    ----------
    root : str
        Where to begin. Nothing is given if it is no folder.
    patterns : list of str
        One for each level, with ``*``, ``?`` and ``[...]``; ``**`` stands for any number of levels. Hidden
        files and folders match only a pattern that begins with a dot.

    Yields
    ------
    str
        `root` joined with the path below it.

    Raises
    ------
    SourceError
        A folder cannot be opened.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("b.png", "a.png", "a.txt"):
    ...         open(os.path.join(root, name), "w").close()
    ...     [os.path.basename(path) for path in walk(root, ["**", "*.png"])]
    ['a.png', 'b.png']
    """
    last = len(patterns) - 1
    any_depth = [pattern == "**" for pattern in patterns]
    matches = [re.compile(fnmatch.translate(os.path.normcase(pattern))).match for pattern in patterns]

    def fits(state: int, name: str) -> bool:
        is_hidden = name.startswith(".") and not patterns[state].startswith(".")
        return not is_hidden and matches[state](os.path.normcase(name)) is not None

    def skip_any_depth(states: set[int]) -> set[int]:
        for state in range(last):
            if state in states and any_depth[state]:
                states.add(state + 1)
        return states

    def enter(states: set[int], name: str) -> set[int]:
        reached = {state if any_depth[state] else state + 1 for state in states if fits(state, name)}
        return skip_any_depth(reached - {last + 1})

    def visit(folder: str, states: set[int], above: frozenset[tuple[int, int]]) -> Iterator[str]:
        status = os.stat(folder)
        identity = (status.st_dev, status.st_ino)
        if identity in above:
            return
        with os.scandir(folder) as entries:
            children = sorted((entry.name, entry.is_dir()) for entry in entries)
        for name, is_folder in children:
            path = os.path.join(folder, name)
            if not is_folder:
                if last in states and fits(last, name):
                    yield path
            elif inner := enter(states, name):
                yield from visit(path, inner, above | {identity})

    if os.path.isdir(root):
        try:
            yield from visit(root, skip_any_depth({0}), frozenset())
        except OSError as error:
            raise SourceError(f"{error.filename!r} cannot be listed: {error.strerror}") from error


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
        problem = f"no column {wanted!r}"
    raise MissingColumnError(f"{table!r} has {problem}; name one of its columns {columns} with column=...")


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
            raise SourceError(f"row {row} of {table!r} has no path in column {column!r} (got {value!r})")
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
            file.seek(0)
            # Spreadsheets write semicolons where the comma is the decimal point.
            delimiter = max(",;\t", key=header.count)
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


# -- URLs ----------------------------------------------------------------------------------------------------


def has_wildcard(path: str) -> bool:
    """Tell whether a path or URL is a pattern, by its text alone.

    Examples
    --------
    >>> has_wildcard("views/*.png"), has_wildcard("s3://bucket/view?.png")
    (True, True)
    >>> has_wildcard("https://example.org/view?name=3")  # here a question mark begins a query
    False
    """
    protocol, _, rest = path.rpartition("://")
    if protocol in ("http", "https"):
        rest = rest.partition("?")[0]
    return _WILDCARD.search(rest) is not None


_WILDCARD = re.compile(r"[*?\[]")


def check_protocol(url: str) -> None:
    """Raise `SourceError` unless fsspec can read this protocol here.

    Examples
    --------
    >>> check_protocol("memory://a.png")
    >>> check_protocol("nosuch://a.png")
    Traceback (most recent call last):
        ...
    parimg.errors.SourceError: 'nosuch://a.png' cannot be read: Protocol not known: nosuch
    """
    # `simplecache::s3://...` is a chain of two.
    for link in url.split("::"):
        problem = _protocol_problem(link.partition("://")[0])
        if problem:
            raise SourceError(f"{url!r} cannot be read: {problem}")


@cache
def _protocol_problem(protocol: str) -> str:
    from fsspec import get_filesystem_class

    try:
        get_filesystem_class(protocol)
    except ImportError as error:
        return f"{error}, here and on the engines"
    except ValueError as error:
        return str(error)
    return ""


def list_url(url: str) -> list[str]:
    """Give the URLs that a pattern matches, or that lie below a URL which ends in a slash, in sorted order.

    Raises
    ------
    SourceError
        The store cannot be listed.

    Examples
    --------
    >>> import fsspec
    >>> fsspec.filesystem("memory").pipe({"/views/b.png": b"b", "/views/left/a.png": b"a"})
    >>> list_url("memory://views/")
    ['memory:///views/b.png', 'memory:///views/left/a.png']
    >>> list_url("memory://views/*.png")
    ['memory:///views/b.png']
    """
    from fsspec.core import url_to_fs

    if "::" in url:
        raise SourceError(f"{url!r} is a chain of URLs, which is not listed; pass the URL of each image")
    try:
        store, path = url_to_fs(url)
        found = store.find(path, detail=True) if url.endswith("/") else store.glob(path, detail=True)
        names = [store.unstrip_protocol(name) for name, info in found.items() if info["type"] == "file"]
    except Exception as error:
        # Every backend has errors of its own (aiohttp, botocore, ...) without a common base.
        raise SourceError(f"{url!r} cannot be listed: {type(error).__name__}: {error}") from error
    # Hidden files are left out as in `walk`. Stores have no folders to leave closed.
    return sorted(name for name in names if "/." not in name or "/." in url)
