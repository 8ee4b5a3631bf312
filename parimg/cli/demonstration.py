"""``parimg demo``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from parimg.cli.app import CLUSTERS_PANEL, app
from parimg.cli.options import Engines
from parimg.cli.running import open_controller, progress
from parimg.cli.showing import print_summary
from parimg.console import print_table, say


@app.command(epilog="Example: parimg demo -n 2", rich_help_panel=CLUSTERS_PANEL)
def demo(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where the views are written.")] = Path(
        "parimg-demo"
    ),
    engines: Engines = None,
) -> None:
    """Match 48 views of known photographs, one of them damaged, and check the matches."""
    from parimg import demo as demonstration
    from parimg.tasks.match_sift import MatchSIFT

    try:
        reference, views = demonstration.make_views(str(folder))
    except OSError as error:
        raise typer.BadParameter(f"the views cannot be written into {str(folder)!r}: {error.strerror}") from None
    task = MatchSIFT(reference, return_pairs=True, return_keypoints=True)
    by_name = {os.path.basename(view.path): view for view in views}
    say(f"48 views of photographs in {folder / 'views'}, reference {reference}")
    with open_controller(engines, None, "") as controller:
        job = controller.submit(task, os.path.join(folder, "views"))
        with progress(job):
            job.wait()
    rows = []
    for record in job.in_order():
        name = os.path.basename(record.key)
        view = by_name[name]
        if not record.ok:
            rows.append((name, view.photograph, "", "", "", str(record.error)))
            continue
        share = ""
        if view.photograph == demonstration.REFERENCE:
            confirmed = demonstration.confirmed_share(
                record["pairs"], task.reference_features.keypoints, record["keypoints"], view.homography
            )
            share = f"{confirmed:6.1%}"
        rows.append((name, view.photograph, str(record["features"]), str(record["matches"]), share, ""))
    print_table(("view", "photograph", "features", "matches", "confirmed by the homography", "error"), rows)
    print_summary(job)
    say(f"the job lies in   {job.directory}")
    say(f"export it by      parimg export {shlex.quote(job.directory)} -o matches.parquet")
    say(f"go on with it by  {job.resume_command} --retry-failed")
