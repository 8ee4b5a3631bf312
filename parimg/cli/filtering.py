"""``parimg convolve``, ``parimg filter`` and ``parimg run``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from parimg.cli.exporting import check_output
from parimg.cli.options import TABLE_FILE, Images, Output
from parimg.cli.running import Planned, job_command

Format = Annotated[
    Literal["png", "jpeg", "webp", "bmp", "tiff", "npy", "ome-tiff", "ome-zarr"] | None,
    typer.Option("--format", help="Of the images; default: by dtype."),
]


FunctionName = Annotated[
    str, typer.Argument(metavar="FUNCTION", help="module:function or path/to/file.py:function.")
]


@job_command("parimg convolve photos/ -k 'gaussian(2.5)' -o smooth/")
def convolve(
    images: Images,
    kernel: Annotated[
        str, typer.Option("-k", "--kernel", help='A .npy file, or a name: sobel, "gaussian(2.5)", "box(9)", ...')
    ],
    folder: Annotated[str, typer.Option("-o", "--output", help="Folder or URL that the results are written to.")],
    table: Annotated[Path | None, typer.Option(help=TABLE_FILE)] = None,
    dtype: Annotated[
        str | None, typer.Option(help="Of the results, such as float32; default: the image's.")
    ] = None,
    image_format: Format = None,
    mode: Annotated[
        Literal["reflect", "constant", "nearest", "mirror", "wrap"], typer.Option(help="Beyond the borders.")
    ] = "reflect",
    cval: Annotated[float, typer.Option(help="Value beyond the borders in mode constant.")] = 0.0,
    color: Annotated[
        Literal["color", "gray", "unchanged"], typer.Option(help="How images are decoded.")
    ] = "color",
    casting: Annotated[
        Literal["saturate", "round", "truncate"], typer.Option(help="How sums become integers.")
    ] = "saturate",
) -> Planned:
    """Convolve every image with a kernel, and write the results into a folder."""
    check_output(table, "--table")
    from parimg.tasks.convolve import Convolve

    task = Convolve(
        kernel, folder, dtype=dtype, format=image_format, mode=mode, cval=cval, color=color, casting=casting
    )
    return Planned(task, images, table)


@job_command("parimg filter photos/ mine.py:spread --size 5 -o filtered/", "filter")
def filter_images(
    images: Images,
    function: FunctionName,
    size: Annotated[str, typer.Option(help="Sides of the window: 5, or 3,5 for height and width.")] = "3",
    folder: Annotated[
        str | None, typer.Option("-o", "--output", help="Folder or URL for the images; default: statistics only.")
    ] = None,
    image_format: Format = None,
    dtype: Annotated[str | None, typer.Option(help="Their dtype; default: that of the images.")] = None,
    color: Annotated[Literal["gray", "color", "unchanged"], typer.Option(help="How images are decoded.")] = "gray",
    argument: Annotated[
        list[float] | None, typer.Option("-a", "--argument", help="A further argument of the function.")
    ] = None,
    mode: Annotated[
        Literal["reflect", "mirror", "nearest", "wrap", "constant"], typer.Option(help="What lies outside.")
    ] = "reflect",
    cval: Annotated[float, typer.Option(help="What lies outside if the mode is constant.")] = 0.0,
    python: Annotated[bool, typer.Option("--python", help="Do not compile the function; slow.")] = False,
    table: Annotated[Path | None, typer.Option("--table", help=TABLE_FILE)] = None,
) -> Planned:
    """Filter every image with a FUNCTION of each pixel's neighbourhood."""
    check_output(table, "--table")
    if not all(side.strip().isdigit() for side in size.split(",")):
        raise typer.BadParameter(f"--size must be a number, or two with a comma (got {size!r})")
    from parimg.tasks.function import load_function
    from parimg.tasks.neighbourhood_filter import NeighbourhoodFilter

    sides = [int(side) for side in size.split(",")]
    task = NeighbourhoodFilter(
        load_function(function),
        size=sides[0] if len(sides) == 1 else sides,
        mode=mode,
        cval=cval,
        extra_arguments=tuple(argument or ()),
        dtype=dtype,
        output=folder,
        format=image_format,
        python=python,
        statistics_only=folder is None,
        color=color,
    )
    return Planned(task, images, table)


@job_command("parimg run mine.py:measure photos/ -o values.csv")
def run(
    function: FunctionName,
    images: Images,
    output: Output = None,
    color: Annotated[
        Literal["unchanged", "gray", "color", "stack"], typer.Option(help="How images are decoded.")
    ] = "unchanged",
) -> Planned:
    """Call any FUNCTION with every image, an array; what it returns, a value or a dict of values, is the table."""
    check_output(output)
    from parimg.tasks.function import Function, load_function

    return Planned(Function(load_function(function), color=color), images, output)
