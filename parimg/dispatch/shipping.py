"""Shipping: what travels by message because a host does not see the client's disks.

Files of images on their way to engines, read ahead by a thread of its own, and files that tasks wrote on their
way back. Called by the dispatcher's thread.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Iterable
from typing import TYPE_CHECKING

from parimg.dispatch.chunk_size import MAX_CHUNK_BYTES
from parimg.dispatch.in_flight import Pending
from parimg.errors import ImageError, ReaderMissingError
from parimg.files.naming import write_file
from parimg.images.read import local_path, read_bytes
from parimg.images.readers import Part, open_part, split_address
from parimg.images.readers.registry import whole_file_is_decoded
from parimg.protocol.messages import Content, Reply
from parimg.record import Row

if TYPE_CHECKING:
    from parimg.sources.as_source import Image

_BYTES_AHEAD = 4 * MAX_CHUNK_BYTES


class Shipping:
    """The files of images that are read ahead, at most `_BYTES_AHEAD` and one file."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # all below is changed under it
        self._wanted: OrderedDict[Pending, None] = OrderedDict()
        self._reading: Pending | None = None
        self._read: dict[Pending, bytes | Part | ImageError] = {}
        self._nbytes = 0
        self._is_stopped = False
        self._thread: threading.Thread | None = None

    def read_ahead(self, images: Iterable[Pending]) -> None:
        """Read these next."""
        with self._changed:
            known = {*self._read, self._reading}
            self._wanted = OrderedDict.fromkeys(
                pending for pending in images if pending not in known and _is_file(pending.image)
            )
            self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="parimg-ship", daemon=True)
            self._thread.start()

    def load(self, images: list[Pending]) -> list[Content]:
        """Contents of the first of these images, as many as one message takes."""
        contents: list[Content] = []
        nbytes = 0
        for pending in images:
            if nbytes >= MAX_CHUNK_BYTES:
                break
            content = self._take(pending) if _is_file(pending.image) else pending.image.array
            nbytes += _size(content)
            contents.append(content)
        return contents

    def forget(self, images: list[Pending]) -> None:
        """These go elsewhere, or were read for nothing."""
        if self._thread is not None:
            with self._changed:
                for pending in images:
                    self._drop(pending)
                self._changed.notify_all()

    def stop(self) -> None:
        """Read no more."""
        with self._changed:
            self._is_stopped = True
            self._changed.notify_all()

    def _take(self, pending: Pending) -> bytes | Part | ImageError:
        with self._changed:
            self._changed.wait_for(lambda: pending is not self._reading)
            content = self._drop(pending)
            self._changed.notify_all()
        return _read(pending) if content is None else content

    def _drop(self, pending: Pending) -> bytes | Part | ImageError | None:
        self._wanted.pop(pending, None)
        content = self._read.pop(pending, None)
        self._nbytes -= _size(content)
        return content

    def _work(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_stopped or (self._wanted and self._nbytes < _BYTES_AHEAD))
                if self._is_stopped:
                    return
                pending = self._reading = self._wanted.popitem(last=False)[0]
            content = _read(pending)
            with self._changed:
                self._reading = None
                self._read[pending] = content
                self._nbytes += _size(content)
                self._changed.notify_all()


def _size(content: Content) -> int:
    return len(content) if isinstance(content, bytes) else getattr(content, "nbytes", 0)


def _is_file(image: Image) -> bool:
    return image.array is None and local_path(image.uri) is not None


def _read(pending: Pending) -> bytes | Part | ImageError:
    uri = pending.image.uri
    try:
        file, part = split_address(uri)
        if part or not whole_file_is_decoded(file):
            with open_part(uri) as opened:
                return opened.loaded()
        return read_bytes(uri)
    except ReaderMissingError as error:
        return ImageError(str(error))
    except ImageError as error:
        return error.with_traceback(None)


def write_returned(reply: Reply, folder: str) -> list[Row]:
    """Write the files that came back, and give the rows; one whose file cannot be written is a failed row."""
    rows = list(reply.rows)
    for place, path, data in reply.files:
        try:
            write_file(folder, path, lambda file, data=data: file.write(data))  # type: ignore[misc]
        except Exception as error:
            rows[place] = rows[place]._replace(
                status="failed",
                stage="task",
                error=type(error).__name__,
                message=f"{error}, where its file came back to the client",
                columns="{}",
                arrays=None,
            )
    return rows
