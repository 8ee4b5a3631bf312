"""Images that never end, and engines that are stopped as a whole, on real engines."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import parimg
from parimg import events


@pytest.fixture(scope="module")
def cluster() -> Iterator[parimg.Controller]:
    with parimg.start(n=2) as started:
        yield started


def named(n: int) -> dict[str, np.ndarray]:
    return {f"image{number:02d}": np.full(1, number) for number in range(n)}


def hang_in_python(image: np.ndarray) -> int:
    while image[0] == 5:
        pass
    return int(image[0])


def hang_in_native_code(image: np.ndarray) -> int:
    """The GIL is held for ever: PyDLL calls do not release it."""
    if image[0] == 5:
        import ctypes

        ctypes.PyDLL(None).pause()
    return int(image[0])


@pytest.mark.parametrize("function", [hang_in_python, hang_in_native_code])
def test_an_image_that_never_ends_is_a_failed_record_with_its_traceback(
    cluster: parimg.Controller, function: object
) -> None:
    job = cluster.map(function, named(12), timeout=2, chunk_size=6)
    assert job.wait(120)
    [failure] = job.failures
    assert (failure.key, failure.error, failure.stage, failure.attempts) == (
        "image05",
        "TimeoutError",
        "engine",
        1,
    )
    assert failure.message == "it ran longer than timeout=2 s, and its engine was ended"
    assert function.__name__ in failure.traceback
    good = {record.key: (record["value"], record.attempts) for record in job if record.ok}
    assert good == {f"image{number:02d}": (number, 1) for number in range(12) if number != 5}


def test_an_endless_loop_in_a_compiled_kernel_is_ended(cluster: parimg.Controller) -> None:
    import numba

    @numba.njit
    def spin(value):
        while value == 1:
            value = value * 1
        return value

    job = cluster.map(lambda image: int(spin(image[0])), named(4), timeout=6)
    assert job.wait(180)
    assert [(record.key, record.error) for record in job.failures] == [("image01", "TimeoutError")]
    assert job.counts["ok"] == 3


def test_an_engine_that_is_stopped_as_a_whole_is_killed_and_its_images_run_again(
    cluster: parimg.Controller, tmp_path: Path
) -> None:
    once = str(tmp_path / "stopped")

    def stop_once(image: np.ndarray) -> int:
        if image[0] == 3 and not os.path.exists(once):
            Path(once).touch()
            time.sleep(0.2)  # until it has told that it is at this image; else its Hub finds out, after 30 s
            os.kill(os.getpid(), signal.SIGSTOP)
        return int(image[0])

    begin = time.monotonic()
    lost: list[events.Event] = []

    def listen(event: events.Event) -> None:
        if isinstance(event, events.ChunkLost):
            lost.append(event)

    job = cluster.map(stop_once, named(8), timeout=2, listeners=[listen])
    assert job.wait(120)
    # The Hub of an embedded cluster would take an engine for dead after 30 s.
    assert time.monotonic() - begin < 28
    assert len(lost) == 1
    assert {record.key: record["value"] for record in job} == {f"image{number:02d}": number for number in range(8)}
    assert {record.key: record.attempts for record in job}["image03"] == 2


def test_the_time_limit_is_kept_by_a_resumed_job_and_can_be_changed(
    cluster: parimg.Controller, tmp_path: Path
) -> None:
    def sleepy(image: np.ndarray) -> int:
        time.sleep(1.5 if image[0] == 1 else 0)
        return 1

    job = cluster.map(sleepy, named(3), timeout=0.5)
    assert job.wait(60)
    assert [record.error for record in job.failures] == ["TimeoutError"]
    again = cluster.resume(job.directory, images=named(3), retry="failed")
    assert again.wait(60)
    assert again.counts["failed"] == 1
    mended = cluster.resume(job.directory, images=named(3), retry="failed", timeout=60)
    assert mended.wait(60)
    assert mended.counts == {"ok": 3, "failed": 0, "done": 3, "total": 3}


def test_the_command_line_takes_a_time_limit(tmp_path: Path) -> None:
    for number in range(2):
        noise = np.random.default_rng(number).integers(0, 255, (50, 50), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f"{number}.png"), cv2.resize(noise, (200, 200)))
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    command = [sys.executable, "-m", "parimg.cli", "match", str(tmp_path / "0.png"), str(tmp_path / "1.png")]
    options = ["-n", "1", "--timeout", "3", "--job", str(tmp_path / "job")]
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections, and never answers
        address = f"http://127.0.0.1:{silent.getsockname()[1]}/never.png"
        result = subprocess.run([*command, address, *options], capture_output=True, text=True, timeout=120)
    assert "never.png: TimeoutError: it ran longer than timeout=3 s" in result.stdout, (
        result.stdout + result.stderr
    )
    assert result.returncode == 3
