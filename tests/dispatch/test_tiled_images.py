"""Images that are run by tiles: many answers become one row."""

from __future__ import annotations

import os
import time
from pathlib import Path

from parimg.dispatch.in_flight import Pending
from parimg.dispatch.tiled_images import Answered, TiledImages
from parimg.protocol.messages import NextStep, Piece
from parimg.record import Row, failed_row
from parimg.sources.as_source import Image
from parimg.tasks.tiled_image import folder_of

IMAGE = Image("a.tif", "/data/a.tif")
FIRST = NextStep("level-0", 4, [0, 1, 2, 3], (64, 32), 2)


def row(columns: str = "{}", seconds: float = 1.0, memory: int = 10) -> Row:
    good = failed("")._replace(status="ok", stage=None, error=None, message=None)
    return good._replace(columns=columns, task_seconds=seconds, peak_memory=memory)


def failed(message: str) -> Row:
    return failed_row(3, "a.tif", "/data/a.tif", "task", "ValueError", message)


def answered(piece: Piece | None, what: Row, attempts: int = 1) -> Answered:
    return Answered(Pending(IMAGE, 3, piece=piece), what, attempts)


def begun(tmp_path: Path, step: NextStep = FIRST) -> TiledImages:
    tiled = TiledImages(str(tmp_path))
    rows, pieces = tiled.gather([answered(None, row())], {0: step})
    assert not rows
    assert [piece.piece for piece in pieces] == [Piece(step.step, tile) for tile in step.missing]
    return tiled


def test_an_image_that_is_not_run_by_tiles_keeps_its_row(tmp_path: Path) -> None:
    tiled = TiledImages(str(tmp_path))
    one = row('{"mean":1.0}')
    assert tiled.gather([answered(None, one, 2)], {}) == ([(one, 2)], [])
    assert tiled.progress is None


def test_steps_follow_each_other_when_all_tiles_are_done_and_the_last_answer_is_the_row(tmp_path: Path) -> None:
    tiled = begun(tmp_path)
    assert tiled.progress == (0, 4)
    assert tiled.gather([answered(Piece("level-0", tile), row(), 1 + tile) for tile in (2, 0, 3)], {}) == ([], [])
    assert tiled.progress == (3, 4)
    _, [what_next] = tiled.gather([answered(Piece("level-0", 1), row(memory=77))], {})
    assert what_next.piece == Piece("level-0", None)
    second = NextStep("level-1", 1, [0], (64, 32), 0)
    _, [only] = tiled.gather([answered(what_next.piece, row())], {0: second})
    assert only.piece == Piece("level-1", 0)
    tiled.gather([answered(only.piece, row())], {})
    [(found, attempts)], pieces = tiled.gather([answered(Piece("level-1", None), row('{"mean":2.0}'))], {})
    assert not pieces
    assert (found.columns, found.task_seconds, found.peak_memory, attempts) == ('{"mean":2.0}', 8.0, 77, 4)
    assert tiled.progress is None


def test_only_what_an_earlier_run_left_undone_is_sent(tmp_path: Path) -> None:
    tiled = begun(tmp_path, FIRST_HALF)
    assert tiled.progress == (2, 4)
    _, pieces = tiled.gather([answered(Piece("level-0", tile), row()) for tile in (1, 3)], {})
    assert [piece.piece for piece in pieces] == [Piece("level-0", None)]


FIRST_HALF = NextStep("level-0", 4, [1, 3], (64, 32), 2)


def test_a_failed_tile_fails_the_image_and_says_where(tmp_path: Path) -> None:
    tiled = begun(tmp_path)
    waiting = Pending(IMAGE, 3, piece=Piece("level-0", 1))
    assert not tiled.is_over(waiting)
    folder = Path(folder_of(str(tmp_path), "a.tif"))
    folder.mkdir()
    answers = [answered(Piece("level-0", 0), row()), answered(Piece("level-0", 3), failed("no such level"))]
    [(found, _)], pieces = tiled.gather(answers, {})
    assert not pieces
    assert found.status == "failed"
    assert found.message == "tile 3 of 4, which begins at row 64, column 32 (level-0): no such level"
    assert tiled.is_over(waiting)
    assert tiled.gather([answered(Piece("level-0", 1), failed("again"))], {}) == ([], [])
    deadline = time.monotonic() + 10
    while os.path.exists(folder):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_two_images_are_told_apart(tmp_path: Path) -> None:
    tiled = begun(tmp_path)
    other = Answered(Pending(Image("b.tif", "/data/b.tif"), 9), row(), 1)
    tiled.gather([other], {0: FIRST})
    assert tiled.progress == (0, 8)
    tiled.gather([answered(Piece("level-0", 0), failed("bad"))], {})
    assert tiled.progress == (0, 4)
