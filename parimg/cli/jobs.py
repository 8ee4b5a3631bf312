"""``parimg resume``, ``status`` and ``jobs``: what became of jobs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from parimg.cli.app import app
from parimg.cli.options import ClusterId, Engines, MaxFailures, MemoryLimit, Output, Profile, Timeout
from parimg.cli.running import (
    check_output,
    console,
    exit_by_failures,
    export,
    follow,
    open_controller,
    parse_limit,
    print_summary,
)
from parimg.errors import ParimgError


@app.command()
def resume(
    directory: Annotated[Path, typer.Argument(help="The job's directory.")],
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed images again.")] = False,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
    output: Output = None,
) -> None:
    """Run what a job did not record before it was interrupted."""
    check_output(output)
    from parimg.job.job import open_job

    given = {"timeout": timeout, "max_failures": parse_limit(max_failures), "memory_limit": memory_limit}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    open_job(directory)  # its errors come before a cluster is started
    with open_controller(engines, profile, cluster_id) as controller:
        running = controller.resume(directory, retry="failed" if retry_failed else None, **changed)
        follow(running, output)


@app.command()
def status(
    directory: Annotated[Path, typer.Argument(help="The job's directory.")],
    output: Output = None,
    table: Annotated[
        str | None, typer.Option(help="With -o: the table of this name of all records, as branch_table.")
    ] = None,
) -> None:
    """Tell how a job stands, also while another process runs it; with -o, export its table."""
    check_output(output)
    from parimg.job.job import open_job

    job = open_job(directory)
    print_summary(job)
    if job.state in {"interrupted", "aborted", "failed"}:
        print(f"to go on: {job.resume_command}")
    export(job, output, table)
    exit_by_failures(job)


@app.command()
def jobs() -> None:
    """List the jobs that were given no directory of their own."""
    from rich.table import Table

    from parimg.job.directory import jobs_folder
    from parimg.job.job import open_job

    folder = jobs_folder()
    table = Table("job", "task", "state", "images", "failed", "seconds", title=folder, title_justify="left")
    for name in sorted(os.listdir(folder), reverse=True) if os.path.isdir(folder) else []:
        try:
            job = open_job(os.path.join(folder, name))
            counts = job.counts
            done = f"{counts['done']}/{'?' if counts['total'] is None else counts['total']}"
            table.add_row(name, job.name, job.state, done, str(counts["failed"]), f"{job.wall_time:.1f}")
        except ParimgError:  # left by a client that was killed while it made the job
            table.add_row(name, "", "never began", "", "", "", style="dim")
    console().print(table if table.row_count else f"no jobs in {folder}")
