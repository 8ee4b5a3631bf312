"""A local path, or a file of a store that is open for reading by parts.

Called by the formats' modules, whose libraries take either.
"""

from __future__ import annotations

import os
from typing import BinaryIO, cast

from parimg.errors import ImageEmptyError, ImageError
from parimg.images.read import local_path


def open_or_path(uri: str) -> str | BinaryIO:
    """What a library is given.

    Raises
    ------
    ImageError
        A local path leads to a folder or to nothing that is read, or the file is empty.
    """
    path = local_path(uri)
    if path is None:
        return open_binary(uri)
    if os.path.isdir(path):
        raise ImageError(f"{uri!r:.300} is a folder, wanted a file")
    if os.stat(path).st_size == 0:
        raise ImageEmptyError(f"{uri!r:.300} has 0 bytes; was it written to the end?")
    return path


def open_binary(uri: str) -> BinaryIO:
    """An open file, local or of a store."""
    path = local_path(uri)
    if path is not None:
        return open(path, "rb")
    from fsspec.core import url_to_fs

    store, name = url_to_fs(uri)
    return cast("BinaryIO", store.open(name, "rb"))
