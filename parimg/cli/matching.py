"""``parimg match``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parimg.cli.exporting import check_output
from parimg.cli.options import Images, Output
from parimg.cli.running import Planned, job_command


@job_command("parimg match reference.png photos/ -o matches.csv")
def match(
    reference: Annotated[
        str, typer.Argument(metavar="REFERENCE", help="Reference image, or its descriptors as .npy.")
    ],
    images: Images,
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
    detector: Annotated[
        Literal["parimg", "opencv"], typer.Option(help="Whose SIFT; parimg's is the same on every processor.")
    ] = "parimg",
    pictures: Annotated[Path | None, typer.Option(help="Folder for pictures with the matches drawn in.")] = None,
) -> Planned:
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
        detector=detector,
        pictures=pictures,
    )
    return Planned(task, images, output, sort_by="matches" if task.verify is None else "inliers")
