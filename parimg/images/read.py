"""Bytes of a path, a URL, or a row of a table.

Called by `decode` and by tasks over other files, on the engines.
"""

from __future__ import annotations

import os
import stat
from bisect import bisect_right
from functools import lru_cache
from itertools import accumulate
from typing import Any, cast
from urllib.parse import unquote

from parimg.errors import ImageEmptyError, ImageError, ImageMissingError
from parimg.files.retrying import retried
from parimg.images.readers.address import split_address
from parimg.images.readers.guarding import forbidden, missing, unread


def read_bytes(uri: str) -> bytes:
    """Read a whole file from a local path or an fsspec URL.

    Parameters
    ----------
    uri : str
        Local path, or a URL of any protocol that fsspec knows and that is installed (``file://``,
        ``https://``, ``s3://``, ``memory://``, ...). Credentials and endpoints are fsspec's configuration. Or
        ``parquet://PATH?COLUMN#ROW``, as sources name the images that a table holds.

    Returns
    -------
    bytes
        At least one byte.

    Raises
    ------
    ImageMissingError
        There is no such file or object.
    ImageEmptyError
        It has no bytes.
    ImageError
        It is a folder, must not be read, or the other side failed.

    Examples
    --------
    >>> import fsspec
    >>> fsspec.filesystem("memory").pipe("/doctest/a.txt", b"abc")
    >>> read_bytes("memory://doctest/a.txt")
    b'abc'
    """
    if not uri:
        raise ImageMissingError("there is no path of it, where it was named")
    try:
        if uri.startswith("parquet://"):
            data = _read_row(uri)
        else:
            data = retried(lambda: _read_url(uri)) if "://" in uri else _read_file(uri)
    except ImageError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        raise missing(uri) from None
    except IsADirectoryError:
        raise ImageError(f"{uri!r:.300} is a folder, wanted an image file; give it as a source instead") from None
    except PermissionError:
        raise forbidden(uri) from None
    except ImportError as error:
        raise ImageError(f"{uri!r:.300} needs a package that this engine lacks: {error}") from error
    except Exception as error:
        # Every fsspec backend has errors of its own (aiohttp, botocore, ...) without a common base.
        raise unread(uri, error) from error
    if not data:
        raise ImageEmptyError(f"{uri!r:.300} has 0 bytes; was it written to the end?")
    return data


def local_path(uri: str) -> str | None:
    """Path of the file that a URI names, whole or a part, on this host's disks; None for stores' and no name.

    Examples
    --------
    >>> [local_path(uri) for uri in ("/a.png", "file:///a%20b.png", "parquet:///t.parquet?image#3", "s3://a.png")]
    ['/a.png', '/a b.png', '/t.parquet', None]
    """
    if uri.startswith("parquet://"):
        return unquote(uri.removeprefix("parquet://").partition("?")[0], errors="surrogateescape")
    if uri.startswith("file://"):
        path = uri.removeprefix("file://")
        return path if os.path.exists(path) else unquote(path)
    return split_address(uri)[0] if uri and "://" not in uri else None


def _read_file(path: str) -> bytes:
    mode = os.stat(path).st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # to open or read it may never end
        raise ImageError(f"{path!r:.300} is a pipe, socket or device, wanted an image file")
    with open(path, "rb") as file:
        return file.read()


def _read_url(url: str) -> bytes:
    from fsspec.core import url_to_fs

    filesystem, path = url_to_fs(url)
    # One request; `open` would first ask for the size.
    try:
        data: bytes = (_read_file if "file" in filesystem.protocol else filesystem.cat_file)(path)
    except FileNotFoundError:
        if not url.startswith("file://") or unquote(path) == path:
            raise
        data = _read_file(unquote(path))  # `Path.as_uri` quotes, which fsspec does not undo
    return data


def _read_row(uri: str) -> bytes:
    """The image in a row of a Parquet file."""
    table, _, place = uri.removeprefix("parquet://").partition("?")
    column, _, row = place.rpartition("#")
    path = unquote(table, errors="surrogateescape")
    modified = os.stat(path).st_mtime_ns
    starts = _open_table(path, modified)
    group = bisect_right(starts, int(row)) - 1
    value = None
    if group < len(starts) - 1:
        value = _read_group(path, modified, unquote(column), group)[int(row) - starts[group]].as_py()
    if value is None:
        raise ImageMissingError(f"{uri!r:.300} holds no image; was the table written anew?")
    return cast(bytes, value)


@lru_cache(maxsize=8)
def _open_table(path: str, _modified: int) -> list[int]:
    """First row of each group, and the end."""
    from pyarrow.parquet import read_metadata

    metadata = read_metadata(path)
    return list(accumulate((metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)), initial=0))


@lru_cache(maxsize=1)  # a chunk's images are neighbours; data sets have some 100 images a group
def _read_group(path: str, _modified: int, column: str, group: int) -> Any:
    """The encoded images of a group of rows."""
    from pyarrow import types
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as parquet:
        is_struct = types.is_struct(parquet.schema_arrow.field(column).type)
        wanted = f"{column}.bytes" if is_struct else column
        values = parquet.read_row_group(group, columns=[wanted], use_threads=False)
    return (values.flatten() if is_struct else values).column(0)
