"""What runs on an engine, in this process: the guards around each image, and the set-up."""

from __future__ import annotations

import gc
import json
import os
import pickle
import platform
import re
import socket
import subprocess
import sys
import textwrap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import cv2
import numpy as np
import pytest

import parimg
from parimg import Function, Task
from parimg.engine import runner, setup
from parimg.engine.runner import run_chunk
from parimg.engine.setup import thread_environment
from parimg.errors import EngineVersionError, TaskError
from parimg.job.directory import JobDirectory
from parimg.job.journal_writer import JournalWriter
from parimg.protocol import shared_objects
from parimg.protocol.messages import VERSION, Chunk, Reply
from parimg.record import Placement, Row, decode_values

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import numpy.typing as npt


@pytest.fixture(autouse=True)
def engine_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Keep from this process what an engine's process would keep: threads, frozen and received objects."""
    monkeypatch.setenv("PARIMG_SHARED_DIR", str(tmp_path / "host"))
    # As if threads were limited already: numba could not be given two again. See the tests in new processes.
    monkeypatch.setattr(setup._state, "limited", setup._heavy_libraries())
    shared_objects.host_folder.cache_clear()
    yield
    shared_objects.host_folder.cache_clear()
    gc.unfreeze()


@pytest.fixture
def images(tmp_path: Path) -> list[str]:
    """Three gray images of 4 by 5 pixels, all of one value: 10, 20, 30."""
    paths = []
    for value in (10, 20, 30):
        paths.append(str(tmp_path / f"{value}.png"))
        assert cv2.imwrite(paths[-1], np.full((4, 5), value, np.uint8))
    return paths


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Reply]:
    """Run a task, or a written one, over paths or arrays, as an engine does."""

    def run(
        task: Task | list[shared_objects.SharedRef],
        sources: list[Any],
        *,
        version: str = VERSION,
        max_pixels: int = 10**6,
        seen: bool = True,
    ) -> Reply:
        folder = str(tmp_path / "shared")
        refs = tuple(shared_objects.write_task(folder, task) if isinstance(task, Task) else task)
        listed = [
            (n, os.path.basename(source), source, None)
            if isinstance(source, str)
            else (n, f"array {n}", "", source)
            for n, source in enumerate(sources, start=7)
        ]
        chunk = Chunk(version, refs, folder if seen else "/not/seen/here", max_pixels, listed)
        reply = pickle.loads(run_chunk(pickle.dumps(chunk)))
        assert isinstance(reply, Reply)
        return reply

    return run


def values_of(row: Row) -> dict[str, Any]:
    columns, arrays = decode_values(row.columns, row.arrays)
    return {**columns, **arrays}


@dataclass(frozen=True, eq=False)
class Prepared(Task):
    """A task that writes down each call of `prepare`, and fails in it if told so."""

    log: str
    fails: bool = False
    columns: ClassVar[dict[str, str]] = {"mean": "double"}

    def prepare(self) -> None:
        with Path(self.log).open("a", encoding="utf-8") as file:
            file.write("prepared\n")
        if self.fails:
            raise FileNotFoundError("no model here")

    def __call__(self, image: npt.NDArray[Any]) -> dict[str, object]:
        return {"mean": float(image.mean())}


# -- images that go well -------------------------------------------------------------------------------------


def test_each_image_of_a_chunk_gives_one_row_in_order(run: Callable[..., Reply], images: list[str]) -> None:
    before = time.time()
    reply = run(Function(lambda image: {"mean": float(image.mean()), "shape": image.shape}), images)
    assert [values_of(row) for row in reply.rows] == [{"mean": v, "shape": [4, 5]} for v in (10.0, 20.0, 30.0)]
    assert [(row.position, row.key, row.uri) for row in reply.rows] == [
        (7, "10.png", images[0]),
        (8, "20.png", images[1]),
        (9, "30.png", images[2]),
    ]
    for row in reply.rows:
        assert (row.status, row.stage, row.error, row.message, row.traceback) == (
            "ok",
            None,
            None,
            None,
            None,
        )
        assert before <= row.started <= time.time()
        assert row.decode_seconds > 0
        assert row.task_seconds > 0
    assert (reply.host, reply.pid, reply.missing) == (socket.gethostname(), os.getpid(), [])
    assert reply.seconds >= sum(row.decode_seconds + row.task_seconds for row in reply.rows)


