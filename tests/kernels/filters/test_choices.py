"""Functions that choose among pixels give SciPy's answers in the image's own dtype, and others keep float64."""

import numpy as np
import pytest
from numba import types
from scipy import ndimage

from parimg.kernels.filters.choices import Kind, code_of, find_out, narrowed
from parimg.kernels.filters.generic_filter import generic_filter
from parimg.kernels.filters.reductions import median_exchanges
from parimg.kernels.filters.user_functions import as_user_function
from parimg.kernels.filters.windows import Window, specification

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)


def image_of(dtype, shape=(260, 270)):
    """Large enough to be read in place; all of the dtype's range, with NaN and infinities."""
    rng = np.random.default_rng(5)
    if np.dtype(dtype).kind == "f":
        image = rng.normal(size=shape).astype(dtype)
        image[rng.random(shape) < 0.01] = np.nan
        image[rng.random(shape) < 0.01] = -np.inf
        return image
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, shape, dtype, endpoint=True)


def fmin(values):
    result = np.inf
    for v in values:
        if v < result:  # noqa: PLR1730 - the published text's function
            result = v
    return result


def second(values):
    """The second largest."""
    first = last = -np.inf
    for v in values:
        last = max(last, min(first, v))
        first = max(first, v)
    return last


def clipped(values):
    """Constants between and beyond whole numbers."""
    v = values[2]
    return 90.0 if v > 90.5 or v == 17.25 else 3.0 if v < 3.5 and v != -1e9 else v


def mean(values):
    return values.mean()


def methods(é):  # noqa: PLC2401 - LLVM quotes such names
    return min(é.max(), max(é.min(), 7.0))


def branched(values):
    """Choosing by branches that do not become selections is not seen as such."""
    first = last = -np.inf
    for v in values:
        if v > first:
            first, last = v, first
        elif v > last:
            last = v
    return last


def beyond(values):
    return values[0] if values[0] > 5 else 300.0


def kind_of(function, dtype, count=5):
    spec = specification(np.dtype(dtype), np.dtype(dtype), np.dtype(dtype), count)
    return find_out(as_user_function(function, 1, (), {}), spec, ())


@pytest.mark.parametrize(("function", "dtype", "expected"), [
    (fmin, "uint8", True), (second, "uint16", True), (fmin, "float32", True),
    (clipped, "int8", True),
    (np.median, "uint8", True), (mean, "uint8", False), (beyond, "uint8", False), (beyond, "uint16", True),
    (branched, "uint8", False), (np.max, "uint8", True), (methods, "uint16", True),
])  # fmt: skip
def test_choosing_is_told_from_computing(function, dtype, expected):
    code = code_of(as_user_function(function, 1, (), {}).numba_type, Window(types.float64, 5))
    if expected and " br i1 " in code:
        pytest.skip("for this processor LLVM leaves a branch here, and the function is run in float64")
    assert kind_of(function, dtype) == (Kind.CHOICE if expected else Kind.OTHER)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "uint32", "float32"])
@pytest.mark.parametrize("function", [fmin, second, clipped, np.median])
def test_every_dtype_gives_scipy_s_answer(function, dtype):
    image = image_of(dtype, (256, 257))
    found = generic_filter(image, function, footprint=CROSS, output=np.float64)
    # The window's dtype is float64, whatever the image's: SciPy's rule.
    expected = generic_filter(image.astype(np.float64), function, footprint=CROSS)
    np.testing.assert_array_equal(found, expected)
    part = image[:12, :9]
    np.testing.assert_array_equal(
        generic_filter(part, function, footprint=CROSS),
        ndimage.generic_filter(part, function, footprint=CROSS),
    )


@pytest.mark.parametrize("mode", ["reflect", "constant"])
@pytest.mark.parametrize("cval", [0.5, 300.0, -1.0, np.nan, np.inf, 7.0])
def test_what_lies_outside_need_not_be_of_the_dtype(mode, cval):
    image = image_of("uint8", (20, 21))
    found = generic_filter(image, fmin, 3, mode=mode, cval=cval, output=np.float64)
    expected = ndimage.generic_filter(image, fmin, 3, mode=mode, cval=cval, output=np.float64)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_lines_of_every_length_go_to_outputs_that_begin_anywhere(dtype):
    """Vectors begin where the output is aligned; the first and the last of a line overlap the ones beside."""
    for width in (1, 2, 3, 15, 16, 17, 31, 33, 63, 64, 65, 66, 67, 129, 200):
        for height in (1, 2, 5):
            image = image_of("int8", (height, width)).astype(dtype)
            for shift in (0, 1, 13):
                around = np.full(height * width + 100, 77, dtype)
                output = around[shift : shift + image.size].reshape(image.shape)
                generic_filter(image, fmin, footprint=CROSS, output=output)
                np.testing.assert_array_equal(output, ndimage.grey_erosion(image, footprint=CROSS))
                assert (around[:shift] == 77).all()
                assert (around[shift + image.size :] == 77).all()


def test_results_are_converted_to_the_output_as_from_float64():
    image = image_of("int8", (20, 21))
    for output in ("uint16", "int64", "float32", "bool", "uint8"):
        found = generic_filter(image, fmin, 3, output=output)
        expected = ndimage.grey_erosion(image, (3, 3)).astype(output)
        np.testing.assert_array_equal(found, expected)


def test_a_function_has_one_form_for_each_dtype():
    user = as_user_function(fmin, 1, (), {})
    forms = [narrowed(user, np.dtype(dtype), Kind.CHOICE).numba_type for dtype in ("u1", "u2", "u1")]
    assert forms[0] == forms[2] != forms[1]
    assert user.numba_type not in forms


@pytest.mark.parametrize("count", [3, 5, 9, 25])
def test_exchanges_bring_the_median_into_the_middle(count):
    """A network that does so for zeros and ones does so for all numbers."""
    rng = np.random.default_rng(1)
    n = 2**count if count < 12 else 200_000
    if count < 12:
        values = (np.arange(n)[:, None] >> np.arange(count)) & 1
    else:  # as many ones as zeros, or one more: what a median is most easily wrong about
        ones = rng.integers(count // 2, count // 2 + 2, n)
        values = (rng.permuted(np.tile(np.arange(count), (n, 1)), axis=1) < ones[:, None]).astype(int)
    expected = np.median(values, axis=1)
    for low, high in median_exchanges(count):
        values[:, [low, high]] = np.sort(values[:, [low, high]], axis=1)
    np.testing.assert_array_equal(values[:, count // 2], expected)
