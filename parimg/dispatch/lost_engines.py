"""LostEngines: find out that an engine died, is stopped, or never got its chunk, and which image it was at.

Looks at the pool now and then, from the dispatcher's thread, which hears what is to be done about the images.
Answers that engines give to questions asked here come through the dispatcher's inbox.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import shutil
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass

from parimg.dispatch.in_flight import InFlight, Sent
from parimg.dispatch.plan import EnginePool
from parimg.dispatch.retries import RetryDecision, decide_retries
from parimg.errors import EngineGone
from parimg.events import ChunkLost
from parimg.options import Options
from parimg.protocol import crash_report
from parimg.protocol.crash_report import CrashReport
from parimg.protocol.messages import TELL_SECONDS

_GRACE_SECONDS = 5.0  # for signs of progress that are late because a machine is busy
_PROBE_SECONDS = 20.0  # after which an engine is asked whether a chunk arrived
_REPORT_SECONDS = 10.0  # for another engine of a dead one's host to send what that recorded


@dataclass(frozen=True, slots=True)
class _Awaited:
    """Chunks whose blame waits for what another engine finds."""

    engine: int
    lost: list[Sent]
    asked: Future[bytes | None]
    deadline: float


class LostEngines:
    """The engines that do not answer as they should.

    It owns what is known of their silence, and nobody else writes that: engines that were missing at the last
    look, those it killed, the last signs of chunks that take long, when their engines were asked, and the crash
    reports it waits for.

    Parameters
    ----------
    pool : EnginePool
    in_flight : InFlight
        From which it takes the chunks of a dead engine.
    options : Options
    folder : str
        For the flight recorders of engines that see the job's directory.
    call : callable
        Has a function called by the dispatcher's thread.
    emit : callable
        Given each `ChunkLost`.
    settle : callable
        Given what is to be done about the images.
    """

    def __init__(
        self,
        pool: EnginePool,
        in_flight: InFlight,
        options: Options,
        folder: str,
        call: Callable[[Callable[[], None]], None],
        emit: Callable[[ChunkLost], None],
        settle: Callable[[RetryDecision], None],
    ) -> None:
        self._pool = pool
        self._in_flight = in_flight
        self._options = options
        self._folder = folder
        self._call = call
        self._emit = emit
        self._settle = settle
        self._token = secrets.token_hex(8)
        self._missing: set[int] = set()
        self._killed: dict[int, str] = {}
        self._awaited: list[_Awaited] = []
        self._signs: dict[int, tuple[int, float]] = {}
        self._asked: dict[int, float] = {}

    def make_folder(self) -> None:
        """Make the folder of the recorders; where that cannot be, engines record elsewhere."""
        with contextlib.suppress(OSError):
            os.makedirs(self._folder, mode=0o700, exist_ok=True)

    def remove_folder(self) -> None:
        """Remove the recorders, which nobody needs any more."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def recorder(self, engine: int) -> str:
        """Name of an engine's flight recorder."""
        return f"{self._token}-{engine}"

    @property
    def n_awaited(self) -> int:
        """Crash reports that are waited for, and with them images."""
        return len(self._awaited)

    def look(self, now: float) -> None:
        """Look after all engines that have a chunk."""
        present = set(self._pool.ids())
        missing = self._in_flight.engines - present
        # The pool reports the loss of each chunk, but for one that was sent in the moment its engine left.
        for engine in missing & self._missing:
            self.take_back(engine, f"engine {engine} left")
        self._missing = set(missing)
        if self._options.timeout is not None:
            self._look_for_signs(self._options.timeout, present, now)
        self._look_for_arrival(present, now)
        for awaited in [found for found in self._awaited if found.asked.done() or now > found.deadline]:
            self._awaited.remove(awaited)
            report = None
            with contextlib.suppress(Exception):  # the engine that was asked died, or is busy
                report = crash_report.parse_report(awaited.asked.result(0))
            self._decide(awaited.engine, awaited.lost, report)

    def take_back(self, engine: int, reason: str) -> None:
        """Take back a dead engine's chunks, and find out which image it was at."""
        lost = self._in_flight.give_up(engine)
        self._emit(ChunkLost(sum(len(sent.images) for sent in lost), reason))
        name = self.recorder(engine)
        report = crash_report.read_report(self._folder, name)
        asked = None
        if report is None:  # an engine that does not see the job's directory leaves them on its host
            with contextlib.suppress(EngineGone):
                asked = self._pool.fetch_crash_report(name, engine)
        if asked is None:
            self._decide(engine, lost, report)
        else:
            self._awaited.append(_Awaited(engine, lost, asked, time.monotonic() + _REPORT_SECONDS))

    def take_all_back(self) -> Iterator[Sent]:
        """Give up all engines, because their controller is gone: all chunks, nobody to blame."""
        for engine in list(self._in_flight.engines):
            yield from self._in_flight.give_up(engine)
        for awaited in self._awaited:
            yield from awaited.lost
        self._in_flight.open(())  # engines of the next controller have the same numbers
        for known in (self._awaited, self._killed, self._missing, self._signs, self._asked):
            known.clear()

    def _look_for_signs(self, timeout: float, present: set[int], now: float) -> None:
        """Kill engines that do not keep their own time limit, because they are stopped as a whole."""
        seen, self._signs = self._signs, {}
        for sent in list(self._in_flight.sent_before(now - TELL_SECONDS)):
            image = self._pool.image_at(sent.answer) if sent.engine in present else None
            if image is None:
                continue  # it has not begun, and may be at the chunk of another job
            before, since = seen.get(sent.number, (image, now))
            self._signs[sent.number] = (image, since if before == image else now)
            silence = now - self._signs[sent.number][1]
            if silence > timeout + TELL_SECONDS + _GRACE_SECONDS and sent.engine not in self._killed:
                self._killed[sent.engine] = f"it gave no sign of life for {silence:.0f} s, and was killed"
                self._pool.kill(sent.engine)

    def _look_for_arrival(self, present: set[int], now: float) -> None:
        """Find chunks that never arrived, as when a network link is cut for less than a heartbeat."""
        asked, self._asked = self._asked, {}
        for sent in list(self._in_flight.sent_before(now - _PROBE_SECONDS)):
            since = asked.get(sent.number, sent.sent_at)
            if now - since >= _PROBE_SECONDS and sent.engine in present:
                since = now
                with contextlib.suppress(EngineGone):
                    self._pool.probe(sent.engine).add_done_callback(functools.partial(self._hear_probe, sent))
            self._asked[sent.number] = since

    def _hear_probe(self, sent: Sent, probe: Future[int]) -> None:
        """Called from any thread."""
        self._call(functools.partial(self._note_probe, sent, probe))

    def _note_probe(self, sent: Sent, probe: Future[int]) -> None:
        # An engine answers in order, so a chunk that is not answered before a later question did not arrive.
        if probe.exception() is None and sent in self._in_flight:
            self._in_flight.remove(sent)
            self._emit(ChunkLost(len(sent.images), "it did not arrive"))
            self._settle(RetryDecision(again=[sent.images]))

    def _decide(self, engine: int, lost: list[Sent], report: CrashReport | None) -> None:
        """Run the images of a dead engine again, but those that it died of too often."""
        end = "; ".join(filter(None, [self._killed.pop(engine, ""), self._pool.exit_reason(engine)]))
        self._settle(decide_retries(lost, report, end, self._options))