def test_arrays_that_a_task_returns_come_back(run: Callable[..., Reply], images: list[str]) -> None:
    [row] = run(Function(lambda image: {"n": image.size, "half": image[:, :2]}), images[:1]).rows
    assert values_of(row)["n"] == 20
    assert values_of(row)["half"].tolist() == [[10, 10]] * 4


def test_images_are_decoded_as_the_task_wants_them(run: Callable[..., Reply], tmp_path: Path) -> None:
    path = str(tmp_path / "red.png")
    cv2.imwrite(path, np.full((2, 2, 3), (20, 30, 250), np.uint8))  # OpenCV's order: blue, green, red
    gray = int(cv2.imread(path, cv2.IMREAD_GRAYSCALE)[0, 0])
    expected = {"gray": gray, "color": [250, 30, 20], "unchanged": [250, 30, 20]}
    for color, pixel in expected.items():
        task = Function(lambda image: image[0, 0].tolist(), color=color)  # type: ignore[arg-type]
        assert values_of(run(task, [path]).rows[0]) == {"value": pixel}


def test_arrays_given_with_the_chunk_are_used_as_they_are(run: Callable[..., Reply]) -> None:
    arrays = [np.full((2, 3), 1.5, np.float32), np.zeros((4, 4, 4), np.uint16)]
    rows = run(Function(lambda image: f"{image.dtype} {image.shape} {image.max()}"), arrays).rows
    assert [values_of(row)["value"] for row in rows] == ["float32 (2, 3) 1.5", "uint16 (4, 4, 4) 0"]
    assert [(row.key, row.uri) for row in rows] == [("array 7", ""), ("array 8", "")]


def test_an_empty_chunk_gives_no_rows(run: Callable[..., Reply]) -> None:
    assert run(Function(np.mean), []).rows == []


# -- images that fail ----------------------------------------------------------------------------------------


def test_an_image_that_cannot_be_decoded_is_a_failed_row(
    run: Callable[..., Reply], images: list[str], tmp_path: Path
) -> None:
    (tmp_path / "empty.png").touch()
    (tmp_path / "text.png").write_text("this is no image at all, although its name says so")
    (tmp_path / "cut.png").write_bytes(Path(images[0]).read_bytes()[:-20])
    cv2.imwrite(str(tmp_path / "large.png"), np.zeros((11, 10), np.uint8))
    names = ["none.png", "empty.png", "text.png", "cut.png", "large.png"]
    rows = run(Function(np.mean), [*(str(tmp_path / name) for name in names), images[1]], max_pixels=100).rows
    assert [row.error for row in rows[:-1]] == [
        "ImageMissingError",
        "ImageEmptyError",
        "ImageFormatError",
        "ImageTruncatedError",
        "ImageTooLargeError",
    ]
    for name, row in zip(names, rows, strict=False):
        assert (row.key, row.status, row.stage) == (name, "failed", "decode")
        assert row.message is not None
        assert name in row.message
        assert row.traceback is None
        assert values_of(row) == {}
        assert row.decode_seconds > 0
        assert row.task_seconds == 0.0
    assert values_of(rows[-1]) == {"value": 20.0}


