"""``parimg list``."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from parimg.cli.app import app
from parimg.cli.exporting import to_json
from parimg.cli.options import EXIT_SOME_IMAGES_FAILED, Json
from parimg.cli.showing import shown_key
from parimg.console import print_table, say, visible

if TYPE_CHECKING:
    from parimg.sources.file_parts import FilePart

_FIRST = 3  # parts of one kind that are shown before the last one
_FILES = 50  # of a folder, glob or table


@app.command("list", epilog="Example: parimg list plate.zarr movie.mp4")
def list_parts(
    paths: Annotated[
        list[str],
        typer.Argument(metavar="PATHS", help="Files, parts of files, folders, globs, URLs, tables."),
    ],
    everything: Annotated[bool, typer.Option("--all", help="Show every part, however many there are.")] = False,
    metadata: Annotated[
        bool, typer.Option("--metadata", help="Show what files tell, which jobs take as --metadata.")
    ] = False,
    as_json: Json = False,
) -> None:
    """List what files hold: their images, as jobs take them, with axes, size and pixel size."""
    from parimg.errors import ImageError
    from parimg.sources.file_parts import parts

    if as_json:
        _print_json(_files(paths))
        return
    rows: list[list[str]] = []
    told: dict[str, str] = {}
    unreadable: list[str] = []
    n_images = 0
    files = _files(paths)
    for file in files if everything else itertools.islice(files, _FILES):
        try:
            found = parts(file)
        except ImageError as error:
            unreadable.append(f"{shown_key(file)}: {visible(f'{type(error).__name__}: {error}')}")
            continue
        n_images += len(found)
        for alike in _alike(found):
            n_left_out = 0 if everything else max(0, len(alike) - _FIRST - 1)
            rows += [_row(part) for part in (alike[:_FIRST] if n_left_out else alike)]
            if n_left_out:
                rows += [[f"... {n_left_out} more", "", "", "", ""], _row(alike[-1])]
        for part in found[:1]:
            told |= {name: str(value) for name, value in part.metadata.items() if name not in told}
    if rows:
        print_table(["image", "axes", "size", "dtype", "pixel size"], rows)
    if metadata:
        print_table(["metadata", "of the first image"], [[name, f"{value:.80}"] for name, value in told.items()])
    more = next(files, None) is not None
    say(f"{n_images} {'image' if n_images == 1 else 'images'}" + (f" in the first {_FILES} files" if more else ""))
    for line in unreadable:
        say(line, error=True)
    if unreadable:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def _print_json(files: Iterator[str]) -> None:
    """A list of all parts with all that they tell, written as they are found: there may be very many."""
    from parimg.errors import ImageError
    from parimg.sources.file_parts import parts

    unreadable = False
    before = "["
    for file in files:
        found: list[dict[str, Any]]
        try:
            found = [part._asdict() for part in parts(file)]
        except ImageError as error:
            unreadable = True
            found = [{"element": file, "error": f"{type(error).__name__}: {error}"}]
        for about in found:
            say(f"{before}{to_json(about)}")
            before = ","
    say("[]" if before == "[" else "]")
    if unreadable:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def _files(paths: list[str]) -> Iterator[str]:
    """The files that paths stand for, each once for all its parts; parts that were named stay alone."""
    from parimg.images.readers import split_address
    from parimg.sources.as_source import as_source
    from parimg.sources.file_parts import OnePart, PartsOfFile

    for path in paths:
        source = as_source(path)
        if isinstance(source, OnePart | PartsOfFile):
            yield path
            continue
        wanted = (image.uri if "#" in path else split_address(image.uri)[0] for image in source)
        yield from (file for file, _ in itertools.groupby(wanted))


def _alike(found: list[FilePart]) -> Iterator[list[FilePart]]:
    """Parts that differ in nothing but their names."""
    for _, alike in itertools.groupby(found, lambda part: part[1:4]):
        yield list(alike)


def _row(part: FilePart) -> list[str]:
    sizes = [f"{part.pixel_size[axis]:.4g}" for axis in part.axes if axis in part.pixel_size]
    return [
        shown_key(part.element),
        part.axes,
        " x ".join(map(str, part.shape)),
        part.dtype,
        f"{' x '.join(sizes)} {part.unit or ''}" if sizes else "",
    ]
