"""Images that are run by tiles: what an engine does with one piece of an image, or with all of its tiles alone.

The runner asks `take_up` before it reads an image. Opening an image takes milliseconds, so each engine remembers the
one that it was at.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from parimg.images.parts import Part, fingerprint, open_part
from parimg.protocol.messages import Chunk, NextStep, Piece
from parimg.tasks.tiled_image import Step, TiledImage, fit_tile, folder_of

if TYPE_CHECKING:
    from parimg.tasks.task import Task

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
        Without anything to run for images that are not larger than a tile, that came with their pixels or bytes, or
        that cannot be read in part; of these with the reason.

    Raises
    ------
    ImageError
        If it cannot be opened.
    """
    _, key, uri, content = chunk.images[index]
    if chunk.tile is None or not (content is None or isinstance(content, Piece)):
        return TakenUp(None)
    part, reason = _opened(uri, task)
    if part is None:
        return TakenUp(None, reason)
    tile = fit_tile(chunk.tile, part.shape, part.stored_tile)
    if content is None and part.shape[0] <= tile[0] and part.shape[1] <= tile[1]:
        return TakenUp(None)
    if not chunk.tiles_folder:
        return TakenUp(lambda: run_alone(task, key, part, tile))
    image = TiledImage(key, part, tile, folder_of(chunk.tiles_folder, key))
    return TakenUp(lambda: _run_piece(task, image, content, part.about))


def run_alone(task: Task, key: str, part: Part, tile: tuple[int, int]) -> Mapping[str, object]:
    """Run all tiles of an image one after the other in this process, and give its values."""
    with tempfile.TemporaryDirectory(prefix="parimg-tiles-") as folder:
        image = TiledImage(key, part, tile, folder)
        after = None
        while isinstance(step := task.next_step(image, after), Step):
            for index in range(step.count):
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
    task.run_tile(image, piece.step, piece.tile)
    return {}


def _advance(task: Task, image: TiledImage, after: str | None) -> Outcome:
    """The next step of which a tile is missing: an earlier run of the job may have done some."""
    while isinstance(step := task.next_step(image, after), Step):
        if missing := image.missing(step):
            return NextStep(step.name, step.count, missing)
        after = step.name
    image.discard()
    return step


class _State:
    """The image that this engine was at; written by its only thread."""

    key: tuple[str, str, str] | None = None
    opened: tuple[Part | None, str] = (None, "")


_state = _State()


def _opened(uri: str, task: Task) -> tuple[Part | None, str]:
    key = (uri, task.color, str(fingerprint(uri)))
    if _state.key != key:
        if _state.opened[0] is not None:
            _state.opened[0].close()
        _state.key = None
        _state.opened = open_part(uri, task.color)
        _state.key = key
    return _state.opened


