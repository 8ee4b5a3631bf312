"""``parimg resume``, ``status``, ``export`` and ``jobs``: what became of jobs."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from parimg.cli.app import app
from parimg.cli.exporting import check_folder, check_output, export, to_json
from parimg.cli.options import (
    ClusterId,
    Engines,
    MaxFailures,
    MemoryLimit,
    Output,
    Profile,
    Quiet,
    Timeout,
    Verbose,
)
from parimg.cli.running import (
    check_engines,
    exit_by_failures,
    follow,
    open_controller,
    parse_limit,
    resume_options,
)
from parimg.cli.showing import describe_source, describe_task, print_summary, shown_size
from parimg.console import print_table, say
from parimg.errors import JobError, ParimgError

if TYPE_CHECKING:
    from parimg.job.journal import Journal

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def _complete_job(beginning: str) -> list[str]:
    from parimg.job.directory import jobs_folder

    folder = jobs_folder()
    return [name for name in _names(folder) if name.startswith(beginning)]


JobName = Annotated[
    str,
    typer.Argument(
        metavar="JOB",
        help="As `parimg jobs` names it, or as much as tells it apart; or its directory.",
        autocompletion=_complete_job,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]


@app.command(epilog="Example: parimg resume 20261122-0930 -n 4 -o matches.csv")
def resume(
    job: JobName,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed images again.")] = False,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run what a job did not record before it was interrupted."""
    check_output(output)
    check_engines(engines, profile, cluster_id)
    from parimg.job.directory import acquire_lock
    from parimg.job.job import Job
    from parimg.job.journal import Journal
    from parimg.options import Options

    given = {"timeout": timeout, "max_failures": parse_limit(max_failures), "memory_limit": memory_limit}
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    # What cannot be resumed is told before a cluster is started.
    journal = Journal(find_job(job))
    journal.check_trust()
    Options.changed(journal.meta("options"), changed)
    acquire_lock(journal.directory).release()
    if not _lacks_images(journal, retry_failed=retry_failed):
        ended = Job(journal)
        export(ended, output)
        if quiet:
            say(ended.directory)
            exit_by_failures(ended)
            return
        say(f"nothing to do: {ended.counts['done']} of {ended.counts['total']} images are recorded")
        print_summary(ended, verbose=verbose)
        if output is not None:
            say(f"table: {output}")
        exit_by_failures(ended)
        return
    with open_controller(engines, profile, cluster_id) as controller:
        running = controller.resume(journal.directory, retry="failed" if retry_failed else None, **changed)
        running.resume_options = resume_options(engines, profile, cluster_id, output)
        follow(running, output, quiet=quiet, verbose=verbose)
        exit_by_failures(running)


def _lacks_images(journal: Journal, *, retry_failed: bool) -> bool:
    """Whether there is something to run; a finished job has more to do if images were added to its folders."""
    from parimg.errors import SourceError
    from parimg.sources.as_source import source_from_spec

    finished = journal.last_run().state == "finished"
    if retry_failed and journal.count_by_status()["failed"]:
        finished = False
    try:
        source = source_from_spec(journal.meta("source"))
    except SourceError:
        if finished:
            return False
        raise
    return not finished or journal.lacks_any(image.key for image in source)


