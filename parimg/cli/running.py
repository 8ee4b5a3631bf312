"""What commands have in common once they run: checks of what was typed, the cluster, the job to its end.

A command that runs a job says which task on which images, and is declared by `job_command`.
"""

from __future__ import annotations

import contextlib
import inspect
import itertools
import os
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from parimg.cli.app import app
from parimg.cli.exporting import export
from parimg.cli.options import (
    EXIT_FAILED,
    EXIT_SOME_IMAGES_FAILED,
    Channel,
    ClusterId,
    Column,
    DryRun,
    EngineNumber,
    Engines,
    Extensions,
    JobFolder,
    MaxFailures,
    MaxPixels,
    MemoryLimit,
    Metadata,
    Orientation,
    Percentile,
    PreviewOf,
    Profile,
    Project,
    Quiet,
    Retries,
    Sample,
    Seed,
    ShardOption,
    Ship,
    Slice,
    Tiles,
    Timeout,
    Verbose,
)
from parimg.cli.previewing import print_preview
from parimg.cli.selecting import select
from parimg.cli.showing import describe_task, print_records, print_summary, shown_key
from parimg.cli.submitting import (
    Submit,
    SubmitSet,
    check_submission,
    handing_over,
    submit_client,
    submitted_for,
)
from parimg.console import report_if_slow, say
from parimg.errors import ParimgError
from parimg.files.trial import without_new_folders
from parimg.options import DEFAULT_MAX_PIXELS, Options

if TYPE_CHECKING:
    from parimg.controller.controller import Controller
    from parimg.job.job import Job
    from parimg.sources.source import Source
    from parimg.tasks.task import Task


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


def job_command(example: str, name: str | None = None) -> Callable[[Callable[..., Planned]], None]:
    """Declare a command by a function that plans a job: it gets the options that all jobs have, and runs it."""

    def declare(plan: Callable[..., Planned]) -> None:
        own = inspect.signature(plan, eval_str=True).parameters
        common = inspect.signature(_run, eval_str=True).parameters
        parameters = [*own.values(), *(common[option] for option in common if option != "planned")]

        def command(**given: Any) -> None:
            with handing_over(given["submit_set"]):
                planned = plan(**{option: given.pop(option) for option in own})
                _run(planned, **given)

        # This is what typer reads.
        command.__doc__ = plan.__doc__
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        app.command(name or plan.__name__, epilog=f"Example: {example}")(command)

    return declare


def _run(
    planned: Planned,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: JobFolder = None,
    column: Column = None,
    extensions: Extensions = None,
    sample: Sample = None,
    seed: Seed = 0,
    retries: Retries = 2,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
    ship: Ship = "auto",
    shard: ShardOption = None,
    tiles: Tiles = None,
    submit: Submit = None,
    submit_set: SubmitSet = None,
    channel: Channel = None,
    z: Slice = None,
    project: Project = None,
    percentile: Percentile = None,
    orientation: Orientation = None,
    metadata: Metadata = None,
    dry_run: DryRun = False,
    preview: PreviewOf = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    from parimg.job.directory import JobDirectory
    from parimg.sources.shards import Shard, parse_shard
    from parimg.tasks.task import check_halo, check_reading

    task = planned.task
    options: dict[str, Any] = {
        "retries": retries,
        "max_pixels": max_pixels,
        "timeout": timeout,
        "max_failures": parse_limit(max_failures),
        "memory_limit": memory_limit,
        "ship": ship,
        "tiles": parse_tiles(tiles),
        "channel": parse_channel(channel),
        "z": z,
        "project": project,
        "percentile": parse_percentile(percentile),
        "orientation": orientation,
        "metadata": tuple(metadata or ()),
    }
    # What was typed wrong is told before the seconds that a cluster takes to start; `submit` checks it again.
    check_reading(task, Options(**options).reading)
    check_engines(engines, profile, cluster_id)
    check_submission(submit, submit_set)
    place = submitted_for()
    if job is not None and place is None:
        _check_job_dir(str(job))
    selected = select(planned.images, column=column, extensions=extensions, sample=sample, seed=seed)
    whole = _ready(task, selected, leaves_folder=not dry_run and preview is None)
    if tiles is not None:
        check_halo(task)
    part = None if shard is None else parse_shard(shard)
    source = whole if part is None else Shard(whole, *part)
    if verbose or dry_run:
        say(describe_task(task.name, task.describe(), longest=2000))
    if dry_run:
        _print_plan(planned, source)
        return
    if preview is not None:
        del options["max_failures"]  # some are to be seen, whatever they are
        with open_controller(engines, profile, cluster_id) as controller:
            print_preview(controller.preview(task, source, n=preview, seed=seed, **options))
        return
    if submit is not None and place is None:
        place = JobDirectory.make(task.name) if job is None else JobDirectory(str(job))
        submit_client(place, submit_set, quiet=quiet)
        return
    with open_controller(engines, profile, cluster_id) as controller:
        if place is not None and place.holds_job:  # an earlier batch job has begun it
            running = controller.resume(place.path, **options)
        else:
            directory = job if place is None else place.path
            running = controller.submit(task, whole, job_dir=directory, shard=part, **options)
        running.resume_options = resume_options(engines, profile, cluster_id, planned.output)
        follow(running, planned.output, planned.sort_by, planned.inner, quiet=quiet, verbose=verbose)
        if not quiet:
            print_left_out(source)
        exit_by_failures(running)


def _ready(task: Task, source: Source, *, leaves_folder: bool) -> Source:
    """Prepare a task, which may make the folder it writes to; the source without what lies there."""
    from parimg.job.output_files import name_files
    from parimg.tasks.writing_task import WritingTask

    folder = task.local_folder if isinstance(task, WritingTask) and not leaves_folder else None
    with without_new_folders(folder):
        with report_if_slow(f"preparing {task.name} ..."):
            task.resolve()
        return name_files(task, source)


def parse_tiles(typed: str | None) -> tuple[int, int] | None:
    """Height and width of tiles, as they were typed.

    Raises
    ------
    typer.BadParameter
    """
    if typed is None:
        return None
    sides = typed.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdecimal() for side in sides):
        raise typer.BadParameter(f"--tiles must be a number of pixels, or two as in 1024x2048 (got {typed!r})")
    return int(sides[0]), int(sides[-1])


