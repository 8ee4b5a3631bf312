"""Which chunks are on which engine."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import Future
from random import Random

from parimg.dispatch.in_flight import InFlight, Sent


def filled(*engines: int) -> tuple[InFlight, list[Sent]]:
    """Engines 0 and 1 that may have chunks, and have these."""
    in_flight = InFlight()
    in_flight.open([0, 1])
    sent = [Sent(number, [], engine, float(number), Future()) for number, engine in enumerate(engines, start=1)]
    for chunk in sent:
        in_flight.add(chunk)
    return in_flight, sent


def test_the_next_chunk_goes_to_the_engine_with_fewest() -> None:
    in_flight, _ = filled(0, 0, 1)
    assert in_flight.engine_with_room(depth=2) == 1
    in_flight.open([0, 1, 2])
    assert in_flight.engine_with_room(depth=2) == 2


def test_among_equals_the_engine_served_longest_ago_is_next() -> None:
    in_flight, sent = filled(1, 0)
    for chunk in reversed(sent):
        in_flight.remove(chunk)
    assert in_flight.engine_with_room(depth=2) == 1


def test_no_engine_has_room_beyond_its_depth() -> None:
    in_flight, _ = filled(0, 1)
    assert in_flight.engine_with_room(depth=1) is None
    assert in_flight.engine_with_room(depth=2) == 0
    in_flight.open([])
    assert in_flight.engine_with_room(depth=2) is None


def test_an_engine_that_is_shut_gets_nothing_until_it_is_opened_again() -> None:
    in_flight, _ = filled()
    in_flight.shut(0)
    assert in_flight.engine_with_room(depth=1) == 1
    in_flight.open([0])
    assert in_flight.engine_with_room(depth=1) == 0


def test_the_chunks_of_an_engine_are_given_up_in_their_order() -> None:
    in_flight, sent = filled(0, 1, 0)
    assert in_flight.give_up(0) == [sent[0], sent[2]]
    assert list(in_flight.engines) == [1]
    assert len(in_flight) == 1
    assert sent[0] not in in_flight
    assert sent[1] in in_flight
    assert in_flight.give_up(0) == []


def test_chunks_that_take_long_are_found_oldest_first() -> None:
    in_flight, sent = filled(0, 1, 0)
    in_flight.remove(sent[0])
    assert list(in_flight.sent_before(3.0)) == [sent[1]]
    assert list(in_flight.sent_before(9.0)) == [sent[1], sent[2]]


def test_the_heap_chooses_as_a_look_at_every_engine_would() -> None:
    """Random chunks on random engines that come and go, against the rule written out."""
    random = Random(5)
    in_flight = InFlight()
    present: set[int] = set()
    under_way: list[Sent] = []
    served: dict[int, int] = {}
    chosen = 0
    for number in range(1, 3000):
        if random.random() < 0.05:
            present = set(random.sample(range(20), random.randrange(20)))
            in_flight.open(present)
        if random.random() < 0.02:
            lost = random.randrange(20)
            present.discard(lost)
            served.pop(lost, None)
            given_up = in_flight.give_up(lost)
            assert given_up == [sent for sent in under_way if sent.engine == lost]
            under_way = [sent for sent in under_way if sent.engine != lost]
        if under_way and random.random() < 0.5:
            in_flight.remove(under_way.pop(random.randrange(len(under_way))))
        loads = Counter(sent.engine for sent in under_way)
        best = min(((loads[engine], served.get(engine, 0), engine) for engine in present), default=(2, 0, 0))
        engine = in_flight.engine_with_room(depth=2)
        assert engine == (best[2] if best[0] < 2 else None)
        if engine is not None:
            under_way.append(Sent(number, [], engine, 0.0, Future()))
            in_flight.add(under_way[-1])
            served[engine] = number
            chosen += 1
        assert len(in_flight) == len(under_way)
    assert chosen > 1000
