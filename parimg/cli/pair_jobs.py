"""What commands on jobs do where the job is a directory of matched pairs, which holds two.

Called by `jobs`; nothing here runs anything.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

import typer

from parimg.cli.exporting import check_folder, to_json
from parimg.cli.showing import job_facts
from parimg.console import say

if TYPE_CHECKING:
    from parimg.cli.pairs import PairFormat
    from parimg.job.listing import JobSummary
    from parimg.pairs.pair_job import PairJob


def pair_directory(directory: str) -> str | None:
    """The directory of pairs that is meant: this one, or that of which it is one of both jobs."""
    from parimg.pairs.directory import PairDirectory

    parent = PairDirectory(os.path.dirname(directory))
    if parent.holds_pairs and directory in {parent.features, parent.blocks}:
        return parent.path
    return directory if PairDirectory(directory).holds_pairs else None


def pairs_in(directory: str) -> PairJob | None:
    """The pairs that were matched in a directory, if it is one of pairs."""
    from parimg.pairs.directory import PairDirectory
    from parimg.pairs.pair_job import open_pairs

    return open_pairs(directory) if PairDirectory(directory).holds_pairs else None


def of_pairs(job: JobSummary) -> JobSummary:
    """What a list says of a directory of matched pairs: its images, and where both jobs stand."""
    matched = None if job.place.holds_job else pairs_in(job.place.path)
    if matched is None:
        return job
    from parimg.job.directory import JobDirectory
    from parimg.job.listing import summarize

    features, blocks = (summarize(JobDirectory(path)) for path in (matched.place.features, matched.place.blocks))
    return replace(
        features, name=job.name, place=job.place, task="MatchPairs", parameters={}, state=matched.state,
        writer=features.writer or blocks.writer, seconds=features.seconds + blocks.seconds, nbytes=job.nbytes,
        last_used=job.last_used
    )  # fmt: skip


def print_status_of_pairs(job: PairJob, output: Path | None, *, as_json: bool, verbose: bool) -> None:
    """Print how both jobs stand, and write the table of pairs if it is wanted."""
    from parimg.cli.pairs import print_pairs
    from parimg.job.directory import JobDirectory, resume_command
    from parimg.job.listing import summarize

    if as_json:
        if output is not None:
            job.to_parquet(output)
        about = job_facts(of_pairs(summarize(JobDirectory(job.directory))))
        say(to_json({**about, "pairs": dict(job.counts)}))
        return
    print_pairs(job, verbose=verbose)
    if job.state != "finished":
        say(f"to go on: {resume_command(job.directory)}")
    if output is not None:
        job.to_parquet(output)
        say(f"table: {output}")


def export_matched(job: PairJob, to: str | None, output: Path | None, *, overwrite: bool) -> None:
    """Write the pairs in the format that was named, or that the file's name ends in."""
    from parimg.cli.pairs import export_pairs

    by_ending = {".db": "colmap", ".sqlite": "colmap", ".parquet": "parquet"}
    kind = to or ("colmap" if output is None else by_ending.get(output.suffix.lower()))
    if kind not in {"colmap", "hloc", "parquet"}:
        raise typer.BadParameter("of matched pairs, --to must be colmap, hloc or parquet")
    stem = os.path.splitext(os.path.basename(job.directory))[0]
    output = output or Path(stem + {"colmap": ".db", "hloc": ".hloc", "parquet": ".parquet"}[kind])
    if kind != "hloc":
        check_folder(output, "-o")
    export_pairs(job, output, cast("PairFormat", kind), overwrite=overwrite)
    say(f"{kind}: {output}")
