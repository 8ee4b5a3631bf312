"""How chunks grow and shrink."""

from __future__ import annotations

from parimg.dispatch.chunk_size import ChunkSize


def grown(seconds: float, nbytes: float = 1.0, answers: int = 30) -> ChunkSize:
    size = ChunkSize(None)
    for _ in range(answers):
        size.adapt(seconds, nbytes)
    return size


def test_chunks_double_from_one_image_until_they_take_half_a_second() -> None:
    size = ChunkSize(None)
    sizes = [size.next(None, 2)]
    for _ in range(7):
        size.adapt(0.01, 1.0)
        sizes.append(size.next(None, 2))
    assert sizes == [1, 2, 4, 8, 16, 32, 50, 50]


def test_chunks_have_no_more_images_than_20_000_and_answers_no_more_bytes_than_16_mib() -> None:
    assert grown(0.0).next(None, 1) == 20_000
    assert grown(0.0, nbytes=2**20).next(None, 1) == 16
    assert grown(0.0, nbytes=2**30).next(None, 1) == 1


def test_near_the_end_engines_share_what_remains() -> None:
    size = grown(0.001)
    assert size.next(10_000, 2) == 500
    assert size.next(1000, 4) == 125
    assert size.next(9, 2) == 3
    assert size.next(0, 2) == 1
    assert size.next(5, 0) == 3


def test_what_the_user_asked_for_is_kept() -> None:
    size = ChunkSize(7)
    size.adapt(100.0, 2**30)
    assert size.next(1, 100) == 7


def test_an_engine_has_a_second_chunk_only_if_chunks_are_short() -> None:
    assert ChunkSize(None).depth == 1
    assert grown(0.01).depth == 2
    assert grown(0.9).depth == 2
    assert grown(1.0).depth == 1
