"""Low-level callables for SciPy's filters do what llc's do, and take extra arguments."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from pathlib import Path

import llc
import numpy as np
import pytest
from scipy import LowLevelCallable, ndimage

from parimg.kernels import jit_filter1d_function, jit_filter_function, jit_geometric_function

ROOT = Path(__file__).parents[3]
IMAGE = np.random.default_rng(4).normal(size=(15, 18))


def fmin(values):
    result = np.inf
    for v in values:
        if v < result:  # noqa: PLR1730 - the published text's function
            result = v
    return result


def differences(line, result):
    for i in range(len(result)):
        result[i] = line[i + 2] - line[i]


def turned(position, place):
    place[0] = 0.8 * position[0] - 0.6 * position[1] + 3
    place[1] = 0.6 * position[0] + 0.8 * position[1] - 2


def test_a_window_s_function_gives_the_answer_of_llc_s():
    ours, theirs = jit_filter_function(fmin), llc.jit_filter_function(fmin)
    assert type(ours) is type(theirs) is LowLevelCallable
    for size in (1, 3, (2, 5), 9):
        found = ndimage.generic_filter(IMAGE, ours, size)
        np.testing.assert_array_equal(found, ndimage.generic_filter(IMAGE, theirs, size))
        np.testing.assert_array_equal(found, ndimage.minimum_filter(IMAGE, size))


def test_a_line_s_function_gives_the_answer_of_llc_s():
    found = ndimage.generic_filter1d(IMAGE, jit_filter1d_function(differences), 3, axis=0)
    theirs = ndimage.generic_filter1d(IMAGE, llc.jit_filter1d_function(differences), 3, axis=0)
    np.testing.assert_array_equal(found, theirs)
    np.testing.assert_allclose(found, ndimage.correlate1d(IMAGE, [-1, 0, 1], axis=0))


def test_a_mapping_gives_the_answer_of_llc_s():
    found = ndimage.geometric_transform(IMAGE, jit_geometric_function(turned))
    theirs = ndimage.geometric_transform(IMAGE, llc.jit_geometric_function(turned))
    np.testing.assert_array_equal(found, theirs)
    expected = ndimage.affine_transform(IMAGE, [[0.8, -0.6], [0.6, 0.8]], [3, -2])
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_a_mapping_may_have_an_input_of_more_axes_than_the_output():
    @jit_geometric_function
    def diagonal(position, place):
        place[0] = place[1] = position[0]

    found = ndimage.geometric_transform(IMAGE, diagonal, output_shape=(15,), order=1)
    np.testing.assert_allclose(found, np.diag(IMAGE))


def test_the_signatures_are_those_that_scipy_documents_on_every_platform():
    callables = jit_filter_function(fmin), jit_filter1d_function(differences), jit_geometric_function(turned)
    assert [one.signature for one in callables] == [
        "int (double *, intptr_t, double *, void *)",
        "int (double *, intptr_t, double *, intptr_t, void *)",
        "int (intptr_t *, double *, int, int, void *)",
    ]


def test_extra_arguments_are_numbers_and_arrays():
    def weighted(values, weights, table, scale, count, negate):
        total = (values * weights).sum() * scale + table[1, 2] + count
        return -total if negate else total

    weights = np.random.default_rng(1).normal(size=9)
    table = np.arange(12, dtype=np.int16).reshape(4, 3)[::2]
    for scale, count, negate in ((2.5, 3, True), (np.float32(0.5), np.uint8(7), False)):
        made = jit_filter_function(weighted, extra_arguments=(weights, table, scale, count, negate))
        gc.collect()
        expected = ndimage.correlate(IMAGE, weights.reshape(3, 3)) * scale + 8 + count
        np.testing.assert_allclose(ndimage.generic_filter(IMAGE, made, 3), -expected if negate else expected)


def test_arguments_are_given_to_lines_and_mappings_too():
    @jit_filter1d_function(extra_arguments=[2.0])
    def scaled(line, result, factor):
        result[:] = factor * line[1:-1]

    @jit_geometric_function(extra_arguments=(np.array([3.0, -1.0]),))
    def shifted(position, place, shift):
        for axis in range(len(place)):
            place[axis] = position[axis] + shift[axis]

    np.testing.assert_array_equal(ndimage.generic_filter1d(IMAGE, scaled, 3), 2 * IMAGE)
    found = ndimage.geometric_transform(IMAGE, shifted, order=1)
    np.testing.assert_allclose(found, ndimage.shift(IMAGE, (-3, 1), order=1))


def test_a_callable_outlives_all_that_it_was_made_of():
    made = [jit_filter_function(lambda values, k=k: values[0] + k) for k in range(3)]
    gc.collect()
    assert [ndimage.generic_filter(np.zeros(2), one, 1).tolist() for one in made] == [[0, 0], [1, 1], [2, 2]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (((lambda values: "a"),), "returns unicode_type"),
        (((lambda values: unknown),), "unknown"),  # noqa: F821
        ((7,), "must be callable"),
    ],
)
def test_functions_that_cannot_be_compiled_are_type_errors(arguments, message):
    with pytest.raises(TypeError, match=message):
        jit_filter_function(*arguments)


@pytest.mark.parametrize("argument", ["a", 1j, None, np.zeros(2, complex), np.zeros(2, np.longdouble)])
def test_other_extra_arguments_are_type_errors(argument):
    with pytest.raises(TypeError, match="must be numbers, or arrays of them"):
        jit_filter_function(lambda values, other: values[0], extra_arguments=(argument,))


SCRIPT = """
import time
import numpy as np
from numba.core import ccallback
from scipy import ndimage
from parimg.kernels import jit_filter_function
def smallest(values, least):
    return max(values.min(), least)
made = jit_filter_function(smallest, extra_arguments=(1.5,))
print(ndimage.generic_filter(np.arange(9.0).reshape(3, 3), made, 3)[0, 0], made.function.compiled.cache_hits)
"""


@pytest.mark.slow
def test_a_new_process_takes_the_callable_from_the_disk(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", SCRIPT]
    runs = [subprocess.run(command, capture_output=True, text=True, env=environment, check=True) for _ in range(2)]
    assert [run.stdout.split() for run in runs] == [["1.5", "0"], ["1.5", "1"]]
