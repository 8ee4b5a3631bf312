"""What compiled filters take as functions and arguments: any layout of arrays, helpers, errors that say why."""

from __future__ import annotations

import itertools
from typing import Any, NamedTuple

import numpy as np
import pytest
from numba.extending import overload
from scipy import ndimage, stats

import parimg.kernels as pk
from parimg.kernels.filters.user_functions import as_compiled_code_reads

IMAGE = np.random.default_rng(0).random((6, 7))
WEIGHTS = np.arange(9.0)
new_number = itertools.count()


def odd_arrays():
    unaligned = np.empty(8 * 9 + 1, np.uint8)[1:].view(np.float64)
    unaligned[:] = WEIGHTS
    read_only = WEIGHTS.copy()
    read_only.flags.writeable = False
    return {
        "big-endian": WEIGHTS.astype(">f8"),
        "unaligned": unaligned,
        "read-only": read_only,
        "strided": np.repeat(WEIGHTS, 2)[::2],
        "reversed": WEIGHTS[::-1].copy()[::-1],
        "float32": WEIGHTS.astype(np.float32),
        "big-endian float32": WEIGHTS.astype(">f4"),
        "int16": WEIGHTS.astype(np.int16),
        "big-endian int16": WEIGHTS.astype(">i2"),
    }


def new_function(text):
    """A function that was never compiled for anything: each has another constant."""
    scope = {}
    exec(f"UNUSED = {next(new_number)}\n{text}", scope)
    return next(value for value in scope.values() if callable(value))


WEIGHTED = """def weighted(v, w):
    total = 0.0 * UNUSED
    for i in range(len(v)): total += v[i] * w[i]
    return total"""
LINE = """def line(source, result, w):
    for i in range(len(result)): result[i] = source[i] * w[1] + source[i + 1] * w[2] + 0 * UNUSED"""
MAPPING = """def mapping(place, w): return place[0] - w[1] + 0 * UNUSED, place[1] + w[2] / 4"""
CALLS = {
    "generic_filter": (WEIGHTED, lambda m, f, w, **k: m.generic_filter(IMAGE, f, 3, extra_arguments=(w,), **k)),
    "generic_filter1d": (LINE, lambda m, f, w, **k: m.generic_filter1d(IMAGE, f, 2, extra_arguments=(w,), **k)),
    "geometric_transform": (MAPPING, lambda m, f, w: m.geometric_transform(IMAGE, f, extra_arguments=(w,))),
}


@pytest.mark.parametrize(
    ("name", "first"),
    [
        *[("generic_filter", kind) for kind in ("native", *odd_arrays())],
        *itertools.product(["generic_filter1d", "geometric_transform"], ["native", "big-endian"]),
    ],
)
def test_arrays_of_any_layout_give_scipy_s_answer_whatever_was_compiled_before(name, first):
    text, call = CALLS[name]
    function = new_function(text)
    expected = call(ndimage, function, WEIGHTS)
    arrays = {"native": WEIGHTS, **odd_arrays()}
    rest = odd_arrays() if (name, first) == ("generic_filter", "native") else ["native", "big-endian"]
    for kind in (first, *rest):
        np.testing.assert_allclose(call(pk, function, arrays[kind]), expected, rtol=1e-12, err_msg=kind)


class Pair(NamedTuple):
    scale: float
    weights: Any


def test_arrays_inside_tuples_are_read_in_their_byte_order():
    function = new_function("def scaled(v, p): return p[0] * (v * p[1]).sum() + UNUSED - UNUSED")
    expected = 2 * ndimage.correlate(IMAGE, WEIGHTS.reshape(3, 3))
    for weights in (WEIGHTS, WEIGHTS.astype(">f8")):
        for given in ((2.0, weights), Pair(2.0, weights)):
            found = pk.generic_filter(IMAGE, function, 3, extra_arguments=(given,))
            np.testing.assert_allclose(found, expected, rtol=1e-12)
    given = Pair(2.0, WEIGHTS.astype(">f8"))
    assert type(as_compiled_code_reads(given)) is Pair
    assert as_compiled_code_reads((1, WEIGHTS))[1] is WEIGHTS


def test_an_output_inside_an_extra_argument_is_not_written_while_it_is_read():
    output = np.ones(5)

    def first_weight(values, pair):
        return values[0] + pair[0][4]

    pk.generic_filter(np.arange(5.0), first_weight, 1, output=output, extra_arguments=((output,),))
    assert output.tolist() == [1, 2, 3, 4, 5]


def test_low_level_callables_take_arrays_of_any_layout_and_large_unsigned_numbers():
    expected = ndimage.correlate(IMAGE, WEIGHTS.reshape(3, 3))
    for name in ("unaligned", "big-endian"):
        function = pk.jit_filter_function(lambda v, w: (v * w).sum(), extra_arguments=(odd_arrays()[name],))
        np.testing.assert_allclose(ndimage.generic_filter(IMAGE, function, 3), expected)
    large = pk.jit_filter_function(lambda v, n: float(n), extra_arguments=(2**63,))
    assert ndimage.generic_filter(np.zeros(1), large, 1).tolist() == [2.0**63]


# -- helpers ------------------------------------------------------------------------------------------------------


def halved(x):
    return x if x < 0.5 else halved(x / 2)


def with_helper(values):
    return halved(values[0]) + values.max()


