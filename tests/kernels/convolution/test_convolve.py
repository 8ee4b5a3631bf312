"""parimg.kernels.convolution.convolve against scipy.ndimage on the same input, and what it refuses."""

import itertools
import warnings

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parimg.kernels import convolve, correlate

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
OTHER_NAMES = ("grid-mirror", "grid-constant", "grid-wrap")
INTEGERS = ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64")
NARROW = ("int8", "uint8", "int16", "uint16", "float32")
BOTH = [(convolve, scipy.ndimage.convolve), (correlate, scipy.ndimage.correlate)]
BOTH_IDS = ["convolve", "correlate"]


@st.composite
def problems(draw, max_dims=4, max_side=7):
    """Shape, kernel, mode, origin."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=max_dims, min_side=1, max_side=max_side))
    taps = draw(st.tuples(*[st.integers(1, 8 if len(shape) < 3 else 4)] * len(shape)))
    weights = draw(hnp.arrays(np.int64, taps, elements=st.integers(-9, 9))) / 4
    origin = tuple(draw(st.integers(-(size // 2), (size - 1) // 2)) for size in taps)
    return shape, weights, draw(st.sampled_from(MODES + OTHER_NAMES)), origin


def random_array(seed, shape, dtype):
    generator = np.random.default_rng(seed)
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        limits = np.iinfo(dtype)
        low, high = max(limits.min, -(2**40)), min(limits.max, 2**40)
        return generator.integers(low, high, shape, dtype, endpoint=True)
    values = generator.normal(size=shape) * 50
    if dtype.kind == "c":
        values = values + 1j * generator.normal(size=shape)
    return values.astype(dtype)


def assert_close_to(found, expected, source, weights, epsilon):
    """As far apart as rounding allows: so many times `epsilon` of the largest possible sum."""
    largest = float(np.abs(source).max(initial=0)) * float(np.abs(weights).sum())
    bound = epsilon * (weights.size + 2) * max(largest, 1e-30)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.slow
@settings(max_examples=150, deadline=None)
@given(problems(), st.integers(0, 2**32), st.sampled_from((*INTEGERS, "float32", "float64")), st.booleans())
def test_with_float64_asked_for_the_result_is_scipys_to_the_last_bit(problem, seed, dtype, turned):
    shape, weights, mode, origin = problem
    source = random_array(seed, shape, dtype)
    ours, theirs = BOTH[turned]
    kwargs = {"output": np.float64, "mode": mode, "cval": 2.5, "origin": origin}
    found = ours(source, weights, precision="float64", **kwargs)
    np.testing.assert_array_equal(found, theirs(source, weights, **kwargs))


@settings(max_examples=100, deadline=None)
@given(problems(), st.integers(0, 2**32), st.sampled_from(NARROW), st.booleans())
def test_narrow_dtypes_are_summed_in_float32(problem, seed, dtype, turned):
    shape, weights, mode, origin = problem
    source = random_array(seed, shape, dtype)
    ours, theirs = BOTH[turned]
    kwargs = {"output": np.float32, "mode": mode, "cval": -1.5, "origin": origin}
    found = ours(source, weights, **kwargs)
    assert found.dtype == np.float32
    expected = theirs(source, weights, **{**kwargs, "output": np.float64})
    assert_close_to(found, expected, np.append(source, 1.5), weights, 2**-24)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(0, 2**32), st.sampled_from(("int32", "uint32", "int64", "uint64", "float64")))
def test_wide_dtypes_are_summed_in_float64(problem, seed, dtype):
    shape, weights, mode, origin = problem
    source = random_array(seed, shape, dtype)
    found = convolve(source, weights, np.float64, mode, origin=origin)
    expected = scipy.ndimage.convolve(source, weights, np.float64, mode, origin=origin)
    assert_close_to(found, expected, source, weights, 2**-53)


@settings(max_examples=60, deadline=None)
@given(problems(), st.integers(0, 2**32), st.sampled_from(INTEGERS), st.sampled_from(INTEGERS))
def test_integers_by_whole_numbers_are_exact_and_wrap_around(problem, seed, dtype, out_dtype):
    shape, weights, mode, origin = problem
    source = random_array(seed, shape, dtype) // (1 if np.dtype(dtype).itemsize < 4 else 2**12)
    whole = weights * 4
    found = correlate(source, whole, out_dtype, mode, origin=origin)
    assert found.dtype == out_dtype
    exact = scipy.ndimage.correlate(source, whole, np.float64, mode, origin=origin)
    np.testing.assert_array_equal(found, exact.astype(np.int64).astype(out_dtype))


@pytest.mark.parametrize(("ours", "theirs"), BOTH, ids=BOTH_IDS)
@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "float32", "float64"])
def test_the_default_output_has_the_dtype_of_the_input(ours, theirs, dtype):
    source = random_array(3, (20, 31), dtype) // 16
    weights = [[1, 2, 3], [-1, 0, 5]]
    found = ours(source, weights)
    expected = theirs(source, weights)
    assert found.dtype == expected.dtype == dtype
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-4)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 2**32), st.data())
def test_a_mode_and_an_origin_for_each_of_some_axes(seed, data):
    axes = data.draw(st.permutations(range(3)))[: data.draw(st.integers(1, 3))]
    modes = [data.draw(st.sampled_from(MODES)) for _ in axes]
    source = random_array(seed, (5, 6, 7), "float64")
    vectors = [random_array(seed + axis, data.draw(st.integers(1, 9)), "float64") for axis in axes]
    origins = [data.draw(st.integers(-(len(v) // 2), (len(v) - 1) // 2)) for v in vectors]
    by_axis = sorted(zip(axes, vectors, strict=True), key=lambda pair: pair[0])
    weights = by_axis[0][1]
    for _, vector in by_axis[1:]:
        weights = np.multiply.outer(weights, vector)
    found = correlate(source, weights, mode=modes, origin=origins, axes=axes, cval=3)
    expected = source
    for axis, vector, mode, origin in zip(axes, vectors, modes, origins, strict=True):
        # 1-D passes do not commute with the value beyond a border, unless that stays the same
        expected = scipy.ndimage.correlate1d(expected, vector, axis, mode=mode, cval=3, origin=origin)
    if "constant" in modes and len(axes) > 1:
        inner = tuple(
            slice(len(v), max(size - len(v), len(v)))
            for v, size in (
                (dict(zip(axes, vectors, strict=True)).get(a, [0]), n) for a, n in enumerate((5, 6, 7))
            )
        )
        found, expected = found[inner], expected[inner]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9 * 50**4)


@pytest.mark.parametrize("axes", [(0,), (1,), 2, (0, 1), (0, 2), (-1, 0), (1, 2), (0, 1, 2), (3,)])
@pytest.mark.parametrize("mode", MODES)
def test_some_axes_as_scipy(axes, mode):
    source = random_array(8, (5, 6, 7, 3), "float64")
    n_axes = 1 if isinstance(axes, int) else len(axes)
    weights = random_array(9, (3, 4, 5)[:n_axes], "float64")
    found = convolve(source, weights, mode=mode, axes=axes, cval=1, precision="float64")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, mode=mode, axes=axes, cval=1))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (9, 1), (2, 3), (1,), (3,), (2, 1, 2)])
def test_kernels_larger_than_the_image(shape, mode):
    source = random_array(1, shape, "float64")
    weights = random_array(2, (11, 8, 7)[: len(shape)], "float64")
    found = convolve(source, weights, mode=mode, cval=7, precision="float64")
    np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, mode=mode, cval=7))


@pytest.mark.parametrize("shape", [(0,), (0, 3), (3, 0), (2, 0, 4)])
def test_arrays_without_elements(shape):
    found = convolve(np.empty(shape, np.float32), np.ones((3,) * len(shape)))
    assert found.shape == shape
    assert found.dtype == np.float32


def test_an_array_without_axes():
    found = convolve(np.float64(3), 2.0)
    assert found.shape == ()
    assert found == scipy.ndimage.convolve(np.float64(3), 2.0) == 6


@pytest.mark.parametrize("size", [3, 4, 5, 6, 7, 9, 15, 31])
@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("shape", [(37, 150), (64, 64), (5, 700), (40, 3000)])
def test_every_size_of_tile_and_images_cut_into_strips(size, dtype, shape):
    source = random_array(size, shape, dtype)
    weights = random_array(size + 1, (size, size), "float64")
    for mode in MODES:
        found = correlate(source, weights, np.float64, mode, cval=9)
        expected = scipy.ndimage.correlate(source, weights, np.float64, mode, cval=9)
        assert_close_to(found, expected, source, weights, 2**-53 if dtype == "float64" else 2**-24)


@pytest.mark.parametrize("mode", MODES)
def test_colours_beside_each_other(mode):
    source = random_array(4, (23, 41, 3), "uint8")
    weights = random_array(5, (5, 4), "float64")
    found = convolve(source, weights, np.float32, mode, axes=(0, 1))
    for channel in range(3):
        expected = scipy.ndimage.convolve(source[..., channel], weights, np.float64, mode)
        assert_close_to(found[..., channel], expected, source, weights, 2**-24)


class TestMemory:
    source = random_array(6, (24, 36), "float64")
    weights = random_array(7, (5, 3), "float64")

    def layouts(self):
        wide = np.repeat(np.repeat(self.source, 2, 0), 3, 1)[::2, ::3]
        record = np.zeros(self.source.shape, [("a", "u1"), ("value", "f8")])
        record["value"] = self.source
        swapped = self.source.astype(">f8")
        frozen = self.source.copy()
        frozen.flags.writeable = False
        backward = self.source[::-1, ::-1].copy()[::-1, ::-1]
        return [wide, record["value"], swapped, frozen, backward, np.asfortranarray(self.source)]

    def test_the_layout_of_the_input_changes_nothing(self):
        expected = scipy.ndimage.convolve(self.source, self.weights)
        for source in self.layouts():
            before = source.copy()
            found = convolve(source, self.weights, precision="float64")
            np.testing.assert_array_equal(found, expected)
            np.testing.assert_array_equal(source, before)

    def test_the_layout_of_the_output_changes_nothing(self):
        expected = scipy.ndimage.convolve(self.source, self.weights)
        big = np.zeros((48, 72))
        record = np.zeros(self.source.shape, [("a", "u1"), ("value", "f8")])
        swapped = np.zeros(self.source.shape, ">f8")
        for out in (big[::2, ::-2], np.zeros((36, 24)).T, record["value"], swapped):
            assert convolve(self.source, self.weights, out, precision="float64") is out
            np.testing.assert_array_equal(out, expected)
        assert not big[1::2].any()
        assert not record["a"].any()

    def test_input_and_output_may_be_the_same(self):
        expected = scipy.ndimage.convolve(self.source, self.weights)
        source = self.source.copy()
        convolve(source, self.weights, source, precision="float64")
        np.testing.assert_array_equal(source, expected)

    def test_input_and_output_may_overlap(self):
        expected = scipy.ndimage.convolve(self.source, self.weights)
        both = np.zeros((25, 36))
        both[:-1] = self.source
        convolve(both[:-1], self.weights, both[1:], precision="float64")
        np.testing.assert_array_equal(both[1:], expected)

    def test_strided_weights(self):
        weights = np.repeat(self.weights, 2, 1)[:, ::2]
        weights.flags.writeable = False
        found = convolve(self.source, weights, precision="float64")
        np.testing.assert_array_equal(found, scipy.ndimage.convolve(self.source, self.weights))

    def test_lists(self):
        np.testing.assert_array_equal(convolve([1, 2, 4], [1, 1]), [3, 6, 8])

    def test_outputs_by_name(self):
        assert convolve(self.source, self.weights, "float32").dtype == np.float32
        assert convolve(self.source, self.weights, np.dtype(">i4")).dtype == np.dtype(">i4")


class TestOtherDtypes:
    def test_bool_input_counts_as_0_and_1(self):
        source = np.random.default_rng(0).random((9, 11)) < 0.5
        weights = np.arange(1.0, 10).reshape(3, 3)
        found = convolve(source, weights, np.int32)
        np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, np.int32))
        as_bool = convolve(source, weights)
        assert as_bool.dtype == bool
        np.testing.assert_array_equal(as_bool, found > 0)
        np.testing.assert_array_equal(as_bool.view(np.uint8) <= 1, True)

    def test_float16_and_longdouble(self):
        source = random_array(0, (9, 11), "float16")
        weights = random_array(1, (3, 3), "float64")
        expected = scipy.ndimage.convolve(source.astype(np.float64), weights)
        for dtype, rtol in (("float16", 2e-3), ("longdouble", 1e-12)):
            found = convolve(source.astype(dtype), weights)
            assert found.dtype == dtype
            np.testing.assert_allclose(found, expected, rtol, atol=0.2 if dtype == "float16" else 1e-9)

    @pytest.mark.parametrize(("ours", "theirs"), BOTH, ids=BOTH_IDS)
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize(
        ("dtype", "weights_dtype"),
        [
            ("complex128", "float64"),
            ("float64", "complex128"),
            ("complex128", "complex128"),
            ("uint8", "complex64"),
        ],
    )
    def test_complex(self, ours, theirs, mode, dtype, weights_dtype):
        source = random_array(0, (8, 9), dtype)
        weights = random_array(1, (4, 3), weights_dtype)
        cval = 2 - 1j if "complex" in dtype else 2
        found = ours(source, weights, mode=mode, cval=cval, precision="float64")
        expected = theirs(source, weights, mode=mode, cval=cval)
        assert found.dtype == expected.dtype
        np.testing.assert_allclose(found, expected, rtol=1e-6 if dtype == "uint8" else 1e-13, atol=1e-10)

    def test_complex64_stays(self):
        source = random_array(0, (30, 40), "complex64")
        weights = random_array(1, (3, 3), "complex64")
        found = convolve(source, weights)
        assert found.dtype == np.complex64
        np.testing.assert_allclose(found, scipy.ndimage.convolve(source, weights), rtol=1e-4, atol=1e-3)

    def test_a_complex_output_given(self):
        source, weights = random_array(0, (8, 9), "complex128"), random_array(1, (3, 3), "complex128")
        out = np.zeros((9, 8), complex).T
        convolve(source, weights, out)
        np.testing.assert_allclose(out, scipy.ndimage.convolve(source, weights), rtol=1e-12)

    def test_a_real_output_dtype_becomes_complex_with_a_warning(self):
        with pytest.warns(UserWarning, match="float32 becomes complex"):
            assert convolve([1j, 2], [1.0], np.float32).dtype == np.complex64


class TestNotFinite:
    @pytest.mark.parametrize("mode", MODES)
    @pytest.mark.parametrize("size", [3, 5, 7])
    @pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
    def test_they_spread_as_far_as_the_weights_are_not_zero(self, mode, size, value):
        source = random_array(0, (20, 30), "float64")
        source[0, 0] = source[9, 9] = source[19, 22] = value
        dense = random_array(1, (size, size), "float64")
        sparse = np.where(dense > 0.2, dense, 0)
        for weights in (dense, sparse):
            found = convolve(source, weights, mode=mode, precision="float64")
            np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, mode=mode))

    def test_a_cval_that_is_not_finite(self):
        source = random_array(0, (7, 9), "float32")
        weights = np.array([[0, 1, 0], [1, 0, 2], [0, 3, 0]])
        for cval in (np.nan, np.inf):
            found = convolve(source, weights, mode="constant", cval=cval)
            expected = scipy.ndimage.convolve(source, weights, mode="constant", cval=cval)
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-4)

    def test_large_sums_overflow_to_infinity(self):
        source = np.full((3, 3), 3e38, np.float32)
        assert np.isposinf(convolve(source, np.ones((3, 3)))).all()


class TestCasting:
    sums = np.array([-300.6, -1.5, -0.5, 0.5, 1.5, 2.5, 254.6, 300.4, 70000.0])

    def test_truncate_drops_the_fraction_and_wraps_around_as_scipy(self):
        for dtype in INTEGERS:
            found = convolve(self.sums, [1.0], dtype)
            np.testing.assert_array_equal(found, scipy.ndimage.convolve(self.sums, [1.0], dtype))

    def test_round_takes_the_nearest_even_for_ties(self):
        found = convolve(self.sums, [1.0], np.int32, casting="round")
        assert found.tolist() == [-301, -2, 0, 0, 2, 2, 255, 300, 70000]

    def test_saturate_stays_within_the_range(self):
        sums = np.append(self.sums, [np.nan, np.inf, -np.inf])
        found = convolve(sums, [1.0], np.uint8, casting="saturate")
        assert found.tolist() == [0, 0, 0, 0, 2, 2, 255, 255, 255, 0, 255, 0]
        found = convolve(sums, [1.0], np.int16, casting="saturate")
        assert found.tolist() == [-301, -2, 0, 0, 2, 2, 255, 300, 32767, 0, 32767, -32768]

    def test_saturate_at_64_bits(self):
        found = convolve([1e30, -1e30, 5.0], [1.0], np.uint64, casting="saturate")
        assert found.tolist() == [2**64 - 1, 0, 5]
        found = convolve([1e30, -1e30, 5.0], [1.0], np.int64, casting="saturate")
        assert found.tolist() == [2**63 - 1, -(2**63), 5]

    def test_floats_are_not_touched(self):
        for casting in ("truncate", "round", "saturate"):
            for dtype in (np.float32, np.float64):
                assert convolve([1.5, 0.25], [1.0], dtype, casting=casting).tolist() == [1.5, 0.25]

    def test_a_uint16_sum_of_whole_weights_is_exact_beyond_24_bits(self):
        source = np.full((4, 4), 65535, np.uint16)
        found = convolve(source, np.full((3, 3), 77), np.int64)
        assert (found == 65535 * 9 * 77).all()


class TestRefused:
    image = np.zeros((5, 6))
    kernel = np.ones((3, 3))

    @pytest.mark.parametrize(
        ("kwargs", "error", "message"),
        [
            ({"weights": np.ones(3)}, RuntimeError, r"one axis for each of 2 axes of input \(got shape \(3,\)\)"),
            ({"weights": np.ones((3, 0))}, RuntimeError, r"at least one number \(got shape \(3, 0\)\)"),
            ({"axes": 0}, RuntimeError, r"one axis for each of axes=0 \(got shape \(3, 3\)\)"),
            ({"axes": (0, 2)}, ValueError, r"axes must lie from -2 to 1 \(got 2\)"),
            ({"axes": (0, -2)}, ValueError, r"axes must differ from each other \(got \(0, -2\)\)"),
            ({"axes": (0.5, 1)}, TypeError, "'float' object cannot be interpreted as an integer"),
            ({"origin": 2}, ValueError, r"origin along axis 0 must lie from -1 to 1 for 3 weights \(got 2\)"),
            ({"origin": (0, -2)}, ValueError, r"origin along axis 1 must lie from -1 to 1 for 3 weights"),
            ({"origin": (0, 0, 0)}, RuntimeError, r"one for each of 2 axes \(got \(0, 0, 0\)\)"),
            ({"origin": 0.5}, TypeError, "cannot be interpreted as an integer"),
            ({"mode": "edge"}, RuntimeError, r"mode must be one of 'reflect', .* \(got 'edge'\)"),
            ({"mode": ["wrap"] * 3}, RuntimeError, "one for each of 2 axes"),
            ({"output": np.zeros((6, 5))}, RuntimeError, r"the shape of input, \(5, 6\) \(got \(6, 5\)\)"),
            ({"output": "S4"}, TypeError, r"output must have a dtype of numbers \(got \|S4\)"),
            ({"output": np.broadcast_to(0.0, (5, 6))}, ValueError, r"output must be writable"),
            ({"input": np.array([["a"]])}, TypeError, r"input must hold numbers \(got <U1\)"),
            ({"weights": np.array([["a"]])}, TypeError, r"weights must hold numbers \(got <U1\)"),
            ({"cval": 1j}, TypeError, r"cval must be real for real input"),
            ({"cval": 1j, "weights": np.ones((3, 3), complex)}, TypeError, "cval must be real for real input"),
            ({"weights": np.ones((3, 3), complex), "output": np.zeros((5, 6))}, RuntimeError, "must be complex"),
            ({"method": "fast"}, ValueError, r"method must be one of 'auto', .* \(got 'fast'\)"),
            ({"precision": "float16"}, ValueError, r"precision must be one of None, .* \(got 'float16'\)"),
            ({"casting": "floor"}, ValueError, r"casting must be one of 'truncate', .* \(got 'floor'\)"),
        ],
    )
    def test_with_a_message(self, kwargs, error, message):
        arguments = {"input": self.image, "weights": self.kernel, **kwargs}
        with pytest.raises(error, match=message):
            convolve(**arguments)

    @pytest.mark.parametrize("size", [1, 2, 3, 4, 5])
    def test_origins_are_those_that_scipy_takes(self, size):
        for (ours, theirs), origin in itertools.product(BOTH, range(-4, 5)):
            try:
                expected = theirs(np.arange(9.0), np.ones(size), origin=origin)
            except ValueError:
                with pytest.raises(ValueError, match="origin along axis 0 must lie from"):
                    ours(np.arange(9.0), np.ones(size), origin=origin)
            else:
                np.testing.assert_array_equal(ours(np.arange(9.0), np.ones(size), origin=origin), expected)


def test_nothing_warns():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        convolve(np.full((4, 4), np.nan), np.ones((3, 3)))


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("precision", [None, "float64"])
def test_every_set_of_weights_that_are_0_in_3_x_3(dtype, precision):
    source = random_array(1, (23, 70), dtype)
    all_weights = random_array(2, (3, 3), "float64")
    for used in (0b101101101, 0b111000111, 0b010111010, 0b000010000, 0b100000000, 0b011111110):
        weights = all_weights * [[used >> (3 * y + x) & 1 for x in range(3)] for y in range(3)]
        found = correlate(source, weights, np.float64, precision=precision)
        expected = scipy.ndimage.correlate(source, weights, np.float64)
        assert_close_to(found, expected, source, weights, 2**-53 if dtype == "float64" else 2**-24)
        if precision == "float64":
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cval", [0, 1 + 1j, 2, 3j])
@pytest.mark.parametrize("size", [3, 9, 41])
def test_complex_images_with_real_weights(mode, cval, size):
    source = random_array(0, (60, 50), "complex128")[:, ::2]
    weights = random_array(1, (size, size), "float64")
    found = convolve(source, weights, mode=mode, cval=cval)
    expected = scipy.ndimage.convolve(source, weights, mode=mode, cval=cval)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(weights).sum() * 200)
