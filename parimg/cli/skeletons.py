"""``parimg skeleton``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parimg.cli.exporting import check_output
from parimg.cli.options import Output
from parimg.cli.running import Planned, job_command, number


@job_command("parimg skeleton photos/ --min-size 20 -o skeletons.csv --branches branches.csv")
def skeleton(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGES", help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet; TIFF stacks, too."
        ),
    ],
    output: Output = None,
    branches: Annotated[
        Path | None, typer.Option(help="Write the table of all branches: .parquet, .csv, .json or .arrow.")
    ] = None,
    overlays: Annotated[Path | None, typer.Option(help="Folder for pictures with the skeletons drawn in.")] = None,
    threshold: Annotated[
        str, typer.Option(help="Foreground is above this level: a number, otsu or none.")
    ] = "otsu",
    invert: Annotated[bool, typer.Option("--invert", help="Foreground is dark.")] = False,
    min_size: Annotated[int, typer.Option(min=0, help="Foreground of fewer pixels is left out.")] = 0,
    spacing: Annotated[
        str | None,
        typer.Option(help="Distance of pixels: a number, or one an axis, as 2,0.5,0.5; default: the file's."),
    ] = None,
    prune: Annotated[float, typer.Option(min=0, help="Spurs shorter than this are left out.")] = 0.0,
    ridges: Annotated[
        Literal["sato"] | None, typer.Option(help="Threshold how much a line each pixel is, not gray levels.")
    ] = None,
    scales: Annotated[str, typer.Option(help="Half widths of the lines for --ridges, in pixels.")] = "1,2,3",
) -> Planned:
    """Measure the skeletons of every image's foreground, branch by branch."""
    check_output(output)
    check_output(branches, "--branches")
    from parimg.tasks.skeleton_graph import SkeletonGraph

    steps = [number(step, "--spacing") for step in spacing.split(",")] if spacing is not None else [None]
    task = SkeletonGraph(
        threshold="otsu"
        if threshold == "otsu"
        else None
        if threshold == "none"
        else number(threshold, "--threshold"),
        invert=invert,
        min_size=min_size,
        spacing=tuple(step for step in steps if step is not None) if len(steps) > 1 else steps[0],
        prune=prune,
        overlays=overlays,
        ridges=ridges,
        scales=tuple(number(scale, "--scales") for scale in scales.split(",")),
    )
    return Planned(task, images, output, sort_by="total_length", inner={"branch_table": branches})
