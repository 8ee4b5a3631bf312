"""``parimg match``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parimg.cli.app import app
from parimg.cli.options import (
    DEFAULT_MAX_PIXELS,
    ClusterId,
    Column,
    Engines,
    Images,
    JobDirectory,
    MaxPixels,
    Output,
    Profile,
    Retries,
)
from parimg.cli.running import check_output, check_source, follow, open_controller


@app.command()
def match(
    reference: Annotated[str, typer.Argument(help="Reference image, or its descriptors as .npy.")],
    images: Images,
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    job: JobDirectory = None,
    output: Output = None,
    n_features: Annotated[int, typer.Option(min=0, help="Strongest features kept in an image; 0: all.")] = 5000,
    cross_check: Annotated[
        Literal["mutual", "one-way", "none"], typer.Option(help="Rule that makes a match.")
    ] = "mutual",
    max_ratio: Annotated[float | None, typer.Option(help="Lowe's ratio test: best below this x second.")] = None,
    contrast_threshold: Annotated[float, typer.Option(help="Larger: fewer features.")] = 0.04,
    mask: Annotated[Path | None, typer.Option(help="Image whose nonzero pixels say where to look.")] = None,
    root: Annotated[bool, typer.Option("--root", help="Compare RootSIFT descriptors.")] = False,
    verify: Annotated[
        Literal["homography", "fundamental", "none"], typer.Option(help="Geometry that must explain matches.")
    ] = "none",
    verify_threshold: Annotated[float, typer.Option(help="Pixels an inlier may be off.")] = 3.0,
    max_size: Annotated[int | None, typer.Option(help="Scale larger images down to this longer side.")] = None,
    column: Column = None,
    retries: Retries = 2,
    max_pixels: MaxPixels = DEFAULT_MAX_PIXELS,
) -> None:
    """Match every image's SIFT features against those of a REFERENCE."""
    check_output(output)
    from parimg.tasks.match_sift import MatchSIFT

    task = MatchSIFT(
        reference=reference,
        n_features=n_features,
        cross_check=None if cross_check == "none" else cross_check,
        max_ratio=max_ratio,
        contrast_threshold=contrast_threshold,
        mask=mask,
        root=root,
        verify=None if verify == "none" else verify,
        verify_threshold=verify_threshold,
        max_size=max_size,
    )
    source = images[0] if len(images) == 1 else images
    check_source(task, source, column)
    with open_controller(engines, profile, cluster_id) as controller:
        running = controller.submit(
            task, source, job_dir=job, column=column, retries=retries, max_pixels=max_pixels
        )
        follow(running, output, sort_by="matches" if task.verify is None else "inliers")