def _check_job_dir(directory: str) -> None:
    """Refuse a directory that cannot take a job; what is made for the trial is removed."""
    from parimg.job.directory import JobDirectory

    place = JobDirectory(directory)
    is_new = not os.path.exists(place.path)
    with without_new_folders(place.path):
        owned = place.reserve()
        if is_new:
            place.discard(owned)
        else:
            owned.release()


def _print_plan(planned: Planned, source: Source) -> None:
    first = [shown_key(image.key) for image in itertools.islice(source, 5)]
    n_images = source.count()
    more = ", ..." if n_images is None or n_images > len(first) else ""
    say(f"{n_images} {'image' if n_images == 1 else 'images'}: {', '.join(first)}{more}")
    print_left_out(source)
    for path in (planned.output, *(planned.inner or {}).values()):
        if path is not None:
            say(f"table: {path}")
    say("nothing was run (--dry-run)")


def print_left_out(source: Source) -> None:
    """Tell how many files of the folders were not taken for images."""
    for reason, count in source.left_out().items():
        say(f"  {count} {'file' if count == 1 else 'files'} left out: {reason}")


def check_engines(engines: EngineNumber | None, profile: str | None, cluster_id: str) -> None:
    """Refuse an own cluster and a running one at once."""
    if engines is not None and cluster_id:
        raise typer.BadParameter("-n starts an own cluster, --cluster-id is of a running one: give one")
    if engines is not None and engines.most is not None and profile is None:
        raise typer.BadParameter(f"-n {engines} wants a --profile, which says where more engines come from")


@contextlib.contextmanager
def open_controller(engines: EngineNumber | None, profile: str | None, cluster_id: str) -> Iterator[Controller]:
    """An own cluster, here or by a profile, or the running one that was named."""
    check_engines(engines, profile, cluster_id)
    from parimg.controller.starting import connect, start

    if engines is None:
        opened = connect(profile, cluster_id) if profile is not None or cluster_id else start()
    elif engines.most is None:
        opened = start(engines.least, profile=profile)
    else:
        opened = start(engines=(engines.least, engines.most), profile=profile)
    with opened as controller:
        yield controller


def resume_options(engines: EngineNumber | None, profile: str | None, cluster_id: str, output: Path | None) -> str:
    """What was typed for the cluster and the table, to be typed once more."""
    given = {"-n": engines, "--profile": profile, "--cluster-id": cluster_id or None, "-o": output}
    return "".join(f" {name} {shlex.quote(str(value))}" for name, value in given.items() if value is not None)


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


def parse_channel(text: str | None) -> int | str | None:
    """A channel's number from 0, or its name."""
    if text is None or not re.fullmatch(r"[-+]?\d+", text, re.ASCII):
        return text
    if text.startswith("-"):
        raise typer.BadParameter(f"--channel is a number from 0, or a name (got {text!r})")
    return int(text)


def parse_percentile(text: str | None) -> tuple[float, ...] | None:
    """Two percentiles, as they were typed."""
    return None if text is None else tuple(number(one, "--percentile") for one in text.split(","))


def number(text: str, option: str) -> float:
    """A number that was typed where a word or several numbers may stand, too."""
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{option} wants a number (got {text!r})") from None


def progress(job: Job, *, quiet: bool = False) -> contextlib.AbstractContextManager[None]:
    """Show a job's progress while the body runs."""
    from parimg.job.progress import show_progress

    return contextlib.nullcontext() if quiet else show_progress(job)


def follow(
    job: Job,
    output: Path | None,
    sort_by: str | None = None,
    inner: Mapping[str, Path | None] | None = None,
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Show a job until it ends. Write its table and those of its records by name, then print.

    However the job ends, also by Ctrl-C, what it has recorded is written.
    """
    try:
        with progress(job, quiet=quiet):
            job.wait()
    except KeyboardInterrupt:
        if output is not None and job.progress:
            export(job, output)
            say(f"table so far: {output}", error=True)
        raise
    except ParimgError as error:
        export(job, output)
        print_summary(job, verbose=verbose)
        plain_command = job.resume_command.removesuffix(job.resume_options)
        say(f"parimg: {str(error).removesuffix(f'; to go on: {plain_command}')}", error=True)
        say(f"to go on: {job.resume_command}")
        raise typer.Exit(EXIT_FAILED) from None
    tables: dict[str | None, Path | None] = {None: output}
    tables.update(inner or {})
    try:
        for name, path in tables.items():
            export(job, path, name)
    except Exception:
        say(f"job: {job.directory}", error=True)  # its table can be exported once more
        raise
    if quiet:
        say(job.directory)
        return
    print_records(job, sort_by)
    print_summary(job, verbose=verbose)
    for path in filter(None, tables.values()):
        say(f"table: {path}")
    say(f"job: {job.directory}")


def exit_by_failures(job: Job) -> None:
    """End with the exit code that says that images failed, if some did."""
    if job.counts["failed"]:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)
