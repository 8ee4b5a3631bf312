"""Boxes, which go by running sums, are SciPy's convolution."""

import numpy as np
import pytest
import scipy.ndimage

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution import methods as ways

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def every_box(monkeypatch):
    """Small ones, too, and seen to be taken."""
    calls = []
    original = ways._run_by_running_sums

    def spy(*args):
        calls.append(original(*args))
        return calls[-1]

    monkeypatch.setattr(ways, "_SMALLEST_BOX", {"float32": 2, "float64": 2})
    monkeypatch.setattr(ways, "_run_by_running_sums", spy)
    return calls


def random_image(shape, dtype):
    dtype = np.dtype(dtype)
    if dtype.kind == "f":
        return RNG.normal(size=shape).astype(dtype)
    return RNG.integers(np.iinfo(dtype).min, np.iinfo(dtype).max, shape, dtype, endpoint=True)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [2, 3, 4, 5, 7, 8, 9, 21, 31])
def test_boxes_of_any_size_and_mode(every_box, mode, size):
    for dtype in ("uint8", "int16", "uint16", "int32", "float32"):
        image = random_image((40, 53), dtype)
        weights = np.full((size, max(size - 1, 2)), 0.3)
        found = correlate(image, weights.tolist(), np.float64, mode, 7, origin=(0, -1))
        expected = scipy.ndimage.correlate(image, weights, np.float64, mode, 7, origin=(0, -1))
        bound = np.abs(image.astype(float)).max() * weights.sum()
        np.testing.assert_allclose(found, expected, rtol=0, atol=2e-7 * bound)
    assert every_box == [True] * 5


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "uint16", "int32", "uint32"])
@pytest.mark.parametrize("out", ["uint8", "int32", "int64"])
@pytest.mark.parametrize("weight", [1, 3, -2])
def test_whole_numbers_are_exact(every_box, dtype, out, weight):
    image = random_image((50, 60), dtype)
    weights = np.full((31, 18), weight)
    found = convolve(image, weights.tolist(), out, cval=1, mode="constant")
    exact = scipy.ndimage.convolve(image, weights, np.float64, cval=1, mode="constant")
    np.testing.assert_array_equal(found, exact.astype(np.int64).astype(out))
    assert every_box == [True]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_colours_beside_each_other(every_box, mode, dtype):
    image = random_image((23, 41, 3), dtype)
    weights = np.full((5, 6), 0.25)
    found = convolve(image, weights.tolist(), np.float32, mode, axes=(0, 1))
    for channel in range(3):
        expected = scipy.ndimage.convolve(image[..., channel], weights, np.float64, mode)
        np.testing.assert_allclose(found[..., channel], expected, rtol=1e-5, atol=1e-4)
    assert every_box == [True]


def test_layouts_of_input_and_output(every_box):
    image = random_image((24, 36), "uint8")
    weights = np.full((5, 3), 2)
    expected = scipy.ndimage.convolve(image, weights, np.int32)
    wide = np.repeat(np.repeat(image, 2, 0), 3, 1)[::2, ::3]
    for source in (wide, image[::-1, ::-1].copy()[::-1, ::-1], np.asfortranarray(image)):
        np.testing.assert_array_equal(convolve(source, weights.tolist(), np.int32), expected)
    out = np.zeros((36, 24), np.int32).T
    assert convolve(image, weights.tolist(), out) is out
    np.testing.assert_array_equal(out, expected)
    again = image.copy()
    convolve(again, weights.tolist(), again)
    np.testing.assert_array_equal(again, expected.astype(np.uint8))
    assert every_box == [True] * 5


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_far_as_the_box(every_box, value):
    image = random_image((30, 40), "float32")
    image[9, 9] = value
    found = convolve(image, np.ones((5, 5)).tolist())
    np.testing.assert_allclose(found, scipy.ndimage.convolve(image, np.ones((5, 5))), rtol=1e-5, atol=1e-5)
    assert every_box == [False]


def test_a_huge_value_leaves_the_rest_as_it_is(every_box):
    image = random_image((60, 40), "float32")
    image[9, 9] = 1e20
    found = convolve(image, np.ones((5, 5)).tolist())
    np.testing.assert_allclose(found, scipy.ndimage.convolve(image, np.ones((5, 5))), rtol=1e-5, atol=1e-5)
    assert every_box == [False]


def test_a_value_outside_that_is_no_whole_number(every_box):
    image = random_image((30, 40), "uint8")
    found = convolve(image, np.ones((9, 9)).tolist(), np.float64, "constant", 0.123456789)
    expected = scipy.ndimage.convolve(image, np.ones((9, 9)), np.float64, "constant", 0.123456789)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    assert every_box == [True]


def test_float64_asked_for_goes_directly(every_box):
    image = random_image((30, 40), "uint8")
    weights = np.full((9, 9), 1 / 81)
    found = convolve(image, weights.tolist(), np.float64, precision="float64")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(image, weights, np.float64))
    assert every_box == []
