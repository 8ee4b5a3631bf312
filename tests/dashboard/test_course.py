"""What engines did when, added piece by piece, beside the timeline that is read at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from made_journals import Placed, make_journal, row

from parimg.dashboard.course import BINS, FIELDS, Course
from parimg.job.journal import Journal
from parimg.job.timeline import read_timeline


def read(journal: Journal, course: Course | None = None) -> Course:
    course = course or Course()
    for batch in journal.fields(*FIELDS, after=course.seq):
        course.add(batch)
    return course


def rows(n: int) -> list[Placed]:
    """Images of 0.5 s, two engines in turn, each tenth fails; the last is ready after 0.25 n + 0.25 s."""
    return [
        row(k, started=1000.0 + k / 4, task=0.5, engine=k % 2, status="failed" if k % 10 == 0 else "ok", memory=k)
        for k in range(n)
    ]


def test_images_fall_into_seconds_by_when_they_are_ready(tmp_path: Path) -> None:
    course = read(make_journal(tmp_path / "job", rows(8)))  # ready at 0.5, 0.75, 1.0, ... 2.25 s
    assert course.start == 1000.0
    assert course.last == 1002.25
    assert course.width == 1.0
    assert course.done.sum(axis=0)[:4].tolist() == [2, 4, 2, 0]
    assert [worker.engine for worker in course.workers] == [-1, 0, 1]
    assert course.failed.sum(axis=1).tolist() == [0, 1, 0]
    # Engine 0 is busy from 0, engine 1 from 0.25 s, without a gap, to 2.0 and 2.25 s.
    np.testing.assert_allclose(course.busy[1:, :3], [[1.0, 1.0, 0.0], [0.75, 1.0, 0.25]])
    assert course.memory.tolist() == [0, 6, 7]
    assert course.seconds.tolist() == [0.0, 2.0, 2.0]


def test_what_is_added_in_pieces_is_what_is_added_at_once(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", rows(3000))
    whole, pieces = read(journal), Course()
    [batch] = journal.fields(*FIELDS)
    for first in range(0, len(batch), 171):
        pieces.add(batch[first : first + 171])
    assert pieces.seq == whole.seq == 3000
    assert pieces.width == whole.width == 4.0  # 750 s in 240 bins
    np.testing.assert_array_equal(pieces.done, whole.done)
    np.testing.assert_array_equal(pieces.failed, whole.failed)
    np.testing.assert_allclose(pieces.busy, whole.busy, atol=1e-9)


def test_shares_and_counts_are_those_of_the_timeline_of_the_whole_job(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", rows(3839), [row(3839, started=1959.5, task=0.5)])  # to 960 s
    course, timeline = read(journal), read_timeline(journal, bins=BINS)
    assert course.width == 8.0  # what is ready at 960.0 s does not fit into 240 bins of 4 s
    half = BINS // 2
    np.testing.assert_array_equal(
        course.done.sum(axis=0)[: half - 1], timeline.done.reshape(-1, 2).sum(axis=1)[:-1]
    )
    np.testing.assert_allclose(course.busy[1:, :half], timeline.busy.reshape(2, -1, 2).mean(axis=2), atol=1e-9)


def test_only_what_is_new_is_read(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", rows(10))
    course = read(journal)
    assert list(journal.fields("seq", after=course.seq)) == []
    assert [seq for batch in journal.fields("seq", after=7) for (seq,) in batch] == [8, 9, 10]
    read(journal, course)
    assert course.done.sum() == 10


def test_a_run_that_goes_on_begins_a_new_course(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", rows(10), runs=[[[row(10, started=9000.0)]]])
    course = read(journal)
    assert (course.run, course.start, int(course.done.sum())) == (2, 9000.0, 1)
    assert len(course.workers) == 2


def test_images_without_an_engine_and_clocks_that_go_back_are_kept(tmp_path: Path) -> None:
    early = row(1, started=900.0, engine=1)
    course = read(make_journal(tmp_path / "job", [row(0)], [row(2, engine=None)], [early]))
    assert course.done.sum(axis=1).tolist()[0] == 1
    assert course.done.sum() == 3


def test_an_empty_job_has_no_run(tmp_path: Path) -> None:
    course = read(make_journal(tmp_path / "job"))
    assert course.run == 0
    assert course.by_host() == []
