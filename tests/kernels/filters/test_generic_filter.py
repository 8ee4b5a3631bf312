"""Filters with a user's function give SciPy's answers, whatever the geometry, dtype and border."""

from __future__ import annotations

import functools
import math
import os
import statistics
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from parimg.kernels.filters import generic_filter as module
from parimg.kernels.filters import loops, window_plan
from parimg.kernels.filters.generic_filter import generic_filter
from parimg.kernels.filters.windows import LARGEST_ON_STACK

ROOT = Path(__file__).parents[3]
RNG = np.random.default_rng(11)
MODES = ("reflect", "mirror", "nearest", "wrap", "constant")
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
IMAGE = RNG.normal(size=(13, 17))


def weighted(values):
    """Depends on every element and on their order."""
    total = 0.0
    for i, value in enumerate(values):
        total += (i + 1) * value
    return total


def fmin(values):
    result = np.inf
    for v in values:
        if v < result:  # noqa: PLR1730 - the published text's function
            result = v
    return result


def near_mean(values, threshold):
    """Mean of those that differ from the middle one by less than a threshold."""
    centre = values[len(values) // 2]
    total, n = 0.0, 0
    for v in values:
        if abs(v - centre) < threshold:
            total += v
            n += 1
    return total / n


# -- geometry -------------------------------------------------------------------------------------------------


@st.composite
def problems(draw):
    """An image, and a window with all that can be said about it."""
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 7)) for _ in range(ndim))
    dtype = draw(st.sampled_from([np.uint8, np.int16, np.float32, np.float64, np.bool_]))
    image = (np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape) * 50).astype(dtype)
    axes = draw(st.none() | st.sets(st.integers(0, ndim - 1), min_size=1).map(sorted))
    sides = [draw(st.integers(1, 9 if ndim == 1 else 4)) for _ in range(ndim if axes is None else len(axes))]
    footprint = np.ones(sides, bool)
    if draw(st.booleans()):
        flat = footprint.reshape(-1)
        flat[draw(st.lists(st.integers(0, flat.size - 1), max_size=flat.size - 1, unique=True))] = False
    origin = [draw(st.integers(-(side // 2), side - side // 2 - 1)) for side in sides]
    layout = draw(st.sampled_from(["C", "F", "reversed", "strided", "read-only"]))
    if layout == "F":
        image = np.asfortranarray(image)
    elif layout == "reversed":
        image = np.ascontiguousarray(image[..., ::-1])[..., ::-1]
    elif layout == "strided":
        image = np.repeat(image, 2, axis=-1)[..., ::2]
    elif layout == "read-only":
        image.flags.writeable = False
    options = {
        "footprint": footprint,
        "origin": origin,
        "mode": draw(st.sampled_from([*MODES, "grid-mirror"])),
        "cval": draw(st.sampled_from([0.0, -2.5, 300.0])),
        "output": np.float64,
    }
    return image, options | ({} if axes is None else {"axes": tuple(axes)})


@pytest.mark.slow
@settings(max_examples=400, deadline=None)
@given(problems(), st.booleans())
def test_any_window_over_any_array_gives_scipy_s_answer(problem, in_place):
    image, options = problem
    before = image.copy()
    with pytest.MonkeyPatch.context() as patch:  # one loop for windows of all lengths: nothing is compiled anew
        patch.setattr(module, "LARGEST_ON_STACK", 0)
        if not in_place:  # as where lines are not contiguous
            patch.setattr(window_plan.Geometry, "is_read_in_place", False)
        window_plan.plan_filter.cache_clear()
        found = generic_filter(image, weighted, **options)
    window_plan.plan_filter.cache_clear()
    expected = ndimage.generic_filter(image, weighted, **options)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    assert found.shape == image.shape
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(3, 4), (4, 3)])
def test_windows_on_the_stack_give_scipy_s_answer(mode, size):
    found = generic_filter(IMAGE, weighted, size, mode=mode, cval=0.5)
    np.testing.assert_allclose(
        found, ndimage.generic_filter(IMAGE, weighted, size, mode=mode, cval=0.5), rtol=1e-12
    )


@pytest.mark.parametrize("rows", [3, 14])  # the second is read in place
def test_lines_longer_than_a_tile_are_filtered_without_a_seam(rows):
    image = RNG.normal(size=(rows, 5000))
    np.testing.assert_array_equal(
        generic_filter(image, fmin, footprint=CROSS), ndimage.grey_erosion(image, footprint=CROSS)
    )


@pytest.mark.parametrize("size", [12, 31])
def test_windows_too_long_for_the_stack_and_larger_than_the_image(size):
    image = IMAGE[:6, :9]
    assert size * size > LARGEST_ON_STACK
    found = generic_filter(image, fmin, size, mode="mirror")
    np.testing.assert_array_equal(found, ndimage.minimum_filter(image, size, mode="mirror"))


def test_colours_are_filtered_apart():
    image = RNG.integers(0, 256, (9, 8, 3), dtype=np.uint8)
    found = generic_filter(image, fmin, footprint=CROSS, axes=(0, 1))
    np.testing.assert_array_equal(found, ndimage.grey_erosion(image, footprint=CROSS[:, :, None]))


def test_each_axis_may_have_its_own_mode():
    padded = np.pad(np.pad(IMAGE, ((1, 1), (0, 0)), "wrap"), ((0, 0), (1, 1)), "edge")
    expected = ndimage.generic_filter(padded, weighted, 3)[1:-1, 1:-1]
    np.testing.assert_allclose(generic_filter(IMAGE, weighted, 3, mode=["wrap", "nearest"]), expected, rtol=1e-12)


def test_an_array_without_axes_or_elements():
    assert generic_filter(np.float64(3.5), weighted, 3) == 3.5
    assert generic_filter(np.empty((0, 4)), weighted, 3).shape == (0, 4)
    assert generic_filter(np.zeros((2, 2)), len, footprint=np.zeros((3, 3))).tolist() == [[0, 0], [0, 0]]


def test_the_parts_of_a_window_go_with_the_axes_in_the_order_they_are_named():
    """SciPy says so, too, but takes the footprint in the order of the array's axes."""
    turned = {"size": (2, 3), "origin": (0, 1), "mode": ["wrap", "mirror"]}
    footprint = np.array([[1, 1, 0], [0, 0, 1]], bool)
    for function in (fmin, max):
        found = generic_filter(IMAGE, function, axes=(1, 0), **turned)
        np.testing.assert_array_equal(found, generic_filter(IMAGE.T, function, **turned).T)
        found = generic_filter(IMAGE, function, footprint=footprint, axes=(-1, 0))
        np.testing.assert_array_equal(found, ndimage.generic_filter(IMAGE, function, footprint=footprint.T))


# -- dtypes ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["?", "B", "h", "I", "Q", "f", "e", "g", ">i2"])
def test_every_real_dtype_is_filtered_and_kept(dtype):
    numbers = RNG.normal(size=(5, 6)) * 40
    # What is below 0 is near 2**64 in uint64, and 2**64 in float64: no uint64 again.
    image = (np.abs(numbers) if np.dtype(dtype).kind == "u" else numbers).astype(dtype)
    found = generic_filter(image, fmin, 3)
    assert found.dtype == np.dtype(dtype).newbyteorder("=")
    np.testing.assert_array_equal(found, ndimage.minimum_filter(image.astype(float), 3).astype(dtype))


@pytest.mark.parametrize("dtype", [np.int8, np.uint16, np.int64, np.float32, bool])
def test_results_are_converted_as_scipy_converts_them(dtype):
    image = np.array([[0.3, 0.99, 1.5, 2.49, 2.5, 100.7]])
    found = generic_filter(image, fmin, 1, output=dtype)
    np.testing.assert_array_equal(found, ndimage.generic_filter(image, fmin, 1, output=dtype))
    assert found.dtype == dtype


def test_results_that_an_integer_dtype_cannot_hold_keep_their_low_bits_and_nan_is_zero():
    image = np.array([-1.5, -2.0, 256.7, 513.0, np.nan])
    assert generic_filter(image, fmin, 1, output=np.uint8).tolist()[:4] == [255, 254, 0, 1]
    assert generic_filter(image, lambda v: v[0], 1, output=np.uint8).tolist() == [255, 254, 0, 1, 0]
    beyond = np.array([np.nan, np.inf, -np.inf, 2.0**64, -(2.0**64)])
    for dtype in ("u1", "i2", "i4", "u4", "i8", "u8", ">i2"):
        assert generic_filter(beyond, lambda v: v[0], 1, output=dtype).tolist() == [0] * 5, dtype
    windows = generic_filter(beyond, lambda v: v[0], 1, output=float, values_dtype=np.int32)
    assert windows.tolist() == [0] * 5
    large = np.array([-1.0, 2.0**63, 2.0**64 - 2048])
    assert generic_filter(large, lambda v: v[0], 1, output=np.uint64).tolist() == [2**64 - 1, 2**63, 2**64 - 2048]


def test_windows_are_of_float64_unless_asked_otherwise():
    image = np.array([[3, 5, 4]], np.uint8)
    first_less_last = lambda values: values[0] - values[-1]
    assert generic_filter(image, first_less_last, (1, 3), output=float).tolist() == [[-2.0, -1.0, 1.0]]
    sums = generic_filter(np.full((1, 3), 1e8, np.float32), weighted, 3, output=float)
    np.testing.assert_array_equal(sums, np.full((1, 3), 45e8))


@pytest.mark.parametrize("values_dtype", [None, np.int32, np.float32])
def test_windows_of_another_dtype_give_the_same_minimum(values_dtype):
    image = RNG.integers(0, 256, (8, 9), dtype=np.uint8)
    found = generic_filter(image, lambda values: values.min(), 3, values_dtype=values_dtype)
    np.testing.assert_array_equal(found, ndimage.minimum_filter(image, 3))
    assert found.dtype == np.uint8


def test_nan_in_the_input_reaches_the_function():
    image = IMAGE.copy()
    image[4, 5] = np.nan
    found = generic_filter(image, weighted, 3)
    np.testing.assert_allclose(found, ndimage.generic_filter(image, weighted, 3))
    assert np.isnan(found).sum() == 9


@pytest.mark.parametrize("place", ["given", "strided", "int", "complex", "input"])
def test_an_output_array_is_filled_and_given_back(place):
    image = IMAGE.copy()
    output = {
        "given": np.empty(IMAGE.shape),
        "strided": np.empty((2 * 13, 2 * 17))[::2, ::2],
        "int": np.empty(IMAGE.shape, np.int16),
        "complex": np.empty(IMAGE.shape, complex),
        "input": image,
    }[place]
    expected = ndimage.generic_filter(IMAGE, weighted, 3).astype(output.dtype)
    assert generic_filter(image, weighted, 3, output=output) is output
    np.testing.assert_allclose(output, expected, rtol=1e-12)


def test_an_output_that_may_not_be_written_is_refused():
    output = np.empty(IMAGE.shape)
    output.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        generic_filter(IMAGE, fmin, 3, output=output)


# -- functions ------------------------------------------------------------------------------------------------


def test_what_numpy_does_with_arrays_can_be_done_with_a_window():
    def many(values):
        middle = values[values.size // 2]
        above = values[values > middle]
        pair = values[1:3] - middle
        ordered = np.sort(values)
        values[0] = middle  # it is the pixel's own
        return (
            above.sum() + pair.max() + ordered[1] + values.mean() + values[-1] + min(values) + len(values.copy())
        )

    np.testing.assert_allclose(generic_filter(IMAGE, many, 3), ndimage.generic_filter(IMAGE, many, 3))


@pytest.mark.parametrize("function", [np.median, np.mean, np.std, np.max, np.ptp, len, max])
def test_functions_that_numba_knows_are_taken_as_they_are(function):
    found = generic_filter(IMAGE, function, 3, output=float)
    np.testing.assert_allclose(found, ndimage.generic_filter(IMAGE, function, 3, output=float), rtol=1e-9)


@pytest.mark.parametrize("count", [1, 2, 9, 24, 120])
def test_the_median_is_numpy_s_also_with_infinities_and_nan(count):
    image = RNG.integers(-3, 4, size=(12, 40)).astype(float)
    image[3, 3], image[3, 9], image[8, 21], image[8, 30] = np.inf, -np.inf, np.nan, -0.0
    footprint = np.ones((1, count))
    with np.errstate(invalid="ignore"):
        expected = ndimage.generic_filter(image, np.median, footprint=footprint)
    np.testing.assert_array_equal(generic_filter(image, np.median, footprint=footprint), expected)


def test_extra_arguments_are_given_by_position_and_name_and_compile_nothing_anew():
    expected = ndimage.generic_filter(IMAGE, near_mean, 3, extra_arguments=(0.7,))
    np.testing.assert_allclose(generic_filter(IMAGE, near_mean, 3, extra_arguments=(0.7,)), expected)
    compiled = len(loops.filter_lines.signatures)
    for threshold in (0.1, 0.7, 2.0):
        expected = ndimage.generic_filter(IMAGE, near_mean, 3, extra_keywords={"threshold": threshold})
        found = generic_filter(IMAGE, near_mean, 3, extra_keywords={"threshold": threshold})
        np.testing.assert_allclose(found, expected)
        partial = functools.partial(near_mean, threshold=threshold)
        np.testing.assert_allclose(generic_filter(IMAGE, partial, 3), expected)
    assert len(loops.filter_lines.signatures) == compiled


def test_arrays_and_defaults_are_extra_arguments_too():
    def dot(values, weights, scale=2.0, shift=0.0):
        return scale * (values * weights).sum() + shift

    weights = RNG.normal(size=9)
    found = generic_filter(IMAGE, dot, 3, extra_arguments=(weights,), extra_keywords={"shift": 1.0})
    expected = 2.0 * ndimage.correlate(IMAGE, weights.reshape(3, 3)) + 1.0
    np.testing.assert_allclose(found, expected)


def test_several_results_are_planes_of_one_array():
    def mean_and_range(values):
        return values.mean(), values.max() - values.min(), len(values)

    mean, spread, count = generic_filter(IMAGE, mean_and_range, 3)
    np.testing.assert_allclose(mean, ndimage.uniform_filter(IMAGE, 3))
    np.testing.assert_allclose(spread, ndimage.maximum_filter(IMAGE, 3) - ndimage.minimum_filter(IMAGE, 3))
    assert (count == 9).all()
    one = generic_filter(IMAGE[:0], mean_and_range, 3, output=np.float32)
    assert (one.shape, one.dtype) == ((3, 0, 17), np.float32)


@pytest.mark.parametrize("shape", [(7, 5), (70, 33), (70, 9, 3)])
def test_several_results_of_ends_of_lines_go_to_their_planes(shape):
    image = np.random.default_rng(3).random(shape)
    size = (3, 5, 1)[: len(shape)]
    found = generic_filter(image, lambda values: (values.min(), values[-1]), size, mode="mirror")
    np.testing.assert_array_equal(found[0], ndimage.minimum_filter(image, size, mode="mirror"))
    corner = np.zeros(size, bool)
    corner[-1, -1] = True
    np.testing.assert_array_equal(found[1], ndimage.minimum_filter(image, footprint=corner, mode="mirror"))


def test_a_global_that_changes_changes_the_filter():
    scope = {}
    exec("factor = 2.0\ndef scaled(values):\n    return factor * values[0]", scope)
    assert generic_filter([1.0, 2.0], scope["scaled"], 1).tolist() == [2.0, 4.0]
    scope["factor"] = 5.0
    assert generic_filter([1.0, 2.0], scope["scaled"], 1).tolist() == [5.0, 10.0]


def test_what_a_function_holds_is_looked_at_again_at_each_call():
    limit, table = 0.25, np.array([1.0])

    def above(values, factor=2.0):
        return factor if values[0] > limit else table[0]

    def plain(values, factor=2.0):
        return factor if values[0] > limit else 1.0

    assert generic_filter([0.5], above, 1).tolist() == [2.0]
    assert generic_filter([0.5], plain, 1).tolist() == [2.0]
    limit = 0.75
    assert generic_filter([0.5], plain, 1).tolist() == [1.0]
    plain.__defaults__, limit = (3.0,), 0.25
    assert generic_filter([0.5], plain, 1).tolist() == [3.0]
    table[0], limit = 7.0, 0.75  # the same array
    assert generic_filter([0.5], above, 1).tolist() == [7.0]


def test_functions_may_call_jitted_ones():
    @numba.njit
    def triangle(n):
        return 0 if n == 0 else n + triangle(n - 1)

    def outer(values):
        return triangle(int(values[0])) + math.sqrt(values[0])

    assert generic_filter([4.0, 9.0], outer, 1).tolist() == [12.0, 48.0]


def test_an_error_that_the_function_raises_comes_through():
    def strict(values):
        if values[0] < 0:
            raise ValueError("negative")
        return values[0]

    assert generic_filter([1.0], strict, 1).tolist() == [1.0]
    with pytest.raises(ValueError, match=r"^negative$"):
        generic_filter([1.0, -1.0], strict, 1)


def test_division_by_zero_is_as_numpy_divides():
    found = generic_filter([0.0, 1.0, -1.0], lambda values: values[0] / 0.0, 1)
    np.testing.assert_array_equal(found, [np.nan, np.inf, -np.inf])


# -- what numba cannot compile, and what was said wrong -----------------------------------------------------------


def hopeless(values):
    return statistics.median(values)


def test_a_function_that_cannot_be_compiled_is_told_with_reason_line_and_way_out():
    with pytest.raises(TypeError) as caught:
        generic_filter(IMAGE, hopeless, 3)
    message = str(caught.value)
    assert message.startswith("the function 'hopeless' cannot be compiled: ")
    assert f"{__file__}, line {hopeless.__code__.co_firstlineno + 1}" in message
    assert "return statistics.median(values)" in message
    assert "python=True" in message
    found = generic_filter(IMAGE, hopeless, 3, python=True)
    np.testing.assert_array_equal(found, ndimage.median_filter(IMAGE, 3))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda values: "a", "returns"),
        (lambda values: values, "returns"),
        (lambda values: None, "returns"),
        (lambda values: 1j * values[0], "returns"),
        (lambda values: undefined_name(values[0]), "undefined_name"),  # noqa: F821
        (lambda values, threshold: values[0], "missing a required argument: 'threshold'"),
        (lambda: 0, "too many positional arguments"),
        (3, "function must be callable"),
        (str.upper, "cannot be compiled"),
    ],
)
def test_functions_that_cannot_be_used_are_type_errors(function, message):
    with pytest.raises(TypeError, match=message):
        generic_filter(IMAGE, function, 3)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({}, RuntimeError, "give a size or a footprint"),
        ({"size": (3, 3, 3)}, RuntimeError, "one for each of 2 axes"),
        ({"size": (0, 3)}, RuntimeError, r"no side of 0 \(got shape \(0, 3\)\)"),
        ({"footprint": np.ones(3)}, RuntimeError, "must have 2 axes"),
        ({"size": 3, "origin": 2}, ValueError, "got 2 for size 3"),
        ({"size": 3, "mode": "edge"}, RuntimeError, "got 'edge'"),
        ({"size": 3, "mode": ["wrap"]}, RuntimeError, "one for each of 2 axes"),
        ({"size": 3, "axes": 2}, ValueError, "from -2 to 1"),
        ({"size": 3, "axes": (0, -2)}, ValueError, "differ from each other"),
        ({"size": 3, "output": np.empty((3, 3))}, RuntimeError, r"shape \(13, 17\) \(got \(3, 3\)\)"),
        ({"size": 3, "values_dtype": complex}, TypeError, "got complex128"),
        ({"size": 3, "values_dtype": "f4", "python": True}, ValueError, "values_dtype"),
    ],
)
def test_what_was_said_wrong_is_told(options, error, message):
    with pytest.raises(error, match=message):
        generic_filter(IMAGE, fmin, **options)


