"""What one path stands for.

Called by `as_source` and `collections`; looks at the disk once, to tell a folder from a file from a pattern.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from parimg.errors import EmptySourceError, SourceError
from parimg.images.readers import reader_of
from parimg.images.readers.registry import find_reader
from parimg.sources.file_parts import OnePart, source_of_container, split_existing
from parimg.sources.folders import Tree
from parimg.sources.names import extension, has_wildcard
from parimg.sources.source import QUOTED, Image, NamedSource, Source
from parimg.sources.tables import TABLE_EXTENSIONS, TEXT_EXTENSIONS, Table, TextFile
from parimg.sources.urls import Url

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parimg.sources.names import Place


class File(NamedSource):
    """One image."""

    def __iter__(self) -> Iterator[Image]:
        yield self._place.image(self._path)


def source_of_path(given: str | os.PathLike[str], place: Place, column: str | None) -> Source:
    """Make the source that one path names: an image, a part of one, a folder, glob, text file, table or URL.

    Raises
    ------
    SourceError
        There is nothing of that name, or nothing in it.
    """
    path: object = os.fspath(given)
    if not isinstance(path, str) or not path:
        raise SourceError(f"a path must be a str that is not empty (got {path!r:.80})")
    path = str(path)  # NumPy's strings are a subclass
    if "://" in path:
        return Url(path, place)
    absolute = place.absolute(path)
    if os.path.exists(absolute) and (container := source_of_container(path, place)) is not None:
        return container
    if os.path.isdir(absolute):
        return Tree("folder", path, place)
    if os.path.exists(absolute):
        ending = extension(path)
        if ending in TEXT_EXTENSIONS:
            return TextFile("text", path, place)
        if ending in TABLE_EXTENSIONS:
            return Table("table", path, place, column)
        return File("path", path, place)
    file, part = split_existing(path, place)
    if part:
        (reader_of(file) or find_reader(place.absolute(file))).check_installed(path)
        return OnePart("path", path, place)
    if has_wildcard(path):
        pattern, _, part = path.partition("#")
        try:
            return Tree("glob", path, place)
        except EmptySourceError:  # no file has such a name; a part of several may be meant
            if not part or not has_wildcard(pattern):
                raise
        return Tree("glob", pattern, place, part=part)
    hint = "; '~' is not expanded here, use pathlib.Path(...).expanduser()" if path.startswith("~") else ""
    raise SourceError(f"{path!r:.{QUOTED}} does not exist (looked for {absolute!r:.{QUOTED}}){hint}")
