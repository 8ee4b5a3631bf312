"""The page: Bokeh's document of one visitor, brought up to date every two seconds."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from bokeh.layouts import column, row
from bokeh.models import InlineStyleSheet
from bokeh.models.widgets import Button, Div, Select

from parimg.console import visible
from parimg.dashboard import fragments
from parimg.dashboard.figures import Lanes, Throughput
from parimg.dashboard.follow import FollowedJob, JobNow, Summary
from parimg.dashboard.jobs import JobSet
from parimg.errors import ParimgError

_PERIOD_MS = 2000
_REST = 100  # times what a look took of the processor, before the next: 1 % at most
_ENDED = {"interrupted", "aborted", "failed"}
_WIDTH = 1180  # px


class Board:
    """The jobs that pages show, each followed once, whatever the number of pages.

    Parameters
    ----------
    jobs : JobSet
    """

    def __init__(self, jobs: JobSet) -> None:
        self.jobs = jobs
        self._followed: dict[str, FollowedJob] = {}
        self._pictures = ThreadPoolExecutor(1, "parimg-dashboard-pictures")
        self.reader = ThreadPoolExecutor(1, "parimg-dashboard-reader")
        self._reading: Future[None] | None = None

    def _follow(self, directory: str) -> FollowedJob:
        if directory not in self._followed:
            self._followed[directory] = FollowedJob(directory)
        return self._followed[directory]

    def look(self, chosen: str | None) -> tuple[list[Summary], JobNow | None, float]:
        """Read the list of jobs and the chosen one, or else the first; the last is what that took, seconds."""
        begin = time.thread_time()
        found = []
        for directory in self.jobs.directories():
            try:
                found.append(self._follow(directory).summary())
            except ParimgError as error:
                found.append(Summary(directory, state=str(error)))
        readable = [one for one in found if one.task]
        running = [one for one in readable if one.state == "running"]
        known = [one.directory for one in readable]
        if chosen not in known:
            chosen = (running or readable)[0].directory if readable else None
        if chosen is None:
            return found, None, time.thread_time() - begin
        job = self._follow(chosen)
        now = job.look()
        if (missing := job.missing_pictures()) and (self._reading is None or self._reading.done()):
            self._reading = self._pictures.submit(job.read_pictures, missing)
        return found, now, time.thread_time() - begin

    def close(self) -> None:
        """End what reads."""
        self.reader.shutdown(wait=True, cancel_futures=True)
        for job in self._followed.values():
            job.close()
        self._pictures.shutdown(wait=True, cancel_futures=True)
        for job in self._followed.values():  # one may have been started meanwhile
            job.close()


class Page:
    """One visitor's page.

    Parameters
    ----------
    document : bokeh.document.Document
    board : Board
    """

    def __init__(self, document: Any, board: Board) -> None:
        self._document, self._board = document, board
        self._chosen: str | None = None
        self._owned = ""
        self._due = 0.0
        self._looked_at: str | None = None
        self._note = ""
        self._is_acting = False
        self._head = _div("Reading the journal ...")
        self._message, self._failures, self._engines, self._jobs = (_div() for _ in range(4))
        self._throughput, self._lanes = Throughput(), Lanes()
        self._stop = Button(label="Stop", button_type="danger", visible=False, width=110)
        self._resume = Button(label="Resume", button_type="primary", visible=False, width=110)
        self._buttons = row(self._stop, self._resume, sizing_mode="stretch_width", visible=False)
        self._select = Select(title="Job", visible=False, width=420, options=[])
        self._stop.on_click(lambda: self._act(board.jobs.stop, "stopping: waiting for what engines compute ..."))
        self._resume.on_click(lambda: self._act(board.jobs.resume, "resuming ..."))
        self._select.on_change("value", self._choose)
        self._plots = column(self._throughput.plot, self._lanes.plot, sizing_mode="stretch_width", visible=False)
        document.title = "parimg"
        document.add_root(
            column(
                row(self._select, sizing_mode="stretch_width"),
                self._head,
                self._buttons,
                self._message,
                self._failures,
                self._plots,
                self._engines,
                self._jobs,
                sizing_mode="stretch_width",
                max_width=_WIDTH,
                styles={"margin": "0 auto", "padding": "14px"},
            )
        )
        document.add_periodic_callback(self._update, _PERIOD_MS)
        document.add_next_tick_callback(self._update)

    def _choose(self, _name: str, _old: str, new: str) -> None:
        if new and new != self._chosen:
            self._chosen, self._note, self._due = new, "", 0.0
            self._document.add_next_tick_callback(self._update)

    async def _update(self) -> None:
        if time.monotonic() < self._due:
            return
        chosen = self._chosen
        try:
            loop, board = asyncio.get_running_loop(), self._board
            summaries, job, seconds = await loop.run_in_executor(board.reader, board.look, chosen)
            self._due = 0.0
            if chosen == self._chosen:
                begin = time.thread_time()
                self._show(summaries, job)
                seconds += time.thread_time() - begin
                if self._looked_at == self._chosen:  # the first look reads all records, once
                    self._due = time.monotonic() + _REST * seconds - _PERIOD_MS / 1000
                self._looked_at = self._chosen
        except RuntimeError:  # the server is closing
            return
        except Exception as error:  # a journal that was removed: the page says so, and goes on
            _set(self._message, fragments.note(f"{type(error).__name__}: {error}"))

    def _show(self, summaries: list[Summary], job: JobNow | None) -> None:
        if job is None:
            names = [f"{os.path.basename(one.directory)}: {one.state}" for one in summaries if one.state]
            _set(self._head, fragments.note("; ".join(["no job yet", *names])))
            return
        directory = job.summary.directory
        self._chosen = directory
        options: list[Any] = [(one.directory, _label(one)) for one in summaries if one.task]
        if self._select.options != options:
            self._select.options = options
        if self._select.value != directory:
            self._select.value = directory
        self._select.visible = len(options) > 1
        jobs = self._board.jobs
        owns = jobs.owns(directory)
        self._owned = directory if owns else ""
        self._stop.visible = owns and job.running
        self._resume.visible = owns and job.summary.state in _ENDED
        self._buttons.visible = self._stop.visible or self._resume.visible
        self._stop.disabled = self._resume.disabled = self._is_acting
        _set(self._head, fragments.head(job, jobs.under_way(directory) if owns else None))
        _set(self._message, fragments.note(self._note))
        _set(self._failures, fragments.failures(job.causes, job.summary.failed))
        _set(self._engines, fragments.engines(job.hosts))
        _set(self._jobs, fragments.jobs(summaries, directory))
        self._document.title = _title(job.summary)
        self._plots.visible = bool(job.course.run)
        if job.course.run:
            self._throughput.show(job.course, job.now)
            self._lanes.show(job.course, job.now)

    def _act(self, action: Callable[[str], None], said: str) -> None:
        """Stop or resume in a thread: either takes as long as a chunk, or a start."""
        directory = self._owned
        if not directory or self._is_acting:
            return
        self._is_acting, self._note = True, said
        self._stop.disabled = self._resume.disabled = True
        _set(self._message, fragments.note(said))

        def run() -> None:
            try:
                action(directory)
                self._note = ""
            except Exception as error:
                self._note = f"{type(error).__name__}: {error}"
            self._is_acting, self._due = False, 0.0

        threading.Thread(target=run, name="parimg-dashboard-action", daemon=True).start()


def _div(text: str = "") -> Any:
    style = InlineStyleSheet(css=fragments.STYLE)
    return Div(text=text, disable_math=True, sizing_mode="stretch_width", stylesheets=[style])


def _set(div: Any, text: str) -> None:
    """Send a text only if it is another."""
    if div.text != text:
        div.text = text


def _label(summary: Summary) -> str:
    return visible(f"{os.path.basename(summary.directory)}: {summary.task}, {summary.state}")[:100]


def _title(summary: Summary) -> str:
    of = f"{100 * summary.done // summary.total} % " if summary.total else ""
    return visible(f"{of}{summary.task}, {summary.state}")[:100]
