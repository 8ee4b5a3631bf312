"""How far a job is, in a terminal and in a log."""

from __future__ import annotations

import io
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from parimg.job import progress
from parimg.job.directory import JobDirectory
from parimg.job.failures import Failures
from parimg.job.journal_writer import JournalWriter
from parimg.job.progress import show_progress
from parimg.record import Placement, failed_row

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@dataclass
class Following:
    """A job whose records are those of a journal, and that may be counted without any."""

    writer: JournalWriter
    n_good: int = 0
    engines: int | None = 2
    tiles: tuple[int, int] | None = None
    name: str = "Mean"

    @property
    def failures(self) -> Failures:
        return Failures(self.writer)

    @property
    def counts(self) -> dict[str, int | None]:
        failed = len(self.failures)
        return {"ok": self.n_good, "failed": failed, "done": self.n_good + failed, "total": 400}

    def ready(self) -> bool:
        return False

    def fail(self, *errors: str) -> None:
        first = len(self.failures)
        rows = [
            failed_row(first + n, f"{first + n}", "", "task", error, "no\nlight") for n, error in enumerate(errors)
        ]
        self.writer.append([(row, 1) for row in rows], Placement(None, None, None))


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Following]:
    place = JobDirectory(str(tmp_path / "job"))
    writer = JournalWriter.create(place, place.reserve(), {})
    yield Following(writer)
    writer.close()


def test_a_bar_tells_images_engines_and_the_commonest_failure(
    job: Following, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    job.n_good, job.tiles = 97, (30, 225)
    with show_progress(job):
        job.fail("TimeoutError", "ValueError", "ValueError")
    last = terminal.getvalue().rsplit("\r", 1)[-1]
    assert "Mean:  25%" in last
    assert "100/400" in last
    assert "tiles=30/225, failed=3 (most ValueError), engines=2" in last


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end(
    job: Following, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    job.n_good = 40
    with show_progress(job):
        time.sleep(0.5)
        assert capsys.readouterr().err == ""
    assert capsys.readouterr().err == "Mean: 40/400 images, engines=2\n"
    monkeypatch.setattr(progress, "_LOG_SECONDS", 0.3)
    monkeypatch.setattr(progress, "_REFRESH_SECONDS", 0.05)
    job.fail("ValueError")
    job.engines = 0
    with show_progress(job):
        time.sleep(1.0)
    lines = capsys.readouterr().err.splitlines()
    assert set(lines) == {"Mean: 41/400 images, failed=1 (most ValueError), waiting for an engine"}
    assert 2 <= len(lines) <= 5
