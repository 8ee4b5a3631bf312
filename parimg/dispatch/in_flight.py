"""InFlight: which chunks are on which engine, in the order in which it runs them.

The dispatcher's only memory of what is under way, written by its thread alone. It chooses the engine of each chunk
itself, instead of leaving that to ipyparallel's load-balancing scheduler, so that it knows which images were on an
engine that died, and which of them were only waiting.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, KeysView
from concurrent.futures import Future
from dataclasses import dataclass

from parimg.protocol.messages import Piece
from parimg.sources.as_source import Image


@dataclass(slots=True, eq=False)
class Pending:
    """An image that has no record yet; `parimg.dispatch.retries` alone counts what happens to it."""

    image: Image
    position: int
    attempts: int = 0
    """How often an engine refused it, or died while it ran."""
    losses: int = 0
    """How often an engine died while it waited there."""
    piece: Piece | None = None
    """What is to be done of an image that is run by tiles; None: open it, and run it whole if it is not."""


@dataclass(frozen=True, slots=True, eq=False)
class Sent:
    """A chunk on an engine."""

    number: int
    """Unique in this run of the job, and growing."""
    images: list[Pending]
    engine: int
    sent_at: float
    """By the monotonic clock."""
    answer: Future[bytes]


class InFlight:
    """The chunks under way, and the engines that may have more.

    The next engine is found in a heap, so that ten thousand engines cost hardly more than ten.
    """

    def __init__(self) -> None:
        self._chunks: dict[int, Sent] = {}
        self._by_engine: dict[int, list[Sent]] = {}
        self._turn: dict[int, int] = {}
        self._open: set[int] = set()
        # Load, last turn, engine; an entry that is no longer so is dropped when it comes up.
        self._heap: list[tuple[int, int, int]] = []

    def __len__(self) -> int:
        return len(self._chunks)

    def __contains__(self, sent: Sent) -> bool:
        return sent.number in self._chunks

    @property
    def engines(self) -> KeysView[int]:
        """Engines that have a chunk."""
        return self._by_engine.keys()

    @property
    def n_images(self) -> int:
        """Images of all chunks."""
        return sum(len(sent.images) for sent in self._chunks.values())

    @property
    def n_open(self) -> int:
        """Number of engines that may be given chunks."""
        return len(self._open)

    def open(self, engines: Iterable[int]) -> None:
        """From now on these engines, and no others, may be given chunks."""
        earlier, self._open = self._open, set(engines)
        for engine in self._open - earlier:
            self._enter(engine)

    def shut(self, engine: int) -> None:
        """Give an engine no more chunks."""
        self._open.discard(engine)

    def engine_with_room(self, depth: int) -> int | None:
        """The engine with fewest chunks, among equals the one served longest ago; None if all have `depth`."""
        heap = self._heap
        while heap:
            load, _, engine = heap[0]
            if engine in self._open and heap[0] == self._entry(engine):
                return engine if load < depth else None
            heapq.heappop(heap)
        return None

    def _entry(self, engine: int) -> tuple[int, int, int]:
        return len(self._by_engine.get(engine, ())), self._turn.get(engine, 0), engine

    def _enter(self, engine: int) -> None:
        if engine in self._open:
            heapq.heappush(self._heap, self._entry(engine))
            if len(self._heap) > 4 * len(self._open) + 64:  # busy engines' old entries never come up
                self._heap = [self._entry(engine) for engine in self._open]
                heapq.heapify(self._heap)

    def add(self, sent: Sent) -> None:
        """Note a chunk as the last on its engine."""
        self._chunks[sent.number] = sent
        self._by_engine.setdefault(sent.engine, []).append(sent)
        self._turn[sent.engine] = sent.number
        self._enter(sent.engine)

    def remove(self, sent: Sent) -> None:
        """Note that a chunk was answered."""
        del self._chunks[sent.number]
        chunks = self._by_engine[sent.engine]
        chunks.remove(sent)
        if not chunks:
            del self._by_engine[sent.engine]
        self._enter(sent.engine)

    def sent_before(self, then: float) -> Iterator[Sent]:
        """The chunks that were sent before a time of the monotonic clock, the oldest first."""
        for sent in self._chunks.values():
            if sent.sent_at >= then:
                return
            yield sent

    def give_up(self, engine: int) -> list[Sent]:
        """Forget an engine, and return its chunks, the one it was at first."""
        self.shut(engine)
        self._turn.pop(engine, None)
        chunks = self._by_engine.pop(engine, [])
        for sent in chunks:
            del self._chunks[sent.number]
        return chunks
