"""The submission loop of one job: it sends chunks, collects answers, writes records.

One `Dispatcher` runs in a thread of its own. It lists images from the source while chunks come back, keeps at
most two chunks per engine under way, journals what returns, and only then emits an event. It talks to engines
through the small `EnginePool` protocol. Whatever comes from other threads (answers, news of the source, the loss
of the controller) is put into one inbox, as something to call.
"""

from __future__ import annotations

import contextlib
import enum
import functools
import itertools
import logging
import os
import pickle
import queue
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future

from parimg import events
from parimg.dispatch.chunk_size import ChunkSize
from parimg.dispatch.common_failure import MISSING
from parimg.dispatch.disk_sharing import DiskSharing
from parimg.dispatch.in_flight import InFlight, Pending, Sent
from parimg.dispatch.lost_engines import LostEngines
from parimg.dispatch.new_images import NewImages
from parimg.dispatch.notices import Notices
from parimg.dispatch.plan import EnginePool, Plan
from parimg.dispatch.recording import Recording
from parimg.dispatch.retries import RetryDecision, decide_refusal
from parimg.dispatch.shipping import Shipping, write_returned
from parimg.dispatch.tiled_images import Answered, TiledImages
from parimg.dispatch.waiting import Waiting
from parimg.errors import (
    ControllerLost,
    EngineGone,
    EngineRefused,
    EngineVersionError,
    JobError,
    TaskError,
)
from parimg.job.directory import resume_command
from parimg.job.journal_writer import JournalWriter
from parimg.job.work_left import WorkLeft
from parimg.protocol import shared_objects
from parimg.protocol.disk_sharing import SeenDisks
from parimg.protocol.messages import VERSION, Chunk, Content, NextStep, Reply
from parimg.record import Placement, failed_row
from parimg.sources.as_source import Image

_log = logging.getLogger(__name__)

_MOST_AT_ONCE = 15  # more answers in one transaction, while the engines that gave them get no chunk
_LOOK_SECONDS = 0.5  # between looks at the engines
_TELL_TILES_SECONDS = 1.0  # between notes in the journal of how many tiles are done
_ENDING = {kind.__name__: kind for kind in (EngineVersionError, TaskError)}  # what an engine may end the job with


class _Closing(enum.IntEnum):
    """How the job is to end early; it only ever grows."""

    NO = 0
    STOP = 1
    ABORT = 2


