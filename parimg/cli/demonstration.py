"""``parimg demo``."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Annotated

import typer

from parimg.cli.app import app
from parimg.cli.options import Engines
from parimg.cli.running import console, open_controller, print_summary, progress


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where the views are written.")] = Path("parimg-demo"),
    engines: Engines = None,
) -> None:
    """Match 48 views of known photographs, one of them damaged, and check the matches."""
    from parimg import demo as demonstration
    from parimg.tasks.match_sift import MatchSIFT

    reference, views = demonstration.make_views(str(folder))
    task = MatchSIFT(reference, return_pairs=True, return_keypoints=True)
    by_name = {os.path.basename(view.path): view for view in views}
    print(f"48 views of photographs in {folder / 'views'}, reference {reference}")
    with open_controller(engines, None, "") as controller:
        job = controller.submit(task, os.path.join(folder, "views"))
        with progress(job):
            job.wait()
    from rich.table import Table

    table = Table("view", "photograph", "features", "matches", "confirmed by the homography", "error")
    for record in job.in_order():
        name = os.path.basename(record.key)
        view = by_name[name]
        if not record.ok:
            table.add_row(name, view.photograph, "", "", "", str(record.error), style="red")
            continue
        share = ""
        if view.photograph == demonstration.REFERENCE:
            confirmed = demonstration.confirmed_share(
                record["pairs"], task.reference_features.keypoints, record["keypoints"], view.homography
            )
            share = f"{confirmed:6.1%}"
        table.add_row(name, view.photograph, str(record["features"]), str(record["matches"]), share, "")
    console().print(table)
    print_summary(job)
    print(f"the job lies in   {job.directory}")
    print(f"export it by      parimg status {shlex.quote(job.directory)} -o matches.parquet")
    print(f"go on with it by  {job.resume_command} --retry-failed")
