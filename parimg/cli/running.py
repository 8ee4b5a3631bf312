"""What commands have in common once they run: the cluster, checks of what was typed, progress, tables.

A command that runs a job says which task on which images, and is declared by `job_command`.
"""

from __future__ import annotations

import contextlib
import inspect
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from parimg.cli.app import app
from parimg.cli.options import (
    EXIT_FAILED,
    EXIT_SOME_IMAGES_FAILED,
    ClusterId,
    Column,
    Engines,
    JobDirectory,
    MaxFailures,
    MaxPixels,
    MemoryLimit,
    Profile,
    Retries,
    Timeout,
)
from parimg.errors import ParimgError
from parimg.options import DEFAULT_MAX_PIXELS

if TYPE_CHECKING:
    from parimg.controller import Controller
    from parimg.job.job import Job
    from parimg.record import Record
    from parimg.sources.source import Source
    from parimg.tasks.task import Task

SHOWN = 20  # rows of a table on the screen


class Planned(NamedTuple):
    """The job that a command is to run."""

    task: Task
    images: list[str]
    output: Path | None = None
    """Where its table is written."""
    sort_by: str | None = None
    """Column that the table on the screen is sorted by."""
    inner: Mapping[str, Path | None] | None = None
    """Where the tables of its records are written, by name."""


def job_command(name: str | None = None) -> Callable[[Callable[..., Planned]], None]:
    """Declare a command by a function that plans a job: it gets the options that all jobs have, and runs it."""

    def declare(plan: Callable[..., Planned]) -> None:
        own = inspect.signature(plan, eval_str=True).parameters
        common = inspect.signature(_run, eval_str=True).parameters
        parameters = [*own.values(), *(common[option] for option in common if option != "planned")]

        def command(**given: Any) -> None:
            planned = plan(**{option: given.pop(option) for option in own})
            _run(planned, **given)

        # This is what typer reads.
        command.__doc__ = plan.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name or plan.__name__)(command)

    return declare


def _run(
    planned: Planned,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: JobDirectory = None,
    column: Column = None,
    retries: Retries = 2,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
) -> None:
    most_failures = parse_limit(max_failures)
    source = check_source(planned.task, one_or_all(planned.images), column)
    with open_controller(engines, profile, cluster_id) as controller:
        running = controller.submit(
            planned.task,
            source,
            job_dir=job,
            retries=retries,
            max_pixels=max_pixels,
            timeout=timeout,
            max_failures=most_failures,
            memory_limit=memory_limit,
        )
        try:
            follow(running, planned.output, planned.sort_by, planned.inner)
        finally:
            if left_out := source.left_out():
                print("  left out: " + ", ".join(f"{n} ({reason})" for reason, n in left_out.items()))


def one_or_all(images: list[str]) -> str | list[str]:
    """What was typed as a source: one path may be a table, several are a list."""
    return images[0] if len(images) == 1 else images


@contextlib.contextmanager
def open_controller(engines: int | None, profile: str | None, cluster_id: str) -> Iterator[Controller]:
    if engines is not None and (profile is not None or cluster_id):
        raise typer.BadParameter(
            "-n starts an own cluster, --profile and --cluster-id use a running one: give one"
        )
    from parimg.controller import connect, start

    with connect(profile, cluster_id) if profile is not None or cluster_id else start(engines) as controller:
        yield controller


def parse_limit(text: str | None) -> int | float | None:
    """``25`` is a number of images, ``0.1`` and ``10%`` are shares of them."""
    if text is None:
        return None
    try:
        if text.endswith("%"):
            return float(text[:-1]) / 100
        return float(text) if "." in text else int(text)
    except ValueError:
        raise typer.BadParameter(f"--max-failures must be like 25, 0.1 or 10% (got {text!r})") from None


def check_output(output: Path | None, option: str = "-o") -> None:
    if output is None:
        return
    if output.suffix not in {".parquet", ".csv"}:
        raise typer.BadParameter(f"{option} must end in .parquet or .csv (got {str(output)!r})")
    check_folder(output, option)


