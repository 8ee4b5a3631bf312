"""What commands have in common on the command line: options, and exit codes."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import typer

from parimg.cli.completing import installed_profiles

EXIT_FAILED, EXIT_USAGE, EXIT_SOME_IMAGES_FAILED, EXIT_INTERRUPTED = 1, 2, 3, 130

Images = Annotated[
    list[str],
    typer.Argument(
        metavar="IMAGES",
        help="Images: paths, folders, globs, URLs, .txt, .csv, .parquet; parts as run.h5#/data?i=17.",
    ),
]


@dataclass(frozen=True, slots=True)
class EngineNumber:
    """How many engines an own cluster has: so many, or between `least` and `most`."""

    least: int
    most: int | None = None

    @classmethod
    def parse(cls, text: str) -> EngineNumber:
        """``4``, or ``2:64``."""
        found = re.fullmatch(r"(\d+)(?::(\d+))?", text.strip(), re.ASCII)
        least, most = (0, None) if found is None else (int(found[1]), None if found[2] is None else int(found[2]))
        if least < 1 or (most is not None and most < least):
            raise typer.BadParameter(f"a number of at least 1, or the least and the most, as 2:64 (got {text!r})")
        return cls(least, most)

    def __str__(self) -> str:
        return str(self.least) if self.most is None else f"{self.least}:{self.most}"


Engines = Annotated[
    EngineNumber | None,
    typer.Option(
        "-n",
        "--engines",
        parser=EngineNumber.parse,
        metavar="N|LEAST:MOST",
        help="Engines of an own cluster; default: one per core. With --profile, there.",
    ),
]
Profile = Annotated[
    str | None,
    typer.Option(
        help="Use the running cluster of this IPython profile; with -n, start one by it.",
        autocompletion=installed_profiles,
    ),
]
ClusterId = Annotated[str, typer.Option(help="Id of the running cluster, if it was started with one.")]
TABLE_FILE = "Write the table: .parquet, .csv, .json or .arrow."
Output = Annotated[Path | None, typer.Option("-o", "--output", help=TABLE_FILE)]
JobFolder = Annotated[Path | None, typer.Option(help="Directory for the job; default: a new one.")]
Extensions = Annotated[
    str | None, typer.Option("--ext", help="Take only these files of a folder, such as tif or png,jpg.")
]
Sample = Annotated[int | None, typer.Option(min=1, help="Take only so many of the images, chosen at random.")]
Seed = Annotated[int, typer.Option(help="Of the choice: the same number, the same images.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Check everything, tell what would be run, and end.")]


PreviewOf = Annotated[
    int | None,
    typer.Option(
        "--preview", min=1, help="Run only so many images, chosen at random; show them, and what all would take."
    ),
]


def _silence(quiet: bool) -> bool:
    if quiet:
        os.environ["IPP_NONINTERACTIVE"] = "1"  # ipyparallel's own bars ask for it
    return quiet


Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", callback=_silence, help="Print only where the job lies, and errors.")
]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Print parameters, and every failed image.")]
Column = Annotated[str | None, typer.Option(help="Column of paths, if IMAGES is a table.")]
Retries = Annotated[int, typer.Option(min=0, help="Attempts more for an image whose engine died.")]
MaxPixels = Annotated[int, typer.Option(min=1, help="Larger images fail undecoded.")]
Timeout = Annotated[float | None, typer.Option(help="Seconds an image may take; longer ones fail.")]
MaxFailures = Annotated[
    str | None, typer.Option(help="Stop when more images failed: a number, 25, or a share, 0.1 or 10%.")
]
Ship = Annotated[
    str | None,
    typer.Option(
        metavar="auto|never|always",
        help="Send files of images to hosts that do not see them, and outputs back from them.",
    ),
]
ShardOption = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Run part I of N; `parimg merge` makes one job of all."),
]
Tiles = Annotated[
    str | None,
    typer.Option(metavar="SIDE|HEIGHTxWIDTH", help="Run larger images by tiles of so many pixels, such as 2048."),
]
Channel = Annotated[str | None, typer.Option(help="Read this channel alone: its number from 0, or its name.")]
Slice = Annotated[int | None, typer.Option("--z", min=0, help="Read this slice of volumes alone, from 0.")]
Project = Annotated[
    Literal["max", "min"] | None, typer.Option(help="Read volumes as one image: the brightest or darkest slice.")
]
Percentile = Annotated[
    str | None, typer.Option(help="Levels at two percentiles become 0 and 255 of 8 bit, such as 1,99.8.")
]
Orientation = Annotated[
    Literal["stored", "upright"] | None,
    typer.Option(help="Turn images as EXIF says or not; default: where they are read as 8 bit gray or color."),
]
Metadata = Annotated[
    list[str] | None, typer.Option(help="A column of what files tell, such as acquisition_time; may be repeated.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
MemoryLimit = Annotated[str | None, typer.Option(help='Memory an engine may occupy, such as "4 GiB".')]
