"""Folders and globs: which files lie below a folder, in an order that is the same every time.

Called by `paths`. A folder is walked once, however many want to know its files or their number.
"""

from __future__ import annotations

import fnmatch
import logging
import os
import re
import threading
import zlib
from collections import Counter, deque
from itertools import islice
from typing import TYPE_CHECKING

from parimg.errors import SourceError
from parimg.sources.file_parts import listed_reader, part_elements
from parimg.sources.names import IMAGE_EXTENSIONS, extension, has_wildcard
from parimg.sources.source import Image, NamedSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from parimg.sources.names import Place

_log = logging.getLogger(__name__)

_NO_IMAGE, _UNREADABLE = "no image extension", "cannot be opened"
_BATCH = 1024  # paths that the count goes ahead of the list at a time


class Tree(NamedSource):
    """A folder or a glob.

    Files that hold many images are listed into their parts, or stand for the one part that all are asked for.

    The first listing goes on with the walk that looked whether there is an image at all, later ones walk anew.
    """

    def __init__(self, kind: str, path: str, place: Place, *, part: str = "") -> None:
        super().__init__(kind, f"{path}#{part}" if part else path, place)
        self._part = part
        absolute = place.absolute(path)
        self._root, self._patterns = (absolute, ["**"]) if kind == "folder" else _split_glob(absolute)
        self._only_images = self._patterns[-1].endswith("*")
        self._lock = threading.Lock()
        self._walk = self._begin()
        if self._walk.is_empty():
            wanted = "file with an image extension" if self._only_images else "file"
            self._refuse_empty(f"has no {wanted}" if kind == "folder" else f"matches no {wanted}")

    def __iter__(self) -> Iterator[Image]:
        with self._lock:
            if self._walk.is_taken:
                self._walk = self._begin()
            self._walk.is_taken = True
            return map(self._place.image, self._walk)

    def count(self) -> int:
        return self._walk.count()

    def left_out(self) -> Counter[str]:
        return self._left_out.copy()

    def _begin(self) -> _Walk:
        self._left_out = left_out = Counter[str]()
        return _Walk(self._files(left_out))

    def _files(self, left_out: Counter[str]) -> Iterator[str]:
        first: list[str] = []

        def note(path: str, error: OSError) -> None:
            left_out[_UNREADABLE] += 1
            first.append(f"{path!r}: {error.strerror}") if not first else None

        for path in walk(self._root, self._patterns, note):
            if self._part:
                yield f"{path}#{self._part}"
            elif (reader := listed_reader(path)) is not None:
                reader.check_installed(path)
                yield from part_elements(path)
            elif not self._only_images or extension(path) in IMAGE_EXTENSIONS:
                yield path
            else:
                left_out[_NO_IMAGE] += 1
        if n := left_out[_UNREADABLE]:
            _log.warning(
                "%d of the entries below %r cannot be opened and are left out, first %s", n, self._root, *first
            )


class _Walk:
    """One walk, which whoever lists and whoever counts go on with in turn.

    What only was counted yet is kept packed: a million paths are some 5 MB.
    """

    def __init__(self, paths: Iterator[str]) -> None:
        self.is_taken = False
        """Whether somebody lists it; each path is given once."""
        self._paths = paths
        self._kept: deque[bytes] = deque()
        self._n_met = 0
        self._lock = threading.Lock()

    def __iter__(self) -> Iterator[str]:
        while True:
            with self._lock:
                if self._kept:
                    batch = [os.fsdecode(path) for path in zlib.decompress(self._kept.popleft()).split(b"\0")]
                else:
                    batch = list(islice(self._paths, 1))
                    self._n_met += len(batch)
            if not batch:
                return
            yield from batch

    def is_empty(self) -> bool:
        """Look for the first path."""
        return self._keep(1) == 0

    def count(self) -> int:
        """Walk to the end, and tell how many paths there are."""
        while self._keep(_BATCH):
            pass
        return self._n_met

    def _keep(self, most: int) -> int:
        with self._lock:
            if batch := list(islice(self._paths, most)):
                self._n_met += len(batch)
                self._kept.append(zlib.compress(b"\0".join(map(os.fsencode, batch)), 1))
            return len(batch)


def _split_glob(pattern: str) -> tuple[str, list[str]]:
    """Split an absolute glob into the folder that it begins in and a pattern for each level below."""
    parts = pattern.split(os.sep)
    root = parts.pop(0) + os.sep
    # What exists is no pattern: a folder above may well be called `set[2]`.
    while len(parts) > 1 and (not has_wildcard(parts[0]) or os.path.isdir(os.path.join(root, parts[0]))):
        root = os.path.join(root, parts.pop(0))
    return root, parts


def walk(root: str, patterns: list[str], note: Callable[[str, OSError], None]) -> Iterator[str]:
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
    note : callable
        Called with the path of each entry that was left out, and the error that it gave: a folder that may not be
        opened or has vanished, a link to itself. What is called like an image is given all the same.

    Yields
    ------
    str
        `root` joined with the path below it.

    Raises
    ------
    SourceError
        The folder itself cannot be opened.

    Examples
    --------
    >>> import os, tempfile
    >>> with tempfile.TemporaryDirectory() as root:
    ...     for name in ("b.png", "a.png", "a.txt"):
    ...         open(os.path.join(root, name), "w").close()
    ...     [os.path.basename(path) for path in walk(root, ["**", "*.png"], print)]
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
        try:
            status = os.stat(folder)
            identity = (status.st_dev, status.st_ino)
            with os.scandir(folder) as entries:
                children = sorted((entry.name, _is_folder(entry)) for entry in entries if identity not in above)
        except OSError as error:
            if folder == root:
                raise SourceError(f"{folder!r} cannot be listed: {error.strerror}") from error
            note(folder, error)
            return
        for name, is_folder in children:
            path = os.path.join(folder, name)
            inner = enter(states, name)
            is_wanted = last in states and fits(last, name)
            if is_folder is True and not _is_one_file(name):
                if inner:
                    yield from visit(path, inner, above | {identity})
            elif is_wanted and (is_folder in {True, False} or extension(name) in IMAGE_EXTENSIONS):
                yield path
            elif isinstance(is_folder, OSError) and (is_wanted or inner):
                note(path, is_folder)

    if os.path.isdir(root):
        yield from visit(root, skip_any_depth({0}), frozenset())


def _is_one_file(folder: str) -> bool:
    """Whether a folder is a file to its format, such as ``plate.zarr``."""
    reader = listed_reader(folder)
    return reader is not None and reader.is_folder


def _is_folder(entry: os.DirEntry[str]) -> bool | OSError:
    """Whether an entry is a folder, or why nobody can tell, as of a link to itself."""
    try:
        return entry.is_dir()
    except OSError as error:
        return error
