"""What is shown of jobs."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import parimg

from parimg.cli.showing import describe_task, shown_size
from parimg.tasks.function import Function
from parimg.tasks.match_sift import MatchSIFT


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
