"""The runner: what an engine does with a chunk, each image behind its guards.

The dispatcher calls `run_chunk` through ipyparallel. A chunk is one bytes object, its answer another, so that
ipyparallel neither looks into them nor copies them. Whatever goes wrong with one image becomes that image's
row; `run_chunk` itself raises only if the engine cannot work at all.
"""

from __future__ import annotations

import contextlib
import gc
import os
import pickle
import time
import traceback
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

from parimg.engine import memory
from parimg.engine.compile_once import prepare_once_a_host
from parimg.engine.departure import is_leaving, working
from parimg.engine.flight_recorder import FlightRecorder
from parimg.engine.limits import Guard
from parimg.engine.reading import read_content
from parimg.engine.setup import host, prepare_engine
from parimg.engine.tiles import take_up
from parimg.errors import EngineVersionError, ImageError, ReaderMissingError, ResultError, TaskError
from parimg.files.naming import collect_files
from parimg.images.frames import note_frames, watch_frames
from parimg.images.losses import watch_losses
from parimg.images.readers.part import Part
from parimg.protocol import shared_objects
from parimg.protocol.messages import VERSION, Chunk, NextStep, Piece, Reply
from parimg.record import Row, Stage, encode_values
from parimg.tasks.reading import describe_losses, told_losses

if TYPE_CHECKING:
    from parimg.tasks.task import Task

_TRACEBACK_LIMIT = 4_000  # characters kept of a failed image's traceback
_MESSAGE_LIMIT = 2_000
_MAX_REPLY_BYTES = 2**26  # of values
_OPENCV_NO_MEMORY = -4  # cv2.Error.StsNoMem, without loading OpenCV


def run_chunk(chunk_bytes: bytes) -> bytes:
    """Run a task on the images of a chunk.

    Parameters
    ----------
    chunk_bytes : bytes
        A pickled `Chunk`.

    Returns
    -------
    bytes
        A pickled `Reply`.

    Raises
    ------
    EngineVersionError
        If client and engine have different versions of parimg.
    TaskError
        If the task cannot be loaded or prepared here, or images are of a format whose library this host lacks.
    """
    begin = time.perf_counter()
    chunk: Chunk = pickle.loads(chunk_bytes)
    if chunk.version != VERSION:
        raise EngineVersionError(f"the client has {chunk.version}, an engine on {host()} {VERSION}")
    recorder = _recorder(chunk)
    recording = recorder.chunk(chunk.number) if recorder else contextlib.nullcontext()
    with working(), recording, watch_frames() as pages:
        prepare_engine()
        missing = shared_objects.missing(chunk.refs, chunk.folder)
        rows: list[Row] = []
        files: list[tuple[int, str, bytes]] = []
        tiled = TiledAnswers()
        losses: tuple[str, ...] = ()
        if not missing:
            task = _prepared(chunk.refs[0], chunk.folder)
            if any(content is None or isinstance(content, bytes | Part) for *_, content in chunk.images):
                # Loads OpenCV, which shall not count as time of the first image.
                import parimg.images.described  # noqa: F401
            guard = Guard(recorder, chunk.timeout, _address_limit(chunk.memory_limit))
            with watch_losses(told_losses(task)) as lost:
                rows = _run(task, chunk, guard, files if chunk.returns_files else None, tiled)
            losses = describe_losses(task, lost)
    seconds = time.perf_counter() - begin
    n_pages = max(pages, default=1)
    steps, reason = tiled.steps, tiled.reason
    reply = Reply(host(), os.getpid(), rows, missing, seconds, n_pages, files, steps, reason, losses)
    return pickle.dumps(reply, protocol=5)


def receive_shared(digest: str, data: bytes) -> None:
    """Keep a shared object for the engines of this host."""
    shared_objects.receive(digest, data)


class _State:
    """What this engine process remembers between chunks."""

    recorder: FlightRecorder | None = None
    """That of the job whose chunk came last."""


_state = _State()


def _recorder(chunk: Chunk) -> FlightRecorder | None:
    recorder = _state.recorder
    folder, name = os.path.split(chunk.recorder)
    if recorder is None or recorder.name != name:
        if recorder is not None:
            recorder.close()
        recorder = _state.recorder = FlightRecorder(folder, name) if name else None
    return recorder


@lru_cache(maxsize=8)  # tasks of the jobs that run at the same time
def _prepared(ref: shared_objects.SharedRef, folder: str) -> Task:
    try:
        task = shared_objects.load_task(ref, folder)
        prepare_once_a_host(task)
    except shared_objects.SharedObjectMissing:
        raise
    except Exception as error:
        raise TaskError(
            f"the task cannot be prepared on an engine of {host()}: {type(error).__name__}: {error}\n"
            f"{traceback.format_exc()}"
        ) from error
    prepare_engine()  # what the task loaded may have brought thread pools
    gc.freeze()  # libraries and the task's own objects need not be walked at each collection
    return task


