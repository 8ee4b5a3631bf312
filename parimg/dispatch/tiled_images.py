"""TiledImages: images that are run by tiles; many answers become one row.

An engine that opens a large image answers with the tiles of a first step. They go out like images, to any engines;
when all have done the step, one engine is asked what is next, until it answers with the image's row. Used by the
dispatcher's thread alone.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from parimg.dispatch.in_flight import Pending
from parimg.protocol.messages import NextStep, Piece
from parimg.record import Row
from parimg.tasks.tiled_image import folder_of


class Answered(NamedTuple):
    """What became of an image, or of a piece of one."""

    pending: Pending
    row: Row
    attempts: int


class Gathered(NamedTuple):
    """What is to be done about answers."""

    rows: list[tuple[Row, int]]
    """To be recorded, each with its number of attempts."""
    pieces: list[Pending]
    """To be sent next."""


@dataclass(slots=True)
class _UnderWay:
    """An image some of whose tiles are done."""

    step: NextStep
    left: set[int]
    """Tiles that have not done the step."""
    answers: list[Answered] = field(default_factory=list)
    """Without values; only times and memory count."""


class TiledImages:
    """The images that are run by tiles now; it owns all that is known of their tiles.

    Parameters
    ----------
    folder : str
        Where engines leave what tiles give.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._images: dict[int, _UnderWay] = {}

    @property
    def progress(self) -> tuple[int, int] | None:
        """Tiles that are done, and all, of the steps that images are at; None if none is."""
        if not self._images:
            return None
        counts = [(image.step.count - len(image.left), image.step.count) for image in self._images.values()]
        return sum(done for done, _ in counts), sum(count for _, count in counts)

    def gather(self, answers: list[Answered], steps: Mapping[int, NextStep]) -> Gathered:
        """Take note of answers.

        Parameters
        ----------
        answers : list of Answered
        steps : mapping of int to NextStep
            What is next for the image, by place among the answers.
        """
        rows: list[tuple[Row, int]] = []
        pieces: list[Pending] = []
        for place, answered in enumerate(answers):
            pending, row, attempts = answered
            image = self._images.get(pending.position)
            if pending.piece is None and place not in steps:
                rows.append((row, attempts))
            elif pending.piece is None:
                image = self._images[pending.position] = _UnderWay(steps[place], set(), [answered])
                pieces += self._begin(image, pending, steps[place])
            elif image is None:
                continue  # another tile has failed before
            else:
                image.answers.append(answered)
                if row.status == "failed":
                    rows.append(self._end(image, answered, _with_place(row, image.step, pending.piece)))
                elif pending.piece.tile is not None:
                    image.left.discard(pending.piece.tile)
                    if not image.left:
                        pieces.append(Pending(pending.image, pending.position, piece=Piece(image.step.step, None)))
                elif place in steps:
                    pieces += self._begin(image, pending, steps[place])
                else:
                    rows.append(self._end(image, answered, row))
        return Gathered(rows, pieces)

    def is_over(self, pending: Pending) -> bool:
        """Whether a piece is of an image that has its row already, because another tile failed."""
        return pending.piece is not None and pending.position not in self._images

    def _begin(self, image: _UnderWay, pending: Pending, step: NextStep) -> list[Pending]:
        image.step, image.left = step, set(step.missing)
        return [Pending(pending.image, pending.position, piece=Piece(step.step, tile)) for tile in step.missing]

    def _end(self, image: _UnderWay, last: Answered, row: Row) -> tuple[Row, int]:
        del self._images[last.pending.position]
        folder = folder_of(self._folder, last.pending.image.key)
        # In a thread of its own: there may be thousands of files on a slow disk.
        threading.Thread(
            target=shutil.rmtree, args=(folder,), kwargs={"ignore_errors": True}, name="parimg-tiles"
        ).start()
        answers = image.answers
        merged = row._replace(
            started=min(answered.row.started for answered in answers),
            decode_seconds=sum(answered.row.decode_seconds for answered in answers),
            task_seconds=sum(answered.row.task_seconds for answered in answers),
            peak_memory=max((answered.row.peak_memory or 0 for answered in answers), default=0) or None,
        )
        return merged, max(answered.attempts for answered in answers)


def _with_place(row: Row, step: NextStep, piece: Piece) -> Row:
    """A failed row that says where in the image."""
    if piece.tile is None:
        where = f"after all tiles of step {piece.step!r}"
    elif step.columns:
        height, width = step.tile
        y, x = piece.tile // step.columns * height, piece.tile % step.columns * width
        where = f"tile {piece.tile} of {step.count}, which begins at row {y}, column {x} ({piece.step})"
    else:
        where = f"tile {piece.tile} of {step.count} ({piece.step})"
    return row._replace(message=f"{where}: {row.message or ''}")
