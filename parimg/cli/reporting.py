"""``parimg report``, ``repro`` and ``diff``: what a job did, one image of it alone, another job."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parimg.cli.app import JOBS_PANEL, app
from parimg.cli.exporting import check_folder, to_json
from parimg.cli.finding import JobName, find_job
from parimg.cli.options import EXIT_FAILED, Json
from parimg.cli.showing import SHOWN, shown_key, shown_size
from parimg.console import print_table, report_if_slow, say

if TYPE_CHECKING:
    from parimg.job.comparison import Comparison, Difference


def check_page(output: Path) -> None:
    """Refuse a page that could not be written, before a job is read."""
    if output.suffix.lower() not in {".html", ".htm"}:
        raise typer.BadParameter(f"-o must end in .html (got {str(output)!r})")
    check_folder(output, "-o")


@app.command(epilog="Example: parimg report 20261122-0930 -o report.html", rich_help_panel=JOBS_PANEL)
def report(
    job: JobName,
    output: Annotated[Path, typer.Option("-o", "--output", help="The page, one file.")] = Path("report.html"),
    pictures: Annotated[int, typer.Option(min=0, help="Images shown of a kind; 0: none is read.")] = 12,
) -> None:
    """Write what a job did as a page: results, speed, failures, versions; also while it runs."""
    check_page(output)
    from parimg.report.page import write_report

    with report_if_slow("reading the journal and the images ..."):
        write_report(find_job(job), output, pictures=pictures)
    say(f"report: {output} ({shown_size(output.stat().st_size)})")


def _complete_image(context: typer.Context, beginning: str) -> list[str]:
    """Failed images first of all: of these one wants to know more."""
    from parimg.errors import ParimgError
    from parimg.job.journal import Journal

    try:
        journal = Journal(find_job(context.params["job"]))
        known = journal.failed_keys(beginning, 100) or journal.keys()
        return [key for key in known if key.startswith(beginning)][:100]
    except (ParimgError, KeyError, TypeError):
        return []


@app.command(epilog="Example: parimg repro 20261122-0930 views/04.png -o alone", rich_help_panel=JOBS_PANEL)
def repro(
    job: JobName,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY", help="The image, as the job's table names it.", autocompletion=_complete_image
        ),
    ],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Folder, new; default: repro-KEY.")] = None,
) -> None:
    """Write a folder that runs one image of a job alone: image, task, versions, a script of ten lines."""
    from parimg.job.journal import Journal
    from parimg.job.repro import SCRIPT, find_record, write_repro

    directory = find_job(job)
    record = find_record(Journal(directory), key)
    folder = output or Path(f"repro-{_file_name(record.key)}")
    lacking = write_repro(directory, record.key, folder)
    if lacking:
        say(lacking, error=True)
    became = "it went well" if record.ok else f"it failed in {record.stage}: {record.error}: {record.message}"
    say(f"{shown_key(record.key)}: {became}")
    say(f"run it alone by  python {folder / SCRIPT}")


def _file_name(key: str) -> str:
    name = key.rstrip("/").rpartition("/")[2]
    return "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in name)[:80] or "image"


@app.command(
    epilog="Example: parimg diff 20261122-0930 20261123-1015 -o diff.html\n\n"
    "Exit codes: 0, no image differs; 1, some do; 2, something was typed wrong.",
    rich_help_panel=JOBS_PANEL,
)
def diff(
    job: JobName,
    other: JobName,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write a page with pictures, .html.")
    ] = None,
    tolerance: Annotated[
        float, typer.Option(min=0, max=0.999, help="Numbers agree that differ by less than this share.")
    ] = 0.0,
    ignore: Annotated[list[str] | None, typer.Option(help="Column that is not compared; may be repeated.")] = None,
    as_json: Json = False,
) -> None:
    """List the images whose status or values differ between two jobs, by key."""
    if output is not None:
        check_page(output)
    from parimg.job.comparison import compare_jobs

    first, second = find_job(job), find_job(other)
    comparison = compare_jobs(first, second, tolerance=tolerance, ignore=set(ignore or ()))
    if as_json:
        _print_json(comparison)
    else:
        _print_differences(comparison)
    if output is not None:
        from parimg.report.differences import write_diff

        write_diff(first, second, comparison, output)
        say(f"page: {output} ({shown_size(output.stat().st_size)})", error=as_json)
    if comparison.counts.total() > comparison.counts["same"]:
        raise typer.Exit(EXIT_FAILED)


def _print_differences(comparison: Comparison) -> None:
    from parimg.report.differences import lines_of

    found = iter(comparison)
    rows = []
    for one in itertools.islice(found, SHOWN):
        lines = list(lines_of(one)) or [(f"{one.kind} job", "", "")]
        rows += [("" if n else shown_key(one.key), *line) for n, line in enumerate(lines)]
    n_more = sum(1 for _ in found)
    if rows:
        print_table(("image", "differs in", "first job", "second job"), rows)
    counts = comparison.counts
    kinds = ", ".join(f"{n} {kind}" for kind, n in counts.most_common() if kind != "same")
    differ = counts.total() - counts["same"]
    shown = f" ({SHOWN} are shown)" if n_more else ""
    say(f"{differ} of {counts.total()} images differ{f': {kinds}' if kinds else ''}{shown}")


def _print_json(comparison: Comparison) -> None:
    """An object, written piece by piece: there may be very many differences."""
    before = '{"differences": ['
    for one in comparison:
        say(f"{before}{to_json(_about(one))}")
        before = ","
    say(f'{before if before != "," else ""}], "counts": {to_json(dict(comparison.counts))}}}')


def _about(one: Difference) -> dict[str, Any]:
    def of(record: Any) -> Any:
        return None if record is None else {"status": record.status, "error": record.error}

    def plain(value: Any) -> Any:
        return value.tolist() if hasattr(value, "tolist") else value

    values = {name: [plain(value) for value in pair] for name, pair in one.values.items()}
    return {"key": one.key, "kind": one.kind, "first": of(one.first), "second": of(one.second), "values": values}
