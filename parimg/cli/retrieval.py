"""``parimg index`` and ``parimg search``."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from parimg.cli.app import app
from parimg.cli.exporting import check_folder, check_output, to_json
from parimg.cli.options import (
    ClusterId,
    Column,
    DryRun,
    EngineNumber,
    Engines,
    Extensions,
    Images,
    Json,
    PreviewOf,
    Profile,
    Quiet,
    Verbose,
)
from parimg.cli.previewing import print_preview
from parimg.cli.running import check_engines, exit_by_failures, follow, open_controller, print_left_out
from parimg.cli.selecting import select
from parimg.cli.showing import shown_key
from parimg.cli.submitting import (
    Submit,
    SubmitSet,
    check_submission,
    handing_over,
    submit_client,
    submitted_for,
)
from parimg.console import print_table, say
from parimg.files.trial import without_new_folders


@app.command(epilog="Example: parimg index photos/ -m efficientnet.onnx -o index/")
def index(
    images: Images,
    model: Annotated[str, typer.Option("-m", "--model", help="Convolutional network as an ONNX file.")],
    output: Annotated[Path, typer.Option("-o", "--output", help="Folder of the index, new or to be added to.")],
    layer: Annotated[str | None, typer.Option(help="Layer whose map is taken; default: the output.")] = None,
    size: Annotated[int, typer.Option(min=1, help="Pixels of an image's longer side.")] = 640,
    mean: Annotated[str, typer.Option(help="Taken from pixels of 0 to 255: one number, or r,g,b.")] = "127",
    scale: Annotated[str, typer.Option(help="Then multiplied by: one number, or r,g,b.")] = "0.0078125",
    pooling: Annotated[Literal["max", "sum"], typer.Option(help="How regions become vectors.")] = "max",
    engines: Engines = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
    column: Column = None,
    extensions: Extensions = None,
    submit: Submit = None,
    submit_set: SubmitSet = None,
    dry_run: DryRun = False,
    preview: PreviewOf = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Index images for `parimg search`; again with the same folder, add what is new."""
    from parimg.retrieval.indexing import check_index, index_images, index_job, lacks_images

    options: dict[str, Any] = {
        "model": model,
        "layer": layer,
        "size": size,
        "mean": _per_channel("--mean", mean),
        "scale": _per_channel("--scale", scale),
        "pooling": pooling,
    }
    check_engines(engines, profile, cluster_id)
    check_submission(submit, submit_set)
    task = check_index(output, **options)
    source = select(images, column=column, extensions=extensions, absolute_keys=True)
    with without_new_folders(task.local_folder if dry_run or preview is not None else None):
        task.resolve()
    if not lacks_images(output, source):
        say(f"nothing to do: all {source.count()} images are in the index {output}")
        return
    if dry_run:
        say(f"{source.count()} images for the index {output}; nothing was run (--dry-run)")
        print_left_out(source)
        return
    if preview is not None:
        with open_controller(engines, profile, cluster_id) as controller:
            print_preview(controller.preview(task, source, n=preview))
        return
    if submit is not None and submitted_for() is None:
        submit_client(index_job(output), submit_set, name=output.name, quiet=quiet)
        return
    with handing_over(submit_set), open_controller(engines, profile, cluster_id) as controller:
        running = index_images(controller, source, output, **options)
        follow(running, None, quiet=quiet, verbose=verbose)
        if not quiet:
            print_left_out(source)
        exit_by_failures(running)


@app.command(epilog="Example: parimg search photo.jpg:40,60,200,220 index/ --picture found.png")
def search(
    query: Annotated[
        str, typer.Argument(metavar="QUERY", help="Image; with :y1,x1,y2,x2, that part of it, in pixels.")
    ],
    directory: Annotated[Path, typer.Argument(metavar="INDEX", help="Folder of the index.")],
    top_k: Annotated[int, typer.Option("-k", min=1, help="How many images to show.")] = 20,
    rerank: Annotated[int, typer.Option(min=0, help="Search regions in the best so many.")] = 200,
    expand: Annotated[int, typer.Option(min=0, help="Add the best so many to the query, and rank again.")] = 3,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="Write the hits: .parquet or .csv.")
    ] = None,
    as_json: Json = False,
    picture: Annotated[Path | None, typer.Option(help="Draw them with their regions: .png or .jpg.")] = None,
    engines: Annotated[
        EngineNumber | None,
        typer.Option(
            "-n",
            "--engines",
            parser=EngineNumber.parse,
            metavar="N",
            help="Search on an own cluster; default: without one.",
        ),
    ] = None,
    profile: Profile = None,
    cluster_id: ClusterId = "",
) -> None:
    """Find the indexed images that show what a QUERY shows, and where in them it is."""
    check_output(output, formats=("parquet", "csv"))
    if picture is not None and picture.suffix.lower() not in {".png", ".jpg", ".jpeg"}:
        raise typer.BadParameter(f"--picture must end in .png or .jpg (got {str(picture)!r})")
    if picture is not None:
        check_folder(picture, "--picture")
    from parimg.retrieval.image_index import ImageIndex

    name, box = _parse_query(query)
    opened = ImageIndex(directory)
    looked_for = opened.describe(name, box)  # its errors come before a cluster is started
    on_cluster = engines is not None or profile is not None or cluster_id
    with open_controller(engines, profile, cluster_id) if on_cluster else contextlib.nullcontext() as controller:
        hits = opened.search(looked_for, top_k=top_k, rerank=rerank, expand=expand, controller=controller)
    if output is not None:
        from parimg.retrieval.hits import write_hits

        write_hits(hits, output)
    if picture is not None:
        from parimg.plots.hits import draw_hits, write_picture

        write_picture(picture, draw_hits(hits, query=name, box=box))
    if as_json:
        say(to_json([hit._asdict() for hit in hits]))
        return
    rows = []
    for hit in hits:
        distance = "" if hit.distance is None else f"{hit.distance:.3f}"
        region = "" if hit.image_box is None else ", ".join(map(str, hit.image_box))
        rows.append(
            (str(hit.rank), shown_key(hit.key), f"{hit.score:.3f}", f"{hit.similarity:.3f}", distance, region)
        )
    columns = ("rank", "image", "score", "similarity", "distance", "region y1, x1, y2, x2")
    print_table(columns, rows, caption=f"{len(hits)} of {len(opened)} images")
    if output is not None:
        say(f"table: {output}")
    if picture is not None:
        say(f"picture: {picture}")


def _parse_query(text: str) -> tuple[str, tuple[int, ...] | None]:
    name, colon, box = text.rpartition(":")
    # What exists is a name, whatever it looks like; a URL may have a colon before its port.
    if not (name and colon and re.fullmatch(r"[\d\s,;.+-]+", box)) or os.path.exists(text):
        return text, None
    edges = [edge.strip() for edge in box.split(",")]
    if len(edges) != 4 or not all(edge.isdecimal() for edge in edges):
        raise typer.BadParameter(
            f"the box of a query is four whole numbers, :y1,x1,y2,x2, in pixels (got {box!r})"
        )
    return name, tuple(map(int, edges))


def _per_channel(option: str, text: str) -> float | tuple[float, ...]:
    try:
        numbers = tuple(float(part) for part in text.split(","))
    except ValueError:
        numbers = ()
    if len(numbers) not in {1, 3}:
        raise typer.BadParameter(f"{option} must be a number, or three as r,g,b (got {text!r})")
    return numbers[0] if len(numbers) == 1 else numbers
