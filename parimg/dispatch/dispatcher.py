"""The submission loop of one job: window, chunks, retries.

One `Dispatcher` runs in a thread of its own. It lists images from the source while chunks come back, keeps at
most two chunks per engine under way, journals what returns, and only then tells anyone. It talks to engines
through the small `Engines` protocol, which the controller fills. Whatever comes from other threads (answers, news
of the source, the loss of the controller) is put into one queue, as something to call.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import logging
import os
import pickle
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import ipyparallel as ipp

from parimg import events
from parimg.dispatch.in_flight import Pending, Sent, Window
from parimg.dispatch.read_ahead import ReadAhead
from parimg.dispatch.retries import decide_retries
from parimg.errors import (
    ControllerLost,
    EngineVersionError,
    JobError,
    ParimgError,
    SourceError,
    TaskError,
    TooManyFailures,
)
from parimg.job.directory import resume_command
from parimg.job.journal import JournalWriter, Placement
from parimg.options import Options
from parimg.protocol import crash_report, shared_objects
from parimg.protocol.crash_report import CrashReport
from parimg.protocol.messages import TELL_SECONDS, VERSION, Chunk, Reply
from parimg.record import Row, failed_row
from parimg.sources.as_source import Image, Source

_log = logging.getLogger(__name__)

CHUNK_SECONDS = 0.5  # what a chunk should take an engine: long against 5 ms a message, short for a progress bar
_MAX_CHUNK = 20_000  # images
_MAX_CHUNK_BYTES = 16 * 2**20  # of arrays that travel with their chunk, or come back with it
_BEHIND_ALL = 2**40  # positions of images that a changed source brought between the others
_LISTING_SECONDS = 0.05  # a slow source gives a smaller chunk rather than keep results waiting
_LOOK_SECONDS = 0.5  # between looks at the engines
_GRACE_SECONDS = 5.0  # for signs of progress that are late because a machine is busy
_MOST_TRACES = 10_000  # failures of a run that are kept with traceback and whole message: at most 60 MB
_SHORT_MESSAGE = 200  # characters
_PROBE_SECONDS = 20.0  # after which an engine is asked whether a chunk arrived
_RECALL_SECONDS = 10.0  # for another engine of a dead one's host to tell what that recorded


class Engines(Protocol):
    """What the dispatcher needs of a cluster."""

    def ids(self) -> list[int]:
        """Engines there are now."""

    def ready(self) -> list[int]:
        """Those that can be given chunks."""

    def probe(self, engine_id: int) -> Future[int]:
        """Ask an engine for an answer, which it gives when it has answered all that it was sent before."""

    def run(self, chunk: bytes, engine_id: int) -> ipp.AsyncResult:
        """Send a chunk to an engine; NoEnginesRegistered or IndexError if it just left."""

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        """Send a shared object to an engine."""

    def fetch_crash_report(self, name: str, engine_id: int) -> Future[bytes | None] | None:
        """Ask another engine of the same host what a dead one recorded; None if there is no other."""

    def exit_reason(self, engine_id: int) -> str:
        """What is known of a dead engine's end."""

    def kill(self, engine_id: int) -> None:
        """End an engine that does not answer."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of a job is to do."""

    refs: tuple[shared_objects.SharedRef, ...]
    source: Source
    options: Options
    retry_failed: bool
    """Whether images that failed in an earlier run are run again."""


