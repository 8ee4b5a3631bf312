"""Images behind URLs: which protocols can be read here, and what lies in a store.

Called by `paths`. The images themselves are read by the engines.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

from parimg.errors import EmptySourceError, SourceError
from parimg.files.retrying import retried
from parimg.images.readers import split_address
from parimg.sources.file_parts import listed_reader, part_elements
from parimg.sources.names import IMAGE_EXTENSIONS, escape_name, extension, has_wildcard
from parimg.sources.source import QUOTED, Image, NamedSource
from parimg.sources.tables import TABLE_EXTENSIONS, TEXT_EXTENSIONS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parimg.sources.names import Place


class Url(NamedSource):
    """An image, or all that a pattern or a URL that ends in a slash leads to."""

    def __init__(self, url: str, place: Place) -> None:
        super().__init__("url", url, place)
        check_protocol(url)
        if extension(url) in TEXT_EXTENSIONS | TABLE_EXTENSIONS:
            raise SourceError(
                f"{url!r:.{QUOTED}} would be a list of images, which is read from a local file: download it"
            )
        file, part = split_address(url)
        self._part = f"#{part}" if part else ""
        if (reader := listed_reader(file)) is not None:
            reader.check_installed(url)
        if not file.endswith("/") and not has_wildcard(file):
            self._urls = [file]
            return
        self._urls = list_url(file)
        if file.endswith(("/", "*")) and not part:
            self._urls = [
                found
                for found in self._urls
                if extension(found) in IMAGE_EXTENSIONS or listed_reader(found) is not None
            ]
        if not self._urls:
            raise EmptySourceError(f"{url!r:.{QUOTED}} has no image")

    def __iter__(self) -> Iterator[Image]:
        for url in self._urls:
            if self._part or listed_reader(url) is None:
                yield Image(escape_name(url + self._part), url + self._part)
            else:
                yield from (Image(escape_name(element), element) for element in part_elements(url))


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
    if url.startswith("parquet://"):  # a row of a table, as `Table` names it
        return
    # `simplecache::s3://...` is a chain of two.
    for link in url.split("::"):
        problem = _protocol_problem(link.partition("://")[0])
        if problem:
            raise SourceError(f"{url!r:.{QUOTED}} cannot be read: {problem}")


def _is_one_file(folder: str) -> bool:
    reader = listed_reader(folder)
    return reader is not None and reader.is_folder


def _files_of_pattern(store: Any, pattern: str) -> dict[str, Any]:
    found: dict[str, Any] = store.glob(pattern, detail=True)
    return found


def _files_below(store: Any, path: str) -> dict[str, Any]:
    """All files, and folders that are files to their format, which are not looked into: they have many chunks."""
    found: dict[str, Any] = {}
    waiting = [path]
    while waiting:
        try:
            infos = store.ls(waiting.pop(), detail=True)
        except FileNotFoundError:
            continue
        for info in infos:
            name = info["name"]
            if info["type"] == "directory" and not _is_one_file(name):
                if name.rstrip("/") != path.rstrip("/"):
                    waiting.append(name)
            elif name.rstrip("/") != path.rstrip("/"):
                found[name.rstrip("/")] = info
    return found


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
        raise SourceError(f"{url!r:.{QUOTED}} is a chain of URLs, which is not listed; pass the URL of each image")
    try:
        store, path = url_to_fs(url)
        look = _files_below if url.endswith("/") else _files_of_pattern
        found = retried(lambda: look(store, path))
        names = [
            store.unstrip_protocol(name)
            for name, info in found.items()
            if info["type"] == "file" or _is_one_file(name)
        ]
    except Exception as error:
        # Every backend has errors of its own (aiohttp, botocore, ...) without a common base.
        raise SourceError(f"{url!r:.{QUOTED}} cannot be listed: {type(error).__name__}: {error}") from error
    # Hidden files are left out as in a folder. Stores have no folders to leave closed.
    return sorted(name for name in names if "/." not in name or "/." in url)
