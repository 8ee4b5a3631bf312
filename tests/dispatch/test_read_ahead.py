"""Listing in a thread of its own: how far ahead, how soon, and how it ends."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from parimg.dispatch.read_ahead import ReadAhead
from parimg.sources.as_source import as_source


def tiny(n: int) -> Iterator[tuple[str, np.ndarray]]:
    return ((str(number), np.zeros(1)) for number in range(n))


def start(images: object) -> tuple[ReadAhead, threading.Event]:
    news = threading.Event()
    ahead = ReadAhead(as_source(images), news.set)
    ahead.start()
    return ahead, news


def take_all(ahead: ReadAhead) -> list[str]:
    keys: list[str] = []
    while not ahead.exhausted:
        keys += [image.key for _, image in ahead.take(10, 0.05)]
    return keys


def test_all_images_come_once_in_order_with_their_positions() -> None:
    ahead, _ = start(tiny(1000))
    taken = []
    while not ahead.exhausted:
        taken += ahead.take(7, 1.0)
    assert [position for position, _ in taken] == list(range(1000))
    assert [image.key for _, image in taken] == [str(number) for number in range(1000)]


def test_what_is_wanted_comes_without_waiting_the_time_out() -> None:
    ahead, _ = start(tiny(100))
    begin = time.monotonic()
    assert len(ahead.take(1, 10.0)) >= 1
    assert time.monotonic() - begin < 5.0


def test_a_slow_source_gives_what_it_has_when_the_time_is_out() -> None:
    def slow() -> Iterator[tuple[str, np.ndarray]]:
        yield from tiny(3)
        time.sleep(30)

    ahead, _ = start(slow())
    assert [image.key for _, image in ahead.take(10, 0.3)] == ["0", "1", "2"]
    assert ahead.take(10, 0.0) == []
    assert not ahead.exhausted
    ahead.stop()


def test_the_consumer_is_told_once_when_there_is_more() -> None:
    go_on = threading.Event()

    def waiting() -> Iterator[tuple[str, np.ndarray]]:
        yield "first", np.zeros(1)
        go_on.wait()
        yield "second", np.zeros(1)

    ahead, news = start(waiting())
    assert len(ahead.take(1, 5.0)) == 1
    assert not news.is_set()
    assert ahead.take(1, 0.0) == []
    go_on.set()
    assert news.wait(5)
    assert take_all(ahead) == ["second"]


def test_it_lists_no_further_than_a_little_ahead() -> None:
    listed = 0

    def endless() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal listed
        for listed in itertools.count():
            yield str(listed), np.zeros(1)

    ahead, _ = start(endless())
    time.sleep(0.3)
    assert listed <= 64
    ahead.take(1, 1.0)
    time.sleep(0.3)
    assert listed <= 128
    ahead.stop()


def test_large_arrays_are_listed_by_their_bytes() -> None:
    listed = 0

    def large() -> Iterator[tuple[str, np.ndarray]]:
        nonlocal listed
        for listed in range(1000):
            yield str(listed), np.zeros(2**20)  # 8 MiB

    ahead, _ = start(large())
    time.sleep(0.3)
    assert listed <= 2
    assert len(ahead.take(10, 0.1)) >= 2
    ahead.stop()


def test_an_error_of_the_source_comes_after_what_was_listed() -> None:
    def breaking() -> Iterator[tuple[str, np.ndarray]]:
        yield from tiny(3)
        raise OSError("unplugged")

    ahead, _ = start(breaking())
    assert take_all(ahead) == ["0", "1", "2"]
    assert isinstance(ahead.error, OSError)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_source_that_exits_has_ended(error: type[BaseException]) -> None:
    def leaving() -> Iterator[tuple[str, np.ndarray]]:
        yield from tiny(2)
        raise error

    ahead, _ = start(leaving())
    assert take_all(ahead) == ["0", "1"]
    assert isinstance(ahead.error, error)
