"""Files that are named after images: below the folder that the user chose and nowhere else, whatever keys are.

Imports errors and `atomic` only. Called by tasks that write, on engines; the client tells them by `OutputNames`
what all keys have in common.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass
from typing import BinaryIO, Self

from parimg.errors import TaskError
from parimg.files.atomic import write_whole
from parimg.files.stores import is_url, write_url

_collected: ContextVar[list[tuple[str, bytes]] | None] = ContextVar("parimg_files", default=None)
_LONGEST_NAME = 200  # bytes; file systems take 255, and unfinished files have a longer name
_UNSAFE = re.compile(r'[\x00-\x1f\x7f%\\:*?"<>|\ud800-\udfff]')
_NAME = re.compile(r"(?P<stem>.+?)(?P<ending>\.[A-Za-z][A-Za-z0-9]{1,4})?", re.DOTALL)
_HAS_ENDING_WRITTEN_OUT = re.compile(r"~[A-Za-z0-9]*\Z")


@dataclass(frozen=True)
class OutputNames:
    """How the files of a job's images are called: a pure function of the key, and another file for each key.

    Examples
    --------
    >>> names = OutputNames.of(["/data/views/1.jpg", "/data/views/2.jpg"])
    >>> names.file_of("out", "/data/views/1.jpg", ".png")
    'out/1.png'
    >>> twins = OutputNames.of(["a.jpg", "a.png", "b.jpg"])
    >>> [twins.file_of("out", key, ".tif") for key in ("a.jpg", "a.png", "b.jpg")]
    ['out/a~jpg.tif', 'out/a~png.tif', 'out/b.tif']
    """

    root: str = ""
    """What keys begin with and files leave out; empty, or ends in a slash."""
    ending: str = ""
    """That of most images, which files have not."""
    alone: frozenset[str] | None = None
    """If images have several endings: the keys that no other one resembles but for it, which lose it, too."""

    @classmethod
    def of(cls, keys: Sequence[str], root: str | None = None, *, are_all: bool = True) -> Self:
        """Names for the images of a source.

        Parameters
        ----------
        keys : sequence of str
            Of all its images, or of the first ones.
        root : str, optional
            Of the folder that it is; by default the folder that all keys share, if these are all.
        are_all : bool
            Whether there are no others now. Others that come later have names of their own, too.
        """
        if root is None:
            shared = os.path.commonprefix(keys) if are_all else ""  # noqa: RUF071 - of URLs and names, too
            root = shared[: shared.rfind("/") + 1]
        split = {key: _split(key) for key in keys}
        endings = {ending for _, ending in split.values()}
        if len(endings) <= 1 or not are_all:
            return cls(root, split[keys[0]][1] if keys else "")
        times = Counter(stem for stem, _ in split.values())
        return cls(root, alone=frozenset(key for key, (stem, _) in split.items() if times[stem] == 1))

    def file_of(self, folder: str, key: str, extension: str) -> str:
        """Path of the file that belongs to an image, below `folder`.

        Parameters
        ----------
        folder : str
        key : str
            The image's key: a relative or absolute path, a URL, any name.
        extension : str
            In the place of the image's own one.

        Returns
        -------
        str
            Different keys have different paths. An ending that others do not share is written out behind ``~``.
            What could lead out of the folder, or what file systems do not take, is replaced: ``..`` by
            ``%2E%2E``, an empty part, such as that before a leading slash, by ``_``; what lies outside the root is
            below ``__``.

        Examples
        --------
        >>> OutputNames().file_of("maps", "/etc/../a.png", ".npy")
        'maps/_/etc/%2E%2E/a~png.npy'
        """
        is_inside = key.startswith(self.root)
        *folders, name = (key[len(self.root) :] if is_inside else key).split("/")
        stem, ending = _split(name)
        loses_ending = ending == self.ending if self.alone is None else key in self.alone
        if not loses_ending or _HAS_ENDING_WRITTEN_OUT.search(stem):
            stem = f"{stem}~{ending[1:]}"
        parts = [*(_safe(part) for part in folders), _safe(stem, extension)]
        return "/".join([folder, *([] if is_inside else ["__"]), *parts])


def write_file(folder: str, path: str, write: Callable[[BinaryIO], None]) -> str:
    """Write a file below a folder, which appears under its name once it is complete.

    Parameters
    ----------
    folder : str
        Created if it does not exist. It may be a symbolic link; below it none is followed. Or a URL.
    path : str
        Of the file; see `OutputNames.file_of`.
    write : callable
        Called with the open file.

    Returns
    -------
    str
        `path`. A file of that name is replaced.

    Raises
    ------
    TaskError
        If something below `folder` is a symbolic link or a file where a folder is needed.
    OSError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> path = write_file(folder, f"{folder}/views/a.txt", lambda file: file.write(b"a"))
    >>> path.removeprefix(folder)
    '/views/a.txt'
    """
    if (collected := _collected.get()) is not None:
        buffer = io.BytesIO()
        write(buffer)
        collected.append((path, buffer.getvalue()))
        return path
    if is_url(folder):
        write_url(path, write)
        return path
    make_parents(folder, path)
    write_whole(path, write)
    return path


def make_parents(folder: str, path: str) -> None:
    """Make the folders between a folder and a file below it.

    Raises
    ------
    TaskError
        If something below `folder` is a symbolic link or a file where a folder is needed.
    """
    os.makedirs(folder, exist_ok=True)
    place = folder
    for part in os.path.dirname(path).removeprefix(folder).split("/")[1:]:
        place = f"{place}/{part}"
        with suppress(FileExistsError):
            os.mkdir(place)
        if os.path.islink(place) or not os.path.isdir(place):
            kind = "a symbolic link, which is not followed" if os.path.islink(place) else "a file"
            raise TaskError(f"{place!r} is {kind}; wanted a folder for {path!r}")


def is_collecting() -> bool:
    """Whether files are collected instead of written; see `collect_files`."""
    return _collected.get() is not None


@contextmanager
def collect_files() -> Iterator[list[tuple[str, bytes]]]:
    """Have `write_file` write nothing meanwhile; paths and bytes are collected, for a host that sees the folder.

    Examples
    --------
    >>> with collect_files() as files:
    ...     path = write_file("/not/here", "/not/here/a.txt", lambda file: file.write(b"a"))
    >>> files
    [('/not/here/a.txt', b'a')]
    """
    collected: list[tuple[str, bytes]] = []
    token = _collected.set(collected)
    try:
        yield collected
    finally:
        _collected.reset(token)


def make_folder(folder: str) -> None:
    """Make the folder that files of images go to, and make sure that it can be written.

    Raises
    ------
    TaskError
        If it cannot be made or written.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise TaskError(f"the output folder cannot be made: {error}") from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise TaskError(f"the output folder {folder!r} may not be written by this user")


def _split(name: str) -> tuple[str, str]:
    """Stem and ending of a name or key; what is hidden is all stem."""
    folder, slash, last = name.rpartition("/")
    found = _NAME.fullmatch(last)
    return (folder + slash + found["stem"], found["ending"] or "") if found else (name, "")


def _safe(part: str, extension: str = "") -> str:
    """A part of a path that means nothing to a file system, told from all others."""
    if part in {".", ".."}:
        safe = part.replace(".", "%2E")
    elif not part.strip("_"):  # a lone underscore is what an empty part becomes
        safe = "%5F" + part[1:] if part else "_"
    else:
        safe = _UNSAFE.sub(lambda found: f"%{ord(found[0]):02X}", part)
    encoded = safe.encode()
    if len(encoded) + len(extension) > _LONGEST_NAME:
        digest = hashlib.sha256(part.encode("utf-8", "surrogatepass")).hexdigest()[:16]
        kept = encoded[: _LONGEST_NAME - len(extension) - len(digest) - 2].decode("utf-8", "ignore")
        safe = f"{kept}%~{digest}"
    return safe + extension
