"""How paths become keys: which folder they are relative to, and how a name that is no text is written.

Used by everything that names images, and by what stores names or reads them again.
"""

from __future__ import annotations

import os
import re
from typing import Any

from parimg.sources.source import Image

_READ_BY_OPENCV = (
    "apng avif bmp dib gif hdr j2k jfif jp2 jpe jpeg jpg pam pbm pfm pgm pic png pnm ppm pxm ras sr tif tiff webp"
)
IMAGE_EXTENSIONS = frozenset("." + name for name in (*_READ_BY_OPENCV.split(), "npy"))
"""Extensions of the files that are taken from a folder: the formats that OpenCV's wheels read, and NumPy's."""

_TIFF = (".tif", ".tiff")
_SPECIAL = re.compile(r"[*?\[]|://")
_WILDCARD = re.compile(r"[*?\[]")

# A lone surrogate as escape_name() writes it, and a backslash that could be mistaken for the start of one.
_ESCAPED = re.compile(r"(\\+)(u(d[89a-f][0-9a-f]{2}))")
_AMBIGUOUS = re.compile(r"\\(?=\\*(?:ud[89a-f][0-9a-f]{2}|[\ud800-\udfff]))")


class Place:
    """The directories that paths and keys are relative to."""

    def __init__(self, cwd: str, folder: str | None = None, *, absolute_keys: bool = False) -> None:
        self.cwd = cwd
        self.absolute_keys = absolute_keys
        self._folder = cwd if folder is None else folder
        self._above_keys = "" if absolute_keys else cwd.rstrip(os.sep) + os.sep

    def inside(self, folder: str) -> Place:
        """A place for paths relative to a folder; keys stay relative to the same directory."""
        return Place(self.cwd, folder, absolute_keys=self.absolute_keys)

    def spec(self) -> dict[str, Any]:
        """The place in JSON's types."""
        return {"cwd": self.cwd, **({"absolute_keys": True} if self.absolute_keys else {})}

    def absolute(self, path: str) -> str:
        """Normalise the text of a path; the disk is not asked, so links stay what they are."""
        absolute = os.path.normpath(os.path.join(self._folder, path))
        # POSIX gives two leading slashes a meaning that no system uses.
        return absolute[1:] if absolute.startswith("//") else absolute

    def key(self, absolute: str) -> str:
        """Name what has an absolute path."""
        key = absolute.removeprefix(self._above_keys)
        return escape_name(key if os.sep == "/" else key.replace(os.sep, "/"))

    def image(self, path: str) -> Image:
        """Name the image of a path."""
        absolute = self.absolute(path)
        # Behind a link to a folder, `..` leads elsewhere than in the text.
        return Image(self.key(absolute), os.path.join(self._folder, path) if ".." in path else absolute)


def escape_name(name: str) -> str:
    r"""Write a name as text that every database takes; `unescape_name` undoes it, and no two names become one.

    Bytes that are no UTF-8 are lone surrogates in Python. They are written out as ``\udce9``; where a name has
    such text itself, the backslashes before it are doubled. All other names stay as they are.

    Examples
    --------
    >>> import os
    >>> print(escape_name(os.fsdecode(b"caf\xe9.png")), escape_name(r"caf\udce9.png"), escape_name(r"a\b.png"))
    caf\udce9.png caf\\udce9.png a\b.png
    """
    if name.isascii() and "\\" not in name:
        return name
    return _AMBIGUOUS.sub(r"\\\\", name).encode("utf-8", "backslashreplace").decode()


def unescape_name(text: str) -> str:
    r"""Undo `escape_name`.

    Examples
    --------
    >>> import os
    >>> os.fsencode(unescape_name(r"caf\udce9.png"))
    b'caf\xe9.png'
    """

    def undo(found: re.Match[str]) -> str:
        pairs, odd = divmod(len(found[1]), 2)
        return "\\" * pairs + (chr(int(found[3], 16)) if odd else found[2])

    return _ESCAPED.sub(undo, text) if "\\" in text else text


def extension(path: str) -> str:
    """Give the extension in lower case, with its dot.

    Examples
    --------
    >>> extension("views/A.PNG")
    '.png'
    """
    dot = path.rfind(".")
    return path[dot:].lower() if dot >= 0 else ""


def is_plain(path: str) -> bool:
    """Whether a path is an image whatever the disk says; asking it takes longer than all the rest."""
    ending = extension(path)
    if ending not in IMAGE_EXTENSIONS or _SPECIAL.search(path) is not None:
        return False
    # OME-TIFF may hold many.
    return not (ending in _TIFF and path[: -len(ending)].lower().endswith(".ome"))


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
    if protocol in ("http", "https", "parquet"):
        rest = rest.partition("?")[0]
    return _WILDCARD.search(rest) is not None
