"""Transforms across lines are NumPy's of each column, and products of them are correlations."""

import ctypes

import numpy as np
import pytest

from parimg.kernels.convolution.line_transforms import SIZES, kernel_products, products, transform_address

RNG = np.random.default_rng(0)
_ROOM = 64  # a vector, at most, is read and written beyond the columns


def transformed(lines, size, n_out, wanted=0):
    """What the compiled transform makes of contiguous lines."""
    of_c = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p, ctypes.c_ssize_t] * 2, ctypes.c_ssize_t, ctypes.c_void_p)
    columns = lines.shape[1]
    source, out = (np.zeros((n, columns + _ROOM), lines.dtype) for n in (len(lines), n_out))
    source[:, :columns] = lines
    function = of_c(transform_address(lines.dtype.name, size, wanted))
    function(source.ctypes.data, source.shape[1], out.ctypes.data, out.shape[1], columns, None)
    return out[:, :columns]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
def test_the_way_there_is_numpys_transform(size, dtype):
    lines = RNG.normal(size=(size, 21)).astype(dtype)
    made = transformed(lines, size, products(size))
    expected = np.fft.rfft(lines.astype(np.float64), axis=0).conj()
    bound = 1e-14 if dtype == "float64" else 5e-6
    np.testing.assert_allclose(made[:2], expected[[0, -1]].real, rtol=0, atol=size * bound)
    between = expected[1:-1]
    for found, wanted in (
        (made[2::3], between.real + between.imag),
        (made[3::3], between.real),
        (made[4::3], between.imag),
    ):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=size * bound)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("taps", [2, 7])
def test_there_times_a_kernel_and_back_is_a_correlation(size, taps, dtype):
    lines, weights = RNG.normal(size=(size, 19)).astype(dtype), RNG.normal(size=taps)
    made = transformed(lines, size, products(size)) * kernel_products(weights, size)[:, None].astype(dtype)
    wanted = size - taps + 1
    found = transformed(made.astype(dtype), size, wanted, wanted)
    columns = lines.astype(np.float64).T
    expected = np.array([np.correlate(column, weights, "valid") for column in columns]).T
    bound = np.abs(weights).sum() * np.abs(lines).max() * (1e-15 if dtype == "float64" else 5e-7)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)
