"""Filters of lines, and transforms with a compiled mapping, give SciPy's answers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from parimg.kernels import generic_filter1d, geometric_transform, jit_filter1d_function, jit_geometric_function

IMAGE = np.random.default_rng(4).normal(size=(15, 18))
MODES = ("reflect", "mirror", "nearest", "wrap", "constant")


def weighted(line, result, power):
    """Depends on all elements that a result may depend on."""
    size = len(line) - len(result) + 1
    for i in range(len(result)):
        total = 0.0
        for k in range(size):
            total += line[i + k] * (k + 1) ** power
        result[i] = total


@st.composite
def problems(draw):
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(0 if draw(st.integers(0, 9)) == 0 else 1, 6)) for _ in range(ndim))
    dtype = draw(st.sampled_from([np.uint8, np.float32, np.float64]))
    image = (np.random.default_rng(draw(st.integers(0, 99))).normal(size=shape) * 50).astype(dtype)
    if draw(st.booleans()):
        image = image.T
    size = draw(st.integers(1, 12))
    return image, {
        "filter_size": size,
        "axis": draw(st.integers(-ndim, ndim - 1)),
        "mode": draw(st.sampled_from(MODES)),
        "cval": 2.5,
        "origin": draw(st.integers(-(size // 2), size - size // 2 - 1)),
        "output": draw(st.sampled_from([np.float64, np.float32])),
    }


@pytest.mark.slow
@settings(max_examples=200, deadline=None)
@given(problems(), st.sampled_from([1, 2]))
def test_any_lines_of_any_array_give_scipy_s_answer(problem, power):
    image, options = problem
    found = generic_filter1d(image, weighted, **options, extra_arguments=(power,))
    expected = ndimage.generic_filter1d(image, weighted, **options, extra_keywords={"power": power})
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    assert (found.shape, found.dtype) == (image.shape, options["output"])


def test_lines_of_integers_keep_their_dtype_and_may_be_filtered_in_place():
    image = np.arange(24, dtype=np.uint16).reshape(4, 6)
    expected = ndimage.generic_filter1d(image, weighted, 3, axis=0, extra_arguments=(1,))
    assert generic_filter1d(image, weighted, 3, axis=0, output=image, extra_arguments=(1,)) is image
    np.testing.assert_array_equal(image, expected)


def test_low_level_callables_and_plain_python_go_to_scipy():
    def copied(line, result):
        result[:] = line[1:-1]

    names = []

    def recorded(line, result):
        names.append(len(line))
        result[:] = line[1:-1]

    np.testing.assert_array_equal(generic_filter1d(IMAGE, jit_filter1d_function(copied), 3), IMAGE)
    np.testing.assert_array_equal(generic_filter1d(IMAGE, recorded, 3, python=True), IMAGE)
    assert names == [20] * 15


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"filter_size": 0}, RuntimeError, "at least 1 \\(got 0\\)"),
        ({"filter_size": 3, "origin": 2}, ValueError, "got 2 for size 3"),
        ({"filter_size": 3, "axis": 2}, ValueError, "from -2 to 1"),
        ({"filter_size": 3, "mode": "edge"}, RuntimeError, "got 'edge'"),
        ({"filter_size": 3, "output": np.empty(3)}, RuntimeError, "output must have shape"),
    ],
)
def test_what_was_said_wrong_of_lines_is_told(options, error, message):
    with pytest.raises(error, match=message):
        generic_filter1d(IMAGE, weighted, extra_arguments=(1,), **options)


def test_a_function_of_lines_that_cannot_be_compiled_is_told():
    def hopeless(line, result):
        result[:] = unknown(line)  # noqa: F821

    with pytest.raises(TypeError, match=r"'.*hopeless' cannot be compiled: .*unknown.*python=True"):
        generic_filter1d(IMAGE, hopeless, 3)
    with pytest.raises(TypeError, match="got dtype complex128"):
        generic_filter1d(np.zeros(3, complex), hopeless, 3)


# -- geometric transforms ---------------------------------------------------------------------------------------


def turned(position, angle, shift):
    y, x = position
    return np.cos(angle) * y - np.sin(angle) * x + shift, np.sin(angle) * y + np.cos(angle) * x


@pytest.mark.parametrize("order", range(6))
@pytest.mark.parametrize(
    "mode", ["constant", "grid-constant", "nearest", "reflect", "grid-mirror", "mirror", "wrap", "grid-wrap"]
)
def test_a_transform_is_scipy_s_to_the_last_bit(order, mode):
    options = {
        "order": order,
        "mode": mode,
        "cval": 0.7,
        "extra_arguments": (0.3,),
        "extra_keywords": {"shift": 4.2},
    }
    found = geometric_transform(IMAGE, turned, **options)
    np.testing.assert_array_equal(found, ndimage.geometric_transform(IMAGE, turned, **options))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.complex64, np.complex128])
def test_a_transform_keeps_the_dtype(dtype):
    image = (IMAGE * 30 + (1j * IMAGE[::-1] if np.dtype(dtype).kind == "c" else 100)).astype(dtype)
    found = geometric_transform(image, turned, extra_arguments=(0.3, 1))
    np.testing.assert_array_equal(found, ndimage.geometric_transform(image, turned, extra_arguments=(0.3, 1)))
    assert found.dtype == dtype


def test_a_transform_into_another_shape_of_more_blocks_than_one():
    def spread(position):
        return position[0] / 40, (position[1] + position[2]) / 20

    options = {"output_shape": (300, 40, 30), "order": 1}
    found = geometric_transform(IMAGE, spread, **options)
    np.testing.assert_array_equal(found, ndimage.geometric_transform(IMAGE, spread, **options))
    output = np.empty((15, 18), np.int32)
    assert geometric_transform(IMAGE, turned, output=output, extra_arguments=(0.1, 0)) is output
    np.testing.assert_array_equal(
        output, ndimage.geometric_transform(IMAGE, turned, output=np.int32, extra_arguments=(0.1, 0))
    )
    assert geometric_transform(IMAGE, spread, output_shape=(0, 4, 5)).shape == (0, 4, 5)


def test_mappings_may_be_low_level_callables_and_plain_python():
    @jit_geometric_function
    def into(position, place):
        place[0], place[1] = position[1], position[0]

    def swapped(position):
        return position[::-1]

    for mapping, options in ((into, {}), (swapped, {}), (swapped, {"python": True})):
        found = geometric_transform(IMAGE, mapping, (18, 15), order=0, **options)
        np.testing.assert_array_equal(found, IMAGE.T)


@pytest.mark.parametrize(
    ("mapping", "options", "error", "message"),
    [
        (
            lambda position: position[0],
            {},
            TypeError,
            "returns int64, wanted a tuple of numbers, one for each axis",
        ),
        (lambda position: (position[0],), {}, TypeError, "wanted a tuple of numbers, one for each axis"),
        (lambda position: (position[0], "a"), {}, TypeError, "returns"),
        (lambda position: position, {"order": 6}, RuntimeError, "got 6"),
        (lambda position: position, {"mode": "edge"}, RuntimeError, "boundary mode not supported"),
        (lambda position: position, {"output": np.empty(3)}, RuntimeError, "output must have shape"),
    ],
)
def test_what_was_said_wrong_of_a_transform_is_told(mapping, options, error, message):
    with pytest.raises(error, match=message):
        geometric_transform(IMAGE, mapping, **options)
