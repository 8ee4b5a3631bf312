"""Boxes, which go by running sums, are SciPy's convolution."""

import numpy as np
import pytest
import scipy.ndimage

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution import methods as ways
from parimg.kernels.convolution.boxes import exact_rounding

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

    for name in ("_SMALLEST_BOX", "_SMALLEST_BOX_CAST"):
        monkeypatch.setattr(ways, name, {"float32": 2, "float64": 2})
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


PADDED = {"reflect": "symmetric", "constant": "constant", "nearest": "edge", "mirror": "reflect", "wrap": "wrap"}


def means_of_whole_numbers(image, size, mode, cval, origin=(0, 0)):
    """The nearest whole number to the mean, worked out in whole numbers; sizes are odd."""
    around = [(k // 2 + shift, k // 2 - shift) for k, shift in zip(size, origin, strict=True)]
    given = {"constant_values": cval} if mode == "constant" else {}
    padded = np.pad(image.astype(np.int64), around, PADDED[mode], **given)
    sums = np.lib.stride_tricks.sliding_window_view(padded, size).sum((2, 3))
    taps = size[0] * size[1]
    return (2 * sums + taps) // (2 * taps)


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("size", [(3, 3), (5, 5), (3, 9), (7, 1001), (9, 9), (15, 15), (17, 13), (31, 31)])
def test_means_of_odd_boxes_are_the_nearest_whole_numbers(every_box, dtype, mode, size):
    shapes = [(40, 130), (1, 70), (70, 1), (2, 3), (33, 64), (5, 97)]
    for shape in shapes:
        image = random_image(shape, dtype)
        image[: shape[0] // 2] |= np.iinfo(dtype).max - 3  # sums near the largest
        weights = np.full(size, 1 / np.prod(size))
        for casting in ("saturate", "round"):
            found = correlate(image, weights.tolist(), None, mode, 9, casting=casting)
            np.testing.assert_array_equal(found, means_of_whole_numbers(image, size, mode, 9))
    assert every_box == [True] * len(shapes) * 2


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_means_of_extreme_images_are_these(dtype):
    highest = np.iinfo(dtype).max
    for size in (3, 9, 31):
        weights = np.full((size, size), 1 / size**2)
        for value in (0, 1, highest - 1, highest):
            image = np.full((35, 77), value, dtype)
            np.testing.assert_array_equal(convolve(image, weights, casting="saturate"), image)


@pytest.mark.parametrize("channels", [1, 2, 3, 4, 5, 7, 32])
@pytest.mark.parametrize("size", [(3, 3), (3, 15), (9, 31)])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
def test_any_number_of_channels(every_box, channels, size, dtype):
    image = random_image((21, 45, channels), dtype)
    weights = np.full(size, 1 / np.prod(size))
    found = correlate(image, weights.tolist(), None, "mirror", axes=(0, 1), origin=(0, 1), casting="saturate")
    for channel in range(channels):
        plane = image[..., channel]
        if dtype == "float32":
            expected = scipy.ndimage.correlate(plane.astype(float), weights, mode="mirror", origin=(0, 1))
            np.testing.assert_allclose(found[..., channel], expected, rtol=0, atol=1e-6)
        else:
            expected = means_of_whole_numbers(plane, size, "mirror", 0, (0, 1))
            np.testing.assert_array_equal(found[..., channel], expected)
    assert every_box == [True]


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32"])
@pytest.mark.parametrize("size", [3, 31])
def test_views_read_only_arrays_and_other_byte_orders(every_box, dtype, size):
    image = random_image((40, 66), dtype)
    weights = np.full((size, size), 1 / size**2)
    expected = convolve(image, weights.tolist(), casting="saturate")
    frozen = image.copy()
    frozen.flags.writeable = False
    wide = np.zeros((40, 80), dtype)
    wide[:, 7:73] = image
    sources = [frozen, wide[:, 7:73], np.asfortranarray(image), image[::-1, ::-1].copy()[::-1, ::-1]]
    sources += [np.repeat(image, 2, 1)[:, ::2], image.astype(np.dtype(dtype).newbyteorder(">"))]
    for source in sources:
        np.testing.assert_array_equal(convolve(source, weights.tolist(), casting="saturate"), expected)
    whole = np.zeros((66, 44), dtype)
    convolve(image, weights.tolist(), whole.T[2:42], casting="saturate")
    np.testing.assert_array_equal(whole.T[2:42], expected)
    assert not whole.T[:2].any()
    assert not whole.T[42:].any()
    assert every_box == [True] * 8


def test_nothing_is_written_beyond_the_last_column():
    for dtype in ("uint8", "uint16"):
        for columns in (1, 15, 31, 32, 33, 63, 65):
            whole = np.full((12, 100), 7, dtype)
            weights = np.full((3, 3), 1 / 9)
            convolve(np.full((12, columns), 250, dtype), weights, whole[:, :columns], casting="saturate")
            assert (whole[:, :columns] == 250).all()
            assert (whole[:, columns:] == 7).all()


@pytest.mark.parametrize("weight", [0.3, -1 / 9, 1 / 8, 1 / 4, 1.0, 1 / 9 + 1e-4])
def test_other_weights_saturate_as_their_sums_do(weight):
    image = random_image((40, 50), "uint8")
    weights = np.full((3, 3), weight)
    sums = scipy.ndimage.convolve(image, weights, np.float64)
    is_clear = np.abs(sums - np.floor(sums) - 0.5) > 1e-3
    found = convolve(image, weights, casting="saturate")
    np.testing.assert_array_equal(found[is_clear], np.rint(sums).clip(0, 255)[is_clear])


@pytest.mark.parametrize("cval", [0, 255, 256, -1, 2.5, 1e6])
def test_any_value_outside_counts_in_means(every_box, cval):
    image = random_image((20, 30), "uint8")
    found = convolve(image, np.full((3, 3), 1 / 9).tolist(), None, "constant", cval, casting="saturate")
    sums = scipy.ndimage.convolve(image, np.ones((3, 3)), np.float64, "constant", cval)
    is_clear = np.abs(sums / 9 - np.floor(sums / 9) - 0.5) > 1e-3
    np.testing.assert_array_equal(found[is_clear], np.rint(sums / 9).clip(0, 255)[is_clear])
    assert every_box == [True]


@pytest.mark.parametrize(("highest", "bits", "least"), [(255, 16, 100), (255, 32, 132), (65535, 32, 132)])
def test_multiplying_rounds_every_sum_to_the_nearest_whole_number(highest, bits, least):
    """All sums of bytes that a box can have; of 16 bits each 997th and those near the largest."""
    seen = 0
    for taps in [*range(3, 258, 2), 289, 625, 961, 1023]:
        largest = highest * taps
        rounding = exact_rounding(1 / taps, largest, bits)
        if rounding is None:
            continue
        seen += 1
        ends = (0, largest - 70_000) if highest > 255 else (0, 0)
        sums = np.r_[ends[0] : largest + 1 : 997, ends[1] : largest + 1].astype(np.uint64)
        found = (sums + rounding.bias) * rounding.multiplier >> (bits + rounding.shift)
        np.testing.assert_array_equal(found, (2 * sums + taps) // (2 * taps))
        assert largest + rounding.bias < 2**bits
        assert rounding.multiplier < 2**bits
    assert seen >= least


@pytest.mark.parametrize("weight", [0.25, 1 / 6, 0.3, 1.0, 0.0, -1 / 9, 1 / 9 + 1e-4, 1e-30, np.inf, np.nan])
def test_what_is_not_one_over_an_odd_number_is_not_rounded_so(weight):
    assert exact_rounding(weight, 255 * 9, 16) is None
