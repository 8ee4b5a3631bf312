"""Images that are named one by one: lists, mappings, generators, and arrays with names.

Called by `as_source`.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from itertools import chain
from numbers import Integral
from typing import TYPE_CHECKING, Any

from parimg.errors import EmptySourceError, SourceError
from parimg.sources.file_parts import OnePart
from parimg.sources.names import escape_name, is_plain
from parimg.sources.paths import File, source_of_path
from parimg.sources.source import Image, Source
from parimg.sources.urls import Url

if TYPE_CHECKING:
    from parimg.sources.names import Place


def _expand(
    items: Iterable[object], place: Place, column: str | None, made: Mapping[int, Source]
) -> Iterator[Image]:
    """Give the images of each item; `made` has the sources that were made of some when they were checked."""
    from numpy import ndarray

    # Together these two branches are all elements of nearly all lists, and of all large ones.
    for index, item in enumerate(items):
        if type(item) is str and is_plain(item):
            yield place.image(item)
        elif type(item) is tuple and len(item) == 2 and type(item[0]) is str and isinstance(item[1], ndarray):
            yield Image(escape_name(item[0]), "", item[1])
        elif isinstance(found := made.get(index) or _element(item, index, place, column), Image):
            yield found
        else:
            yield from found


def _element(item: object, index: int, place: Place, column: str | None) -> Image | Source:
    from numpy import ndarray

    if isinstance(item, tuple) and len(item) == 2 and isinstance(item[1], ndarray):
        name, array = item
        if isinstance(name, bool) or not isinstance(name, (str, Integral)):
            raise SourceError(f"element {index} of images: the name of an array must be a str (got {name!r:.80})")
        return Image(escape_name(str(name)), "", array)
    if isinstance(item, (str, os.PathLike)):
        path = os.fspath(item)
        if isinstance(path, str) and is_plain(path):
            return place.image(str(path))
        try:
            source = source_of_path(item, place, column)
        except SourceError as error:
            raise type(error)(f"element {index} of images: {error}") from None
        return next(iter(source)) if isinstance(source, File | OnePart) else source
    if isinstance(item, ndarray):
        raise SourceError(
            f"element {index} of images is an array without a name: pass (name, array) tuples or enumerate(arrays)"
        )
    raise SourceError(
        f"element {index} of images must be a path, folder, glob, table, URL or a (name, array) tuple "
        f"(got {item!r:.80} that is a {type(item).__name__})"
    )


class Items(Source):
    """What is in memory already: every element is checked at once."""

    def __init__(self, items: Sequence[object], place: Place, column: str | None) -> None:
        if not items:
            raise EmptySourceError("the list of images is empty")
        self._items = items
        self._place = place
        self._column = column
        self._made: dict[int, Source] = {}
        for index, item in enumerate(items):
            if type(item) is str and is_plain(item):
                continue
            found = _element(item, index, place, column)
            if isinstance(found, Image):
                self.restartable = self.restartable and found.array is None
            elif not isinstance(found, Url) or found.count() != 1:
                self._made[index] = found

    def __iter__(self) -> Iterator[Image]:
        return _expand(self._items, self._place, self._column, self._made)

    def count(self) -> int:
        return len(self._items) - len(self._made) + sum(source.count() or 0 for source in self._made.values())

    def left_out(self) -> Counter[str]:
        return sum((source.left_out() for source in self._made.values()), Counter())

    def spec(self) -> dict[str, Any]:
        if not self.restartable:
            return {"kind": "arrays"}
        paths = [str(os.fspath(item)) for item in self._items if isinstance(item, (str, os.PathLike))]
        return {"kind": "list", "images": paths, "column": self._column, **self._place.spec()}


class Stream(Source):
    """A generator, or an iterable that may make its elements as it goes: only the first one is looked at."""

    restartable = False

    def __init__(self, items: Iterable[object], place: Place, column: str | None) -> None:
        self._items = items
        self._place = place
        self._column = column
        self._is_used_up = False
        elements = iter(items)
        try:
            first = next(elements)
        except StopIteration:
            raise EmptySourceError(f"images is a {type(items).__name__} that gives nothing") from None
        found = _element(first, 0, place, column)
        self._gives_arrays = isinstance(found, Image) and isinstance(first, tuple)
        self._made = {} if isinstance(found, Image) else {0: found}
        # An iterator has given its first element away; others begin anew.
        self._rest = chain([first], elements) if elements is items else None

    def __iter__(self) -> Iterator[Image]:
        if self._rest is None:
            return _expand(self._items, self._place, self._column, self._made)
        if self._is_used_up:
            raise SourceError("images was a generator, which can be run through only once; make a new one")
        self._is_used_up = True
        return _expand(self._rest, self._place, self._column, self._made)

    def count(self) -> int | None:
        return len(self._items) if self._gives_arrays and isinstance(self._items, Sized) else None

    def spec(self) -> dict[str, Any]:
        return {"kind": "arrays" if self._gives_arrays else "generator"}
