"""Engines that differ from the others are marked."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_journals import make_journal, row

from parimg.dashboard.course import FIELDS, Course
from parimg.dashboard.engines import HostNow, hosts_now


def hosts(tmp_path: Path, *, now: float = 1040.0, running: bool = True, **odd: object) -> list[HostNow]:
    """Four engines on two hosts, 40 s of images of a second each; engine 3 differs."""
    chunks = []
    for engine in range(4):
        usual: dict = {"task": 1.0, "memory": 200 * 2**20, "n": 40, "failing": 0}
        told = {**usual, **odd} if engine == 3 else usual
        chunks.append([
            row(
                1000 * engine + k, started=1000.0 + k * told["task"], task=told["task"], engine=engine,
                host=f"node{1 + engine // 2}", memory=told["memory"],
                status="failed" if k < told["failing"] else "ok",
            )
            for k in range(told["n"])
        ])  # fmt: skip
    course = Course()
    for batch in make_journal(tmp_path / "job", *chunks).fields(*FIELDS):
        course.add(batch)
    return hosts_now(course, now, running=running)


def marks(found: list[HostNow]) -> list[tuple[str, ...]]:
    return [engine.marks for host in found for engine in host.engines]


def test_alike_engines_have_no_mark_and_are_summed_by_host(tmp_path: Path) -> None:
    found = hosts(tmp_path)
    assert marks(found) == [()] * 4
    assert [(host.host, len(host.engines), host.images, host.failed) for host in found] == [
        ("node1", 2, 80, 0), ("node2", 2, 80, 0),
    ]  # fmt: skip
    assert found[0].memory == 400 * 2**20
    assert found[0].busy == pytest.approx(1.0, abs=0.05)
    assert found[0].rate == pytest.approx(2.0, abs=0.1)


@pytest.mark.parametrize(
    ("odd", "mark"),
    [
        ({"task": 4.0, "n": 10}, "slow"),
        ({"memory": 900 * 2**20}, "memory"),
        ({"failing": 20}, "failures"),
    ],
)
def test_an_engine_that_differs_is_marked(tmp_path: Path, odd: dict[str, object], mark: str) -> None:
    assert marks(hosts(tmp_path, **odd)) == [(), (), (), (mark,)]


def test_an_engine_that_gives_nothing_back_is_marked_while_the_job_runs(tmp_path: Path) -> None:
    assert marks(hosts(tmp_path, n=5)) == [(), (), (), ("silent",)]


def test_a_job_that_has_ended_has_no_silent_engine(tmp_path: Path) -> None:
    assert marks(hosts(tmp_path, n=5, running=False)) == [()] * 4
