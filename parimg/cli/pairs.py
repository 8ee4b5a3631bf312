"""``parimg match-pairs``, and the exports of what it matched."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from parimg.cli.app import app
from parimg.cli.exporting import check_folder
from parimg.cli.options import (
    EXIT_FAILED,
    EXIT_SOME_IMAGES_FAILED,
    Channel,
    ClusterId,
    Column,
    DryRun,
    Engines,
    Extensions,
    Images,
    MaxPixels,
    MemoryLimit,
    Percentile,
    Profile,
    Project,
    Quiet,
    Retries,
    Slice,
    Timeout,
    Verbose,
)
from parimg.cli.running import (
    check_engines,
    open_controller,
    parse_channel,
    parse_percentile,
    print_left_out,
    progress,
)
from parimg.cli.selecting import select
from parimg.cli.showing import print_summary, shown_key
from parimg.cli.submitting import (
    Submit,
    SubmitSet,
    check_submission,
    handing_over,
    submit_client,
    submitted_for,
)
from parimg.console import say
from parimg.errors import ParimgError
from parimg.options import DEFAULT_MAX_PIXELS, Options

if TYPE_CHECKING:
    from parimg.cli.options import EngineNumber
    from parimg.pairs.pair_job import PairJob

PairFormat = Literal["colmap", "hloc", "parquet"]
_NAMED = 5  # images that are named


@app.command("match-pairs", epilog="Example: parimg match-pairs photos/ --pairs all -o matches.db")
def match_pairs(
    images: Images,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a COLMAP database: .db; or a table: .parquet.")
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--job", help="Directory of the pairs; default: matches.pairs for -o matches.db."),
    ] = None,
    pairs: Annotated[
        str, typer.Option(help="all, sequential, retrieval, or a file of pairs: .txt, .csv, .parquet.")
    ] = "all",
    overlap: Annotated[int, typer.Option(min=1, help="sequential: so many next images.")] = 10,
    neighbours: Annotated[int, typer.Option(min=1, help="retrieval, loops: so many most alike.")] = 50,
    index: Annotated[Path | None, typer.Option(help="Index of the images, by `parimg index`.")] = None,
    verify: Annotated[
        Literal["fundamental", "homography", "none"], typer.Option(help="Geometry that must explain matches.")
    ] = "fundamental",
    verify_threshold: Annotated[float, typer.Option(help="Pixels an inlier may be off.")] = 2.0,
    min_inliers: Annotated[int, typer.Option(help="A pair with fewer is not verified.")] = 15,
    max_ratio: Annotated[float, typer.Option(help="Lowe's ratio test: best below this x second; 1: all.")] = 0.8,
    n_features: Annotated[int, typer.Option(min=0, help="Strongest features kept in an image; 0: all.")] = 5000,
    contrast_threshold: Annotated[float, typer.Option(help="Larger: fewer features.")] = 0.016,
    max_size: Annotated[int, typer.Option(help="Scale larger images down to this longer side; 0: none.")] = 3200,
    root: Annotated[bool, typer.Option(help="Compare RootSIFT descriptors, or plain ones.")] = True,
    channel: Channel = None,
    z: Slice = None,
    project: Project = None,
    percentile: Percentile = None,
    features: Annotated[Path | None, typer.Option(help="Folder of feature files, to be shared.")] = None,
    cameras: Annotated[
        Literal["auto", "one", "image"], typer.Option(help="Which images share a camera in the database.")
    ] = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace a file that others made.")] = False,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    column: Column = None,
    extensions: Extensions = None,
    retries: Retries = 2,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
    timeout: Timeout = None,
    memory_limit: MemoryLimit = None,
    submit: Submit = None,
    submit_set: SubmitSet = None,
    dry_run: DryRun = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Match every image with every other, or chosen pairs; again with the same -o, only what is new."""
    from parimg.job.directory import JobDirectory
    from parimg.pairs.directory import PairDirectory, PairOptions
    from parimg.pairs.matching import check_directory, check_names, match_pairs
    from parimg.pairs.selection import check_selection

    if output is None and directory is None:
        raise typer.BadParameter("give -o FILE.db, or --job DIRECTORY")
    kind = _kind_of(output)
    place = PairDirectory(str(directory or f"{os.path.splitext(str(output))[0]}.pairs"))
    job_options: dict[str, Any] = {
        "retries": retries, "max_pixels": max_pixels, "timeout": timeout, "memory_limit": memory_limit
    }  # fmt: skip
    Options(**job_options)
    check_engines(engines, profile, cluster_id)
    check_submission(submit, submit_set)
    opened = None
    if index is not None:
        from parimg.retrieval.image_index import ImageIndex

        opened = ImageIndex(index)
    matching: dict[str, Any] = {
        "verify": None if verify == "none" else verify,
        "verify_threshold": verify_threshold,
        "min_inliers": min_inliers,
        "max_ratio": None if max_ratio == 1 else max_ratio,
        "n_features": n_features,
        "contrast_threshold": contrast_threshold,
        "max_size": max_size or None,
        "root": root,
        "channel": parse_channel(channel),
        "z": z,
        "project": project,
        "percentile": parse_percentile(percentile),
    }
    choice: dict[str, Any] = {"overlap": overlap, "neighbours": neighbours, "index": opened}
    # What was typed wrong is told before the seconds that a cluster takes to start.
    selection = check_selection(pairs, **choice)
    description = check_directory(place, PairOptions(**matching), features)
    _check_output(output, kind, description.identity if place.holds_pairs else None, overwrite=overwrite)
    source = select(images, column=column, extensions=extensions, absolute_keys=True)
    check_names(selection, source, place)
    if dry_run:
        say(f"{source.count()} images, {pairs} pairs, in {place.path}; nothing was run (--dry-run)")
        print_left_out(source)
        return
    jobs = JobDirectory(place.features), JobDirectory(place.blocks)
    if submit is not None and submitted_for() is None:
        submit_client(jobs[0], submit_set, name=os.path.basename(place.path), quiet=quiet)
        return
    with handing_over(submit_set, jobs[1:]), open_controller(engines, profile, cluster_id) as controller:
        job = match_pairs(
            controller,
            source,
            pairs,
            job_dir=place.path,
            feature_folder=features,
            **choice,
            **matching,
            **job_options,
        )
        follow_pairs(job, quiet=quiet)
        if not quiet:
            print_left_out(source)
    _finish(job, output, kind, cameras=cameras, overwrite=overwrite, quiet=quiet, verbose=verbose)


