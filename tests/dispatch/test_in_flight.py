"""Which chunks are on which engine."""

from __future__ import annotations

from parimg.dispatch.in_flight import Sent, Window


def filled(*engines: int) -> tuple[Window, list[Sent]]:
    window = Window()
    sent = [Sent(number, [], engine, 0.0) for number, engine in enumerate(engines, start=1)]
    for chunk in sent:
        window.add(chunk)
    return window, sent


def test_the_next_chunk_goes_to_the_engine_with_fewest() -> None:
    window, _ = filled(0, 0, 1)
    assert window.engine_with_room([0, 1], depth=2) == 1
    assert window.engine_with_room([0, 1, 2], depth=2) == 2


def test_among_equals_the_engine_served_longest_ago_is_next() -> None:
    window, sent = filled(0, 1)
    for chunk in sent:
        window.remove(chunk)
    assert window.engine_with_room([1, 0], depth=2) == 0


def test_no_engine_has_room_beyond_its_depth() -> None:
    window, _ = filled(0, 1)
    assert window.engine_with_room([0, 1], depth=1) is None
    assert window.engine_with_room([], depth=1) is None


def test_the_chunks_of_an_engine_are_given_up_in_their_order() -> None:
    window, sent = filled(0, 1, 0)
    assert window.first_on(0) is sent[0]
    assert window.give_up(0) == [sent[0], sent[2]]
    assert window.engines == [1]
    assert len(window) == 1
    assert sent[0] not in window
    assert sent[1] in window
    assert window.give_up(0) == []
