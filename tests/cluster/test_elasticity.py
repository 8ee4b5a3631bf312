"""How many engines are asked for and given back, without a cluster."""

from __future__ import annotations

import math

import pytest

from parimg.cluster.elasticity import Change, Elasticity, Group
from parimg.job.work_left import WorkLeft

LONG = 3600.0
MUCH = WorkLeft(100_000, 50_000.0)


def group(
    name: str = "first",
    engines: int = 2,
    *,
    is_awaited: bool = False,
    lived: float = 100.0,
    left: float = LONG,
    is_busy: bool = True,
) -> Group:
    return Group(name, engines, is_awaited, lived, left, is_busy)


@pytest.mark.parametrize(
    ("work", "wanted"),
    [
        (None, 2),  # no job runs
        (WorkLeft(0, 0.0), 2),
        (WorkLeft(1000, 0.0), 2),  # nothing has come back yet
        (WorkLeft(1000, 19.0), 2),
        (WorkLeft(1000, 300.0), 30),  # ten seconds each
        (WorkLeft(7, 700.0), 7),  # no more than images
        (MUCH, 64),
    ],
)
def test_as_many_engines_are_wanted_as_the_work_left_is_worth(work: WorkLeft | None, wanted: int) -> None:
    assert Elasticity(2, 64).wanted(work) == wanted


def test_where_engines_wait_long_only_long_work_is_worth_another() -> None:
    elasticity = Elasticity(1, 64)
    elasticity.note_wait(600.0)
    assert elasticity.wanted(WorkLeft(10_000, 3000.0)) == 5


def test_those_on_their_way_are_not_asked_for_again() -> None:
    groups = [group(), group("second", 40, is_awaited=True, left=math.inf, is_busy=False)]
    assert Elasticity(2, 64).decide(0.0, groups, MUCH) == Change(more=22)


def test_the_next_is_asked_for_before_the_present_one_ends_by_the_usual_wait() -> None:
    elasticity = Elasticity(2, 2)
    elasticity.note_wait(20.0)  # so 40 s before
    assert elasticity.decide(0.0, [group(left=41.0)], MUCH) == Change()
    assert elasticity.decide(1.0, [group(left=39.0)], MUCH) == Change(more=2)
    coming = group("second", is_awaited=True, left=math.inf, is_busy=False)
    assert elasticity.decide(2.0, [group(left=38.0), coming], MUCH) == Change()
    assert elasticity.decide(30.0, [group(left=10.0), group("second", lived=1.0)], None) == Change()


def test_the_least_are_kept_without_a_job_too() -> None:
    assert Elasticity(2, 8).decide(0.0, [group(left=5.0, is_busy=False)], None) == Change(more=2)


def test_jobs_shorter_than_the_wait_for_the_next_are_not_asked_for_without_end() -> None:
    elasticity = Elasticity(2, 2)
    elasticity.note_wait(1000.0)
    assert elasticity.decide(0.0, [group(lived=20.0, left=40.0)], MUCH) == Change()
    assert elasticity.decide(0.0, [group(lived=40.0, left=20.0)], MUCH) == Change(more=2)


def test_an_engine_that_died_is_made_up_for() -> None:
    assert Elasticity(2, 64).decide(0.0, [group(engines=1)], None) == Change(more=1)


def test_what_had_nothing_to_do_for_a_minute_is_given_back_but_for_the_least() -> None:
    elasticity = Elasticity(2, 64)
    groups = [group(name, left=LONG + place, is_busy=False) for place, name in enumerate("abc")]
    assert elasticity.decide(0.0, groups, None) == Change()
    assert elasticity.decide(59.0, groups, None) == Change()
    assert elasticity.decide(60.0, groups, None) == Change(give_back=("a", "b"))


def test_work_in_between_begins_the_minute_anew() -> None:
    elasticity = Elasticity(2, 64)
    idle, busy = group("second", is_busy=False), group("second")
    for now, seen in ((0.0, idle), (50.0, busy), (60.0, idle), (119.0, idle)):
        assert elasticity.decide(now, [group(), seen], None) == Change()
    assert elasticity.decide(120.0, [group(), idle], None) == Change(give_back=("second",))


def test_those_that_have_just_come_are_not_idle_because_they_were_waited_for() -> None:
    elasticity = Elasticity(1, 64)
    waits = group("second", is_awaited=True, left=math.inf, is_busy=False)
    few = WorkLeft(2, 40.0)
    assert elasticity.decide(0.0, [group(engines=1), waits], few) == Change()
    assert elasticity.decide(100.0, [group(engines=1), waits], MUCH).give_back == ()
    come = group("second", lived=0.0, is_busy=False)
    assert elasticity.decide(101.0, [group(engines=1), come], None) == Change()
    assert elasticity.decide(161.0, [group(engines=1), come], None) == Change(give_back=("second",))


def test_nothing_is_given_back_that_would_be_asked_for_at_once() -> None:
    elasticity = Elasticity(2, 64)
    groups = [group("first", is_busy=False), group("second", is_busy=False)]
    for now in (0.0, 60.0, 120.0):
        assert elasticity.decide(now, groups, WorkLeft(3, 300.0)) == Change()


def test_what_waits_in_a_queue_and_is_no_longer_needed_is_given_back_first() -> None:
    elasticity = Elasticity(2, 64)
    groups = [group(is_busy=False), group("second", is_awaited=True, left=math.inf, is_busy=False)]
    elasticity.decide(0.0, groups, None)
    assert elasticity.decide(60.0, groups, None) == Change(give_back=("second",))


def test_the_last_that_are_here_stay_until_others_have_come() -> None:
    elasticity = Elasticity(2, 2)
    groups = [
        group(left=5.0, is_busy=False),
        group("second", is_awaited=True, left=math.inf, is_busy=False),
    ]
    for now in (0.0, 60.0):
        assert elasticity.decide(now, groups, None) == Change()
