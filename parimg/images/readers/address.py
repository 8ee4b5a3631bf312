"""How a part of a file is written: ``plate.zarr#B/03/0?t=0&c=1``, and back.

Called by the registry and by sources. Looks at the disk only where a name has a ``#``.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import unquote

from parimg.errors import ImagePartError

if TYPE_CHECKING:
    from collections.abc import Mapping

_QUERY = re.compile(r"[A-Za-z_]+=[^&=?]*(&[A-Za-z_]+=[^&=?]*)*")
_NUMBER = re.compile(r"\d+")
_AXES = re.compile(r"[A-Z]+")


@dataclass(frozen=True)
class Address:
    """Which part of a file is meant.

    Examples
    --------
    >>> address = Address.parse("B/03/0?t=0&c=1")
    >>> address.path, dict(address.indices)
    ('B/03/0', {'t': 0, 'c': 1})
    >>> str(address)
    'B/03/0?t=0&c=1'
    >>> Address.parse("t=12.5s").seconds
    12.5
    """

    path: str = ""
    """Within the file: a group, a data set."""
    indices: Mapping[str, int] = field(default_factory=dict)
    """Places along axes, counted from 0, and numbers of what a format counts: ``series``, ``hdu``, ``level``."""
    seconds: float | None = None
    """Time in a video."""
    axes: str = ""
    """What the axes are, where the file does not say."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read what stands behind ``#``.

        Raises
        ------
        ImagePartError
            It is no such text.
        """
        path, mark, query = text.partition("?")
        if not mark and _QUERY.fullmatch(text):
            path, query = "", text
        indices: dict[str, int] = {}
        seconds, axes = None, ""
        for name, _, value in (pair.partition("=") for pair in query.split("&") if pair):
            if name == "axes" and _AXES.fullmatch(value):
                axes = value
            elif name == "t" and re.fullmatch(r"\d+(\.\d*)?s", value):
                seconds = float(value[:-1])
            elif _NUMBER.fullmatch(value):
                indices[name] = int(value)
            else:
                raise ImagePartError(
                    f"{name}={value} of {text!r:.200} names no part; parts are named by whole numbers from 0, "
                    "such as series=1, c=0 or frame=300, times in a video by t=12.5s, axes by axes=ZYX"
                )
        return cls(unquote(path), indices, seconds, axes)

    def __str__(self) -> str:
        pairs = [f"{name}={value}" for name, value in self.indices.items()]
        pairs += [f"t={self.seconds:g}s"] if self.seconds is not None else []
        pairs += [f"axes={self.axes}"] if self.axes else []
        query = "&".join(pairs)
        if not self.path:
            return query
        # A data set may be called `a=1`, or have a mark in its name.
        path = self.path.replace("%", "%25").replace("?", "%3F").replace("#", "%23")
        return f"{path}?{query}" if query or _QUERY.fullmatch(path) else path


def split_address(uri: str) -> tuple[str, str]:
    """Split a path or URL into the file and the text of its part, which is empty where the file is named alone.

    A file whose whole name has a ``#`` is that file.

    Parameters
    ----------
    uri : str
        Path or URL.

    Returns
    -------
    file, part : str

    Examples
    --------
    >>> split_address("/data/run.h5#/entry/images?i=17")
    ('/data/run.h5', '/entry/images?i=17')
    >>> split_address("/data/a.png"), split_address("parquet:///t.parquet?image#3")
    (('/data/a.png', ''), ('parquet:///t.parquet?image#3', ''))
    """
    if "#" not in uri or uri.startswith("parquet://"):
        return uri, ""
    if "://" in uri:
        return _split_url(uri)
    if os.path.lexists(uri):
        return uri, ""
    # The first mark behind which all is one part: `a#1.h5#data` is a part of `a#1.h5`.
    place = uri.find("#")
    while place >= 0 and not os.path.exists(uri[:place]):
        place = uri.find("#", place + 1)
    if place < 0:
        place = uri.find("#")
    return uri[:place], uri[place + 1 :]


def _split_url(url: str) -> tuple[str, str]:
    """Split a URL by its text alone: whether an object has the whole name would be a request for each image."""
    from parimg.images.readers.registry import reader_of  # which imports this

    place = url.find("#")
    while place >= 0:
        file, part = url[:place], url[place + 1 :]
        # `scan.tif#1.png` is an object's name, `scan.tif#c=1` a part of one.
        is_part = "=" in part or "/" in part or "." not in part
        if is_part and reader_of(file) is not None:
            return file, part
        place = url.find("#", place + 1)
    return url, ""
