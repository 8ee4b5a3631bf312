"""Stores that fail now and then are asked again, others are not."""

from __future__ import annotations

import errno

import pytest

from parimg.files import retrying
from parimg.files.retrying import may_pass, retried


class Store:
    """Fails as often as it is told."""

    def __init__(self, error: Exception, times: int) -> None:
        self.error, self.times, self.asked = error, times, 0

    def ask(self) -> str:
        self.asked += 1
        if self.asked <= self.times:
            raise self.error
        return "here"


@pytest.fixture(autouse=True)
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    pauses: list[float] = []
    monkeypatch.setattr(retrying.time, "sleep", pauses.append)
    return pauses


def test_a_store_is_asked_four_times_with_longer_and_longer_pauses(slept):
    store = Store(OSError(errno.EIO, "We encountered an internal error"), 3)
    assert retried(store.ask) == "here"
    assert store.asked == 4
    assert [low <= pause <= 1.5 * low for pause, low in zip(slept, (0.25, 1, 4), strict=True)] == [True] * 3


def test_a_store_that_fails_for_good_is_given_up():
    store = Store(ConnectionResetError("reset"), 9)
    with pytest.raises(ConnectionResetError):
        retried(store.ask)
    assert store.asked == 4


@pytest.mark.parametrize(
    "error",
    [FileNotFoundError(2, "no"), PermissionError(13, "no"), ValueError("no image"), OSError("truncated file")],
)
def test_what_will_not_pass_is_not_asked_for_again(error, slept):
    store = Store(error, 1)
    with pytest.raises(type(error)):
        retried(store.ask)
    assert slept == []


def test_answers_of_servers_are_judged_by_their_number():
    from botocore.exceptions import ClientError

    def answer(status: int) -> ClientError:
        return ClientError({"ResponseMetadata": {"HTTPStatusCode": status}, "Error": {"Code": "x"}}, "GetObject")

    assert [may_pass(answer(status)) for status in (500, 503, 429, 403, 404)] == [True, True, True, False, False]


def test_what_led_to_an_error_counts():
    error = RuntimeError("a library's own")
    error.__cause__ = TimeoutError()
    assert may_pass(error)
