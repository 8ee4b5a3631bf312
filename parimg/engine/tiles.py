"""Images that are run by tiles: what an engine does with one piece of an image, or with all of its tiles alone.

The runner asks `take_up` before it reads an image.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from typing import NamedTuple

from parimg.errors import ImageError
from parimg.images.regions import ImageRegions, fingerprint, open_regions
from parimg.protocol.messages import Chunk, NextStep, Piece
from parimg.tasks.task import Task
from parimg.tasks.tiled_image import Pixels, Step, TiledImage, fit_tile, folder_of

Outcome = NextStep | Mapping[str, object]
"""What is next, or the values of the image; nothing of a tile that is done."""


class TakenUp(NamedTuple):
    """An image that is run by tiles, or why it is not."""

    run: Callable[[], Outcome] | None
    reason: str = ""


def take_up(task: Task, chunk: Chunk, index: int) -> TakenUp:
    """Open an image of a chunk to run it by tiles.

    Returns
    -------
    TakenUp
        Without anything to run for images that are not larger than a tile, that came with their pixels or bytes,
        or that cannot be read in part; of these with the reason.

    Raises
    ------
    ImageError
        If it cannot be opened.
    """
    _, key, uri, content = chunk.images[index]
    reads_otherwise = type(task).read is not Task.read
    if chunk.tile is None or reads_otherwise or not (content is None or isinstance(content, Piece)):
        return TakenUp(None)
    regions, reason = open_regions(uri, task.color, chunk.reading)  # the registry keeps the file open
    if regions is None and content is not None:
        raise ImageError(f"{uri!r:.300} changed while its tiles were run: {reason} read by tiles any more")
    if regions is None:
        return TakenUp(None, reason)
    tile = fit_tile(chunk.tile, regions.shape, regions.stored_tile)
    if regions.shape[0] <= tile[0] and regions.shape[1] <= tile[1]:
        regions.close()
        if regions.shape[0] <= chunk.tile[0] and regions.shape[1] <= chunk.tile[1]:
            return TakenUp(None)
        return TakenUp(None, f"{os.path.basename(uri)!r:.100} is stored in one piece, and cannot be")
    if not chunk.tiles_folder:
        return TakenUp(partial(_closing, regions, partial(run_alone, task, key, regions, tile)))
    image = TiledImage(key, regions, tile, folder_of(chunk.tiles_folder, key))
    return TakenUp(partial(_closing, regions, partial(_run_piece, task, image, content, fingerprint(uri))))


def _closing(regions: ImageRegions, run: Callable[[], Outcome]) -> Outcome:
    try:
        outcome = run()
    finally:
        regions.close()
    if isinstance(outcome, NextStep) or not outcome:
        return outcome
    return {**regions.metadata, **outcome}


def run_alone(task: Task, key: str, pixels: Pixels, tile: tuple[int, int]) -> Mapping[str, object]:
    """Run all tiles of an image one after the other in this process, and give its values."""
    with tempfile.TemporaryDirectory(prefix="parimg-tiles-") as folder:
        image = TiledImage(key, pixels, tile, folder)
        after = None
        while isinstance(step := task.next_step(image, after), Step):
            for index in range(step.n_tiles):
                task.run_tile(image, step.name, index)
            after = step.name
        return step


def _run_piece(task: Task, image: TiledImage, piece: Piece | None, about: Mapping[str, object]) -> Outcome:
    if piece is None:
        image.begin(about)
        return _advance(task, image, None)
    image.check_unchanged(about)
    if piece.tile is None:
        return _advance(task, image, piece.step)
    if not image.is_done(piece.step, piece.tile):  # by an engine that died before it could say so
        task.run_tile(image, piece.step, piece.tile)
    return {}


def _advance(task: Task, image: TiledImage, after: str | None) -> Outcome:
    """The next step of which a tile is missing: an earlier run of the job may have done some."""
    while isinstance(step := task.next_step(image, after), Step):
        if missing := image.missing(step):
            columns = image.grid.counts[1] if step.n_tiles == len(image.grid) else 0
            return NextStep(step.name, step.n_tiles, missing, image.grid.tile, columns)
        after = step.name
    return step
