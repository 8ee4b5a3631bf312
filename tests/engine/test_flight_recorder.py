"""What a dead engine leaves behind, from processes that really die."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from parimg.engine import flight_recorder
from parimg.engine.flight_recorder import FlightRecorder
from parimg.protocol import shared_objects
from parimg.protocol.crash_report import IDLE, PREPARING, CrashReport, parse_report, read_report

DIE = """
import sys
from parimg.engine.flight_recorder import FlightRecorder
recorder = FlightRecorder({folder!r}, "engine")
def crash():
    {crash}
with recorder.chunk(7):
    with recorder.image(0):
        pass
    with recorder.image(1, 0.2):
        crash()
"""


def die(folder: Path, crash: str) -> tuple[int, CrashReport]:
    script = DIE.format(folder=str(folder), crash=crash)
    process = subprocess.run([sys.executable, "-c", script], stderr=subprocess.DEVNULL, timeout=60)
    report = read_report(str(folder), "engine")
    assert report is not None
    return process.returncode, report


def test_a_segmentation_fault_leaves_the_image_and_the_traceback(tmp_path: Path) -> None:
    code, report = die(tmp_path, "import ctypes; ctypes.string_at(0)")
    assert code == -11
    assert (report.chunk, report.index, report.timed_out) == (7, 1, False)
    assert report.text.startswith("Fatal Python error: Segmentation fault")
    assert "in crash" in report.text
    assert report.memory > 2**20


def test_an_image_beyond_its_time_leaves_the_traceback_and_ends_the_process(tmp_path: Path) -> None:
    code, report = die(tmp_path, "import time; time.sleep(60)")
    assert code == 1
    assert (report.chunk, report.index, report.timed_out) == (7, 1, True)
    assert report.traceback is not None
    assert "in crash" in report.traceback


def test_a_kill_leaves_the_image(tmp_path: Path) -> None:
    code, report = die(tmp_path, "import os; os.kill(os.getpid(), 9)")
    assert code == -9
    assert (report.chunk, report.index, report.text, report.traceback) == (7, 1, "", None)


def test_between_images_it_says_so(tmp_path: Path) -> None:
    recorder = FlightRecorder(str(tmp_path), "engine")

    def index() -> int:
        report = read_report(str(tmp_path), "engine")
        assert report is not None
        return report.index

    with recorder.chunk(1):
        assert index() == PREPARING
        with recorder.image(4):
            assert index() == 4
    assert index() == IDLE
    recorder.close()
    assert os.listdir(tmp_path) == []


def test_a_host_that_does_not_see_the_job_keeps_it_for_a_neighbour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIMG_SHARED_DIR", str(tmp_path / "host"))
    shared_objects.host_folder.cache_clear()
    try:
        die_elsewhere = DIE.format(folder="/not/seen/here", crash="import os; os._exit(3)")
        assert subprocess.run([sys.executable, "-c", die_elsewhere], timeout=60).returncode == 3
        report = parse_report(flight_recorder.fetch_crash_report("../engines/engine"))
        assert report is not None
        assert (report.chunk, report.index) == (7, 1)
        assert flight_recorder.fetch_crash_report("engine") is None
    finally:
        shared_objects.host_folder.cache_clear()


@pytest.mark.parametrize("found", [None, b"", b"1 2 3\n", b"x" * 200])
def test_what_is_no_record_tells_nothing(found: bytes | None) -> None:
    assert parse_report(found) is None
