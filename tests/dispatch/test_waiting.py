"""The queue of a job: what is sent next."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parimg.dispatch.in_flight import Pending
from parimg.dispatch.new_images import NewImages
from parimg.dispatch.waiting import Waiting
from parimg.errors import SourceError
from parimg.job.directory import JobDirectory
from parimg.job.journal_writer import JournalWriter
from parimg.protocol.messages import Piece
from parimg.sources.as_source import as_source


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[JournalWriter]:
    place = JobDirectory(str(tmp_path / "job"))
    writer = JournalWriter.create(place, place.reserve(), {})
    yield writer
    writer.close()


def waiting_for(journal: JournalWriter, images: object) -> Waiting:
    new_images = NewImages(journal, retry_failed=False, on_duplicate=lambda key: None)
    waiting = Waiting(as_source(images), new_images, lambda: None)
    waiting.start()
    return waiting


def keys(images: list[Pending]) -> list[str]:
    return [pending.image.key for pending in images]


def named(n: int) -> dict[str, np.ndarray]:
    return {f"{number}": np.zeros(1) for number in range(n)}


def test_what_came_back_goes_first_then_pieces_then_new_images(journal: JournalWriter) -> None:
    waiting = waiting_for(journal, named(6))
    first, second = waiting.next_chunk(lambda: 2), waiting.next_chunk(lambda: 1)
    assert (keys(first), keys(second)) == (["0", "1"], ["2"])
    pieces = [dataclasses.replace(second[0], piece=Piece("level-0", tile)) for tile in (0, 1)]
    waiting.add_pieces(pieces)
    waiting.put_back([first])
    assert keys(list(waiting))[:4] == ["0", "1", "2", "2"]
    assert waiting.next_chunk(lambda: 9) == first
    assert waiting.next_chunk(lambda: 3)[:2] == pieces
    assert waiting.not_given_out(6) == 2
    assert keys(waiting.next_chunk(lambda: 9)) == ["4", "5"]
    assert waiting.next_chunk(lambda: 9) == []
    assert (len(waiting), bool(waiting), waiting.exhausted) == (0, False, True)


def test_what_is_over_is_dropped_wherever_it_stands(journal: JournalWriter) -> None:
    waiting = waiting_for(journal, named(4))
    waiting.put_back([waiting.next_chunk(lambda: 2)])
    waiting.list_images(2)
    waiting.drop(lambda pending: pending.image.key in {"0", "1", "3"})
    assert keys(list(waiting)) == ["2"]
    assert keys(waiting.next_chunk(lambda: 2)) == ["2"]


def test_a_chunk_of_arrays_ends_before_it_is_too_large_for_a_message(journal: JournalWriter) -> None:
    images = {f"{number}": np.zeros(2**23, np.uint8) for number in range(5)}
    waiting = waiting_for(journal, images)
    assert keys(waiting.next_chunk(lambda: 5)) == ["0", "1"]


def test_a_source_that_fails_is_told_with_how_far_it_came(journal: JournalWriter) -> None:
    def broken() -> Iterator[tuple[str, np.ndarray]]:
        yield from named(3).items()
        raise OSError("the disk is gone")

    waiting = waiting_for(journal, broken())
    while not waiting.exhausted:
        waiting.list_images(5)
    with pytest.raises(SourceError, match="the source of images stopped after 3: OSError: the disk is gone"):
        waiting.raise_source_error()
