"""ReadAhead: list a source in a thread of its own, no further than a little ahead of its consumer.

A source may be slow (a camera, a network folder) or end with an error; the dispatcher must go on collecting
results meanwhile. Used by `parimg.dispatch.dispatcher` only.
"""

from __future__ import annotations

import collections
import threading
from collections.abc import Callable

from parimg.sources.as_source import Image, Source

_LEAST_AHEAD = 64  # images
_BYTES_AHEAD = 16 * 2**20  # of arrays


class ReadAhead:
    """The images of a source, numbered, as far as they are listed.

    Parameters
    ----------
    source : Source
    on_news : callable
        Called from the listing thread, once after `take` gave fewer images than wanted, when there are more or
        the source has ended.

    Attributes
    ----------
    error : BaseException or None
        What ended the source early.
    """

    def __init__(self, source: Source, on_news: Callable[[], None]) -> None:
        self.error: BaseException | None = None
        self._source = source
        self._on_news = on_news
        self._listed: collections.deque[tuple[int, Image]] = collections.deque()
        self._ahead = _LEAST_AHEAD
        # Each of these has one writer: the listing thread the first, the consumer the second.
        self._bytes_listed = self._bytes_taken = 0
        self._wanted = 1
        self._enough = threading.Event()
        self._is_awaited = threading.Event()
        self._room = threading.Event()
        self._ended = threading.Event()
        self._stopped = threading.Event()
        # A daemon: it may wait for ever inside the user's generator.
        self._thread = threading.Thread(target=self._list, name="parimg-list", daemon=True)

    def start(self) -> None:
        """Begin to list."""
        self._thread.start()

    def stop(self) -> None:
        """List no more."""
        self._stopped.set()
        self._room.set()

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended, and all its images were taken."""
        return self._ended.is_set() and not self._listed

    def take(self, wanted: int, seconds: float) -> list[tuple[int, Image]]:
        """Take what is listed, after waiting up to `seconds` until that is at least `wanted` images."""
        self._ahead = max(_LEAST_AHEAD, 2 * wanted)
        self._wanted = wanted
        self._enough.clear()
        if not self._has_enough():
            self._room.set()
            self._enough.wait(max(0.0, seconds))
        taken = [self._listed.popleft() for _ in range(min(len(self._listed), self._ahead))]
        self._bytes_taken += sum(image.array.nbytes for _, image in taken if image.array is not None)
        self._room.set()
        if len(taken) < wanted and not self.exhausted:
            self._is_awaited.set()
            if self._has_enough():  # it came between the two looks
                self._tell()
        return taken

    def _list(self) -> None:
        try:
            for numbered in self._source.numbered():
                if numbered[1].array is not None:
                    self._bytes_listed += numbered[1].array.nbytes
                self._listed.append(numbered)
                if len(self._listed) >= self._wanted:
                    self._enough.set()
                self._tell()
                while self._is_full() and not self._stopped.is_set():
                    self._enough.set()
                    self._room.clear()
                    if self._is_full():
                        self._room.wait()
                if self._stopped.is_set():
                    return
        except BaseException as error:  # a generator may call sys.exit()
            self.error = error
        self._ended.set()
        self._enough.set()
        self._tell()

    def _has_enough(self) -> bool:
        return len(self._listed) >= self._wanted or self._ended.is_set() or self._is_full()

    def _is_full(self) -> bool:
        return len(self._listed) >= self._ahead or self._bytes_listed - self._bytes_taken >= _BYTES_AHEAD

    def _tell(self) -> None:
        if self._is_awaited.is_set():
            self._is_awaited.clear()
            self._on_news()
