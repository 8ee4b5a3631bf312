"""Passes over bytes give the direct sum, bit for bit, and are left where that is faster."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution import byte_passes, tile
from parimg.kernels.convolution.weights import as_kernel

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")
BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


def gaussian(size, sigma):
    x = np.arange(size) - size // 2
    weights = np.exp(-(x**2) / (2 * sigma**2))
    return weights / weights.sum()


@pytest.fixture
def summed_by(monkeypatch):
    """Whether each call went by passes to its end."""
    seen = []
    original = byte_passes._walk

    def walk(*args):
        seen.append(original(*args))
        return seen[-1]

    monkeypatch.setattr(byte_passes, "_walk", walk)
    return seen


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_results_are_those_of_the_direct_sum(data):
    taps = data.draw(st.tuples(*[st.integers(3, 9)] * 2).filter(lambda k: k[0] * k[1] >= 25))
    shape = (data.draw(st.integers(1, 40)), data.draw(st.integers(1, 150)))
    shape += data.draw(st.sampled_from([(), (1,), (3,), (32,)]))
    modes = [data.draw(st.sampled_from(MODES)) for _ in taps]
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in taps]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    image = generator.integers(0, data.draw(st.sampled_from([2, 20, 256])), shape).astype(np.uint8)
    vectors = [generator.random(k) * (generator.random(k) < 0.9) + 1e-3 for k in taps]
    weights = np.outer(*vectors) / np.outer(*vectors).sum() * data.draw(st.sampled_from([0.1, 0.5, 1.0]))
    casting = data.draw(st.sampled_from(["round", "saturate"]))
    cval = data.draw(st.sampled_from([0, 7, 255, 2.5, -3, np.inf]))
    known = {"mode": modes, "origin": origin, "cval": cval, "axes": (0, 1), "casting": casting}
    expected = correlate(image, weights, method="direct", **known)
    np.testing.assert_array_equal(correlate(image, weights, **known), expected)
    np.testing.assert_array_equal(correlate(image, weights.tolist(), **known), expected)
    view = np.zeros((shape[0], 2 * shape[1] + 5, *shape[2:]), np.uint8)[:, 3 : 3 + shape[1]]
    view[...] = image
    np.testing.assert_array_equal(correlate(view, weights.tolist(), view, **known), expected)


@pytest.mark.parametrize("side", [5, 7, 9])
def test_sums_near_a_half_are_those_of_the_direct_sum(side, summed_by):
    """Of 4 million bytes some thousands lie where the two sums may be rounded differently."""
    image = np.random.default_rng(side).integers(0, 256, (2000, 2003)).astype(np.uint8)
    weights = np.outer(gaussian(side, side / 8), gaussian(side, side / 7))
    found = convolve(image, weights, casting="saturate")
    np.testing.assert_array_equal(found, convolve(image, weights, casting="saturate", method="direct"))
    assert summed_by == [True]


def test_ties_go_to_the_even_number():
    image = np.zeros((9, 40), np.uint8)
    image[4, 4], image[4, 14], image[4, 24] = 32, 96, 160  # 36 / 256 of these are 4.5, 13.5 and 22.5
    found = convolve(image, BINOMIAL, casting="saturate")
    assert found[4, [4, 14, 24]].tolist() == [4, 14, 22]


@pytest.mark.parametrize("casting", ["round", "saturate"])
def test_an_image_of_nothing_but_ties_goes_directly(casting, summed_by):
    image = np.zeros((300, 400), np.uint8)
    image[::2] = 1  # every sum is a half
    found = convolve(image, BINOMIAL, mode="mirror", casting=casting)
    np.testing.assert_array_equal(found, np.zeros_like(image))
    assert summed_by == [False]


def test_few_ties_are_summed_again(summed_by):
    image = np.zeros((300, 400), np.uint8)
    image[::2, :4] = 1
    found = convolve(image, BINOMIAL, casting="saturate")
    np.testing.assert_array_equal(found, convolve(image, BINOMIAL, casting="saturate", method="direct"))
    assert summed_by == [True]


@pytest.mark.parametrize(
    "changes",
    [
        {"casting": "truncate"},
        {"precision": "float64"},
        {"output": np.int16},
        {"weights": np.outer(gaussian(11, 2), gaussian(11, 2))},
        {"weights": 1.1 * BINOMIAL},
        {"weights": np.outer([1, -4, 6, -4, 1], [1, 4, 6, 4, 1]) / 256},
        {"image": np.full((50, 31), 7, np.uint8)},
        {"image": np.full((50, 60), 7, np.uint16)},
        {"image": np.full((2, 3, 50, 60), 7, np.uint8), "axes": (2, 3)},
    ],
)
def test_what_else_there_is_goes_other_ways(changes, summed_by):
    arguments = {"image": np.full((50, 60), 7, np.uint8), "weights": BINOMIAL, "casting": "saturate"} | changes
    image, weights = arguments.pop("image"), arguments.pop("weights")
    convolve(image, weights, **arguments)
    assert summed_by == []


@pytest.mark.parametrize("rows", [1, 4, 6])
@pytest.mark.parametrize("side", [5, 9])
def test_sums_differ_by_less_than_the_uncertainty(rows, side):
    """Of both ways, taken in float32 here, from each other."""
    vector = gaussian(side, side / 9)
    kernel = as_kernel(np.outer(vector, vector), (side, side), is_convolution=False)
    bound = byte_passes.uncertainty(kernel, rows).max()
    image = np.random.default_rng(rows).integers(200, 256, (300, 300)).astype(np.float32)
    direct = correlate(image, kernel.weights, method="direct")
    passes = correlate(image, kernel.weights, method="separable")
    assert 0 < np.abs(direct - passes).max() < bound < 1e-3


def test_nothing_is_written_beyond_the_last_column():
    out = np.zeros((20, 70), np.uint8)
    image = np.full((20, 50), 200, np.uint8)
    convolve(image, BINOMIAL, out[:, 10:60], casting="saturate")
    assert (out[:, 10:60] == 200).all()
    assert not out[:, :10].any()
    assert not out[:, 60:].any()


def test_a_tile_walks_its_lines_in_pairs():
    assert tile.order_of_lines(4, 5) == [0, 5, 1, 6, 2, 7, 3, 4]
    assert tile.order_of_lines(1, 3) == [0, 1, 2]