def export_pairs(
    job: PairJob,
    output: Path,
    kind: PairFormat,
    *,
    cameras: Literal["auto", "one", "image"] = "auto",
    overwrite: bool,
) -> None:
    """Write what was matched in one of the formats."""
    if kind == "colmap":
        job.to_colmap(output, cameras=cameras, overwrite=overwrite)
    elif kind == "hloc":
        job.to_hloc(output, overwrite=overwrite)
    else:
        job.to_parquet(output)


def _kind_of(output: Path | None) -> PairFormat:
    if output is None or output.suffix.lower() in {".db", ".sqlite"}:
        return "colmap"
    if output.suffix.lower() == ".parquet":
        return "parquet"
    raise typer.BadParameter(f"-o must end in .db or .parquet (got {str(output)!r})")


def _check_output(output: Path | None, kind: PairFormat, identity: str | None, *, overwrite: bool) -> None:
    if output is None:
        return
    check_folder(output, "-o")
    if kind == "colmap":
        from parimg.pairs.colmap import check_database

        check_database(identity, str(output), overwrite=overwrite)


def follow_pairs(job: PairJob, *, quiet: bool) -> None:
    """Show both jobs until they end; however that is, it is said how to go on."""
    from parimg.job.directory import resume_command

    try:
        with progress(job.features, quiet=quiet):
            job.features.wait()
        while not job.has_begun(0.5):
            pass
        if (blocks := job.blocks) is not None:
            with progress(blocks, quiet=quiet):
                blocks.wait()
        job.wait()
    except KeyboardInterrupt:
        say(f"to go on with all pairs: {resume_command(job.directory)}", error=True)
        raise
    except ParimgError as error:
        say(f"parimg: {error}", error=True)
        say(f"to go on with all pairs: {resume_command(job.directory)}", error=True)
        raise typer.Exit(EXIT_FAILED) from None


def resume_directory(
    directory: str,
    clusters: tuple[EngineNumber | None, str | None, str],
    output: Path | None,
    options: Mapping[str, Any],
    *,
    quiet: bool = False,
    verbose: bool = False,
) -> None:
    """Run what is missing of a directory of pairs, and write what of it is wanted."""
    from parimg.pairs.directory import Description, PairDirectory
    from parimg.pairs.matching import resume_pairs
    from parimg.retrieval.image_index import ImageIndex

    kind = _kind_of(output)
    place = PairDirectory(directory)
    _check_output(output, kind, Description.read(place).identity, overwrite=False)
    with open_controller(*clusters) as controller:
        job = resume_pairs(controller, place.path, ImageIndex, **options)
        follow_pairs(job, quiet=quiet)
    _finish(job, output, kind, quiet=quiet, verbose=verbose)


def _finish(
    job: PairJob,
    output: Path | None,
    kind: PairFormat,
    *,
    cameras: Literal["auto", "one", "image"] = "auto",
    overwrite: bool = False,
    quiet: bool,
    verbose: bool,
) -> None:
    """Say what became of the pairs, and write them."""
    if not quiet:
        print_pairs(job, verbose=verbose)
    if output is not None:
        export_pairs(job, output, kind, cameras=cameras, overwrite=overwrite)
        if not quiet:
            say(f"{'database' if kind == 'colmap' else 'table'}: {output}")
    say(job.directory if quiet else f"pairs: {job.directory}")
    if job.counts["unreadable"] or (job.blocks is not None and job.blocks.counts["failed"]):
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def print_pairs(job: PairJob, *, verbose: bool = False) -> None:
    """Print how many pairs match, and what is wrong with images."""
    counts = job.counts
    pairs = f"{counts['matched']} of {counts['pairs']} pairs matched, {counts['verified']} verified"
    say(f"{counts['images']} images, {pairs} ({job.state})")
    if counts["featureless"]:
        named = _some(job.images().without_features())
        say(f"  {counts['featureless']} images have no features, and match none: {named}")
    if counts["unreadable"]:
        say(f"  {counts['unreadable']} images cannot be read; {counts['skipped']} pairs with them are left out")
    if counts["not_indexed"]:
        say(f"  {counts['not_indexed']} images are not in the index, and have no pairs by it (see `parimg index`)")
    for running in filter(None, (job.features, job.blocks)):
        if running.counts["failed"]:
            print_summary(running, verbose=verbose)


def _some(keys: list[str]) -> str:
    more = f", and {len(keys) - _NAMED} more" if len(keys) > _NAMED else ""
    return ", ".join(shown_key(key) for key in keys[:_NAMED]) + more
