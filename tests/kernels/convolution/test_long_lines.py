"""Sums of many taps along one line are those of the definition, wherever the line ends."""

import ctypes

import numpy as np
import pytest

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution.long_lines import READS_BEYOND, one_line_address

LINE_OF_TILES = 128  # columns that a line of sums is rounded up to, at most


def summed(line, weights, columns, step=1):
    """By the compiled loop; what it may write beyond the columns is checked."""
    out = np.full(columns + 2 * LINE_OF_TILES, 77, line.dtype)
    table = np.array([line.ctypes.data], np.int64)
    address = one_line_address(line.dtype.name, len(weights), step)
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * 11)(address)
    call(out.ctypes.data, 0, table.ctypes.data, 1, weights.ctypes.data, 1, 1, len(weights), step, columns, 0)
    assert (out[-(-columns // 16) * 16 :] == 77).all()
    return out[:columns]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("taps", [1, 7, 8, 9, 10, 11, 31, 82])
@pytest.mark.parametrize("columns", [1, 2, 15, 16, 17, 63, 100, 193])
def test_sums_are_those_of_the_definition(dtype, taps, columns):
    generator = np.random.default_rng(taps * 1000 + columns)
    line = np.full(columns + taps - 1 + READS_BEYOND, np.nan, dtype)  # nothing beyond may reach a sum
    line[: columns + taps - 1] = generator.integers(-9, 10, columns + taps - 1)
    weights = generator.integers(-9, 10, taps).astype(dtype)
    expected = np.correlate(line[: columns + taps - 1], weights, "valid")
    np.testing.assert_array_equal(summed(line, weights, columns), expected)


def test_taps_apart_are_summed_by_a_tile():
    line = np.zeros(400)
    line[:130] = np.arange(130)
    found = summed(line, np.arange(9.0), 90, step=3)
    expected = [sum(tap * line[x + 3 * tap] for tap in range(9)) for x in range(90)]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_sum_does_not_depend_on_its_column(dtype):
    """Tiles of an image are to be as the whole."""
    generator = np.random.default_rng(2)
    image = generator.random((40, 300)).astype(dtype)
    vector = generator.random(21)
    whole = convolve(image, np.outer(vector, vector), method="separable")
    for begin in (1, 2, 3, 7, 50):
        part = convolve(image[:, begin:], np.outer(vector, vector), method="separable")
        np.testing.assert_array_equal(part[:, 10:], whole[:, begin + 10 :])


@pytest.mark.parametrize("channels", [(), (3,)])
def test_colours_beside_each_other_and_planes_are_the_same(channels):
    generator = np.random.default_rng(3)
    image = generator.integers(0, 256, (50, 70, *channels)).astype(np.uint8)
    vector = generator.integers(-5, 6, 15).astype(float)
    weights = np.outer(vector, vector)
    found = correlate(image, weights, np.float64, axes=(0, 1))
    expected = correlate(image, weights, np.float64, axes=(0, 1), method="direct", precision="float64")
    np.testing.assert_array_equal(found, expected)
