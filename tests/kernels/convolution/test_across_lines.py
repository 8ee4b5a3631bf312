"""Transforms across lines give the direct sum, whatever the layout, the border and the dtypes."""

import warnings

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution import methods as ways

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def taken(monkeypatch):
    """Takes transforms across lines wherever they are a way, and says how often they were."""
    seen = []
    original = ways.correlate_across

    def spy(*args):
        seen.append(args)
        return original(*args)

    monkeypatch.setattr(ways, "correlate_across", spy)
    monkeypatch.setattr(ways, "_time_of_blocks", lambda *_: np.inf)
    return seen


def by_direct_sum(source, weights, output=np.float64, **kwargs):
    return convolve(source, weights, output, precision="float64", method="direct", **kwargs)


def assert_close(found, expected, source, weights, cval=0.0):
    """Within the roundings of a few dozen operations on the largest sum."""
    epsilon = 3e-6 if found.dtype.char in "fF" else 5e-15
    bound = np.abs(weights).sum() * max(np.abs(source).max(), abs(cval), 1e-30)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound * epsilon)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_any_shape_kernel_border_and_origin(data):
    n_axes = data.draw(st.integers(2, 3))
    shape = data.draw(st.tuples(*[st.integers(1, 40)] * n_axes))
    sizes = st.sampled_from((2, 5, 8, 11))  # each is compiled
    taps = data.draw(st.tuples(*[sizes] * n_axes))
    modes = [data.draw(st.sampled_from(MODES)) for _ in taps]
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in taps]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    source, weights = generator.normal(size=shape), generator.normal(size=taps)
    expected = by_direct_sum(source, weights, mode=modes, origin=origin, cval=2)
    for dtype in ("float32", "float64"):
        found = convolve(source.astype(dtype), weights, mode=modes, origin=origin, cval=2, method="fft")
        assert found.dtype == dtype
        assert_close(found, expected, source, weights, cval=2)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "dtype", ["bool", "uint8", "int16", "uint16", "int32", "int64", "float16", "float32", "float64", "complex128"]
)
def test_volumes_are_scipys(dtype, mode, taken):
    source = (RNG.random((21, 34, 43)) * 200).astype(dtype)
    weights = RNG.normal(size=(4, 5, 7))
    kind = np.complex128 if dtype == "complex128" else np.float64
    wide = source.astype(kind)
    found = convolve(source, weights, kind, mode=mode, cval=3, method="fft")
    assert taken
    expected = scipy.ndimage.convolve(wide, weights, mode=mode, cval=3)
    narrow = np.dtype(dtype).itemsize < 4 or dtype == "float32"
    bound = np.abs(weights).sum() * 200 * (3e-6 if narrow else 5e-15)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 1, 3), (1, 70, 9), (70, 1, 9), (3, 5, 700), (9, 300, 2)])
def test_thin_volumes_are_scipys(shape, taken):
    source, weights = RNG.normal(size=shape), RNG.normal(size=(3, 4, 5))
    assert_close(
        convolve(source, weights, mode="nearest", method="fft"),
        scipy.ndimage.convolve(source, weights, mode="nearest"),
        source,
        weights,
    )
    assert taken


def test_strides_of_every_kind_and_read_only_arrays(taken):
    base = RNG.normal(size=(40, 44, 92))
    weights = RNG.normal(size=(3, 6, 5))
    for source in (
        base[::2, 1::2, ::3],
        base[::-1, :, ::-2],
        base.transpose(2, 0, 1),
        np.asfortranarray(base),
        np.broadcast_to(base[:1], (9, 44, 92)),
    ):
        before = source.copy()
        source.flags.writeable = False
        found = correlate(source, weights, method="fft")
        assert_close(found, scipy.ndimage.correlate(before, weights), before, weights)
        np.testing.assert_array_equal(source, before)
    assert len(taken) == 5


def test_outputs_of_every_layout_and_the_input_itself(taken):
    source, weights = RNG.normal(size=(20, 24, 28)), RNG.normal(size=(3, 4, 5))
    expected = scipy.ndimage.convolve(source, weights)
    wide = np.full((20, 24, 56), 7.0)
    for output in (np.empty_like(source, order="F"), wide[:, :, ::2], np.empty(source.shape, np.float32)):
        assert convolve(source, weights, output, method="fft") is output
        assert_close(output, expected, source, weights)
    assert (wide[:, :, 1::2] == 7).all()
    same = source.copy()
    convolve(same, weights, same, method="fft")
    assert_close(same, expected, source, weights)
    assert len(taken) == 4


@pytest.mark.parametrize("axes", [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3), (0, 2), (1, 3)])
@pytest.mark.parametrize("last", [3, 40])
def test_stacks_and_channels(axes, last):
    source = RNG.normal(size=(11, 12, 13, last))
    weights = RNG.normal(size=(4, 3, 5)[: len(axes)])
    found = convolve(source, weights, axes=axes, method="fft")
    assert_close(found, scipy.ndimage.convolve(source, weights, axes=axes), source, weights)


