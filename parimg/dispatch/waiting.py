"""Waiting: what is to be sent to engines next: images that the source lists, and chunks that came back.

Owns the listing of the source. Used by the dispatcher's thread alone, but for the news of the listing thread.
"""

from __future__ import annotations

import collections
import itertools
import time
from collections.abc import Callable, Iterable, Iterator

from parimg.dispatch.chunk_size import MAX_CHUNK_BYTES
from parimg.dispatch.in_flight import Pending
from parimg.dispatch.new_images import NewImages
from parimg.dispatch.read_ahead import ReadAhead
from parimg.errors import ParimgError, SourceError
from parimg.sources.as_source import Source

_LISTING_SECONDS = 0.05  # a slow source gives a smaller chunk rather than keep results waiting


class Waiting:
    """Images that are to be sent: first what came back, then pieces of large images, then new ones.

    Parameters
    ----------
    source : Source
    new_images : NewImages
        Chooses those of the source that are to be run.
    on_news : callable
        Called from another thread when the source has more images after it had too few, or has ended.

    Attributes
    ----------
    listed : int
        Images that the source named so far.
    """

    def __init__(self, source: Source, new_images: NewImages, on_news: Callable[[], None]) -> None:
        self.listed = 0
        self._read_ahead = ReadAhead(source, on_news)
        self._new_images = new_images
        self._new: collections.deque[Pending] = collections.deque()
        self._back: collections.deque[list[Pending]] = collections.deque()

    def __len__(self) -> int:
        """Images that were listed and wait."""
        return len(self._new) + sum(map(len, self._back))

    def __bool__(self) -> bool:
        return bool(self._new or self._back)

    def __iter__(self) -> Iterator[Pending]:
        return itertools.chain(itertools.chain.from_iterable(self._back), self._new)

    def start(self) -> None:
        """Begin to list the source."""
        self._read_ahead.start()

    def stop(self) -> None:
        """List no more."""
        self._read_ahead.stop()

    @property
    def exhausted(self) -> bool:
        """Whether the source has ended, and all its images were taken from it."""
        return self._read_ahead.exhausted

    def raise_source_error(self) -> None:
        """Raise what ended the source early, if something did.

        Raises
        ------
        ParimgError
            The source's own, or `SourceError`.
        """
        error = self._read_ahead.error
        if isinstance(error, ParimgError):
            raise error
        if error is not None:
            raise SourceError(
                f"the source of images stopped after {self.listed}: {type(error).__name__}: {error}"
            ) from error

    def list_images(self, size: int, seconds: float = _LISTING_SECONDS) -> None:
        """List images until there are `size` new ones, or the source is too slow."""
        deadline = time.monotonic() + seconds
        while len(self._new) < size:
            listed = self._read_ahead.take(size - len(self._new), deadline - time.monotonic())
            if not listed:
                break
            self.listed += len(listed)
            self._new.extend(self._new_images.choose(listed))

    def not_given_out(self, total: int) -> int:
        """Images of a source of that many that were in no chunk yet."""
        return total - self.listed + len(self._new)

    def next_chunk(self, size: Callable[[], int]) -> list[Pending]:
        """A chunk that came back, or new images, fewer than `size` gives if the source is slow."""
        if self._back:
            return self._back.popleft()
        most = size()
        self.list_images(most)
        chunk: list[Pending] = []
        nbytes = 0
        while self._new and len(chunk) < most and nbytes < MAX_CHUNK_BYTES:
            chunk.append(self._new.popleft())
            array = chunk[-1].image.array
            nbytes += 0 if array is None else array.nbytes
        return chunk

    def put_first(self, chunk: list[Pending]) -> None:
        """Have a chunk sent before all others."""
        self._back.appendleft(chunk)

    def put_back(self, chunks: Iterable[list[Pending]]) -> None:
        """Have chunks sent again, before images that were not sent yet."""
        self._back.extend(chunks)

    def add_pieces(self, pieces: list[Pending]) -> None:
        """Have pieces of images that are under way sent before new images."""
        self._new.extendleft(reversed(pieces))

    def drop(self, is_over: Callable[[Pending], bool]) -> None:
        """Leave out what need not be sent any more."""
        self._new = collections.deque(one for one in self._new if not is_over(one))
        kept = ([one for one in chunk if not is_over(one)] for chunk in self._back)
        self._back = collections.deque(chunk for chunk in kept if chunk)
