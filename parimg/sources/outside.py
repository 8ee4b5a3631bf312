"""A source seen from the folder that its job writes to: without what lies there, and what its keys have in common.

Made by the controller for tasks that write files; `source_from_spec` makes it again.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import chain, islice
from typing import Any, NamedTuple

from parimg.errors import EmptySourceError
from parimg.sources.as_source import Image, Source, source_from_spec

_MOST = 100_000  # images that are looked at before a job begins: half a second for a folder of this machine


class Seen(NamedTuple):
    """What is known of a source's images before its job begins."""

    keys: list[str]
    root: str | None
    """What the keys of all images begin with, where that is known without a look at them."""
    are_all: bool
    n_left_out: int


class OutsideFolder(Source):
    """The images of a source that do not lie in a folder: else each run would eat what the last one wrote.

    Parameters
    ----------
    source : Source
    folder : str or None
        Absolute path. None: all images are taken.
    """

    def __init__(self, source: Source, folder: str | None) -> None:
        self._source = source
        self._folder = folder
        self.restartable = source.restartable
        self._begun: Iterator[Image] | None = None
        inside = None if folder is None else os.path.realpath(folder) + os.sep

        @lru_cache(4096)
        def is_inside(parent: str) -> bool:
            return inside is not None and (os.path.realpath(parent) + os.sep).startswith(inside)

        self._is_inside = is_inside

    def __iter__(self) -> Iterator[Image]:
        begun, self._begun = self._begun, None
        return filter(self._is_outside, self._source if begun is None else begun)

    def _is_outside(self, image: Image) -> bool:
        is_file = image.array is None and "://" not in image.uri
        return not (is_file and self._is_inside(os.path.dirname(image.uri)))

    def count(self) -> int | None:
        return sum(1 for _ in self) if self.restartable and self._folder else self._source.count()

    def spec(self) -> dict[str, Any]:
        found = self._source.spec()
        return found if self._folder is None else {**found, "outside": self._folder}

    def left_out(self) -> Counter[str]:
        return self._source.left_out()

    def look(self) -> Seen:
        """Look at the first images; of a generator at one, which is given nevertheless.

        Raises
        ------
        EmptySourceError
            If there are no others than those in the folder.
        """
        is_generator = not self._source.restartable and self._source.count() is None
        most = 1 if is_generator else _MOST
        listed = iter(self._source)
        first = list(islice(listed, most))
        if is_generator:
            self._begun = chain(first, listed)
        keys = [image.key for image in first if self._is_outside(image)]
        are_all = len(first) < most
        if are_all and not keys:
            raise EmptySourceError(
                f"all {len(first)} images lie in the output folder {self._folder!r}; choose one with none of them"
            )
        root = _root_of(self._source.spec(), are_all)
        is_root = root is not None and all(key.startswith(root) for key in keys)
        return Seen(keys, root if is_root else None, are_all, len(first) - len(keys))


def outside_again(spec: Mapping[str, Any]) -> Source:
    """The source that `OutsideFolder.spec` described."""
    return OutsideFolder(source_from_spec({**spec, "outside": None}), spec["outside"])


def output_folder(spec: Mapping[str, Any]) -> str | None:
    """The folder that a described source, or the first of several, leaves out."""
    one = spec["sources"][0] if spec["kind"] == "several" and not spec.get("outside") else spec
    folder: str | None = one.get("outside")
    return folder


def _root_of(spec: Mapping[str, Any], are_all: bool) -> str | None:
    """What the keys of a folder, or of a glob too long to be looked at, begin with."""
    if spec["kind"] not in {"folder", "glob"} or (spec["kind"] == "glob" and are_all):
        return None
    path: str = spec["images"]
    cwd: str = spec["cwd"]
    if spec["kind"] == "glob":
        path = path[: min(path.find(wildcard) % (len(path) + 1) for wildcard in "*?[")].rpartition("/")[0]
    root = os.path.normpath(os.path.join(cwd, path)).rstrip(os.sep) + os.sep
    return root if spec.get("absolute_keys") else root.removeprefix(cwd.rstrip(os.sep) + os.sep)
