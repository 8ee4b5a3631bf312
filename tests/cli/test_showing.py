"""What is shown of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import parimg

from parimg.cli.showing import causes_of, describe_task, shown_size
from parimg.record import Record
from parimg.tasks.function import Function
from parimg.tasks.match_sift import MatchSIFT


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


@pytest.mark.usefixtures("on_cluster", "photos")
def test_images_that_fail_alike_are_told_in_two_lines() -> None:
    for number in range(12):
        Path("photos", f"bad{number}.png").write_bytes(b"no image")
    ended = parimg("run", "numpy:mean", "photos")
    assert ended.code == 3
    assert "  13 images failed alike: ImageFormatError: " in ended.out
    assert ended.out.count("ImageFormatError") == 1
    named = parimg("run", "numpy:mean", "photos", "-v").out
    assert named.count(": ImageFormatError: ") == 13


def test_a_task_is_described_by_what_is_not_as_usual() -> None:
    task = MatchSIFT("/ref.png", max_ratio=0.8, root=True)
    assert describe_task(task.name, task.describe()) == "MatchSIFT(reference='/ref.png', max_ratio=0.8, root=True)"
    assert describe_task("MatchSIFT", task.describe(), longest=19) == "MatchSIFT(refer...)"

    def start(image: object) -> None: ...

    mine = Function(start, color="gray")
    assert describe_task(mine.name, mine.describe()) == "start(color='gray')"
    assert describe_task("Function", Function(lambda image: 0).describe()) == "Function(function=<lambda>)"
    assert describe_task("sum", Function(sum).describe()) == "sum()"


def test_sizes_are_rounded() -> None:
    assert [shown_size(size) for size in (0, 1023, 1536, 5 * 2**30, 3 * 2**40)] == [
        "0 B",
        "1023 B",
        "1.5 KiB",
        "5.0 GiB",
        "3.0 TiB",
    ]
