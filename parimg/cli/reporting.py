"""``parimg report``: what a job did, as one page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from parimg.cli.app import JOBS_PANEL, app
from parimg.cli.exporting import check_folder
from parimg.cli.jobs import JobName, find_job
from parimg.cli.showing import shown_size
from parimg.console import report_if_slow, say


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
