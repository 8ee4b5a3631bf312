"""Why images failed, grouped."""

from __future__ import annotations

from parimg.job.causes import causes_of
from parimg.record import Record


def failed(key: str, message: str, error: str = "ValueError") -> Record:
    return Record(key, "failed", error=error, message=message, uri=f"/data/{key}")


def test_failures_that_differ_in_names_and_numbers_only_have_one_cause() -> None:
    records = [failed(f"{number}.png", f"'/data/{number}.png' has {number} bytes") for number in range(30)]
    records += [
        failed("a.png", "no memory"),
        failed("b.png", "no memory", "OSError"),
        failed("c.png", "no memory"),
    ]
    causes = causes_of(records)
    assert [(cause.reason, cause.count) for cause in causes] == [
        ("ValueError: '/data/0.png' has 0 bytes", 30),
        ("ValueError: no memory", 2),
        ("OSError: no memory", 1),
    ]
    assert causes[0].keys == ["0.png", "1.png", "2.png", "3.png", "4.png"]
    assert causes[1].keys == ["a.png", "c.png"]


def test_a_long_message_is_cut() -> None:
    [cause] = causes_of([failed("a.png", "x" * 10_000)])
    assert len(cause.reason) < 500
