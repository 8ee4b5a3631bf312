"""``parimg dashboard``: a live page of jobs."""

from __future__ import annotations

import os
import sys
import threading
from typing import Annotated

import typer

from parimg.cli.app import JOBS_PANEL, app
from parimg.cli.jobs import complete_job, find_job
from parimg.console import say


@app.command(epilog="Example: parimg dashboard 20261122-0930", rich_help_panel=JOBS_PANEL)
def dashboard(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="JOB",
            help="Their names or directories; default: the newest of `parimg jobs`.",
            autocompletion=complete_job,
            show_default=False,
        ),
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="On loopback; default: 8790, or the next that is free.")
    ] = None,
    browser: Annotated[bool, typer.Option("--browser/--no-browser", help="Open it in a browser.")] = True,
    allow_origin: Annotated[
        list[str] | None,
        typer.Option(metavar="HOST", help="A host whose proxy shows the page under its name; may be repeated."),
    ] = None,
) -> None:
    """Show how far jobs are on a page in the browser, until Ctrl-C; the jobs may be of any process."""
    from parimg.dashboard.jobs import WatchedJobs
    from parimg.dashboard.server import Dashboard
    from parimg.job.journal import Journal

    directories = [Journal(find_job(name)).directory for name in names or ()]
    with Dashboard(WatchedJobs(directories), port, allow_origin or ()) as page:
        say(f"live page: {page.url}")
        say("it shows jobs and cannot stop them; Ctrl-C ends the page, not the jobs")
        sys.stdout.flush()
        never = threading.Event()
        if browser and _has_screen():
            page.open_browser()
        try:
            while not never.wait(0.5):  # so that Ctrl-C is heard on every platform
                pass
        except KeyboardInterrupt:
            say("")


def _has_screen() -> bool:
    """Whether a browser could be seen: one in text would take the terminal."""
    return sys.platform != "linux" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