def test_complex_input_is_refused_as_by_scipy():
    for function in (generic_filter, ndimage.generic_filter):
        with pytest.raises(TypeError):
            function(np.zeros((3, 3), complex), fmin, 3)


def test_a_size_beside_a_footprint_is_ignored_with_a_warning():
    with pytest.warns(UserWarning, match="ignoring size"):
        found = generic_filter(IMAGE, fmin, 5, CROSS)
    np.testing.assert_array_equal(found, ndimage.grey_erosion(IMAGE, footprint=CROSS))


# -- processes and threads --------------------------------------------------------------------------------------

SCRIPT = """
import sys, types
import numpy as np
from parimg.kernels.filters import loops
from parimg.kernels.filters.generic_filter import generic_filter
def blurred(values, weight):
    return weight * values.mean()
image = np.arange(12.0).reshape(3, 4)
print(generic_filter(image, blurred, 3, extra_arguments=(2.0,))[1, 1])
print(sum(loops.filter_lines.stats.cache_misses.values()), sum(loops.filter_lines.stats.cache_hits.values()))
"""


@pytest.mark.slow
def test_a_new_process_compiles_nothing_even_for_a_function_that_lies_in_no_file(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}

    def run(script):
        command = [sys.executable, "-c", script]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout.split()

    assert run(SCRIPT) == ["10.0", "1", "0"]
    assert run(SCRIPT) == ["10.0", "0", "1"]
    assert run("\n\n" + SCRIPT.replace("weight * values", "weight + values")) == ["7.0", "1", "0"]


def test_threads_filter_at_the_same_time():
    results = {}

    def run(name):
        results[name] = generic_filter(IMAGE, near_mean, 3, extra_arguments=(name / 4,))

    threads = [threading.Thread(target=run, args=(name,)) for name in range(1, 5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for name, found in results.items():
        np.testing.assert_allclose(found, generic_filter(IMAGE, near_mean, 3, extra_arguments=(name / 4,)))
    assert len(results) == 4
