"""Images behind URLs: which protocols can be read here, and what lies in a store.

Called by `paths`. The images themselves are read by the engines.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from parimg.errors import EmptySourceError, SourceError
from parimg.files.retrying import retried
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
        if not url.endswith("/") and not has_wildcard(url):
            self._urls = [url]
            return
        self._urls = list_url(url)
        if url.endswith(("/", "*")):
            self._urls = [found for found in self._urls if extension(found) in IMAGE_EXTENSIONS]
        if not self._urls:
            raise EmptySourceError(f"{url!r:.{QUOTED}} has no image")

    def __iter__(self) -> Iterator[Image]:
        return (Image(escape_name(url), url) for url in self._urls)


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
        list_names = store.find if url.endswith("/") else store.glob
        found = retried(lambda: list_names(path, detail=True))
        names = [store.unstrip_protocol(name) for name, info in found.items() if info["type"] == "file"]
    except Exception as error:
        # Every backend has errors of its own (aiohttp, botocore, ...) without a common base.
        raise SourceError(f"{url!r:.{QUOTED}} cannot be listed: {type(error).__name__}: {error}") from error
    # Hidden files are left out as in a folder. Stores have no folders to leave closed.
    return sorted(name for name in names if "/." not in name or "/." in url)
