"""Columns that are not to be transformed are those of a star or of NaN, and not those of things before black."""

import numpy as np
import pytest

from parimg.kernels.convolution.spoiled_columns import find_spoiled, sum_taps


def spoiled(lines, *, width=3, step=1, limit=1000.0, largest=1e30):
    """Places of the sums that are marked."""
    marks, work = np.zeros(lines.shape[1], bool), np.full((3, lines.shape[1]), np.nan, lines.dtype)
    is_finite = bool(np.isfinite(lines).all())
    found = find_spoiled(lines, lines.shape[1], limit, largest, is_finite, work, width, step, marks)
    n_sums = lines.shape[1] - (width - 1) * step
    assert found == marks[:n_sums].any()
    return np.flatnonzero(marks[:n_sums]).tolist()


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", [8, 10, 20, 96])
def test_a_star_spoils_the_sums_that_reach_its_column(dtype, size):
    for line in range(size):
        lines = np.ones((size, 12), dtype)
        assert spoiled(lines) == []
        lines[line, 5] = -2000
        assert spoiled(lines) == [3, 4, 5]
        assert spoiled(lines, width=2, step=3) == [2, 5]
        assert spoiled(lines, limit=3000.0) == []
        assert spoiled(lines, limit=3000.0, largest=1500.0) == [3, 4, 5]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spoils_whatever_the_limit_is(value):
    lines = np.ones((16, 9), np.float32)
    lines[9, 0] = value
    assert spoiled(lines, limit=np.inf) == [0]
    lines[2, 8] = value
    assert spoiled(lines) == [0, 6]


def test_what_stands_before_zeros_spoils_nothing():
    lines = np.zeros((32, 20), np.float32)
    assert spoiled(lines) == []
    lines[4:7, 3:] = 5e4
    assert spoiled(lines) == []


def test_taps_are_summed_without_those_of_weight_0():
    lines = np.array([[1, 2, 3, 4, 5], [10, np.nan, 30, 40, 50]], np.float32)
    sums = np.full(2, 7.0)
    sum_taps(lines, np.array([[1.0, 2.0], [3.0, 0.0]]), 2, 1, sums)
    assert sums.tolist() == [3 + 8 + 90, 4 + 10 + 120]
    sum_taps(lines, np.array([[1.0, 2.0], [0.0, 3.0]]), 0, 2, sums)
    assert sums.tolist() == [1 + 6 + 90, 2 + 8 + 120]