@pytest.mark.parametrize("casting", ["truncate", "round", "saturate"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"])
def test_whole_numbers_are_exact_over_the_range_of_the_dtype(dtype, casting, taken):
    limits = np.iinfo(dtype)
    low, high = (limits.min, limits.max) if limits.bits < 64 else (0, 2**32)
    source = RNG.integers(low, high, (30, 31, 32), dtype, endpoint=True)
    weights = RNG.integers(-9, 10, (3, 4, 5))
    exact = np.zeros((32, 34, 36), object)
    padded = np.pad(source.astype(object), ((1, 1), (2, 1), (2, 2)), "symmetric")
    turned = weights[::-1, ::-1, ::-1]
    exact = sum(
        int(turned[z, y, x]) * padded[z : z + 30, y : y + 31, x : x + 32] for z, y, x in np.ndindex(turned.shape)
    )
    found = convolve(source, weights, np.int64, origin=(0, -1, 0), method="fft", casting=casting)
    assert taken
    np.testing.assert_array_equal(found, exact.astype(np.int64))


def test_whole_numbers_too_large_to_round_are_summed_directly(taken):
    source = RNG.integers(2**42, 2**43, (12, 13, 14))
    weights = RNG.integers(0, 2, (3, 4, 5))
    found = convolve(source, weights, method="fft")
    assert not taken
    np.testing.assert_array_equal(found, by_direct_sum(source, weights, np.int64))


def test_a_large_value_beyond_the_border_is_counted_among_whole_numbers(taken):
    source = RNG.integers(0, 256, (12, 13, 14)).astype(np.uint16)
    weights = RNG.integers(-5, 6, (3, 4, 5))
    for cval, is_taken in ((1000, True), (2.0**44, False), (0.5, False)):
        taken.clear()
        found = convolve(source, weights, np.int64, "constant", cval, method="fft")
        assert bool(taken) == is_taken
        np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, np.int64, "constant", cval))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_spreads_as_in_the_direct_sum(value):
    source, weights = RNG.normal(size=(20, 21, 22)), RNG.normal(size=(3, 4, 5))
    weights[1, 2] = 0
    source[9, 10, 11] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = convolve(source, weights, method="fft")
        beyond = convolve(source[:5], weights, mode="constant", cval=value, method="fft")
    np.testing.assert_allclose(found, scipy.ndimage.convolve(source, weights), rtol=1e-12)
    expected = scipy.ndimage.convolve(source[:5], weights, mode="constant", cval=value)
    np.testing.assert_allclose(beyond, expected, rtol=1e-12)


def test_one_huge_value_does_not_spoil_the_rest():
    source = RNG.random((24, 40, 50)).astype(np.float32)
    weights = RNG.random((5, 5, 7))
    for peak in (1e5, 1e9):
        source[12, 20, 25] = peak
        expected = scipy.ndimage.convolve(source.astype(float), weights)
        np.testing.assert_allclose(convolve(source, weights), expected, rtol=1e-5)


def test_what_an_image_does_not_allow_is_summed_tap_by_tap_and_the_rest_is_transformed(taken):
    source = RNG.random((150, 140, 3)).astype(np.float32)
    weights = RNG.normal(size=(13, 15))
    weights[:, 3] = 0
    for value in (1e6, 1e30, np.inf, np.nan):
        spoiled = source.copy()
        spoiled[70, 60, 1] = value
        found = convolve(spoiled, weights, axes=(0, 1), method="fft")
        expected = scipy.ndimage.convolve(spoiled.astype(float), weights, axes=(0, 1))
        is_far = np.ones(source.shape, bool)
        is_far[63:77, 53:68, 1] = False
        np.testing.assert_allclose(found[is_far], expected[is_far], rtol=0, atol=1e-4)
        np.testing.assert_allclose(found[~is_far], expected[~is_far], rtol=1e-6, atol=1e-4)
        undisturbed = convolve(source, weights, axes=(0, 1), method="fft")
        np.testing.assert_array_equal(found[:, :45], undisturbed[:, :45])
        np.testing.assert_array_equal(found[:, :, 2], undisturbed[:, :, 2])
    assert len(taken) == 8


def test_sums_that_the_dtype_holds_are_finite_where_their_transforms_are_not(taken):
    weights = RNG.random((15, 15))
    for dtype, value in (("float32", 2e38), ("float64", 1e308)):
        source = np.full((90, 80), value, dtype)
        found = convolve(source, weights / weights.sum(), method="fft")
        np.testing.assert_allclose(found, value, rtol=1e-6)
    assert len(taken) == 2


def test_a_constant_that_lies_nowhere_counts_for_nothing(taken):
    source, weights = RNG.normal(size=(61, 70)), RNG.normal(size=(15, 15))
    expected = convolve(source, weights, method="fft")
    for cval in (1e200, np.nan):
        np.testing.assert_array_equal(convolve(source, weights, cval=cval, method="fft"), expected)
    whole, numbers = RNG.integers(0, 256, (61, 70), np.uint16), RNG.integers(-9, 9, (15, 15))
    found = convolve(whole, numbers, np.int64, cval=2.0**70, method="fft")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(whole.astype(np.int64), numbers))
    assert len(taken) == 4


def test_volumes_of_wide_dtypes_go_so_unless_scipys_last_bits_are_wanted(taken):
    source, weights = RNG.normal(size=(36, 37, 38)), RNG.normal(size=(5, 5, 7))
    assert_close(convolve(source, weights), scipy.ndimage.convolve(source, weights), source, weights)
    assert len(taken) == 1
    found = convolve(source, weights, precision="float64")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights))
    convolve(source, weights, method="direct")
    convolve(source, weights[1:4, 1:4, 2:5])
    assert len(taken) == 1
