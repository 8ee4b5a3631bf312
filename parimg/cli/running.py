"""What commands have in common once they run: the cluster, checks of what was typed, progress, tables."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from parimg.cli.options import EXIT_FAILED, EXIT_SOME_IMAGES_FAILED
from parimg.errors import ParimgError

if TYPE_CHECKING:
    from parimg.controller import Controller
    from parimg.job import Job
    from parimg.record import Record

SHOWN = 20  # rows of a table on the screen


@contextlib.contextmanager
def open_controller(engines: int | None, profile: str | None, cluster_id: str) -> Iterator[Controller]:
    if engines is not None and (profile is not None or cluster_id):
        raise typer.BadParameter(
            "-n starts an own cluster, --profile and --cluster-id use a running one: give one"
        )
    from parimg.controller import connect, start

    with connect(profile, cluster_id) if profile is not None or cluster_id else start(engines) as controller:
        yield controller


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


def check_source(task: Any, source: str | list[str], column: str | None) -> None:
    """Tell mistakes before the seconds that a cluster takes to start; `submit` checks them again."""
    from parimg.sources import as_source

    as_source(source, column=column)
    task.resolve()


def progress(job: Job) -> contextlib.AbstractContextManager[None]:
    from parimg.progress import show_progress

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
        from itertools import islice

        for record in islice(job.iter_failures(), SHOWN):
            print(f"  {shown_key(record.key)}: {_reason(record)}")
        if counts["failed"] > SHOWN:
            print(f"  ... and {counts['failed'] - SHOWN} more")


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
