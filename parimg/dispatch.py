"""The submission loop of one job: window, chunks, retries.

One `Dispatcher` runs in a thread of its own. It lists images from the source while chunks come back, keeps at
most two chunks per engine under way, journals what returns, and only then tells anyone. It talks to engines
through the small `Engines` protocol, which the controller fills.
"""

from __future__ import annotations

import collections
import contextlib
import logging
import pickle
import queue
import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import ipyparallel as ipp

from parimg import engine, events, shared
from parimg.errors import EngineDied, EngineVersionError, JobError, ParimgError, SourceError, TaskError
from parimg.journal import JournalWriter, Placement
from parimg.read_ahead import ReadAhead
from parimg.record import Row, failed_row
from parimg.sources import Image, Source

_log = logging.getLogger(__name__)

CHUNK_SECONDS = 0.5  # what a chunk should take an engine: long against 5 ms a message, short for a progress bar
_MAX_CHUNK = 20_000  # images
_MAX_CHUNK_BYTES = 16 * 2**20  # of arrays that travel with their chunk, or come back with it
_BEHIND_ALL = 2**40  # positions of images that a changed source brought between the others
_LISTING_SECONDS = 0.05  # a slow source gives a smaller chunk rather than keep results waiting


class Engines(Protocol):
    """What the dispatcher needs of a cluster."""

    def count(self) -> int:
        """Engines there are now."""

    def run(self, chunk: bytes) -> ipp.AsyncResult:
        """Send a chunk to the next free engine."""

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        """Send a shared object to one engine."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of a job is to do."""

    refs: tuple[shared.SharedRef, ...]
    source: Source
    retries: int
    max_pixels: int
    chunk_size: int | None
    """Fixed size of a chunk, None for one that grows until a chunk takes `CHUNK_SECONDS`."""
    retry_failed: bool
    """Whether images that failed in an earlier run are run again."""


@dataclass(slots=True)
class _Pending:
    """An image under way."""

    image: Image
    position: int
    attempts: int = 0
    alone: bool = False
    """Whether it travels in a chunk of its own, because an engine died with it or an answer was unusable."""


_Chunk = list[_Pending]
_Result = tuple[_Chunk, ipp.AsyncResult]


