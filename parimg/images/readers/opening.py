"""A local path, or a file of a store that is open for reading by parts.

Called by the formats' modules, whose libraries take either.
"""

from __future__ import annotations

import io
import os
from typing import Any, BinaryIO, cast

from parimg.errors import ImageEmptyError, ImageError
from parimg.files.retrying import retried
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


class _PatientFile(io.RawIOBase):
    """A file of a store, of which each piece is asked for again where that failed for now."""

    mode = "rb"

    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self.name = name

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = retried(lambda: self._file.read(len(buffer)))
        buffer[: len(data)] = data
        return len(data)

    def readall(self) -> bytes:
        return retried(self._file.read)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()


def open_binary(uri: str) -> BinaryIO:
    """An open file, local or of a store."""
    path = local_path(uri)
    if path is not None:
        return open(path, "rb")
    from fsspec.core import url_to_fs

    store, name = url_to_fs(uri)
    opened: BinaryIO = retried(lambda: store.open(name, "rb"))
    return cast("BinaryIO", _PatientFile(opened, uri))