class Dispatcher:
    """Runs one job.

    Its own thread writes all that it holds, but for two things: `_closing` is raised by whoever wants the end,
    under `changed`; `restarts` is counted by the thread that looks after the cluster.

    Parameters
    ----------
    plan : Plan
    journal : JournalWriter
        Written by this dispatcher alone, and closed by it.
    engines : EnginePool
    listeners : iterable of callable
        Called with each event, from threads of the dispatcher.

    Attributes
    ----------
    changed : threading.Condition
        Notified whenever records were written or the state changed.
    state : str
        ``running``, then ``finished``, ``interrupted``, ``aborted`` or ``failed``.
    error : BaseException or None
        Why the job ended as ``failed``.
    total : int or None
        Images that it has, once that is known.
    duplicates : int
        Images that it named again.
    tiles : (int, int) or None
        Tiles that are done, and all, of the images that are run by tiles now.
    restarts : int
        How often the cluster was started anew under the job.
    work_left : WorkLeft
        What is still to do, as of the last look at the engines.
    """

    def __init__(
        self, plan: Plan, journal: JournalWriter, engines: EnginePool, listeners: Iterable[events.Listener]
    ) -> None:
        self.plan = plan
        self.journal = journal
        self.engines = engines
        self.listeners = events.Listeners(listeners)
        self.changed = threading.Condition()
        self.state = "running"
        self.error: BaseException | None = None
        self.restarts = 0
        self.total: int | None = None
        self.duplicates = 0
        self.tiles: tuple[int, int] | None = None
        self.work_left = WorkLeft(0, 0.0)
        self._recording = Recording(plan, journal, self.listeners, self.changed)
        self._closing = _Closing.NO
        self._inbox: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._new_images = NewImages(journal, retry_failed=plan.retry_failed, on_duplicate=self._report_duplicate)
        self._waiting = Waiting(plan.source, self._new_images, lambda: self._inbox.put(_nothing))
        self._in_flight = InFlight()
        self._tiled = TiledImages(journal.place.tiles)
        self._tiles_told_at = 0.0
        self._lost_engines = LostEngines(
            engines,
            self._in_flight,
            plan.options,
            journal.place.recorders,
            self._inbox.put,
            self.listeners.emit,
            self._settle,
        )
        self._disks = DiskSharing(engines, plan, journal.place, self._inbox.put, self.listeners.emit)
        self._shipping = Shipping()
        self._looked_at = 0.0
        self._numbers = itertools.count(1)
        self._chunk_size = ChunkSize(plan.options.chunk_size)
        self._sending: dict[tuple[int, str], Future[None]] = {}
        self._notices = Notices()
        self._thread = threading.Thread(target=self._run, name="parimg-dispatch", daemon=True)

    # -- called from other threads ----------------------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Send no new chunks; the running ones are gathered."""
        self._close(_Closing.STOP)

    def abort(self) -> None:
        """End now; what is under way is not waited for."""
        self._close(_Closing.ABORT)

    def _close(self, how: _Closing) -> None:
        with self.changed:
            self._closing = max(self._closing, how)
        self._inbox.put(_nothing)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end; False on timeout."""
        # Not Thread.join(): interrupted by Ctrl-C, it takes a running thread for a dead one (Python 3.11).
        with self.changed:
            return self.changed.wait_for(lambda: self.state != "running", timeout)

    def forget_engines(self) -> None:
        """Take back all chunks: the cluster's controller is gone, and another comes."""
        self.restarts += 1
        self._inbox.put(self._take_all_back)

    def fail(self, reason: str) -> None:
        """End the job: the cluster's controller is gone."""
        message = f"{reason}; to go on: {resume_command(self.journal.directory)}"
        self._inbox.put(functools.partial(self._lose_controller, message))

    @property
    def counts(self) -> dict[str, int]:
        """Records by status, of all runs; they change under `changed`."""
        return self._recording.counts

    @property
    def job_total(self) -> int | None:
        """Images of the job, which may have had others before this source; None until that is known."""
        if self.plan.known and not self.plan.is_added:
            return self.plan.known
        if not self.plan.known or self.total is None:
            return self.total
        return self.plan.known + self.total - self._new_images.recorded

    @property
    def outstanding(self) -> int:
        """Chunks under way."""
        return len(self._in_flight)

    # -- the loop ---------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._lost_engines.make_folder()
        self._waiting.start()
        self.listeners.emit(events.JobStarted(self.journal.directory, sum(self.counts.values())))
        threading.Thread(target=self._count_images, name="parimg-count", daemon=True).start()
        state = "failed"
        try:
            self._look_after_engines()
            while self._closing < _Closing.ABORT:
                self._fill()
                if not self._is_busy() and (self._closing or self._waiting.exhausted):
                    break
                self._handle_next()
            self._recording.report()
            self._waiting.raise_source_error()
            state = self._end_state()
        except BaseException as error:
            self.error = error
            self._gather_outstanding()
        self._finish(state)

    def _is_busy(self) -> bool:
        if self._in_flight or self._lost_engines.n_awaited:
            return True
        return not self._closing and bool(self._waiting)

    def _handle_next(self) -> None:
        """Wait for something to do, and do it; look at the engines now and then."""
        try:
            handle = self._inbox.get(timeout=_LOOK_SECONDS)
        except queue.Empty:
            handle = _nothing
        with self.journal.grouped():  # of many engines, answers wait for one another
            handle()
            for _ in range(_MOST_AT_ONCE):
                try:
                    handle = self._inbox.get_nowait()
                except queue.Empty:
                    break
                handle()
        if not self.journal.holds_back:
            self._recording.report()
        self._look_after_engines()

    def _look_after_engines(self) -> None:
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_SECONDS or self._disks.has_news:
            self._looked_at = now
            self._in_flight.open(self._disks.usable(self._ready_engines(), self._next_images))
            self._lost_engines.look(now)
            self.work_left = self._estimate_work()

    def engine_ids(self) -> list[int]:
        """Engines that may run the job now."""
        there = self.engines.ids()
        return [engine for engine in there if engine in self.plan.targets] or there

    def _ready_engines(self) -> list[int]:
        ready = self.engines.ready()
        if not self.plan.targets:
            return ready
        wanted = set(self.engine_ids())
        return [engine for engine in ready if engine in wanted]

    def _estimate_work(self) -> WorkLeft:
        unlisted = 0 if self.total is None else self.total - self._waiting.listed
        if self.total is None and not self._waiting.exhausted:
            unlisted = self._waiting.listed  # nobody knows; as many again, until the source ends
        images = 0 if self._closing else max(0, unlisted) + len(self._waiting)
        images += self._in_flight.n_images
        return WorkLeft(images, images * self._chunk_size.image_seconds, frozenset(self._in_flight.engines))

    def _next_images(self) -> list[Image]:
        """Some of those that are to be run next, none if the source has listed none yet."""
        if not self._waiting and not self._closing:
            self._waiting.list_images(1)
        return [pending.image for pending in itertools.islice(self._waiting, MISSING)]

    def _gather_outstanding(self) -> None:
        """Journal what engines are still computing when the job ends with an error."""
        self._close(_Closing.STOP)
        while self._is_busy() and self._closing < _Closing.ABORT:
            with contextlib.suppress(Exception):  # the first error is reported
                self._handle_next()

    def _end_state(self) -> str:
        if self._closing == _Closing.ABORT:
            return "aborted"
        return "interrupted" if self._waiting or not self._waiting.exhausted else "finished"

    def _finish(self, state: str) -> None:
        self._waiting.stop()
        self._shipping.stop()
        self._disks.close()
        reason = None if self.error is None else f"{type(self.error).__name__}: {self.error}"
        with contextlib.suppress(Exception):  # a full disk must not hide the error that ended the job
            self._recording.report()
            self.journal.set_meta("total", self._total_at_end() if state == "finished" else self.job_total)
            self.journal.end_run(state, reason, self.duplicates)
            if self._tiles_told_at:
                self.journal.set_meta("tiles", None)
        with contextlib.suppress(Exception):
            self.journal.close()
        self._lost_engines.remove_folder()
        if state == "finished":
            shutil.rmtree(self.journal.place.tiles, ignore_errors=True)
        with self.changed:
            self.state = state
            self.changed.notify_all()
        self.listeners.emit(events.JobFinished(state))

    def _total_at_end(self) -> int:
        return sum(self.counts.values()) if self.plan.known else self._waiting.listed

    def _count_images(self) -> None:
        """Find the total, for progress and for the size of the last chunks; listing a folder may take a while."""
        try:
            total = self.plan.source.count()
        except Exception:
            return  # the same error meets the loop, which reports it
        if total is not None:
            self._inbox.put(functools.partial(self._note_total, total))

    def _note_total(self, total: int) -> None:
        self.total = total
        with contextlib.suppress(Exception):  # the next record tells what is wrong with the journal
            self.journal.set_meta("total", self.job_total)  # for those who look from other processes
        self.listeners.emit(events.TotalKnown(self.job_total or total))

    # -- submitting -------------------------------------------------------------------------------------------

    def _fill(self) -> None:
        """Give every engine that has room a chunk."""
        while not self._closing:
            engine_id = self._in_flight.engine_with_room(self._chunk_size.depth)
            if engine_id is None:
                return
            chunk = self._waiting.next_chunk(self._next_size)
            if not chunk:
                return
            if not self._submit(chunk, engine_id):
                self._waiting.put_first(chunk)

    def _next_size(self) -> int:
        remaining = None if self.total is None else self._waiting.not_given_out(self.total)
        return self._chunk_size.next(remaining, self._in_flight.n_open)

    def _submit(self, images: list[Pending], engine_id: int) -> bool:
        """Send a chunk; False if the engine left in this moment."""
        options = self.plan.options
        seen = self._disks.seen_by(engine_id)
        is_blind = not (seen.images and seen.job and self._sees_output(seen))
        if is_blind and any(pending.piece for pending in images):
            self._in_flight.shut(engine_id)  # until the next look: it does not see what the others left
            return False
        if seen.images:
            self._shipping.forget(images)
            contents: list[Content] = [pending.piece or pending.image.array for pending in images]
        else:
            contents = self._shipping.load(images)
        images, rest = images[: len(contents)], images[len(contents) :]
        number = next(self._numbers)
        message = Chunk(
            version=VERSION,
            refs=self.plan.refs,
            folder=self.journal.place.shared,
            max_pixels=options.max_pixels,
            images=[
                (pending.position, pending.image.key, pending.image.uri, content)
                for pending, content in zip(images, contents, strict=True)
            ],
            number=number,
            recorder=os.path.join(self.journal.place.recorders, self._lost_engines.recorder(engine_id)),
            timeout=options.timeout,
            memory_limit=options.memory_bytes,
            reading=options.reading,
            tile=options.tile,
            tiles_folder="" if is_blind else self.journal.place.tiles,
            returns_files=not self._sees_output(seen),
        )
        now = time.monotonic()
        try:
            answer = self.engines.run(pickle.dumps(message, protocol=5), engine_id)
        except EngineGone:
            self._in_flight.shut(engine_id)
            return False
        sent = Sent(number, images, engine_id, now, answer)
        self._in_flight.add(sent)
        answer.add_done_callback(lambda _: self._inbox.put(functools.partial(self._collect, sent)))
        self.listeners.emit(events.ChunkSubmitted(len(images), len(self._in_flight)))
        if rest:  # more bytes than one message takes
            self._waiting.put_first(rest)
        if not seen.images:
            if not self._closing:
                self._waiting.list_images(len(images), 0.0)
            self._shipping.read_ahead(itertools.islice(self._waiting, len(images)))
        return True

    def _sees_output(self, seen: SeenDisks) -> bool:
        return self.plan.output is None or seen.output

    def _report_duplicate(self, key: str) -> None:
        self.duplicates += 1
        if self.duplicates == 1:
            _log.warning("the source names %r more than once; it is run once, as are further duplicates", key)
        self.listeners.emit(events.DuplicateFound(key))

    # -- collecting -------------------------------------------------------------------------------------------

    def _collect(self, sent: Sent) -> None:
        if sent not in self._in_flight:  # given up before: its images are with another engine
            return
        error = sent.answer.exception()
        if isinstance(error, EngineGone):
            self._lost_engines.take_back(sent.engine, str(error))
            return
        self._in_flight.remove(sent)
        if isinstance(error, EngineRefused):
            if error.name in _ENDING:
                raise _ENDING[error.name](error.message)
            self._settle(decide_refusal(sent.images, error))
            return
        message = sent.answer.result()
        reply: Reply = pickle.loads(message)
        if reply.missing:
            self._send_missing(sent, reply.missing)
            return
        found = write_returned(reply, self.plan.output) if self.plan.output and reply.files else reply.rows
        n = len(found)
        if rest := sent.images[n:]:  # the answer would have become too large
            self._waiting.put_back([rest])
        self._chunk_size.adapt(reply.seconds / n, len(message) / n)
        self._notices.take(reply)
        answers = [
            Answered(pending, row, pending.attempts + 1) for row, pending in zip(found, sent.images, strict=False)
        ]
        self._record(answers, reply.steps, Placement(sent.engine, reply.host, reply.pid), reply.seconds)

    def _record(
        self, answers: list[Answered], steps: Mapping[int, NextStep], placement: Placement, seconds: float
    ) -> None:
        """Record images that are done, and send what those that are run by tiles need next."""
        rows, pieces = self._tiled.gather(answers, steps)
        self._waiting.add_pieces(pieces)
        if rows:
            self._new_images.forget(row.key for row, _ in rows)
            self._recording.write(rows, placement, seconds)
            if self.plan.options.tile is not None:
                self._waiting.drop(self._tiled.is_over)  # other tiles of images of which one failed
        if self.plan.options.tile is not None:
            self._tell_tiles()

    def _tell_tiles(self) -> None:
        """Let others know how far the images are that are run by tiles."""
        self.tiles = self._tiled.progress
        now = time.monotonic()
        if self.tiles is not None:
            self.listeners.emit(events.TilesDone(*self.tiles))
        if now - self._tiles_told_at >= _TELL_TILES_SECONDS:
            self._tiles_told_at = now
            with contextlib.suppress(Exception):  # the next record tells what is wrong with the journal
                self.journal.set_meta("tiles", self.tiles)

    def _send_missing(self, sent: Sent, digests: list[str]) -> None:
        """Send an engine what it lacks, each object once, and the chunk again behind it."""
        with contextlib.suppress(EngineGone):  # it died since it answered
            for digest in digests:
                earlier = self._sending.get((sent.engine, digest))
                if earlier is None:
                    data = shared_objects.read_shared(self.journal.place.shared, digest)
                    self._sending[sent.engine, digest] = self.engines.send_shared(digest, data, sent.engine)
                    self.listeners.emit(events.SharedObjectSent(digest, len(data), sent.engine))
                elif earlier.done() and isinstance(error := earlier.exception(), EngineRefused):
                    raise JobError(f"engine {sent.engine} cannot store a shared object: {error}")
            if self._submit(sent.images, sent.engine):
                return
        self._waiting.put_back([sent.images])

    def _settle(self, decision: RetryDecision) -> None:
        """Do what was decided about images that an engine did not answer for."""
        self._waiting.put_back(decision.again)
        answers = [
            Answered(
                pending,
                failed_row(
                    pending.position, pending.image.key, pending.image.uri, "engine", error, message, trace
                ),
                pending.attempts,
            )
            for pending, error, message, trace in decision.failed
        ]
        if answers:
            self._record(answers, {}, Placement(None, None, None), 0.0)

    # -- the controller ---------------------------------------------------------------------------------------

    def _take_all_back(self) -> None:
        self._waiting.put_back(sent.images for sent in self._lost_engines.take_all_back())
        self._sending.clear()

    def _lose_controller(self, message: str) -> None:
        self._take_all_back()
        raise ControllerLost(message)


def _nothing() -> None:
    """What only wakes the loop."""
