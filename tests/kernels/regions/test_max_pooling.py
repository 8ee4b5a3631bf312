"""Max-pooled region search: pooled levels are near true maxima, and the exact search is the exhaustive one."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_maps import TIGHT, admissible, relu_map, smooth_map, sparse_map, unit

from parimg.kernels.regions.region_index import RegionIndex


def true_max(feature_map, box):
    y1, x1, y2, x2 = box
    return feature_map[:, y1:y2, x1:x2].max((1, 2))


def pooled_levels(feature_map, box, alpha=10):
    """By the definition, in Python's own whole numbers."""
    y1, x1, y2, x2 = box
    largest = feature_map.astype(np.float64).max((1, 2))
    pooled = []
    for channel, top in zip(feature_map.astype(np.float64), largest, strict=True):
        levels = [math.floor(8 * value / top + 0.5) if top > 0 else 0 for value in channel[y1:y2, x1:x2].flat]
        pooled.append(sum(level**alpha for level in levels) ** (1 / alpha) * top / 8)
    return np.array(pooled)


@pytest.mark.parametrize("alpha", [1, 5, 10, 15])
def test_pooled_descriptor_is_the_generalised_mean_of_levels(alpha):
    feature_map = sparse_map((7, 9, 8), density=0.3)
    index = RegionIndex(feature_map, "max", alpha)
    for box in ((0, 0, 1, 1), (0, 0, 9, 8), (3, 2, 4, 8), (2, 5, 9, 7)):
        expected = pooled_levels(feature_map, box, alpha)
        if expected.any():
            np.testing.assert_allclose(index.descriptor(box), unit(expected), rtol=1e-6)


def test_pooled_descriptor_is_near_true_max_pooling():
    """The error that the documentation states: half a level, and the root of the number of cells."""
    feature_map = smooth_map((64, 20, 24))
    index = RegionIndex(feature_map, "max")
    largest = feature_map.max((1, 2))
    cosines = []
    for box in ((0, 0, 20, 24), (3, 3, 9, 9), (5, 10, 6, 11), (0, 8, 12, 24)):
        pooled = pooled_levels(feature_map, box)
        exact = true_max(feature_map, box)
        cells = (box[2] - box[0]) * (box[3] - box[1])
        assert np.all(pooled >= exact - largest / 16 - 1e-6)
        assert np.all(pooled <= (exact + largest / 16) * cells**0.1 + 1e-6)
        cosines.append(index.descriptor(box) @ unit(exact.astype(np.float64)))
    assert min(cosines) > 0.99


def test_small_region_beside_a_strong_activation_keeps_its_digits():
    """Powers of floats cancel there: 1e-3 ** 10 is lost beside 1, in float64, too."""
    feature_map = np.full((2, 6, 6), 0.125)
    feature_map[:, 0, 0] = 1
    feature_map[1, 3, 3] = 0.25
    index = RegionIndex(feature_map, "max")
    np.testing.assert_allclose(index.descriptor((3, 3, 4, 4)), unit(np.array([0.125, 0.25])), rtol=1e-12)


def best_of_all(index, query, ratio, aspect_range):
    """Brute force over `descriptor`; distances within 1e-6 of the best count as tied."""
    _, height, width = index.shape
    scored = [
        (np.linalg.norm(descriptor - query), box)
        for box in admissible(height, width, ratio, *aspect_range)
        if (descriptor := index.descriptor(box)).any()
    ]
    best = min(scored)[0]
    return best, {box for distance, box in scored if distance <= best + 1e-5}


@pytest.mark.parametrize("ratio", [None, 0.6, 1.0, 1.8])
@pytest.mark.parametrize("make", [relu_map, sparse_map, smooth_map])
def test_max_search_finds_the_best_window(make, ratio):
    feature_map = make((48, 9, 11))
    index = RegionIndex(feature_map, "max")
    query = unit(true_max(feature_map, (2, 3, 7, 8)).astype(np.float64) + 0.05)
    distance, boxes = best_of_all(index, query, ratio, (0.8, 1.2))
    for found in (index.search(query, ratio), index.search(query, ratio, exact=True)):
        assert found[0].distance == pytest.approx(distance, abs=1e-5)
        assert found[0].box in boxes


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 2, 17, 40]),
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    kind=st.sampled_from([relu_map, sparse_map, smooth_map]),
    ratio=st.sampled_from([None, 0.7, 1.0, 2.0]),
    aspect_range=st.sampled_from([(0.8, 1.2), TIGHT]),
    top_k=st.integers(1, 4),
    signed=st.booleans(),
)
def test_exact_search_is_the_exhaustive_one(
    seed, channels, height, width, kind, ratio, aspect_range, top_k, signed
):
    index = RegionIndex(kind((channels, height, width), seed), "max")
    query = np.random.default_rng(seed).normal(size=channels)
    query = query if signed else np.abs(query)
    everything = index.search(query, ratio, aspect_range, top_k=top_k, refine=False)
    proven = index.search(query, ratio, aspect_range, top_k=top_k, exact=True)
    assert proven == everything


def test_exact_search_looks_at_fewer_windows_and_says_so():
    feature_map = smooth_map((64, 24, 32))
    index = RegionIndex(feature_map, "max")
    query = true_max(feature_map, (5, 8, 15, 18))
    everything = index.search(query, 1.0, TIGHT)
    assert everything.evaluated == len(admissible(24, 32, 1.0, *TIGHT))
    proven = index.search(query, 1.0, TIGHT, exact=True)
    assert proven == everything
    assert proven.evaluated < everything.evaluated / 2