@dataclass(frozen=True, slots=True)
class _Recall:
    """Chunks whose blame waits for what another engine finds."""

    engine: int
    lost: list[Sent]
    asked: Future[bytes | None]
    deadline: float


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
    restarts : int
        How often the cluster was started anew under the job.
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
        self._failed = self._done = self._traces = 0
        self.restarts = 0
        self.listed = 0
        self.total: int | None = None
        self.duplicates = 0
        self.chunk_size = plan.options.chunk_size or 1
        self._seconds_per_image: float | None = None
        self._stopping = threading.Event()
        self._aborting = threading.Event()
        self._news: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._read_ahead = ReadAhead(plan.source, lambda: self._news.put(_nothing))
        self._fresh: collections.deque[Pending] = collections.deque()
        self._again: collections.deque[list[Pending]] = collections.deque()
        self._window = Window()
        self._numbers = itertools.count(1)
        self._recalls: list[_Recall] = []
        self._looked_at = 0.0
        self._missing: set[int] = set()
        self._killed: dict[int, str] = {}
        self._recorders = os.path.join(journal.directory, crash_report.FOLDER)
        self._token = secrets.token_hex(8)
        self._total_is_noted = False
        self._pages_are_told = False
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
        self._news.put(_nothing)

    def abort(self) -> None:
        """End now; what is under way is not waited for."""
        self._aborting.set()
        self.stop()

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; False on timeout."""
        # Not Thread.join(): interrupted by Ctrl-C, it takes a running thread for a dead one (Python 3.11).
        with self.changed:
            return self.changed.wait_for(lambda: self.state != "running", timeout)

    def forget_engines(self) -> None:
        """Take back all chunks: the cluster's controller is gone, and another comes."""
        self.restarts += 1
        self._news.put(self._take_all_back)

    def fail(self, reason: str) -> None:
        """End the job: the cluster's controller is gone."""
        message = f"{reason}; to go on: {resume_command(self.journal.directory)}"
        self._news.put(functools.partial(self._lose_controller, message))

    @property
    def outstanding(self) -> int:
        """Chunks under way."""
        return len(self._window)

    # -- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # then engines record elsewhere
            os.makedirs(self._recorders, mode=0o700, exist_ok=True)
        self._read_ahead.start()
        self._emit(events.JobStarted(self.journal.directory, sum(self.counts.values())))
        threading.Thread(target=self._count_images, name="parimg-count", daemon=True).start()
        state = "failed"
        try:
            while not self._aborting.is_set():
                self._fill_window()
                if not self._is_busy() and (self._stopping.is_set() or self._read_ahead.exhausted):
                    break
                self._hear()
            self._raise_source_error()
            state = self._end_state()
        except BaseException as error:
            self.error = error
            self._gather_outstanding()
        self._finish(state)

    def _is_busy(self) -> bool:
        if self._window or self._recalls:
            return True
        return not self._stopping.is_set() and bool(self._again or self._fresh)

    def _hear(self) -> None:
        """Wait for news and handle it; look at the engines now and then."""
        try:
            handle = self._news.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            handle = _nothing
        handle()
        self._look_after_engines()

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
        while self._is_busy() and not self._aborting.is_set():
            with contextlib.suppress(Exception):  # the first error is told
                self._hear()

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
        shutil.rmtree(self._recorders, ignore_errors=True)
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
        while not self._stopping.is_set():
            engine_id = self._window.engine_with_room(self.engines.ready(), self._depth())
            if engine_id is None:
                return
            chunk = self._again.popleft() if self._again else self._next_chunk()
            if not chunk or not self._submit(chunk, engine_id):
                return

    def _depth(self) -> int:
        """Chunks an engine may have: a second one spares it the wait for a message, but may get stuck there."""
        if self._seconds_per_image is None:
            return 1
        return 2 if self._seconds_per_image * self.chunk_size < 2 * CHUNK_SECONDS else 1

    def _next_chunk(self) -> list[Pending]:
        """Images that were not given out yet, fewer than wanted if the source is slow."""
        size = self._next_size()
        deadline = time.monotonic() + _LISTING_SECONDS
        while len(self._fresh) < size and not self._stopping.is_set():
            listed = self._read_ahead.take(size - len(self._fresh), deadline - time.monotonic())
            if not listed:
                break
            self._fresh.extend(self._new_images(listed))
        chunk: list[Pending] = []
        nbytes = 0
        while self._fresh and len(chunk) < size and nbytes < _MAX_CHUNK_BYTES:
            chunk.append(self._fresh.popleft())
            array = chunk[-1].image.array
            nbytes += 0 if array is None else array.nbytes
        return chunk

    def _next_size(self) -> int:
        if self.plan.options.chunk_size is not None:
            return self.plan.options.chunk_size
        if self.total is None:
            return self.chunk_size
        # Near the end chunks shrink, so that engines finish together.
        share = -(-(self.total - self.listed) // (2 * max(1, len(self.engines.ids()))))
        return max(1, min(self.chunk_size, share))

    def _submit(self, chunk: list[Pending], engine_id: int) -> bool:
        """Send a chunk; False if the engine left in this moment."""
        options = self.plan.options
        sent = Sent(next(self._numbers), chunk, engine_id, time.monotonic())
        message = Chunk(
            version=VERSION,
            refs=self.plan.refs,
            folder=f"{self.journal.directory}/shared",
            max_pixels=options.max_pixels,
            images=[(pending.position, *pending.image) for pending in chunk],
            number=sent.number,
            recorder=self._recorder(engine_id),
            timeout=options.timeout,
            memory_limit=options.memory_bytes,
        )
        try:
            sent.result = self.engines.run(pickle.dumps(message, protocol=5), engine_id)
        except (ipp.error.NoEnginesRegistered, IndexError):
            self._again.appendleft(chunk)
            return False
        self._window.add(sent)
        sent.result.add_done_callback(lambda _: self._news.put(functools.partial(self._collect, sent)))
        self._emit(events.ChunkSubmitted(len(chunk), len(self._window)))
        return True

    def _recorder(self, engine_id: int) -> str:
        return f"{self._token}-{engine_id}"

    def _new_images(self, listed: list[tuple[int, Image]]) -> Iterator[Pending]:
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
                yield Pending(image, self._position_at_end() if position in occupied else position)
            elif self.plan.retry_failed and earlier.status == "failed":
                self._in_flight.add(image.key)
                yield Pending(image, earlier.position)

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

    def _collect(self, sent: Sent) -> None:
        if sent not in self._window:  # given up before: its images are with another engine
            return
        try:
            message = sent.answer()
            reply: Reply = pickle.loads(message)
        except ipp.error.RemoteError as error:
            if _tells_death(error):
                self._engine_lost(sent.engine, error.evalue)
            else:
                self._window.remove(sent)
                self._engine_refused(sent.images, error)
        else:
            self._window.remove(sent)
            if reply.missing:
                self._send_missing(sent, reply.missing)
            else:
                self._write(sent, reply)
                n = len(reply.rows)
                if rest := sent.images[n:]:  # the answer would have become too large
                    self._again.append(rest)
                self._adapt_chunk_size(reply.seconds / n, len(message) / n)

    def _write(self, sent: Sent, reply: Reply) -> None:
        if reply.most_pages > 1 and not self._pages_are_told:
            self._pages_are_told = True
            _log.warning(
                "an image has %d pages or frames, of which only the first was taken, and there may be others: see "
                "the column 'pages'; color='stack' gives all pages of a TIFF file",
                reply.most_pages,
            )
        rows = [(row, pending.attempts + 1) for row, pending in zip(reply.rows, sent.images, strict=False)]
        self._journal(rows, Placement(sent.engine, reply.host, reply.pid), reply.seconds)

    def _journal(self, rows: list[tuple[Row, int]], placement: Placement, seconds: float) -> None:
        rows = [(self._shortened(row), attempts) for row, attempts in rows]
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
        self._failed += failed
        self._done += len(rows)
        if failed and self.error is None and self.plan.options.has_too_many(self._failed, self._done):
            raise TooManyFailures(self._tell_failures())

    def _shortened(self, row: Row) -> Row:
        """A failed row without its traceback, once so many failed that nobody reads them: disks are finite."""
        if row.message is None:
            return row
        self._traces += 1
        if self._traces <= _MOST_TRACES:
            return row
        return row._replace(message=row.message[:_SHORT_MESSAGE], traceback=None)

    def _tell_failures(self) -> str:
        groups = self.journal.failures_by_error()
        most = "; ".join(f"{group.count} {group.error} ({group.message:.200})" for group in groups[:3])
        return (
            f"{self._failed} of {self._done} images failed, more than max_failures="
            f"{self.plan.options.max_failures}; all failures so far: {most}; to go on: "
            f"{resume_command(self.journal.directory)}"
        )

    def _adapt_chunk_size(self, seconds_per_image: float, reply_bytes_per_image: float) -> None:
        previous = self._seconds_per_image or seconds_per_image
        self._seconds_per_image = (previous + seconds_per_image) / 2
        if self.plan.options.chunk_size is None:
            in_time = int(CHUNK_SECONDS / max(self._seconds_per_image, 1e-9))
            in_bytes = int(_MAX_CHUNK_BYTES / reply_bytes_per_image)
            self.chunk_size = max(1, min(2 * self.chunk_size, in_time, in_bytes, _MAX_CHUNK))

    def _send_missing(self, sent: Sent, digests: list[str]) -> None:
        """Send an engine what it lacks, each object once, and the chunk again behind it."""
        with contextlib.suppress(ipp.error.NoEnginesRegistered, IndexError):  # it died since it answered
            for digest in digests:
                earlier = self._sending.get((sent.engine, digest))
                if earlier is None:
                    data = shared_objects.read_shared(f"{self.journal.directory}/shared", digest)
                    self._sending[sent.engine, digest] = self.engines.send_shared(digest, data, sent.engine)
                    self._emit(events.SharedObjectSent(digest, len(data), sent.engine))
                elif earlier.done() and (error := earlier.exception()) is not None and not _tells_death(error):
                    raise JobError(f"engine {sent.engine} cannot store a shared object: {error}")
            if self._submit(sent.images, sent.engine):
                return
        self._again.append(sent.images)

    def _engine_refused(self, images: list[Pending], error: ipp.error.RemoteError) -> None:
        """Handle an engine that answered, but not with records."""
        if error.ename == "EngineVersionError":
            raise EngineVersionError(error.evalue)
        if error.ename == "TaskError":
            raise TaskError(error.evalue)
        if len(images) > 1:  # one unusable result must not spoil its neighbours
            self._again.extend([pending] for pending in images)
            return
        images[0].attempts += 1
        self._give_up(images[0], error.ename, error.evalue)

    def _give_up(self, pending: Pending, error: str, message: str, trace: str | None = None) -> None:
        image = pending.image
        row = failed_row(pending.position, image.key, image.uri, "engine", error, message, trace)
        self._journal([(row, pending.attempts)], Placement(None, None, None), 0.0)

    # -- engines that die -------------------------------------------------------------------------------------

    def _look_after_engines(self) -> None:
        now = time.monotonic()
        if now - self._looked_at < _LOOK_SECONDS:
            return
        self._looked_at = now
        present = set(self.engines.ids())
        missing = {engine_id for engine_id in self._window.engines if engine_id not in present}
        # ipyparallel tells the loss of each chunk, but for one that was sent in the moment its engine left.
        for engine_id in missing & self._missing:
            self._engine_lost(engine_id, f"engine {engine_id} left")
        self._missing = missing
        if self.plan.options.timeout is not None:
            for engine_id in present.intersection(self._window.engines):
                self._check_progress(self._window.first_on(engine_id), self.plan.options.timeout, now)
        for engine_id in present.intersection(self._window.engines):
            self._check_arrival(self._window.first_on(engine_id), now)
        for recall in [recall for recall in self._recalls if recall.asked.done() or now > recall.deadline]:
            self._recalls.remove(recall)
            report = None
            with contextlib.suppress(Exception):  # the engine that was asked died, or is busy
                report = crash_report.parse_report(recall.asked.result(0))
            self._conclude(recall.engine, recall.lost, report)

    def _check_arrival(self, sent: Sent, now: float) -> None:
        """Find a chunk that never arrived, as when a network link is cut for less than a heartbeat."""
        if now - sent.sent_at < _PROBE_SECONDS:
            return
        sent.sent_at = now
        with contextlib.suppress(ipp.error.NoEnginesRegistered, IndexError):
            probe = self.engines.probe(sent.engine)
            probe.add_done_callback(lambda _: self._news.put(functools.partial(self._note_probe, sent, probe)))

    def _note_probe(self, sent: Sent, probe: Future[int]) -> None:
        # An engine answers in order, so a chunk that is not answered before a later question did not arrive.
        if probe.exception() is None and sent in self._window:
            self._window.remove(sent)
            self._emit(events.ChunkLost(len(sent.images), "it did not arrive"))
            self._again.append(sent.images)

    def _check_progress(self, sent: Sent, timeout: float, now: float) -> None:
        """Kill an engine that does not keep its own time limit, because it is stopped as a whole."""
        image = sent.last_sign()
        if image is None:
            return  # it has not begun, and may be at the chunk of another job
        silence = now - sent.note_sign(image, now)
        if silence > timeout + TELL_SECONDS + _GRACE_SECONDS and sent.engine not in self._killed:
            self._killed[sent.engine] = f"it gave no sign of life for {silence:.0f} s, and was killed"
            self.engines.kill(sent.engine)

    def _engine_lost(self, engine_id: int, reason: str) -> None:
        """Take back an engine's chunks, and find out which image it was at."""
        lost = self._window.give_up(engine_id)
        self._emit(events.ChunkLost(sum(len(sent.images) for sent in lost), reason))
        name = self._recorder(engine_id)
        report = crash_report.read_report(self._recorders, name)
        asked = None
        if report is None:  # an engine that does not see the job's directory leaves them on its host
            with contextlib.suppress(ipp.error.NoEnginesRegistered, IndexError):
                asked = self.engines.fetch_crash_report(name, engine_id)
        if asked is None:
            self._conclude(engine_id, lost, report)
        else:
            self._recalls.append(_Recall(engine_id, lost, asked, time.monotonic() + _RECALL_SECONDS))

    def _take_all_back(self) -> None:
        for engine_id in self._window.engines:
            self._again.extend(sent.images for sent in self._window.give_up(engine_id))
        for recall in self._recalls:
            self._again.extend(sent.images for sent in recall.lost)
        self._recalls.clear()
        self._killed.clear()
        self._sending.clear()
        self._missing.clear()

    def _lose_controller(self, message: str) -> None:
        self._take_all_back()
        raise ControllerLost(message)

    def _conclude(self, engine_id: int, lost: list[Sent], report: CrashReport | None) -> None:
        """Run the images of a dead engine again, but those that it died of too often."""
        end = "; ".join(filter(None, [self._killed.pop(engine_id, ""), self.engines.exit_reason(engine_id)]))
        decision = decide_retries(lost, report, end, self.plan.options)
        self._again.extend(decision.again)
        for pending, error, message, trace in decision.failed:
            self._give_up(pending, error, message, trace)

    def _emit(self, event: events.Event) -> None:
        for listener in list(self.listeners):
            try:
                listener(event)
            except Exception:
                self.listeners.remove(listener)
                _log.exception("a listener of the job raised, and is called no more")


def _tells_death(error: BaseException) -> bool:
    """Whether an answer was made up by ipyparallel because the engine died."""
    return isinstance(error, ipp.error.RemoteError) and error.ename in {"EngineError", "TaskAborted"}


def _nothing() -> None:
    """News that only wake the loop."""
