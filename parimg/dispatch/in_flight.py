"""Window: which chunks are on which engine, in the order in which it runs them.

The dispatcher's only memory of what is under way. It chooses the engine of each chunk itself, instead of leaving
that to ipyparallel's load-balancing scheduler, so that it knows which images were on an engine that died, and
which of them were only waiting.
"""

from __future__ import annotations

import collections
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from parimg.sources.as_source import Image

if TYPE_CHECKING:
    import ipyparallel as ipp


@dataclass(slots=True, eq=False)
class Pending:
    """An image that has no record yet."""

    image: Image
    position: int
    attempts: int = 0
    """How often an engine answered for it, or died while it ran."""
    losses: int = 0
    """How often an engine died while it waited there."""


@dataclass(slots=True, eq=False)
class Sent:
    """A chunk on an engine."""

    number: int
    """Unique in this run of the job."""
    images: list[Pending]
    engine: int
    sent_at: float
    """By the monotonic clock; moved on by each question whether it arrived."""
    result: ipp.AsyncResult | None = None
    _sign: int | None = None
    _sign_at: float = 0.0

    def answer(self) -> bytes:
        """What the engine answered; raises what it raised."""
        assert self.result is not None, "the chunk was not sent"  # noqa: S101
        return cast(bytes, self.result.result())

    def last_sign(self) -> int | None:
        """The image that the engine last said to be at, None if it said nothing yet."""
        assert self.result is not None, "the chunk was not sent"  # noqa: S101
        return cast("int | None", self.result.metadata["data"].get("image"))

    def note_sign(self, image: int, now: float) -> float:
        """When a sign was first seen, by the monotonic clock."""
        if image != self._sign:
            self._sign, self._sign_at = image, now
        return self._sign_at


class Window:
    """The chunks under way."""

    def __init__(self) -> None:
        self._by_engine: dict[int, list[Sent]] = {}
        self._turn: collections.Counter[int] = collections.Counter()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, sent: Sent) -> bool:
        return sent in self._by_engine.get(sent.engine, [])

    @property
    def engines(self) -> list[int]:
        """Engines that have a chunk."""
        return list(self._by_engine)

    def engine_with_room(self, engines: Iterable[int], depth: int) -> int | None:
        """The engine with fewest chunks, among equals the one served longest ago; None if all have `depth`."""
        loads = [(len(self._by_engine.get(engine, ())), self._turn[engine], engine) for engine in engines]
        load, _, engine = min(loads, default=(depth, 0, 0))
        return engine if load < depth else None

    def add(self, sent: Sent) -> None:
        """Note a chunk as the last on its engine."""
        self._by_engine.setdefault(sent.engine, []).append(sent)
        self._turn[sent.engine] = sent.number
        self._count += 1

    def remove(self, sent: Sent) -> None:
        """Note that a chunk was answered."""
        chunks = self._by_engine[sent.engine]
        chunks.remove(sent)
        if not chunks:
            del self._by_engine[sent.engine]
        self._count -= 1

    def first_on(self, engine: int) -> Sent:
        """The chunk that an engine is at, as far as is known here."""
        return self._by_engine[engine][0]

    def give_up(self, engine: int) -> list[Sent]:
        """Forget an engine, and return its chunks, the one it was at first."""
        chunks = self._by_engine.pop(engine, [])
        self._turn.pop(engine, None)
        self._count -= len(chunks)
        return chunks