def test_a_task_that_raises_makes_a_failed_row_with_its_traceback(
    run: Callable[..., Reply], images: list[str]
) -> None:
    def picky(image: npt.NDArray[Any]) -> float:
        if image.max() == 20:
            raise ZeroDivisionError("no contrast")
        return float(image.mean())

    rows = run(Function(picky), images).rows
    assert [row.status for row in rows] == ["ok", "failed", "ok"]
    assert (rows[1].stage, rows[1].error, rows[1].message) == ("task", "ZeroDivisionError", "no contrast")
    assert rows[1].traceback is not None
    assert rows[1].traceback.startswith("Traceback (most recent call last):\n")
    assert 'raise ZeroDivisionError("no contrast")' in rows[1].traceback
    assert rows[1].traceback.endswith("ZeroDivisionError: no contrast\n")
    assert values_of(rows[1]) == {}
    assert values_of(rows[2]) == {"value": 30.0}


@pytest.mark.parametrize(
    ("raises", "error", "message"),
    [
        (lambda: sys.exit(3), "SystemExit", "3"),
        ([].pop, "IndexError", "pop from empty list"),
        (lambda: 1 / 0, "ZeroDivisionError", "division by zero"),
        (lambda: bytes(2**62), "MemoryError", ""),
        (lambda: next(iter([])), "StopIteration", ""),
        (lambda: parimg.Record("a", "ok")["x"], "KeyError", "this record has no values"),
    ],
    ids=["sys.exit", "IndexError", "ZeroDivisionError", "MemoryError", "StopIteration", "KeyError"],
)
def test_whatever_a_task_raises_the_next_image_still_runs(
    run: Callable[..., Reply], images: list[str], raises: Callable[[], object], error: str, message: str
) -> None:
    rows = run(Function(lambda image: raises() if image.max() == 10 else "went well"), images[:2]).rows
    assert (rows[0].status, rows[0].stage, rows[0].error) == ("failed", "task", error)
    assert rows[0].message is not None
    assert message in rows[0].message
    assert values_of(rows[1]) == {"value": "went well"}


def test_endless_recursion_in_a_task_is_a_failed_row(run: Callable[..., Reply], images: list[str]) -> None:
    def endless(image: npt.NDArray[Any]) -> object:
        return endless(image)

    [row] = run(Function(endless), images[:1]).rows
    assert (row.stage, row.error) == ("task", "RecursionError")


