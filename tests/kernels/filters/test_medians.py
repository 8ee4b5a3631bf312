"""Medians of 3 x 3 and 5 x 5, several lines at once: SciPy's answer in every shape, border and dtype."""

import itertools

import numpy as np
import pytest
from scipy import ndimage

from parimg.kernels import generic_filter
from parimg.kernels.filters.choices import Kind, find_out
from parimg.kernels.filters.medians import Network
from parimg.kernels.filters.user_functions import as_user_function
from parimg.kernels.filters.windows import specification


def median(values):
    return np.median(values)


def half(values):
    return np.median(values) / 2


def image_of(shape, dtype):
    return (np.random.default_rng(4).normal(size=shape) * 60).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("side", [3, 5])
def test_medians_are_scipy_s(dtype, side):
    # Read in place and not, an odd number of lines, one line, shorter than a vector, colours.
    for shape in ((301, 320), (34, 2500), (9, 70), (4, 90), (1, 300), (21, 7), (3, 3), (150, 161, 3)):
        image = image_of(shape, dtype)
        size = (side, side, 1)[: len(shape)]
        for mode in ("reflect", "constant"):
            found = generic_filter(image, median, size, mode=mode, cval=7)
            np.testing.assert_array_equal(found, ndimage.median_filter(image, size, mode=mode, cval=7))


@pytest.mark.parametrize("shape", [(270, 280), (40, 50)])
def test_windows_with_nan_have_no_median_and_others_do(shape):
    clean = image_of(shape, np.float32)
    clean[3:9, 5:11] = np.inf
    image = clean.copy()
    image[np.random.default_rng(5).random(shape) < 0.003] = np.nan
    has_nan = ndimage.maximum_filter(np.isnan(image), 5)
    expected = np.where(has_nan, np.nan, ndimage.median_filter(clean, 5))
    np.testing.assert_array_equal(generic_filter(image, np.median, 5), expected)


def test_results_of_another_dtype_are_converted():
    image = image_of((260, 270), np.float32)
    expected = ndimage.median_filter(image, 3).astype(np.int32)
    np.testing.assert_array_equal(generic_filter(image, median, 3, output=np.int32), expected)


def test_squares_are_told_from_other_windows_of_nine():
    image = image_of((260, 270), np.uint8)
    for shape in ((1, 9), (9, 1)):
        found = generic_filter(image, median, footprint=np.ones(shape, bool))
        np.testing.assert_array_equal(found, ndimage.median_filter(image, footprint=np.ones(shape, bool)))
    volume = image_of((20, 60, 64), np.uint8)
    for size in ((3, 3, 1), (3, 1, 3), (1, 3, 3)):
        np.testing.assert_array_equal(generic_filter(volume, median, size), ndimage.median_filter(volume, size))


@pytest.mark.parametrize(("function", "expected"), [
    (median, Kind.MEDIAN), (np.median, Kind.MEDIAN), (lambda v: float(np.median(v)), Kind.MEDIAN),
    (np.max, Kind.CHOICE), (lambda v: v[4], Kind.CHOICE), (half, Kind.OTHER), (np.mean, Kind.OTHER),
])  # fmt: skip
def test_a_median_is_told_from_other_choices(function, expected):
    spec = specification(*[np.dtype(np.uint8)] * 3, 9)
    assert find_out(as_user_function(function, 1, (), {}), spec, ()) == expected


class Numbers(Network):
    """The same exchanges, of numbers."""

    def exchanged(self, one, other):
        return sorted((one, other))


@pytest.mark.parametrize(("left", "right"), list(itertools.product(range(7), range(7))))
def test_merging_sorts(left, right):
    """What merges all sorted lists of zeros and ones merges all others."""
    network = Numbers(None, None)
    for zeros, others in itertools.product(range(left + 1), range(right + 1)):
        lists = [0] * zeros + [1] * (left - zeros), [0] * others + [1] * (right - others)
        assert network.merged(*lists) == sorted(lists[0] + lists[1])