class Dispatcher:
    """Runs one job.

    Parameters
    ----------
    plan : Plan
    journal : JournalWriter
        Written by this dispatcher alone, and closed by it.
    engines : Engines
    listeners : list of callable
        Called with each event, from the dispatcher's thread.

    Attributes
    ----------
    changed : threading.Condition
        Notified whenever records were written or the state changed.
    state : str
        ``running``, then ``finished``, ``interrupted``, ``aborted`` or ``failed``.
    error : BaseException or None
        Why the job ended as ``failed``.
    """

    def __init__(
        self, plan: Plan, journal: JournalWriter, engines: Engines, listeners: list[events.Listener]
    ) -> None:
        self.plan = plan
        self.journal = journal
        self.engines = engines
        self.listeners = listeners
        self.changed = threading.Condition()
        self.state = "running"
        self.error: BaseException | None = None
        self.counts = journal.count_by_status()
        self.listed = 0
        self.total: int | None = None
        self.duplicates = 0
        self.chunk_size = plan.chunk_size or 1
        self._seconds_per_image = 0.0
        self._stopping = threading.Event()
        self._aborting = threading.Event()
        self._results: queue.SimpleQueue[_Result | None] = queue.SimpleQueue()
        self._read_ahead = ReadAhead(plan.source, lambda: self._results.put(None))
        self._fresh: collections.deque[_Pending] = collections.deque()
        self._again: collections.deque[_Chunk] = collections.deque()
        self._outstanding = 0
        self._total_is_noted = False
        self._last_position = journal.last_position()
        self._is_resumed = self._last_position >= 0
        self._in_flight: set[str] = set()
        self._sending: dict[tuple[int, str], Future[None]] = {}
        self._thread = threading.Thread(target=self._run, name="parimg-dispatch", daemon=True)

    # -- called from other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send no new chunks; the running ones are gathered."""
        self._stopping.set()
        self._results.put(None)

    def abort(self) -> None:
        """End now; what is under way is not waited for."""
        self._aborting.set()
        self.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; False on timeout."""
        # Not Thread.join(): interrupted by Ctrl-C, it takes a running thread for a dead one (Python 3.11).
        with self.changed:
            return self.changed.wait_for(lambda: self.state != "running", timeout)

    @property
    def outstanding(self) -> int:
        """Chunks under way."""
        return self._outstanding

    # -- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._read_ahead.start()
        self._emit(events.JobStarted(self.journal.directory, sum(self.counts.values())))
        threading.Thread(target=self._count_images, name="parimg-count", daemon=True).start()
        state = "failed"
        try:
            while not self._aborting.is_set():
                self._fill_window()
                if not self._outstanding and (self._stopping.is_set() or self._read_ahead.exhausted):
                    break
                self._collect(self._results.get())
            self._raise_source_error()
            state = self._end_state()
        except BaseException as error:
            self.error = error
            self._gather_outstanding()
        self._finish(state)

    def _raise_source_error(self) -> None:
        error = self._read_ahead.error
        if isinstance(error, ParimgError):
            raise error
        if error is not None:
            raise SourceError(
                f"the source of images stopped after {self.listed}: {type(error).__name__}: {error}"
            ) from error

    def _gather_outstanding(self) -> None:
        """Journal what engines are still computing when the job ends with an error."""
        self._stopping.set()
        while self._outstanding and not self._aborting.is_set():
            with contextlib.suppress(Exception):  # the first error is told
                self._collect(self._results.get())

    def _end_state(self) -> str:
        if self._aborting.is_set():
            return "aborted"
        return "interrupted" if self._again or self._fresh or not self._read_ahead.exhausted else "finished"

    def _finish(self, state: str) -> None:
        self._read_ahead.stop()
        reason = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        with contextlib.suppress(Exception):  # a full disk must not hide the error that ended the job
            self.journal.set_meta("total", self.listed if state == "finished" else self.total)
            self.journal.end_run(state, reason, self.duplicates)
        with contextlib.suppress(Exception):
            self.journal.close()
        with self.changed:
            self.state = state
            self.changed.notify_all()
        self._emit(events.JobFinished(state))

    def _count_images(self) -> None:
        """Find the total, for progress and for the size of the last chunks; listing a folder may take a while."""
        try:
            total = self.plan.source.count()
        except Exception:
            return  # the same error meets the loop, which tells it
        if total is not None and self.state == "running":
            self.total = total
            self._emit(events.TotalKnown(total))

    # -- submitting -------------------------------------------------------------------------------------------

    def _fill_window(self) -> None:
        while not self._stopping.is_set() and self._outstanding < 2 * max(1, self.engines.count()):
            chunk = self._again.popleft() if self._again else self._next_chunk()
            if not chunk:
                return
            self._submit(chunk)

    def _next_chunk(self) -> _Chunk:
        """Images that were not given out yet, fewer than wanted if the source is slow."""
        size = self._next_size()
        deadline = time.monotonic() + _LISTING_SECONDS
        while len(self._fresh) < size and not self._stopping.is_set():
            listed = self._read_ahead.take(size - len(self._fresh), deadline - time.monotonic())
            if not listed:
                break
            self._fresh.extend(self._new_images(listed))
        chunk: _Chunk = []
        nbytes = 0
        while self._fresh and len(chunk) < size and nbytes < _MAX_CHUNK_BYTES:
            chunk.append(self._fresh.popleft())
            array = chunk[-1].image.array
            nbytes += 0 if array is None else array.nbytes
        return chunk

    def _next_size(self) -> int:
        if self.plan.chunk_size is not None:
            return self.plan.chunk_size
        if self.total is None:
            return self.chunk_size
        # Near the end chunks shrink, so that engines finish together.
        share = -(-(self.total - self.listed) // (2 * max(1, self.engines.count())))
        return max(1, min(self.chunk_size, share))

    def _submit(self, chunk: _Chunk) -> None:
        message = engine.Chunk(
            version=engine.VERSION,
            refs=self.plan.refs,
            folder=f"{self.journal.directory}/shared",
            max_pixels=self.plan.max_pixels,
            images=[(pending.position, *pending.image) for pending in chunk],
        )
        result = self.engines.run(pickle.dumps(message, protocol=5))
        self._outstanding += 1
        result.add_done_callback(lambda done: self._results.put((chunk, done)))
        self._emit(events.ChunkSubmitted(len(chunk), self._outstanding))

    def _new_images(self, listed: list[tuple[int, Image]]) -> Iterator[_Pending]:
        """Those that have no record yet and are not under way."""
        recorded = self.journal.recorded([image.key for _, image in listed])
        occupied = self.journal.occupied([position for position, _ in listed]) if self._is_resumed else ()
        for position, image in listed:
            self.listed = position + 1
            earlier = recorded.get(image.key)
            if image.key in self._in_flight or (earlier and earlier.run == self.journal.run):
                self._tell_duplicate(image.key)
            elif earlier is None:
                self._in_flight.add(image.key)
                yield _Pending(image, self._position_at_end() if position in occupied else position)
            elif self.plan.retry_failed and earlier.status == "failed":
                self._in_flight.add(image.key)
                yield _Pending(image, earlier.position)

    def _position_at_end(self) -> int:
        """A place behind all others, for an image whose own is taken: the source changed between two runs."""
        self._last_position = max(self._last_position + 1, _BEHIND_ALL)
        return self._last_position

    def _tell_duplicate(self, key: str) -> None:
        self.duplicates += 1
        if self.duplicates == 1:
            _log.warning("the source names %r more than once; it is run once, as are further duplicates", key)
        self._emit(events.DuplicateFound(key))

    # -- collecting -------------------------------------------------------------------------------------------

    def _collect(self, result: _Result | None) -> None:
        if result is None:  # woken by stop(), or because the source gave more
            return
        chunk, answer = result
        self._outstanding -= 1
        try:
            message = answer.result()
            reply: engine.Reply = pickle.loads(message)
        except ipp.error.EngineError as error:
            self._engine_lost(chunk, str(error))
        except ipp.error.RemoteError as error:
            if error.ename in {"EngineError", "TaskAborted"}:
                self._engine_lost(chunk, error.evalue)
            else:
                self._engine_refused(chunk, error)
        else:
            engine_id = answer.metadata["engine_id"] if isinstance(answer.metadata, dict) else None
            if reply.missing:
                self._send_missing(chunk, reply.missing, engine_id)
            else:
                self._write(chunk, reply, engine_id)
                self._adapt_chunk_size(reply.seconds / len(chunk), len(message) / len(chunk))

    def _write(self, chunk: _Chunk, reply: engine.Reply, engine_id: int | None) -> None:
        rows = [(row, pending.attempts + 1) for row, pending in zip(reply.rows, chunk, strict=True)]
        self._journal(rows, Placement(engine_id, reply.host, reply.pid), reply.seconds)

    def _journal(self, rows: list[tuple[Row, int]], placement: Placement, seconds: float) -> None:
        replaced = self.journal.recorded([row.key for row, _ in rows]) if self.plan.retry_failed else {}
        self.journal.append(rows, placement)
        if self.total is not None and not self._total_is_noted:
            self.journal.set_meta("total", self.total)  # for those who look from other processes
            self._total_is_noted = True
        failed = sum(row.status == "failed" for row, _ in rows)
        self._in_flight.difference_update([row.key for row, _ in rows])
        with self.changed:
            for earlier in replaced.values():
                self.counts[earlier.status] -= 1
            self.counts["ok"] += len(rows) - failed
            self.counts["failed"] += failed
            self.changed.notify_all()
        self._emit(events.RecordsWritten(len(rows) - failed, failed, placement.engine, seconds))

    def _adapt_chunk_size(self, seconds_per_image: float, reply_bytes_per_image: float) -> None:
        if self.plan.chunk_size is not None:
            return
        previous = self._seconds_per_image or seconds_per_image
        self._seconds_per_image = (previous + seconds_per_image) / 2
        in_time = int(CHUNK_SECONDS / max(self._seconds_per_image, 1e-9))
        in_bytes = int(_MAX_CHUNK_BYTES / reply_bytes_per_image)
        self.chunk_size = max(1, min(2 * self.chunk_size, in_time, in_bytes, _MAX_CHUNK))

    def _send_missing(self, chunk: _Chunk, digests: list[str], engine_id: int | None) -> None:
        """Send an engine what it lacks, each object once, and the chunk again when it arrived."""
        self._again.append(chunk)
        if engine_id is None:
            return
        arrived = []
        # It may have died since it answered; then another engine gets the chunk.
        with contextlib.suppress(ipp.error.EngineError, ipp.error.NoEnginesRegistered, IndexError):
            for digest in digests:
                if (engine_id, digest) not in self._sending:
                    data = shared.read_shared(f"{self.journal.directory}/shared", digest)
                    self._sending[engine_id, digest] = self.engines.send_shared(digest, data, engine_id)
                    self._emit(events.SharedObjectSent(digest, len(data), engine_id))
                arrived.append(self._sending[engine_id, digest])
            for future in arrived:
                # The other engines work on meanwhile; this thread waits some ms for a message that is under way.
                future.result()

    def _engine_lost(self, chunk: _Chunk, reason: str) -> None:
        self._emit(events.ChunkLost(len(chunk), reason))
        for pending in chunk:
            pending.attempts += 1
            pending.alone = True
            if pending.attempts > self.plan.retries:
                self._give_up(
                    pending,
                    EngineDied.__name__,
                    f"its engine died at each of {pending.attempts} attempts: {reason}",
                )
            else:
                self._again.append([pending])

    def _engine_refused(self, chunk: _Chunk, error: ipp.error.RemoteError) -> None:
        """Handle an engine that answered, but not with records."""
        if error.ename == "EngineVersionError":
            raise EngineVersionError(error.evalue)
        if error.ename == "TaskError":
            raise TaskError(error.evalue)
        if len(chunk) > 1:  # one unusable result must not spoil its neighbours
            self._again.extend([pending] for pending in chunk)
            return
        chunk[0].attempts += 1
        self._give_up(chunk[0], error.ename, error.evalue)

    def _give_up(self, pending: _Pending, error: str, message: str) -> None:
        image = pending.image
        row = failed_row(pending.position, image.key, image.uri, "engine", error, message)
        self._journal([(row, pending.attempts)], Placement(None, None, None), 0.0)

    def _emit(self, event: events.Event) -> None:
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                self.listeners.remove(listener)
                _log.exception("a listener of the job raised, and is called no more")


def check_listeners(listeners: Iterable[events.Listener]) -> list[events.Listener]:
    """Refuse what cannot be called with an event."""
    if callable(listeners):
        raise JobError(f"listeners must be a list of callables (got one callable, {listeners!r})")
    for listener in (heard := list(listeners)):
        if not callable(listener):
            raise JobError(f"a listener must be callable (got {listener!r}, a {type(listener).__name__})")
    return heard


def check_options(retries: int, chunk_size: int | None, max_pixels: int) -> None:
    """Refuse options that make no sense, before anything is written or sent."""
    for name, value, least in (("retries", retries, 0), ("max_pixels", max_pixels, 1)):
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise JobError(f"{name} must be an integer of at least {least} (got {value!r})")
    if chunk_size is not None and (
        isinstance(chunk_size, bool) or not isinstance(chunk_size, int) or chunk_size < 1
    ):
        raise JobError(f"chunk_size must be an integer of at least 1, or None (got {chunk_size!r})")
