"""A pool of engines without engines: one thread plays them all, and does with each chunk what a script says.

Each engine takes its messages in order, as real ones do; which engine is next is drawn from a seed.
"""

from __future__ import annotations

import os
import pickle
import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import MappingProxyType
from typing import Any

from parimg.engine.setup import disks
from parimg.errors import EngineGone, EngineRefused
from parimg.protocol.crash_report import FOLDER, HEADER
from parimg.protocol.disk_sharing import DiskQuestion, SeenDisks
from parimg.protocol.messages import Chunk, Reply
from parimg.record import Row


@dataclass(frozen=True)
class Answer:
    """Rows of the first `most` images, all without."""

    most: int | None = None


@dataclass(frozen=True)
class Refuse:
    """An error in place of rows."""

    name: str = "PicklingError"
    message: str = "the answer cannot be sent"


@dataclass(frozen=True)
class Die:
    """The engine ends."""

    at: int | None = 0
    """Place of the image that its flight recorder names; without, there is no recorder."""
    chunk: int | None = None
    """Number of the chunk it names, by default this one."""
    text: str = ""
    is_reported: bool = True
    """Whether the pool answers for the dead engine, or its chunks just stay without answer."""
    sees_job: bool = True
    """Whether its recorder lies in the job's folder, or on its host."""


@dataclass(frozen=True)
class AnswerLate:
    """The engine is taken for dead, and answers when its images are elsewhere."""


@dataclass(frozen=True)
class Vanish:
    """The chunk never arrives."""


@dataclass(frozen=True)
class Stall:
    """The engine is at an image and says no more, until it is killed."""

    at: int = 0


@dataclass(frozen=True)
class Lack:
    """The engine lacks shared objects, if it was not sent them."""

    digests: tuple[str, ...]


Deed = Answer | Refuse | Die | AnswerLate | Vanish | Stall | Lack
Script = Callable[[int, Chunk], Deed]


def always_answer(engine: int, chunk: Chunk) -> Deed:
    return Answer()


def at_chunks(numbers: Iterable[int], deed: Deed) -> Script:
    """Does `deed` at the chunks of these numbers."""
    chosen = set(numbers)
    return lambda engine, chunk: deed if chunk.number in chosen else Answer()


class FakeAnswer(Future[Any]):
    """The answer to a chunk, and the image that its engine is at."""

    image: int | None = None


@dataclass(eq=False)
class Engine:
    host: str
    messages: deque[tuple[Chunk | DiskQuestion | None, Future[Any]]] = field(default_factory=deque)
    digests: set[str] = field(default_factory=set)
    is_stalled: bool = False