def test_an_error_that_cannot_tell_its_message_is_a_failed_row(
    run: Callable[..., Reply], images: list[str]
) -> None:
    class Silent(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no message")

    def raises(image: npt.NDArray[Any]) -> object:
        if image.max() == 10:
            raise Silent
        return "went well"

    rows = run(Function(raises), images[:2]).rows
    assert [(row.status, row.error) for row in rows] == [("failed", "Silent"), ("ok", None)]


def test_an_error_message_that_is_no_unicode_can_be_journaled(
    run: Callable[..., Reply], images: list[str], tmp_path: Path
) -> None:
    """As of an error that quotes a file name in another encoding."""

    def raises(image: npt.NDArray[Any]) -> object:
        raise ValueError("cannot read " + os.fsdecode(b"caf\xe9.npy"))

    [row] = run(Function(raises), images[:1]).rows
    folder = str(tmp_path / "job")
    journal = JournalWriter.create(JobDirectory(folder), JobDirectory(folder).reserve(), {})
    journal.append([(row, 1)], Placement(0, "h", 1))
    [record] = journal.failed()
    journal.close()
    assert record.message is not None
    assert record.message.startswith("cannot read caf")


@pytest.mark.parametrize("returns", [object(), b"bytes", {1: 2}, {"a": {1, 2}}, {"a": np.array([None])}])
def test_a_result_that_cannot_be_stored_is_a_failed_row(
    run: Callable[..., Reply], images: list[str], returns: object
) -> None:
    rows = run(Function(lambda image: returns if image.max() == 10 else 1), images[:2]).rows
    assert (rows[0].status, rows[0].stage, rows[0].error) == ("failed", "result", "ResultError")
    assert rows[0].message
    assert rows[0].traceback is None
    assert values_of(rows[0]) == {}
    assert values_of(rows[1]) == {"value": 1}


def test_a_long_message_and_traceback_are_shortened(run: Callable[..., Reply], images: list[str]) -> None:
    def talks(image: npt.NDArray[Any]) -> object:
        raise ValueError("begin" + 10_000 * "x" + "end")

    [row] = run(Function(talks), images[:1]).rows
    assert row.message == "begin" + 1995 * "x" + "..."
    assert row.traceback == "...\n" + 3996 * "x" + "end\n"


def test_ctrl_c_ends_the_chunk(run: Callable[..., Reply], images: list[str]) -> None:
    def interrupted(image: npt.NDArray[Any]) -> object:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(Function(interrupted), images)


# -- the task ------------------------------------------------------------------------------------------------


def test_a_task_is_prepared_once_for_all_chunks(
    run: Callable[..., Reply], images: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    refs = shared_objects.write_task(str(tmp_path / "shared"), Prepared(str(log)))
    assert values_of(run(refs, images[:1]).rows[0]) == {"mean": 10.0}
    assert values_of(run(refs, images[1:2]).rows[0]) == {"mean": 20.0}
    assert log.read_text() == "prepared\n"


def test_a_task_that_cannot_be_prepared_is_an_error_with_its_reason(
    run: Callable[..., Reply], images: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    refs = shared_objects.write_task(str(tmp_path / "shared"), Prepared(str(log), fails=True))
    with pytest.raises(TaskError, match=f"cannot be prepared on an engine of {socket.gethostname()}") as caught:
        run(refs, images)
    assert "FileNotFoundError: no model here" in str(caught.value)
    assert "in prepare" in str(caught.value)
    with pytest.raises(TaskError):
        run(refs, images)
    assert log.read_text() == "prepared\nprepared\n"  # a failure is not kept


def test_another_version_of_the_client_is_refused_with_both_versions(
    run: Callable[..., Reply], images: list[str]
) -> None:
    with pytest.raises(EngineVersionError, match=rf"client has 0\.0\.9, .* {re.escape(VERSION)}$"):
        run(Function(np.mean), images, version="0.0.9")


def test_missing_objects_are_reported_and_nothing_is_run(
    run: Callable[..., Reply], images: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "log"
    reply = run(Prepared(str(log)), images, seen=False)
    assert reply.rows == []
    assert reply.missing == os.listdir(tmp_path / "shared")
    assert not log.exists()


def test_missing_arrays_are_reported_with_the_task(run: Callable[..., Reply], tmp_path: Path) -> None:
    reference = np.arange(10_000)
    reply = run(Function(lambda image: int(reference[image.size])), [np.zeros(3)], seen=False)
    assert len(reply.missing) == 2
    assert sorted(reply.missing) == sorted(os.listdir(tmp_path / "shared"))


def test_a_chunk_runs_after_its_missing_objects_were_received(run: Callable[..., Reply], tmp_path: Path) -> None:
    reference = np.arange(10_000) * 2
    task = Function(lambda image: int(reference[image.size]))
    for digest in run(task, [np.zeros(3)], seen=False).missing:
        runner.receive_shared(digest, (tmp_path / "shared" / digest).read_bytes())
    reply = run(task, [np.zeros(3)], seen=False)
    assert reply.missing == []
    assert values_of(reply.rows[0]) == {"value": 6}


def test_the_rows_do_not_depend_on_what_shares_the_chunk(run: Callable[..., Reply], images: list[str]) -> None:
    task = Function(lambda image: {"sum": int(image.sum()), "image": image})
    together = [(row.key, row.columns, row.arrays) for row in run(task, images).rows]
    alone = [(row.key, row.columns, row.arrays) for path in images for row in run(task, [path]).rows]
    assert together == alone


# -- the process ---------------------------------------------------------------------------------------------


def in_new_process(script: str) -> dict[str, Any]:
    """What `script` prints as JSON, in a process with two threads allowed everywhere."""
    env = {**os.environ, **dict.fromkeys(thread_environment(), "2")}
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], capture_output=True, text=True, env=env)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


THREADS = """
import json
def threads():
    import cv2, numba, scipy.linalg, threadpoolctl
    pools = {pool["num_threads"] for pool in threadpoolctl.threadpool_info()}
    return {"cv2": cv2.getNumThreads(), "numba": numba.get_num_threads(), "blas": sorted(pools)}
"""


def test_libraries_that_are_loaded_already_are_held_to_one_thread() -> None:
    script = """
        import cv2, numba, scipy.linalg
        from parimg.engine.setup import prepare_engine
        cv2.setNumThreads(2)
        before = threads()
        prepare_engine()
        print(json.dumps({"before": before, "after": threads()}))
    """
    found = in_new_process(THREADS + textwrap.dedent(script))
    assert (found["before"]["cv2"], found["before"]["numba"]) == (2, 2)
    assert found["after"] == {"cv2": 1, "numba": 1, "blas": [1]}


def test_libraries_that_are_loaded_later_are_held_to_one_thread() -> None:
    script = """
        from parimg.engine.setup import prepare_engine
        prepare_engine()
        print(json.dumps(threads()))
    """
    assert in_new_process(THREADS + textwrap.dedent(script)) == {"cv2": 1, "numba": 1, "blas": [1]}


def test_libraries_that_a_task_loads_are_held_to_one_thread(tmp_path: Path) -> None:
    script = f"""
        import pickle
        from parimg import Function
        from parimg.protocol import shared_objects
        from parimg.engine.runner import run_chunk
        from parimg.protocol.messages import VERSION, Chunk
        cv2_image = {str(tmp_path / "image.png")!r}
        refs = tuple(shared_objects.write_task({str(tmp_path / "shared")!r}, Function(lambda image: threads())))
        chunk = Chunk(VERSION, refs, {str(tmp_path / "shared")!r}, 10**6, [(0, "a", cv2_image, None)])
        [row] = pickle.loads(run_chunk(pickle.dumps(chunk))).rows
        assert row.status == "ok", row.traceback or row.message
        print(json.dumps(json.loads(row.columns)))
    """
    cv2.imwrite(str(tmp_path / "image.png"), np.zeros((4, 4), np.uint8))
    assert in_new_process(THREADS + textwrap.dedent(script)) == {"cv2": 1, "numba": 1, "blas": [1]}


@pytest.mark.parametrize("before", ["pass", "assert parallel(4) == 6"], ids=["only imported", "threads running"])
def test_an_engine_that_has_loaded_numba_before_can_still_compile(before: str) -> None:
    """An engine that others started: numba refuses another NUMBA_NUM_THREADS once its threads run."""
    script = f"""
        import json
        import numba
        from parimg.engine.setup import prepare_engine

        @numba.njit(parallel=True)
        def parallel(n):
            total = 0
            for i in numba.prange(n):
                total += i
            return total

        @numba.njit
        def serial(n):
            return n + 1

        {before}
        prepare_engine()
        print(json.dumps({{"serial": serial(1), "threads": numba.get_num_threads()}}))
    """
    assert in_new_process(script) == {"serial": 2, "threads": 1}


def test_an_engine_tells_what_doctor_asks() -> None:
    script = """
        import json, os
        from parimg.engine.inspect import inspect_engine
        from parimg.engine.setup import prepare_engine
        prepare_engine()
        print(json.dumps({"about": inspect_engine(), "pid": os.getpid()}))
    """
    found = in_new_process(script)
    about = found["about"]
    assert (about["host"], about["pid"]) == (socket.gethostname(), found["pid"])
    assert (about["python"], about["parimg"]) == (platform.python_version(), parimg.__version__)
    assert (about["threads"]["opencv"], about["threads"]["numba"]) == (1, 1)
    assert set(about["threads"].values()) == {1}
    assert about["memory_available"] > 2**20
    assert 2**20 < about["memory_used"] < 2**36
