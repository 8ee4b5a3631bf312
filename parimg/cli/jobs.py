"""``parimg resume``, ``status``, ``export`` and ``jobs``: what became of jobs."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from parimg.cli.app import JOBS_PANEL, app
from parimg.cli.exporting import check_folder, check_output, export, to_json
from parimg.cli.finding import JobName, complete_job, find_job, place_of
from parimg.cli.options import (
    ClusterId,
    Engines,
    Json,
    MaxFailures,
    MemoryLimit,
    Output,
    Profile,
    Quiet,
    Ship,
    Tiles,
    Timeout,
    Verbose,
)
from parimg.cli.pair_jobs import export_matched, of_pairs, pair_directory, pairs_in, print_status_of_pairs
from parimg.cli.running import (
    check_engines,
    exit_by_failures,
    follow,
    open_controller,
    parse_limit,
    parse_tiles,
    resume_options,
)
from parimg.cli.showing import describe_task, job_facts, print_summary, shown_key, shown_size
from parimg.cli.submitting import (
    Submit,
    SubmitSet,
    check_submission,
    describe_client,
    handing_over,
    submit_client,
    submitted_for,
)
from parimg.console import print_table, report_if_slow, say
from parimg.errors import JobError

if TYPE_CHECKING:
    from parimg.job.job import Job
    from parimg.job.journal import Journal
    from parimg.job.listing import JobSummary


@app.command(epilog="Example: parimg resume 20261122-0930 -n 4 -o matches.csv", rich_help_panel=JOBS_PANEL)
def resume(
    job: JobName,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Also run failed images again.")] = False,
    timeout: Timeout = None,
    max_failures: MaxFailures = None,
    memory_limit: MemoryLimit = None,
    ship: Ship = None,
    tiles: Tiles = None,
    submit: Submit = None,
    submit_set: SubmitSet = None,
    output: Output = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Run what a job did not record before it was interrupted; of matched pairs, what is missing of both jobs."""
    if (pairs := pair_directory(find_job(job))) is None:
        check_output(output)
    check_engines(engines, profile, cluster_id)
    check_submission(submit, submit_set)
    from parimg.job.directory import JobDirectory
    from parimg.job.job import Job
    from parimg.job.journal import Journal
    from parimg.options import Options

    given = {
        "timeout": timeout,
        "max_failures": parse_limit(max_failures),
        "memory_limit": memory_limit,
        "ship": ship,
        "tiles": parse_tiles(tiles),
    }
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    if pairs is not None:
        from parimg.cli.pairs import resume_directory
        from parimg.pairs.directory import PairDirectory

        place = PairDirectory(pairs)
        if submit is not None and submitted_for() is None:
            name = os.path.basename(pairs)
            submit_client(JobDirectory(place.features), submit_set, name=name, quiet=quiet)
            return
        with handing_over(submit_set, [JobDirectory(place.blocks)]):
            resume_directory(pairs, (engines, profile, cluster_id), output, changed, quiet=quiet, verbose=verbose)
        return
    # What cannot be resumed is told before a cluster is started.
    journal = Journal(find_job(job))
    journal.check_trust()
    Options.changed(journal.meta("options"), changed)
    JobDirectory(journal.directory).acquire().release()
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
    if submit is not None and submitted_for() is None:
        submit_client(JobDirectory(journal.directory), submit_set, quiet=quiet)
        return
    with handing_over(submit_set), open_controller(engines, profile, cluster_id) as controller:
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


@app.command(epilog="Example: parimg status 20261122-0930", rich_help_panel=JOBS_PANEL)
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
    from parimg.job.directory import JobDirectory
    from parimg.job.job import Job
    from parimg.job.journal import Journal
    from parimg.job.listing import summarize

    place = JobDirectory(find_job(job))
    if (matched := pairs_in(place.path)) is not None:
        print_status_of_pairs(matched, output, as_json=as_json, verbose=verbose)
        return
    client = describe_client(place)
    if client and not place.holds_job:
        name = os.path.basename(place.path)
        about = {"job": name, "directory": place.path, "state": "waiting", "client": client}
        say(to_json(about) if as_json else f"it has not begun: {client}")
        return
    journal = Journal(place.path)
    found = Job(journal)
    export(found, output, table)
    if as_json:
        errors = {error: group.count for error, group in found.failures.by_error.items()}
        about = job_facts(summarize(JobDirectory(found.directory)))
        say(to_json({**about, "duplicates": found.duplicates, "errors": errors}))
        exit_by_failures(found)
        return
    print_summary(found, verbose=verbose)
    summary = summarize(JobDirectory(found.directory))
    say(f"task: {describe_task(summary.task, summary.parameters, longest=2000)}")
    say(f"images: {shown_key(summary.source)}")
    if summary.writer:
        say(f"run by: {summary.writer}")
    if client:
        say(f"by Slurm: {client}")
    elif found.state in {"interrupted", "aborted", "failed"}:
        say(f"to go on: {found.resume_command}")
    if output is not None:
        say(f"table: {output}")
    exit_by_failures(found)