class FakePool:
    """Engines 0 to n - 1; each that dies is replaced by a new one, if wanted.

    `chunks` are all that were sent, `kills`, `sent_digests` and `asked` the rest. `sees` are the hosts that have
    disks of their own, with what they see of the client's; `writes` is the folder of files that come back.
    """

    def __init__(
        self,
        n: int,
        script: Script = always_answer,
        *,
        seed: int = 0,
        hosts: int = 1,
        replaces: bool = True,
        report_of_others: str = "sent",
        sees: Mapping[str, SeenDisks] = MappingProxyType({}),
        writes: str = "",
    ) -> None:
        self.script = script
        self.chunks: list[tuple[int, Chunk]] = []
        self.kills: list[int] = []
        self.sent_digests: list[tuple[int, str]] = []
        self.asked: list[tuple[str, int]] = []
        self.sees = sees
        self._writes = writes
        self.refuses_objects = False
        self.is_paused = False
        self._random = Random(seed)
        self._hosts = hosts
        self._replaces = replaces
        self._report_of_others = report_of_others
        self._reports: dict[str, bytes] = {}
        self._former_hosts: dict[int, str] = {}
        self._next_id = 0
        self._engines: dict[int, Engine] = {}
        self._work: list[tuple[int, Engine]] = []
        self._changed = threading.Condition(threading.RLock())
        self._is_closed = False
        self._orphans: list[tuple[Chunk, Future[Any]]] = []
        self.join(n)
        self._thread = threading.Thread(target=self._live, name="fake-engines", daemon=True)
        self._thread.start()

    # -- what the dispatcher asks -----------------------------------------------------------------------------

    def ids(self) -> list[int]:
        return list(self._engines)

    ready = ids

    def run(self, chunk: bytes, engine_id: int) -> Future[bytes]:
        message: Chunk = pickle.loads(chunk)
        self.chunks.append((engine_id, message))
        return self._send(engine_id, message, FakeAnswer())

    def image_at(self, answer: Future[bytes]) -> int | None:
        assert isinstance(answer, FakeAnswer)
        return answer.image

    def probe(self, engine_id: int) -> Future[int]:
        return self._send(engine_id, None, Future())

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        with self._changed:
            if engine_id not in self._engines:
                raise EngineGone(f"engine {engine_id} left")
            self.sent_digests.append((engine_id, digest))
            answer: Future[None] = Future()
            if self.refuses_objects:
                answer.set_exception(EngineRefused("OSError", "no space left on device"))
            else:
                self._engines[engine_id].digests.add(digest)
                answer.set_result(None)
            return answer

    def fetch_crash_report(self, name: str, engine_id: int) -> Future[bytes | None] | None:
        hosts = [engine.host for engine in self._engines.values()]
        if self._former_hosts.get(engine_id) not in hosts:
            return None
        answer: Future[bytes | None] = Future()
        if self._report_of_others == "sent":
            answer.set_result(self._reports.get(os.path.basename(name)))
        elif self._report_of_others == "lost":
            answer.set_exception(EngineGone("the other died as well"))
        return answer  # else it never comes

    def exit_reason(self, engine_id: int) -> str:
        return f"engine {engine_id}, killed by SIGKILL"

    def kill(self, engine_id: int) -> None:
        with self._changed:
            self.kills.append(engine_id)
            self._end(engine_id, is_reported=True)

    def disks(self, engine_id: int) -> tuple[str, str] | None:
        host = self._engines[engine_id].host if engine_id in self._engines else self._former_hosts[engine_id]
        return host, f"disks of {host}" if host in self.sees else disks()

    def look_at_disks(self, question: DiskQuestion, engine_id: int) -> Future[SeenDisks]:
        with self._changed:
            host = self.disks(engine_id)[0]
            self.asked.append((host, engine_id))
        return self._send(engine_id, question, Future())

    # -- what a test does -------------------------------------------------------------------------------------

    def join(self, n: int) -> None:
        """More engines come."""
        with self._changed:
            for _ in range(n):
                self._engines[self._next_id] = Engine(f"host{self._next_id % self._hosts}")
                self._next_id += 1

    def lose_all(self) -> None:
        """The controller is gone, and with it all engines; the next ones have the same numbers."""
        with self._changed:
            self._former_hosts |= {engine_id: engine.host for engine_id, engine in self._engines.items()}
            for engine in self._engines.values():
                self._orphans += [(chunk, answer) for chunk, answer in engine.messages if isinstance(chunk, Chunk)]
            self._engines.clear()
            self._work.clear()
            self._next_id = 0

    def answer_orphans(self) -> int:
        """Answers of lost engines come after all; how many."""
        for chunk, answer in self._orphans:
            answer.set_result(_reply(chunk, "host0", len(chunk.images), []))
        return len(self._orphans)

    def end(self, engine_id: int, *, is_reported: bool = True) -> None:
        """Kill an engine from outside."""
        with self._changed:
            self._end(engine_id, is_reported=is_reported)

    def go_on(self) -> None:
        """Let engines work again after `is_paused` was set."""
        with self._changed:
            self.is_paused = False
            self._changed.notify()

    def close(self) -> None:
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    # -- the engines ------------------------------------------------------------------------------------------

    def _send(self, engine_id: int, chunk: Chunk | DiskQuestion | None, answer: Future[Any]) -> Future[Any]:
        with self._changed:
            engine = self._engines.get(engine_id)
            if engine is None:
                raise EngineGone(f"engine {engine_id} left")
            engine.messages.append((chunk, answer))
            self._work.append((engine_id, engine))
            self._changed.notify()
        return answer

    def _live(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed or (self._work and not self.is_paused))
                if self._is_closed:
                    return
                place = self._random.randrange(len(self._work))
                self._work[place], self._work[-1] = self._work[-1], self._work[place]
                engine_id, engine = self._work.pop()
                if self._engines.get(engine_id) is engine and not engine.is_stalled:
                    self._handle(engine_id, engine)

    def _handle(self, engine_id: int, engine: Engine) -> None:
        chunk, answer = engine.messages[0]
        if isinstance(chunk, DiskQuestion):
            engine.messages.popleft()
            seen = self.sees[engine.host]
            if seen.output and chunk.output:
                Path(chunk.output).write_text(chunk.answer)
            answer.set_result(seen)
            return
        if chunk is None:
            engine.messages.popleft()
            answer.set_result(0)
            return
        deed = self.script(engine_id, chunk)
        wanted = deed.digests if isinstance(deed, Lack) else ()
        missing = [digest for digest in wanted if digest not in engine.digests]
        if isinstance(deed, Die):
            self._leave_report(chunk, deed)
            self._end(engine_id, is_reported=deed.is_reported)
        elif isinstance(deed, AnswerLate):
            self._orphans.append((chunk, answer))
            self._end(engine_id, is_reported=False)
        elif isinstance(deed, Stall):
            engine.is_stalled = True
            answer.image = deed.at  # type: ignore[attr-defined]
        else:
            engine.messages.popleft()
            if isinstance(deed, Refuse):
                answer.set_exception(EngineRefused(deed.name, deed.message))
            elif not isinstance(deed, Vanish):
                most = deed.most if isinstance(deed, Answer) and deed.most is not None else len(chunk.images)
                n = 0 if missing else most
                files = [
                    (n, f"{self._writes}/{key}", key.encode()) for n, (_, key, *_) in enumerate(chunk.images[:n])
                ]
                answer.set_result(_reply(chunk, engine.host, n, missing, files if chunk.returns_files else []))

    def _leave_report(self, chunk: Chunk, deed: Die) -> None:
        if deed.at is None:
            return
        at = min(deed.at, len(chunk.images) - 1) if deed.at >= 0 else deed.at
        number = chunk.number if deed.chunk is None else deed.chunk
        report = HEADER % (number, at, 300 * 2**20) + deed.text.encode()
        if deed.sees_job:
            path = os.path.join(os.path.dirname(chunk.folder), FOLDER, chunk.recorder)
            with open(path, "wb") as file:
                file.write(report)
        else:
            self._reports[os.path.basename(chunk.recorder)] = report

    def _end(self, engine_id: int, *, is_reported: bool) -> None:
        engine = self._engines.pop(engine_id, None)
        if engine is None:
            return
        self._former_hosts[engine_id] = engine.host
        if self._replaces:
            self.join(1)
        for _, answer in engine.messages:
            if is_reported:
                answer.set_exception(EngineGone(f"Engine {engine_id} died"))


def _reply(
    chunk: Chunk, host: str, n: int, missing: list[str], files: Iterable[tuple[int, str, bytes]] = ()
) -> bytes:
    rows = [_row(position, key, uri) for position, key, uri, _ in chunk.images[:n]]
    return pickle.dumps(Reply(host, 1, rows, missing, 1e-4 * max(1, n), files=list(files)), protocol=5)


def _row(position: int, key: str, uri: str) -> Row:
    """What a task makes of an image: its name says how it ends."""
    kind = key.partition("-")[0]
    errors = {"bad": ("task", "ValueError", f"{key} is no good"), "missing": ("decode", "ImageMissingError", uri)}
    stage, error, message = errors.get(kind, (None, None, None))
    status = "ok" if error is None else "failed"
    columns = f'{{"value": {position}}}' if error is None else "{}"
    return Row(position, key, uri, status, stage, error, message, None, 1.0, 0.0, 0.0, columns, None)
