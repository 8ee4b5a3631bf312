"""The live page of a job that runs: numbers move, buttons stop it and go on; also from another process."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import headless
import noise_pictures
import pytest
from command_line import parimg as command
from made_journals import make_journal, row

import parimg

if TYPE_CHECKING:
    import numpy as np


@pytest.fixture
def running(controller: parimg.Controller, tmp_path: Path) -> Iterator[parimg.Job]:
    """A job that would run for two minutes; each fourth image fails."""

    def slowly(image: np.ndarray, count: list[int] = [0]) -> float:  # noqa: B006 - counts calls of one engine
        time.sleep(0.2)
        count[0] += 1
        if count[0] % 4 == 0:
            raise ValueError("each fourth")
        return float(image.mean())

    photos = noise_pictures.write_pictures(tmp_path / "photos", range(1200))
    job = controller.map(slowly, photos, job_dir=tmp_path / "job", chunk_size=2)
    yield job
    job.abort()


def test_numbers_move_and_the_buttons_stop_and_resume(controller: parimg.Controller, running: parimg.Job) -> None:
    with controller.dashboard(port=0) as served, headless.page() as page:
        page.goto(served.url)
        page.wait_for_selector(".tiles .rate")

        def done() -> int:
            return int(page.inner_text(".tiles .done b"))

        before = done()
        page.wait_for_function(f"() => {_DONE} > {before}")
        page.wait_for_selector(".cause img")
        assert "ValueError: each fourth" in page.inner_text(".cause")
        assert "chunks on engines" in page.inner_text(".tiles .queue")
        page.get_by_text("left (").wait_for()

        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Resume").wait_for()
        assert page.inner_text(".state") == "interrupted"
        assert running.state == "interrupted"
        stopped = done()
        assert stopped == running.progress < 1200
        assert page.get_by_role("button", name="Stop").count() == 0

        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="Stop").wait_for()
        page.wait_for_function(f"() => {_DONE} > {stopped}")
        page.get_by_role("button", name="Stop").click()
        page.get_by_role("button", name="Resume").wait_for()
    assert parimg.open_job(running.directory).state == "interrupted"


_DONE = (
    "Number(Array.from(document.querySelectorAll('*')).flatMap(function f(one) { const inner = one.shadowRoot; "
    "return inner ? [...inner.querySelectorAll('.done b'), ...Array.from(inner.querySelectorAll('*')).flatMap(f)] "
    ": [] })[0].innerText)"
)


def start(*arguments: object) -> tuple[subprocess.Popen[str], str]:
    """``parimg dashboard``, and its address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "parimg.cli", "dashboard", "--no-browser", *map(str, arguments)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    address = process.stdout.readline().partition("live page: ")[2].strip()
    assert process.stdout.readline() == "it shows jobs and cannot stop them; Ctrl-C ends the page, not the jobs\n"
    return process, address


def test_another_process_shows_a_running_job_without_buttons_and_ends_by_ctrl_c(running: parimg.Job) -> None:
    process, address = start(running.directory, "--port", 0)
    try:
        with headless.page() as page:
            page.goto(address)
            page.wait_for_selector(".tiles .rate")
            before = int(page.inner_text(".tiles .done b"))
            page.wait_for_function(f"() => {_DONE} > {before}")
            assert "run by process" in page.inner_text(".sub")
            assert page.get_by_role("button").count() == 0
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert err == ""
    assert out == "\n"
    assert running.state == "running"


def test_what_was_typed_wrong_is_told(tmp_path: Path) -> None:
    make_journal(tmp_path / "job", [row(0)])
    ended = command("dashboard", "no-such-job")
    assert (ended.code, "there is no job 'no-such-job'" in ended.message) == (2, True)
    process, address = start(tmp_path / "job")
    try:
        port = address.partition("127.0.0.1:")[2].partition("/")[0]
        ended = command("dashboard", tmp_path / "job", "--port", port)
    finally:
        process.kill()
        process.wait()
    assert ended.code == 2
    assert f"port {port} of this machine cannot be had" in ended.message
