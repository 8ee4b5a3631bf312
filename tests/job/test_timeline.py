"""What each engine did when, from journals made by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_journals import make_journal, row

from parimg.job.timeline import Worker, read_timeline


def test_bins_hold_the_share_of_the_time_that_each_engine_was_busy(tmp_path: Path) -> None:
    journal = make_journal(
        tmp_path / "job",
        # From 0 to 2.5 s and from 3 to 4 s on engine 0; from 1.25 to 1.5 s on engine 1.
        [row(0, started=1000.0, decode=0.5, task=2.0), row(1, started=1003.0, task=1.0)],
        [row(2, started=1001.25, task=0.25, engine=1, status="failed")],
    )
    found = read_timeline(journal, bins=4)
    assert found.edges.tolist() == [0, 1, 2, 3, 4]
    assert found.workers == [Worker("node1", 0, 70), Worker("node1", 1, 71)]
    np.testing.assert_allclose(found.busy, [[1, 1, 0.5, 1], [0, 0.25, 0, 0]])
    assert found.failed.tolist() == [[0, 0, 0, 0], [0, 1, 0, 0]]
    assert found.done.tolist() == [0, 1, 1, 1]
    assert found.rate.tolist() == [0, 1, 1, 1]
    assert found.images == 3
    assert found.busy_share == pytest.approx((3.5 + 0.25) / 5)


def test_an_image_longer_than_many_bins_fills_those_between(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", [row(0, started=50.0, task=8.0), row(1, started=59.0, task=1.0)])
    np.testing.assert_allclose(read_timeline(journal, bins=10).busy, [[1] * 8 + [0, 1]])


def test_the_pause_between_two_runs_is_left_out(tmp_path: Path) -> None:
    journal = make_journal(
        tmp_path / "job",
        [row(0, started=1000.0, task=2.0)],
        runs=[[[row(1, started=900_000.0, task=2.0, engine=0, pid=99)]]],
    )
    found = read_timeline(journal, bins=4)
    assert found.seconds == 4.0
    assert found.starts == [0.0, 2.0]
    assert found.workers == [Worker("node1", 0, 70), Worker("node1", 0, 99)]
    np.testing.assert_allclose(found.busy, [[1, 1, 0, 0], [0, 0, 1, 1]])


def test_images_without_an_engine_count_and_take_no_row(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", [row(0, started=10.0, task=1.0, engine=None, status="failed")])
    found = read_timeline(journal, bins=2)
    assert found.workers == []
    assert found.busy.shape == (0, 2)
    assert found.images == 1
    assert found.busy_share == 0


def test_engines_are_sorted_by_host_and_numbers_in_names_count(tmp_path: Path) -> None:
    hosts = ["node10", "node2", "node2", "10.0.0.9", "10.0.0.10", ""]
    rows = [row(n, host=host, engine=9 - n) for n, host in enumerate(hosts)]
    found = read_timeline(make_journal(tmp_path / "job", rows)).workers
    assert [worker.host for worker in found] == ["", "10.0.0.9", "10.0.0.10", "node2", "node2", "node10"]
    assert [worker.engine for worker in found[3:5]] == [7, 8]


def test_a_job_without_records_has_an_empty_timeline(tmp_path: Path) -> None:
    found = read_timeline(make_journal(tmp_path / "job"), bins=3)
    assert (found.seconds, found.images, found.workers) == (1.0, 0, [])


def test_random_images_fill_bins_as_a_sum_over_each_image_does(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    rows: list[Any] = []
    starts: list[float] = []
    ends: list[float] = []
    now = 500.0
    for position in range(200):
        now += rng.exponential(0.2)
        spent = rng.exponential(0.7)
        rows.append(row(position, started=now, task=spent))
        starts.append(now)
        now += spent
        ends.append(now)
    found = read_timeline(make_journal(tmp_path / "job", rows), bins=37)
    edges = found.edges + starts[0]
    expected = [
        sum(max(0.0, min(end, right) - max(start, left)) for start, end in zip(starts, ends, strict=True))
        / (right - left)
        for left, right in pairwise(edges)
    ]
    np.testing.assert_allclose(found.busy[0], expected, atol=1e-6)
