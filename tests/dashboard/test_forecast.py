"""When a job will have ended."""

from __future__ import annotations

import math

import numpy as np

from parimg.dashboard.forecast import forecast


def test_an_even_rate_leaves_no_doubt() -> None:
    assert forecast(1000, np.full(10, 10), 2.0) == (200.0, 200.0, 200.0)


def test_nothing_is_said_of_too_little() -> None:
    assert forecast(1000, np.array([10, 10, 10]), 1.0) is None
    assert forecast(1000, np.zeros(10, np.int64), 1.0) is None


def test_an_uneven_rate_has_a_range_which_may_be_open() -> None:
    found = forecast(1000, np.array([8, 12] * 10), 1.0)
    assert found is not None
    # A deviation of 2.052 of 10: twice that, times sqrt(1/20 + 1/100), is 10.05 %.
    assert np.allclose(found, (100.0, 100 / 1.1005, 100 / 0.8995), rtol=1e-3)
    rare = forecast(10, np.array([0] * 20 + [10]), 1.0)
    assert rare is not None
    assert rare.most == math.inf


def test_nineteen_of_twenty_ends_lie_in_the_range() -> None:
    random = np.random.default_rng(3)
    hits = 0
    for _ in range(400):
        done = random.poisson(20, 400)
        found = forecast(4000, done[:60], 1.0)
        assert found is not None
        end = int(np.searchsorted(np.cumsum(done[60:]), 4000)) + 1
        hits += found.least - 1 <= end <= found.most + 1
    assert 0.93 <= hits / 400 <= 1.0