def test_plain_functions_that_a_filter_calls_are_compiled_with_it():
    def spread(values):
        return values.max() - values.min()

    def closed_over(values):
        return spread(values) + with_helper(values)

    for function in (with_helper, closed_over):
        expected = ndimage.generic_filter(IMAGE, function, 3)
        np.testing.assert_allclose(pk.generic_filter(IMAGE, function, 3), expected)
        callable_of_scipy = pk.jit_filter_function(function)
        np.testing.assert_allclose(ndimage.generic_filter(IMAGE, callable_of_scipy, 3), expected)


def known_to_numba(x):
    raise NotImplementedError


@overload(known_to_numba)
def _known(x):
    return lambda x: x + 1.0


def test_a_function_with_an_overload_is_left_to_numba():
    found = pk.generic_filter(np.zeros(2), lambda values: known_to_numba(values[0]), 1)
    assert found.tolist() == [1.0, 1.0]


# -- what cannot be compiled ----------------------------------------------------------------------------------


def formatted(values):
    return float(f"{values[0]}")


def importing(values):
    import math

    return math.sqrt(values[0])


@pytest.mark.parametrize("function", [stats.gmean, stats.entropy, formatted, importing])
def test_whatever_numba_stops_with_is_a_type_error_with_the_way_out(function):
    """scipy.stats ends in an AssertionError of numba's, an f-string in a ValueError."""
    for compile_it in (
        lambda: pk.generic_filter(IMAGE, function, 3),
        lambda: pk.generic_filter1d(IMAGE, lambda line, result: function(line), 3),
        lambda: pk.geometric_transform(IMAGE, lambda place: (function(place), 0.0)),
        lambda: pk.jit_filter_function(function),
        lambda: pk.jit_filter1d_function(lambda line, result: function(line)),
        lambda: pk.jit_geometric_function(lambda place, result: function(place)),
    ):
        with pytest.raises(TypeError, match=r"cannot be compiled: .*python=True"):
            compile_it()


@pytest.mark.parametrize("argument", [{}, np.ma.masked_array([1.0]), np.zeros(2, np.longdouble)])
def test_extra_arguments_without_a_numba_type_are_type_errors(argument):
    with pytest.raises(TypeError, match=r"(?s)extra argument .*python=True"):
        pk.generic_filter(IMAGE, lambda values, _: values[0], 3, extra_arguments=(argument,))


@pytest.mark.parametrize("index", [9, 20, -10])
def test_a_constant_index_outside_the_window_is_an_index_error(index):
    scope = {}
    exec(f"def reads(v): return v[{index}]", scope)
    exec(f"def writes(v):\n    v[{index}] = 1\n    return v[0]", scope)
    exec(f"def guarded(v): return v[{index}] if len(v) > 20 else v[-9]", scope)
    for name in ("reads", "writes"):
        for filter_of in (pk, ndimage):
            with pytest.raises(IndexError, match=f"index {index} is out of bounds"):
                filter_of.generic_filter(IMAGE, scope[name], 3)
    found = pk.generic_filter(IMAGE, scope["guarded"], 3)
    np.testing.assert_array_equal(found, ndimage.generic_filter(IMAGE, scope["guarded"], 3))


def test_constant_indices_inside_the_window_are_read_and_written():
    def shuffled(values):
        values[8] = 1
        values[-9] += 2.5
        return values[0] + values[8] + values[-2]

    found = pk.generic_filter(IMAGE, shuffled, 3)
    np.testing.assert_allclose(found, ndimage.generic_filter(IMAGE, shuffled, 3))


def first(values, given):
    return values[0] + given[0]


def second_of_first(values, given):
    return values[0] + given[0][1]


def first_of_second_of_first(values, given):
    return values[0] + given[0][1][0]


@pytest.mark.parametrize(
    ("function", "given"),
    [
        (first, [3.0, 1.0]),
        (first, [1, 2.5]),
        (first, [True, 2]),
        (second_of_first, [(2.0, 3.0)]),
        (second_of_first, [[2, 3.5], [4]]),
        (second_of_first, ([2.0, 3.0],)),
        (second_of_first, [np.array([2.0, 3.0])]),
        (second_of_first, [np.array([2.0, 3.0], ">f8"), np.array([1], "f4")]),
        (second_of_first, [np.arange(9.0)[::3], np.arange(2.0)]),
        (first_of_second_of_first, [(1, np.array([3.0], ">f8"))]),
        (first_of_second_of_first, ([[1.0], [3.0]],)),
    ],
)
def test_lists_are_read_as_scipy_reads_them(function, given):
    """Of lists in lists numba reads garbage, and it takes all items of a list for what the first is."""
    got = pk.generic_filter(IMAGE, function, size=3, extra_arguments=(given,))
    np.testing.assert_array_equal(got, ndimage.generic_filter(IMAGE, function, size=3, extra_arguments=(given,)))


def test_buffers_of_foreign_byte_order_are_read_rightly():
    given = memoryview(np.array([3.0], ">f8"))
    got = pk.generic_filter(IMAGE, first, size=3, extra_arguments=(given,))
    np.testing.assert_array_equal(got, ndimage.generic_filter(IMAGE, first, size=3, extra_arguments=([3.0],)))


@pytest.mark.parametrize("dtype", [">u2", ">i4", ">f4", ">f8"])
def test_geometric_transforms_of_foreign_byte_order_come_in_native_order(dtype):
    image = (np.random.default_rng(0).random((5, 6)) * 100).astype(dtype)
    got = pk.geometric_transform(image, lambda place: (place[0] + 0.5, place[1]), order=1)
    want = ndimage.geometric_transform(image, lambda place: (place[0] + 0.5, place[1]), order=1)
    assert got.dtype == want.dtype
    assert got.dtype.isnative
    np.testing.assert_array_equal(got, want)
