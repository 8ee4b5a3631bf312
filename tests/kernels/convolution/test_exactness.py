"""Whole numbers come out whole, and conversions to integers have one answer, whatever method and processor."""

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal

from parimg.kernels import convolve

METHODS = ("auto", "direct", "separable", "fft")
RNG = np.random.default_rng(0)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("casting", ["truncate", "round", "saturate"])
@pytest.mark.parametrize("precision", [None, "float64"])
def test_boxes_over_bytes_are_exact(method, casting, precision):
    image = RNG.integers(0, 256, (100, 100)).astype(np.uint8)
    kernel = np.ones((31, 31), int)
    found = convolve(image, kernel, np.int32, method=method, casting=casting, precision=precision)
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(image, kernel, np.int32))


@pytest.mark.parametrize("method", ["auto", "direct", "fft"])
@pytest.mark.parametrize("casting", ["truncate", "round"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64"])
def test_large_kernels_of_any_whole_numbers_are_exact(method, casting, dtype):
    info = np.iinfo(dtype)
    low, high = (info.min, info.max) if info.bits < 64 else (-(2**40), 2**40)
    image = RNG.integers(low, high, (70, 80), dtype)
    kernel = RNG.integers(-2, 3, (61, 61))
    found = convolve(image, kernel, np.int64, method=method, casting=casting)
    exact = scipy.signal.convolve(np.pad(image.astype(np.int64), 30, "symmetric"), kernel, "valid", "direct")
    np.testing.assert_array_equal(found, exact)


def test_sums_of_products_of_whole_numbers_are_exact_in_passes():
    image = RNG.integers(0, 256, (60, 70)).astype(np.uint8)
    kernel = np.outer(np.arange(15), np.ones(15, int)) + np.outer(np.ones(15, int), np.arange(15) ** 2)
    found = convolve(image, kernel, np.int64, method="separable")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(image, kernel, np.int64))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("cval", [1e9 + 1, 0.25, -3])
def test_what_lies_outside_is_counted_too(method, cval):
    image = RNG.integers(0, 256, (40, 50)).astype(np.uint8)
    kernel = np.ones((15, 15), int)
    found = convolve(image, kernel, np.int64, "constant", cval, method=method)
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(image, kernel, np.int64, "constant", cval))


def test_one_huge_value_does_not_spoil_the_rest():
    """A saturated star: transforms in float32 would be 20 % off a hundred pixels away."""
    image = RNG.random((300, 300)).astype(np.float32)
    kernel = RNG.random((61, 61))
    for peak in (1e5, 1e9):
        image[150, 150] = peak
        expected = scipy.ndimage.convolve(image.astype(float), kernel)
        np.testing.assert_allclose(convolve(image, kernel), expected, rtol=1e-4)  # 3721 roundings of float32
    image[150, 150] = 1e5
    expected = scipy.ndimage.convolve(image.astype(float), kernel)
    np.testing.assert_allclose(convolve(image, kernel, method="fft"), expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", ["u1", "i1", "i2", "u2", "i4", "u4", "i8", "u8"])
@pytest.mark.parametrize("source", ["float32", "float64"])
def test_what_64_bits_do_not_hold_becomes_0_unless_it_saturates(dtype, source):
    beyond = np.array([np.nan, np.inf, -np.inf, 2.0**64, -(2.0**64), 1e30], source)
    for casting in ("truncate", "round"):
        assert convolve(beyond, [1.0], dtype, casting=casting).tolist() == [0] * 6
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    saturated = [0, high, low, high, low, high]
    assert convolve(beyond, [1.0], dtype, casting="saturate").tolist() == saturated
    held = np.array([-1.0, 2.0**62, -(2.0**63), 2.0**40 + 2.0**20], source)
    low_bits = [int(value) % 2 ** np.iinfo(dtype).bits for value in held]
    expected = np.array(low_bits, f"u{np.iinfo(dtype).bits // 8}").view(dtype)
    np.testing.assert_array_equal(convolve(held, [1.0], dtype), expected)


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32"])
@pytest.mark.parametrize("source", ["float32", "float64"])
@pytest.mark.parametrize("columns", [1, 31, 32, 33, 64, 77])
def test_saturating_is_the_same_wherever_a_value_lies(dtype, source, columns):
    limits = np.iinfo(dtype)
    values = np.array([0.5, 1.5, -0.5, -1.5, 2.49, 1e9, -1e9, np.nan, np.inf, -np.inf, 254.5, 255.5, 100], source)
    image = values[(np.arange(5)[:, None] * 3 + np.arange(columns)) % len(values)]
    finite = np.nan_to_num(image.astype(float), nan=0.0, posinf=1e12, neginf=-1e12)
    expected = np.rint(finite).clip(limits.min, limits.max)
    whole = np.full((5, columns + 9), 7, dtype)
    convolve(image, [[1.0]], whole[:, :columns], casting="saturate")
    np.testing.assert_array_equal(whole[:, :columns], expected.astype(dtype))
    assert (whole[:, columns:] == 7).all()
    np.testing.assert_array_equal(convolve(image.T, [[1.0]], dtype, casting="saturate"), expected.astype(dtype).T)


@pytest.mark.parametrize("dtype", ["uint16", "float32", "float64", "complex64"])
def test_unaligned_arrays_are_read_and_written(dtype):
    def unaligned(array):
        moved = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
        moved[...] = array
        assert not moved.flags.aligned
        return moved

    image = RNG.integers(0, 100, (9, 10)).astype(dtype)
    kernel = np.arange(9.0).reshape(3, 3)
    expected = convolve(image, kernel)
    np.testing.assert_array_equal(convolve(unaligned(image), kernel), expected)
    output = unaligned(np.zeros_like(image))
    assert convolve(image, unaligned(kernel), output) is output
    np.testing.assert_array_equal(output, expected)