def check_folder(output: Path, option: str) -> None:
    if not output.absolute().parent.is_dir():
        raise typer.BadParameter(f"{option} {str(output)!r}: there is no folder {str(output.absolute().parent)!r}")


def number(text: str, option: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} wants a number (got {text!r})") from None


def check_source(task: Any, images: str | list[str], column: str | None, *, absolute_keys: bool = False) -> Source:
    """Report mistakes before the seconds that a cluster takes to start; the source is for `submit`."""
    from parimg.sources.as_source import as_source

    source = as_source(images, column=column, absolute_keys=absolute_keys)
    task.resolve()
    return source


def progress(job: Job) -> contextlib.AbstractContextManager[None]:
    from parimg.job.progress import show_progress

    return show_progress(job)


def follow(
    job: Job, output: Path | None, sort_by: str | None = None, inner: Mapping[str, Path | None] | None = None
) -> None:
    """Show a job until it ends, then its table and what failed; export it, and tables of its records by name."""
    try:
        with progress(job):
            job.wait()
    except ParimgError as error:
        print_summary(job)
        print(f"parimg: {error}", file=sys.stderr)
        print(f"to go on: {job.resume_command}")
        raise typer.Exit(EXIT_FAILED) from None
    _print_records(job, sort_by)
    print_summary(job)
    export(job, output)
    for name, path in (inner or {}).items():
        export(job, path, name)
    print(f"job: {job.directory}")
    exit_by_failures(job)


def _print_records(job: Job, sort_by: str | None) -> None:
    import heapq

    from rich.table import Table

    good = (record for record in job.in_order() if record.ok)
    if sort_by is not None:
        shown = heapq.nlargest(SHOWN, good, key=lambda record: record[sort_by])
    else:
        shown = [record for _, record in zip(range(SHOWN), good, strict=False)]
    if not shown:
        return
    names = list(shown[0].columns)
    table = Table("image", *names, title=f"{sort_by}, most first" if sort_by else None, title_justify="left")
    for record in shown:
        table.add_row(shown_key(record.key), *(_cell(record.columns.get(name)) for name in names))
    if (job.counts["ok"] or 0) > len(shown):
        table.caption = f"{len(shown)} of {job.counts['ok']} images"
    console().print(table)


def shown_key(key: str) -> str:
    """An image's name, relative to the current directory if it is a path below it."""
    if not os.path.isabs(key):
        return key
    relative = os.path.relpath(key)
    return key if relative == os.pardir or relative.startswith(os.pardir + os.sep) else relative


def _cell(value: object) -> str:
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def print_summary(job: Job) -> None:
    counts = job.counts
    of = "" if counts["total"] is None else f" of {counts['total']}"
    seconds = job.wall_time
    print(
        f"{job.name}, {job.state}: {counts['done']}{of} images, {counts['failed']} failed, {seconds:.1f} s "
        f"({job.serial_time:.1f} s on engines)"
    )
    if job.duplicates:
        print(f"  {job.duplicates} images were named more than once, and run once")
    if counts["failed"]:
        for record in job.failures[:SHOWN]:
            print(f"  {shown_key(record.key)}: {_reason(record)}")
        if counts["failed"] > SHOWN:
            kinds = ", ".join(f"{group.count} {group.error}" for group in job.failures.by_error.values())
            print(f"  ... and {counts['failed'] - SHOWN} more; in all {kinds}")


def _reason(record: Record) -> str:
    return f"{record.error}: {record.message}"


def export(job: Job, output: Path | None, table: str | None = None) -> None:
    if output is None:
        return
    (job.to_parquet if output.suffix == ".parquet" else job.to_csv)(output, table)
    print(f"table: {output}")


def exit_by_failures(job: Job) -> None:
    if job.counts["failed"]:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def console() -> Any:
    from rich.console import Console

    # Into a file or pipe, a table is as wide as it needs to be.
    return Console() if sys.stdout.isatty() else Console(width=200)