@app.command("export", epilog="Example: parimg export 20261122-0930 --to parquet", rich_help_panel=JOBS_PANEL)
def export_table(
    job: JobName,
    to: Annotated[
        Literal["csv", "parquet", "json", "arrow", "ome-zarr", "colmap", "hloc"] | None,
        typer.Option(
            help="Format; default: what the name of the file ends in, or csv. ome-zarr: the images that "
            "were made, as one array. Of matched pairs: colmap, hloc (a folder) or parquet."
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="File; default: named after the job, here.")
    ] = None,
    table: Annotated[
        str | None, typer.Option(help="The table of this name of all records, such as branch_table.")
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace a database that was made of other pairs.")
    ] = False,
) -> None:
    """Write a job's table into a file, also while another process runs the job; of matched pairs, a database."""
    from parimg.job.job import open_job

    directory = find_job(job)
    if (matched := pairs_in(directory)) is not None:
        export_matched(matched, to, output, overwrite=overwrite)
        return
    if to in {"colmap", "hloc"}:
        raise JobError(
            f"{directory!r} holds no pairs of images; `parimg match-pairs IMAGES -o matches.db` makes them"
        )
    found = open_job(directory)
    if to == "ome-zarr" or (to is None and output is not None and output.suffix.lower() == ".zarr"):
        _export_images(found, output, table)
        return
    if output is None:
        name = os.path.basename(found.directory) + (f"-{table}" if table else "")
        output = Path(f"{name}.{to or 'csv'}")
    if to is None:
        check_output(output)
    check_folder(output, "-o")
    export(found, output, table, to)
    say(f"table: {output}")


@app.command(epilog="Example: parimg merge part-1 part-2 part-3 -o whole", rich_help_panel=JOBS_PANEL)
def merge(
    jobs: Annotated[
        list[str],
        typer.Argument(metavar="JOB", help="Their names or directories.", autocompletion=complete_job),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help="Directory of the new job.")],
    newest: Annotated[
        bool, typer.Option("--newest", help="Where two jobs say different things of an image, take the newer.")
    ] = False,
    verbose: Verbose = False,
) -> None:
    """Make one job of several that ran the same task, such as the shards of one source."""
    from parimg.job.merging import merge_jobs

    merged = merge_jobs([find_job(job) for job in jobs], output, conflicts="newest" if newest else "error")
    print_summary(merged, verbose=verbose)
    say(f"job: {merged.directory}")
    if merged.state != "finished":
        say(f"to go on: {merged.resume_command}")
    exit_by_failures(merged)


@app.command(
    epilog="Example: parimg jobs --older 30d; then parimg jobs --older 30d --remove", rich_help_panel=JOBS_PANEL
)
def jobs(
    names: Annotated[
        list[str] | None,
        typer.Argument(metavar="JOB", help="Only these.", autocompletion=complete_job, show_default=False),
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
    from parimg.job.listing import list_jobs, parse_age, summarize

    if remove and not names and older is None:
        raise typer.BadParameter("--remove wants the names of jobs, or --older")
    folder = jobs_folder()
    listed = [summarize(place_of(name)) for name in names] if names else list(list_jobs(folder))
    found = [of_pairs(job) for job in listed]
    if older is not None:
        before = time.time() - parse_age(older)
        found = [job for job in found if job.last_used < before and job.state != "running"]
    if remove:
        for job in found:
            _remove(job)
    elif as_json:
        say(to_json([job_facts(job) for job in found]))
    elif not found:
        say(f"no jobs in {folder}" + (f" are older than {older}" if older else ""))
    else:
        rows = []
        for job in found:
            done = f"{job.done}/{'?' if job.total is None else job.total}"
            task = describe_task(job.task, job.parameters, longest=60) if job.task else ""
            client = describe_client(job.place) if job.state in {"never began", "interrupted"} else ""
            state = f"{job.state}, {job.writer or client}" if job.writer or client else job.state
            rows.append(
                (job.name, task, shown_key(job.source), state, done, str(job.failed), f"{job.seconds:.1f}",
                 shown_size(job.nbytes))
            )  # fmt: skip
        columns = ("job", "task", "source", "state", "images", "failed", "seconds", "size")
        print_table(columns, rows, title=folder, whole_names=True)


def _export_images(job: Job, output: Path | None, table: str | None) -> None:
    if table is not None:
        raise typer.BadParameter("--table is of tables, --to ome-zarr of images: give one")
    target = output or Path(f"{os.path.basename(job.directory)}.ome.zarr")
    if target.suffix.lower() != ".zarr":
        raise typer.BadParameter(f"-o must end in .zarr (got {str(target)!r})")
    if not target.absolute().parent.is_dir():
        raise typer.BadParameter(f"-o {str(target)!r}: there is no folder {str(target.absolute().parent)!r}")
    with report_if_slow("writing the images ..."):
        job.to_ome_zarr(target)
    say(f"images: {target}")


def _remove(job: JobSummary) -> None:
    if client := describe_client(job.place):
        raise JobError(f"the client of {job.place.path!r} would make it anew: {client}; `scancel` ends it")
    if (matched := pairs_in(job.place.path)) is not None:
        matched.place.remove()
    else:
        job.place.remove()
    path = job.place.path
    left = f"; {', '.join(sorted(os.listdir(path))[:3])} stays" if os.path.isdir(path) else ""
    say(f"removed {path} ({shown_size(job.nbytes)}){left}")