@app.command(epilog="Example: parimg status 20261122-0930")
def status(
    job: JobName,
    output: Output = None,
    table: Annotated[
        str | None, typer.Option(help="With -o: the table of this name of all records, as branch_table.")
    ] = None,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Tell how a job stands, also while another process runs it; with -o, export its table."""
    check_output(output)
    from parimg.job.job import Job
    from parimg.job.journal import Journal

    journal = Journal(find_job(job))
    found = Job(journal)
    export(found, output, table)
    if as_json:
        say(to_json(_about(journal)))
        exit_by_failures(found)
        return
    print_summary(found, verbose=verbose)
    about = journal.meta("task")
    say(f"task: {describe_task(about['name'], about['parameters'], longest=2000)}")
    say(f"images: {describe_source(journal.meta('source'))}")
    if found.state in {"interrupted", "aborted", "failed"}:
        say(f"to go on: {found.resume_command}")
    if output is not None:
        say(f"table: {output}")
    exit_by_failures(found)


@app.command("export", epilog="Example: parimg export 20261122-0930 --to parquet")
def export_table(
    job: JobName,
    to: Annotated[
        Literal["csv", "parquet", "json", "arrow"] | None,
        typer.Option(help="Format; default: what the name of the file ends in, or csv."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File; default: named after the job, here.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="The table of this name of all records, such as branch_table.")
    ] = None,
) -> None:
    """Write a job's table into a file, also while another process runs the job."""
    from parimg.job.job import open_job

    found = open_job(find_job(job))
    if output is None:
        name = os.path.basename(found.directory) + (f"-{table}" if table else "")
        output = Path(f"{name}.{to or 'csv'}")
    if to is None:
        check_output(output)
    check_folder(output, "-o")
    export(found, output, table, to)
    say(f"table: {output}")


@app.command(epilog="Example: parimg jobs --older 30d; then parimg jobs --older 30d --remove")
def jobs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="[JOB]", help="Only these.", autocompletion=_complete_job, show_default=False),
    ] = None,
    older: Annotated[
        str | None, typer.Option(help="Only those that were last worked on so long ago: 12h, 30d, 8w.")
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove them, with all they recorded, instead of listing them.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List the jobs that were given no directory of their own, or remove some."""
    from parimg.job.directory import jobs_folder

    if remove and not names and older is None:
        raise typer.BadParameter("--remove wants the names of jobs, or --older")
    folder = jobs_folder()
    found = (
        [find_job(name) for name in names] if names else [os.path.join(folder, name) for name in _names(folder)]
    )
    if older is not None:
        before = time.time() - _seconds(older)
        found = [directory for directory in found if _last_change(directory) < before]
    if remove:
        _remove(found)
    elif as_json:
        say(to_json([_row(directory) for directory in found]))
    elif not found:
        say(f"no jobs in {folder}" + (f" are older than {older}" if older else ""))
    else:
        _print_jobs(found, folder)


def _print_jobs(directories: list[str], folder: str) -> None:
    rows = []
    for directory in directories:
        row = _row(directory)
        name, size = os.path.basename(directory), shown_size(row["bytes"])
        if "task" not in row:
            rows.append((name, "", "", row["state"], "", "", "", size))
            continue
        done = f"{row['done']}/{'?' if row['total'] is None else row['total']}"
        task = describe_task(row["task"], row["parameters"], longest=60)
        rows.append(
            (name, task, row["source"], row["state"], done, str(row["failed"]), f"{row['seconds']:.1f}", size)
        )
    columns = ("job", "task", "source", "state", "images", "failed", "seconds", "size")
    print_table(columns, rows, title=folder, whole_names=True)


def _row(directory: str) -> dict[str, Any]:
    from parimg.job.journal import Journal

    try:
        return _about(Journal(directory))
    except ParimgError:  # left by a client that was killed while it made the job, or of another version
        return {"job": os.path.basename(directory), "state": "cannot be read", "bytes": _size(directory)}


def _about(journal: Journal) -> dict[str, Any]:
    """What scripts want to know of a job."""
    from parimg.job.job import Job

    job = Job(journal)
    about = journal.meta("task")
    return {
        "job": os.path.basename(job.directory),
        "directory": job.directory,
        "task": about["name"],
        "parameters": about["parameters"],
        "source": describe_source(journal.meta("source")),
        "state": job.state,
        **job.counts,
        "duplicates": job.duplicates,
        "errors": {error: group.count for error, group in job.failures.by_error.items()},
        "seconds": job.wall_time,
        "started": journal.seconds_by_run()[0][0],
        "bytes": _size(job.directory),
    }


def find_job(name: str) -> str:
    """The directory of a job that is named by it, or by its name among the jobs, or the beginning of that.

    Raises
    ------
    JobError
        If there is none, or more than one.
    """
    from parimg.job.directory import JOURNAL_FILE, jobs_folder

    folder = jobs_folder()
    named = os.path.join(folder, name)
    if os.path.exists(os.path.join(name, JOURNAL_FILE)) or os.sep in name.rstrip(os.sep):
        return os.path.abspath(name)
    if os.path.isdir(named):
        return named
    found = [one for one in _names(folder) if name and one.startswith(name)]
    if len(found) > 1:
        raise JobError(f"{name!r} may be any of {', '.join(found[:5])}; name more of it")
    if not found and not os.path.isdir(name):
        raise JobError(f"there is no job {name!r}, here or in {folder!r}; `parimg jobs` lists the jobs")
    return os.path.join(folder, found[0]) if found else os.path.abspath(name)  # opening that says it is no job


def _names(folder: str) -> list[str]:
    """Names of the jobs in a folder, newest first."""
    if not os.path.isdir(folder):
        return []
    return sorted((entry.name for entry in os.scandir(folder) if entry.is_dir()), reverse=True)


def _size(directory: str) -> int:
    """Bytes that a job's files occupy."""
    return sum(
        os.lstat(os.path.join(folder, name)).st_size for folder, _, names in os.walk(directory) for name in names
    )


def _last_change(directory: str) -> float:
    """When something was last written into a job's directory, seconds since the epoch."""
    return max(os.lstat(path).st_mtime for path in (directory, *(entry.path for entry in os.scandir(directory))))


def _seconds(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    if found is None:
        raise typer.BadParameter(f"--older must be like 12h, 30d or 8w (got {text!r})")
    return float(found[1]) * _SECONDS[found[2]]


def _remove(directories: list[str]) -> None:
    """Remove jobs that no process is writing."""
    from parimg.job.directory import remove_job_dir

    for directory in directories:
        size = _size(directory)
        remove_job_dir(directory)
        left = f"; {', '.join(sorted(os.listdir(directory))[:3])} stays" if os.path.isdir(directory) else ""
        say(f"removed {directory} ({shown_size(size)}){left}")