def _address_limit(memory_limit: int | None) -> int | None:
    if memory_limit is None:
        return None
    try:
        return memory.address_limit(memory_limit)
    except MemoryError as error:
        raise TaskError(
            f"memory_limit={memory_limit} bytes ({memory_limit / 2**20:.0f} MiB) is too little for an engine on "
            f"{host()}: {error}"
        ) from None


@dataclass(slots=True)
class TiledAnswers:
    """What a chunk's answer says of images that are run by tiles, besides their rows."""

    steps: dict[int, NextStep] = field(default_factory=dict)
    reason: str = ""
    """Why a large image was not."""


def _run(
    task: Task,
    chunk: Chunk,
    guard: Guard | None = None,
    files: list[tuple[int, str, bytes]] | None = None,
    tiled: TiledAnswers | None = None,
) -> list[Row]:
    """Rows of a chunk's first images; the files that the task writes go into `files`, if given."""
    guard = guard or Guard()
    tiled = tiled or TiledAnswers()
    rows: list[Row] = []
    nbytes = 0
    for index in range(len(chunk.images)):
        if files is None:
            rows.append(row := _run_image(task, chunk, guard, index, tiled))
        else:
            with collect_files() as collected:
                rows.append(row := _run_image(task, chunk, guard, index, tiled))
            files += [(index, path, data) for path, data in collected]
            nbytes += sum(len(data) for _, data in collected)
        nbytes += len(row.columns) + len(row.arrays or b"")
        if nbytes > _MAX_REPLY_BYTES or is_leaving():  # the rest of the chunk goes out again
            break
    return rows


def _run_image(task: Task, chunk: Chunk, guard: Guard, index: int, tiled: TiledAnswers) -> Row:
    # A function of its own, so that nothing of an image is left when the next one is decoded.
    position, key, uri, content = chunk.images[index]
    started = time.time()
    begin = decoded = time.perf_counter()
    stage: Stage | None = "decode"
    columns, arrays = "{}", None
    error_type = message = trace = None
    pages: list[int] = []
    try:
        with guard.image(index):
            taken = take_up(task, chunk, index)
            tiled.reason = tiled.reason or taken.reason
            values: object
            if taken.run is not None:
                decoded = time.perf_counter()
                stage = "task"
                values = taken.run()
                if isinstance(values, NextStep):
                    tiled.steps[index] = values
                    values = {}
            else:
                whole = None if isinstance(content, Piece) else content
                if whole is None or isinstance(whole, bytes | Part):
                    with watch_frames() as pages:
                        image = read_content(task, uri, whole, chunk.max_pixels, chunk.reading)
                else:
                    image = read_content(task, uri, whole, chunk.max_pixels, chunk.reading)
                decoded = time.perf_counter()
                stage = "task"
                values = task.run_described(image, key)
                if image.metadata:
                    values = {**image.metadata, **(values if isinstance(values, Mapping) else {"value": values})}
            if pages:
                note_frames(pages[0])
                values = {"pages": pages[0], **(values if isinstance(values, Mapping) else {"value": values})}
            stage = "result"
            columns, arrays = encode_values(values)
    except ReaderMissingError as error:  # as with all others of its kind
        raise TaskError(f"on an engine of {host()}: {error}") from None
    except (Exception, SystemExit) as error:  # a task may call sys.exit(); only Ctrl-C ends a chunk
        if isinstance(error, ImageError):  # a tile that could not be read
            stage = "decode"
        error_type = "MemoryError" if _is_lack_of_memory(error) else type(error).__name__
        message = _short(_text(error), _MESSAGE_LIMIT)
        # Our own decoding errors say all there is to say; the frames above them are ours.
        trace = None if isinstance(error, ImageError | ResultError) else _trace(error)
    else:
        stage = None
    end = time.perf_counter()
    if decoded == begin and stage == "decode":
        decoded = end
    return Row(
        position=position,
        key=key,
        uri=uri,
        status="ok" if error_type is None else "failed",
        stage=stage,
        error=error_type,
        message=message,
        traceback=trace,
        started=started,
        decode_seconds=decoded - begin,
        task_seconds=end - decoded,
        columns=columns,
        arrays=arrays,
        peak_memory=memory.peak(),
    )


def _is_lack_of_memory(error: BaseException) -> bool:
    """NumPy and OpenCV have types of their own for it."""
    of_opencv = type(error).__name__ == "error" and getattr(error, "code", None) == _OPENCV_NO_MEMORY
    return isinstance(error, MemoryError) or of_opencv


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:
        return f"(its message cannot be shown: {type(second).__name__})"


def _trace(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error))
    return text if len(text) <= _TRACEBACK_LIMIT else f"...\n{text[-_TRACEBACK_LIMIT:]}"


def _short(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}..."
