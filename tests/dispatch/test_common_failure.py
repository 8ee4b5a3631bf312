"""Images that fail for one reason, and not each for its own."""

from __future__ import annotations

import pytest

from parimg.dispatch.common_failure import Cause, CommonFailure
from parimg.record import Row, failed_row


def failed(n: int, error: str = "ValueError", message: str = "{key} is no good") -> Row:
    key = f"views/{n}.png"
    return failed_row(n, key, f"/data/{key}", "task", error, message.format(key=key, uri=f"/data/{key}", n=n))


def good(n: int) -> Row:
    return failed(n)._replace(status="ok", error=None, message=None)


def missing(n: int) -> Row:
    return failed(n, "ImageMissingError", "{uri} does not exist")


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
@pytest.mark.parametrize(
    "message", ["{key} is no good", "{uri}: no channel", "'{n}.png' has {n} pixels", "always the same", ""]
)
def test_the_hundredth_failure_alike_is_told_once(size: int, message: str) -> None:
    common = CommonFailure()
    rows = [failed(n, message=message) for n in range(1000)]
    told = [common.note_rows(rows[start : start + size]) for start in range(0, 1000, size)]
    assert [cause for cause in told if cause] == [Cause("ValueError", rows[0].message or "")]
    assert told.index(Cause("ValueError", rows[0].message or "")) == -(-100 // size) - 1


@pytest.mark.parametrize(
    "odd",
    [good(0), failed(50, "KeyError"), failed(50, message="something else"), good(99), failed(99, "KeyError")],
    ids=["first_is_good", "other_error", "other_message", "last_is_good", "last_is_other"],
)
def test_one_image_that_is_different_is_enough_to_say_nothing(odd: Row) -> None:
    common = CommonFailure()
    rows = [failed(n) for n in range(300)]
    rows[odd.position] = odd
    assert common.note_rows(rows) is None
    assert common.note_rows(failed(n) for n in range(300, 600)) is None


def test_a_short_name_is_not_taken_for_a_part_of_words() -> None:
    common = CommonFailure()
    rows = [failed_row(n, name, "", "task", "E", f"bad image {name}") for n, name in enumerate("abcde" * 20)]
    assert common.note_rows(rows) == Cause("E", "bad image a")


@pytest.mark.parametrize("size", [1, 3, 20, 50])
def test_twenty_images_missing_on_a_host_from_its_first_on_are_noticed_once(size: int) -> None:
    common = CommonFailure()
    rows = [missing(n) for n in range(60)]
    noticed = [common.note_host("node7", rows[start : start + size]) for start in range(0, 60, size)]
    assert noticed.count(True) == 1
    assert noticed.index(True) == -(-20 // size) - 1


def test_a_host_that_sees_one_image_is_trusted_and_others_are_not_for_that() -> None:
    common = CommonFailure()
    assert not common.note_host("node1", [missing(0), good(1), *map(missing, range(2, 99))])
    assert not common.note_host("node1", map(missing, range(99)))
    assert not common.note_host("node2", map(missing, range(19)))
    assert not common.note_host("node3", [failed(0), *map(missing, range(50))])
    assert common.note_host("node2", [missing(19)])
