"""The ways of doing a convolution agree with each other and with SciPy, and each is taken where it should be."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import scipy.ndimage
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.kernels import convolve, correlate
from parimg.kernels.convolution import methods as ways
from parimg.kernels.convolution import tile
from parimg.kernels.convolution import weights as weights_of

MODES = ("reflect", "constant", "nearest", "mirror", "wrap")


def gaussian(size):
    x = np.arange(size) - size // 2
    return np.exp(-(x**2) / (size / 4) ** 2)


def taken(monkeypatch, source, weights, **kwargs):
    """Which way a call with method="auto" goes."""
    seen = []
    for name in ("_run_directly", "_run_in_passes", "_run_by_transforms", "_run_across_lines"):
        original = getattr(ways, name)

        def spy(*args, original=original, name=name, **kwargs):
            seen.append(name)
            return original(*args, **kwargs)

        monkeypatch.setattr(ways, name, spy)
    convolve(source, weights.tolist(), **kwargs)  # no array: arrays' calls are remembered
    return [name.removeprefix("_run_") for name in seen]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_passes_and_transforms_are_scipys_convolution(data):
    n_axes = data.draw(st.integers(1, 3))
    shape = data.draw(st.tuples(*[st.integers(1, 40)] * n_axes))
    taps = data.draw(st.tuples(*[st.integers(1, 12)] * n_axes))
    modes = [data.draw(st.sampled_from(MODES)) for _ in taps]
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in taps]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    source = generator.normal(size=shape)
    weights = generator.normal(size=taps[0])
    for k in taps[1:]:
        weights = np.multiply.outer(weights, generator.normal(size=k))
    dtype = data.draw(st.sampled_from(["float32", "float64"]))
    expected = convolve(source, weights, mode=modes, origin=origin, cval=2, precision="float64", method="direct")
    if len(set(modes)) == 1:
        theirs = scipy.ndimage.convolve(source, weights, mode=modes[0], origin=origin, cval=2)
        np.testing.assert_array_equal(expected, theirs)
    for method in ("separable", "fft", "auto"):
        found = convolve(source.astype(dtype), weights, mode=modes, origin=origin, cval=2, method=method)
        assert found.dtype == dtype
        bound = np.abs(weights).sum() * max(np.abs(source).max(), 2)
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound * (1e-14 if dtype == "float64" else 2e-6))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "float32", "float64"])
@pytest.mark.parametrize("terms", [1, 2, 3])
def test_sums_of_products(mode, dtype, terms):
    generator = np.random.default_rng(terms)
    source = generator.integers(0, 200, (60, 333)).astype(dtype)
    weights = sum(np.outer(generator.normal(size=15), generator.normal(size=12)) for _ in range(terms))
    found = correlate(source, weights, np.float64, mode, cval=3, method="separable")
    expected = scipy.ndimage.correlate(source, weights, np.float64, mode, cval=3)
    bound = np.abs(weights).sum() * 200 * (1e-14 if dtype == "float64" else 2e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64"])
@pytest.mark.parametrize("taps", [(3, 3), (5, 5), (2, 9), (9, 2), (4, 7), (9, 9), (10, 9), (9, 10)])
def test_short_passes(dtype, taps):
    generator = np.random.default_rng(sum(taps))
    weights = np.outer(generator.normal(size=taps[0]), generator.normal(size=taps[1]))
    weights[:, 1] = 0
    for shape in ((1, 1), (2, 70), (70, 2), (5, 31), (6, 64), (7, 65), (23, 5000)):
        source = generator.integers(0, 120, shape).astype(dtype)
        for mode in MODES:
            found = correlate(source, weights, np.float64, mode, cval=3, method="separable")
            expected = correlate(source, weights, np.float64, mode, cval=3, method="direct", precision="float64")
            bound = np.abs(weights).sum() * 120 * (1e-15 if dtype == "float64" else 1e-6)
            np.testing.assert_allclose(found, expected, rtol=0, atol=bound)


def test_short_passes_of_colours_and_over_views():
    generator = np.random.default_rng(0)
    weights = np.outer(generator.normal(size=5), generator.normal(size=4))
    source = generator.integers(0, 255, (60, 80, 3)).astype(np.uint8)
    for image in (source, source[::-1, ::2], source[..., ::-1], np.asfortranarray(source)):
        found = convolve(image, weights, np.float32, "mirror", axes=(0, 1), method="separable")
        for channel in range(3):
            expected = scipy.ndimage.convolve(image[..., channel], weights, np.float64, "mirror")
            np.testing.assert_allclose(found[..., channel], expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize("method", ["separable", "fft"])
@pytest.mark.parametrize("axes", [(0, 1), (1, 2), (0, 2), (0, 3), (1, 3), (2, 3)])
def test_any_two_axes_of_four(method, axes):
    generator = np.random.default_rng(0)
    source = generator.normal(size=(9, 10, 40, 3)).astype(np.float32)
    weights = np.outer(gaussian(5), gaussian(6))
    for array in (source, np.asfortranarray(source)):
        found = convolve(array, weights, axes=axes, method=method)
        expected = scipy.ndimage.convolve(source.astype(np.float64), weights, axes=axes)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("shape", [(300, 500), (90, 1300)])
@pytest.mark.parametrize("mode", MODES)
def test_transforms_of_several_blocks(shape, mode):
    generator = np.random.default_rng(0)
    source, weights = generator.normal(size=shape), generator.normal(size=(41, 38))
    found = convolve(source, weights, mode=mode, cval=1, method="fft")
    expected = scipy.ndimage.convolve(source, weights, mode=mode, cval=1)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-11)


@pytest.mark.parametrize("method", ["auto", "separable", "fft", "direct"])
def test_every_method_casts_as_asked(method):
    source = np.random.default_rng(0).integers(0, 256, (50, 70)).astype(np.uint8)
    weights = np.outer(gaussian(7), gaussian(7)) / 9
    sums = scipy.ndimage.convolve(source, weights, np.float64)
    is_clear = np.abs(2 * sums - np.rint(2 * sums)) > 1e-3  # neither near a whole number nor near a half
    assert is_clear.sum() > 3000
    for casting, expected in (
        ("truncate", sums.astype(np.int64).astype(np.uint8)),
        ("round", np.rint(sums).astype(np.int64).astype(np.uint8)),
        ("saturate", np.rint(sums).clip(0, 255).astype(np.uint8)),
    ):
        found = convolve(source, weights, method=method, casting=casting)
        np.testing.assert_array_equal(found[is_clear], expected[is_clear])


@pytest.mark.parametrize("method", ["auto", "separable", "fft"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_spreads_as_in_the_direct_sum(method, value):
    source = np.random.default_rng(0).normal(size=(60, 70))
    source[30, 40] = value
    weights = np.outer(gaussian(9), gaussian(9))
    weights[2] = 0
    found = convolve(source, weights, method=method)
    expected = scipy.ndimage.convolve(source, weights)
    np.testing.assert_allclose(found, expected, rtol=1e-12)
    found = convolve(source[:20], weights, method=method, mode="constant", cval=value)
    expected = scipy.ndimage.convolve(source[:20], weights, mode="constant", cval=value)
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("size", [3, 5, 15, 31])
def test_whole_numbers_stay_exact_whatever_way_is_taken(size):
    source = np.random.default_rng(0).integers(0, 256, (80, 90)).astype(np.uint8)
    for weights in (np.ones((size, size)), np.outer(np.arange(size) - 2, 6 * np.arange(size) - 12)):
        found = convolve(source, weights, np.int64)
        np.testing.assert_array_equal(found, scipy.ndimage.convolve(source, weights, np.int64))


def test_volumes_with_what_is_not_finite_go_directly_without_a_warning():
    source = np.random.default_rng(0).normal(size=(9, 10, 11))
    source[4, 4, 4] = np.inf
    weights = np.random.default_rng(1).normal(size=(3, 4, 5))
    found = convolve(source, weights, method="fft")
    np.testing.assert_allclose(found, scipy.ndimage.convolve(source, weights), rtol=1e-12)
    narrow = convolve(source * 1e300, weights, np.float64, method="fft", precision="float32")
    assert not np.isfinite(narrow).all()


def test_many_stacked_lines_and_large_kernels_are_not_remembered():
    source = np.random.default_rng(0).normal(size=(70_000, 5))
    found = convolve(source, [1.0, 2.0, 4.0], axes=1)
    np.testing.assert_allclose(found, scipy.ndimage.convolve1d(source, [1.0, 2.0, 4.0]), rtol=1e-12, atol=1e-12)
    before = weights_of._kernel.cache_info().currsize
    weights = np.random.default_rng(1).normal(size=(600, 600))
    image = np.random.default_rng(2).normal(size=(11, 9))
    found = convolve(image, weights, mode="wrap")
    assert weights_of._kernel.cache_info().currsize == before
    spread = scipy.ndimage.convolve(image, weights, mode="wrap")
    np.testing.assert_allclose(found, spread, rtol=0, atol=1e-8)


def test_threads_do_not_disturb_each_other():
    generator = np.random.default_rng(0)
    images = [generator.normal(size=(60 + i, 80)).astype(np.float32) for i in range(24)]
    weights = [generator.normal(size=(k, k)) for k in (3, 4, 5, 9, 41, 61)]
    jobs = [(image, w, method) for image in images for w in weights for method in ("direct", "fft")]
    alone = [convolve(image, w, method=method) for image, w, method in jobs]
    with ThreadPoolExecutor(8) as pool:
        together = list(pool.map(lambda job: convolve(job[0], job[1], method=job[2]), jobs))
    for found, expected in zip(together, alone, strict=True):
        np.testing.assert_array_equal(found, expected)


class TestChoice:
    image = np.random.default_rng(0).normal(size=(60, 70)).astype(np.float32)

    def test_products_go_in_passes(self, monkeypatch):
        assert taken(monkeypatch, self.image, np.outer(gaussian(15), gaussian(15))) == ["in_passes"]

    def test_what_has_no_short_sum_goes_directly(self, monkeypatch):
        weights = np.random.default_rng(1).normal(size=(7, 7))
        assert taken(monkeypatch, self.image, weights) == ["directly"]

    def test_larger_kernels_go_across_lines(self, monkeypatch):
        monkeypatch.setattr(tile, "RELATIVE_SPEED", 1.0)  # that of AVX2
        weights = np.random.default_rng(1).normal(size=(15, 15))
        image = np.random.default_rng(0).normal(size=(150, 170)).astype(np.float32)
        assert taken(monkeypatch, image, weights) == ["across_lines"]

    def test_small_products_go_directly(self, monkeypatch):
        assert taken(monkeypatch, self.image, np.outer(gaussian(3), gaussian(3))) == ["directly"]

    def test_products_of_five_go_in_passes_unless_integers_are_made_of_fractions(self, monkeypatch):
        weights = np.outer(gaussian(5), gaussian(5))
        image = np.arange(600, dtype=np.uint8).reshape(20, 30)
        assert taken(monkeypatch, self.image, weights) == ["in_passes"]
        assert taken(monkeypatch, image, weights, output=np.float32) == ["in_passes"]
        binomial = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1])
        assert taken(monkeypatch, image, binomial, output=np.int32) == ["in_passes"]

    @pytest.mark.parametrize("casting", ["truncate", "round", "saturate"])
    def test_integers_of_products_of_five_go_directly(self, monkeypatch, casting):
        weights = np.outer(gaussian(5), gaussian(5))
        image = np.arange(600, dtype=np.uint8).reshape(20, 30)
        assert taken(monkeypatch, image, weights, casting=casting) == ["directly"]

    def test_large_kernels_go_by_transforms(self, monkeypatch):
        weights = np.random.default_rng(1).normal(size=(120, 120))
        image = np.random.default_rng(0).normal(size=(200, 220)).astype(np.float32)
        assert taken(monkeypatch, image, weights) == ["by_transforms"]

    def test_scipys_last_bits_need_the_direct_sum(self, monkeypatch):
        weights = np.outer(gaussian(15), gaussian(15))
        assert taken(monkeypatch, self.image, weights, precision="float64") == ["directly"]

    def test_three_axes_go_in_three_passes(self, monkeypatch):
        weights = np.multiply.outer(np.outer(gaussian(7), gaussian(7)), gaussian(7))
        source = np.random.default_rng(1).normal(size=(8, 9, 10))
        assert taken(monkeypatch, source, weights) == ["in_passes"]


@pytest.mark.parametrize("shape", [(7, 7), (5, 5, 5)])
def test_separable_is_refused_for_what_is_no_short_sum_of_products(shape):
    generator = np.random.default_rng(0)
    with pytest.raises(
        ValueError, match=rf"method='separable' wants weights .* shape \({shape[0]}, .*take 'direct'"
    ):
        convolve(generator.normal(size=(9,) * len(shape)), generator.normal(size=shape), method="separable")


def test_spectra_are_remembered_with_the_kernel():
    weights = np.random.default_rng(0).normal(size=(9, 9))
    for side in (20, 30, 40, 50, 60, 20, 70):
        convolve(np.ones((side, side)), weights, method="fft")
    kernel = weights_of.as_kernel(weights, (9, 9), is_convolution=True)
    assert len(kernel._spectra) == 4


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_transforms_with_zeros_beyond_the_border(data):
    """One block then is as short as the zeros on one side allow."""
    shape = data.draw(st.tuples(*[st.integers(1, 60)] * 2))
    taps = data.draw(st.tuples(*[st.integers(1, 40)] * 2))
    modes = [data.draw(st.sampled_from(("constant", "reflect"))) for _ in taps]
    origin = [data.draw(st.integers(-(k // 2), (k - 1) // 2)) for k in taps]
    generator = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    source, weights = generator.normal(size=shape), generator.normal(size=taps)
    expected = convolve(source, weights, mode=modes, origin=origin, precision="float64", method="direct")
    for dtype, epsilon in (("float32", 2e-6), ("float64", 1e-14)):
        found = convolve(source.astype(dtype), weights, mode=modes, origin=origin, method="fft")
        bound = np.abs(weights).sum() * np.abs(source).max()
        np.testing.assert_allclose(found, expected, rtol=0, atol=bound * epsilon)


@pytest.mark.parametrize("dtype", ["uint8", "float32", "float64"])
@pytest.mark.parametrize("size", [5, 15, 31])
@pytest.mark.parametrize("is_product", [True, False])
def test_remembered_calls_do_as_others(dtype, size, is_product):
    """Arrays' calls are remembered, lists' are not; the way taken must not depend on that."""
    generator = np.random.default_rng(size)
    image = generator.integers(1, 200, (150, 170)).astype(dtype)
    weights = np.outer(gaussian(size), gaussian(size)) if is_product else generator.normal(size=(size, size))
    found = [convolve(image, weights, np.float64) for _ in range(2)]
    expected = convolve(image, weights.tolist(), np.float64)
    np.testing.assert_array_equal(found[0], expected)
    np.testing.assert_array_equal(found[1], expected)
    image[70, 80] = 0
    if dtype != "uint8":
        image[70, 80] = np.nan
    changed = convolve(image, weights, np.float64)
    np.testing.assert_array_equal(changed, convolve(image, weights.tolist(), np.float64))
    if dtype != "uint8":
        assert np.isnan(changed).sum() == size**2
