"""MAC, R-MAC and query expansion against their definitions in plain numpy and by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from parimg.kernels.pooling.global_descriptors import expand_query, mac, region_vectors, rmac, rmac_regions
from parimg.kernels.pooling.whitening import Whitening, learn_whitening

RNG = np.random.default_rng(11)


def sparse_map(channels: int, height: int, width: int) -> np.ndarray:
    """Like the activations behind a ReLU: mostly zeros."""
    return np.maximum(RNG.normal(-0.5, 1, (channels, height, width)), 0).astype(np.float32)


def unit(vector: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vector)
    return vector / length if length else vector


def plain_rmac(feature_map: np.ndarray, levels: int = 3, whitening: Whitening | None = None) -> np.ndarray:
    """R-MAC as the paper's sentence says it, in float64."""
    total = 0.0
    for y1, x1, y2, x2 in rmac_regions(*feature_map.shape[1:], levels):
        region = unit(feature_map[:, y1:y2, x1:x2].astype(float).max(axis=(1, 2)))
        if whitening is not None and region.any():
            region = unit(whitening.projection.astype(float) @ (region - whitening.mean))
        total += region if region.any() else 0.0
    return unit(np.asarray(total))


# -- regions -------------------------------------------------------------------------------------------------


def test_a_square_map_has_1_4_9_regions() -> None:
    regions = rmac_regions(12, 12)
    assert regions[:5].tolist() == [[0, 0, 12, 12], [0, 0, 8, 8], [0, 4, 8, 12], [4, 0, 12, 8], [4, 4, 12, 12]]
    assert regions[5:].tolist() == [[y, x, y + 6, x + 6] for y in (0, 3, 6) for x in (0, 3, 6)]


def test_a_photograph_of_4_to_3_has_2_6_12_regions() -> None:
    """m = 2: squares of 24 at 0 and 8 of 32 columns overlap by 67 %, three of them would by 83 %."""
    regions = rmac_regions(24, 32)
    assert regions[:2].tolist() == [[0, 0, 24, 24], [0, 8, 24, 32]]
    assert regions[2:8].tolist() == [[y, x, y + 16, x + 16] for y in (0, 8) for x in (0, 8, 16)]
    assert regions[8:].tolist() == [[y, x, y + 12, x + 12] for y in (0, 6, 12) for x in (0, 6, 13, 20)]


@pytest.mark.parametrize(
    ("width", "offsets"),
    [
        (16, [0, 6]),  # 40 %
        (20, [0, 5, 10]),  # 50 %; two would not overlap
        (22, [0, 6, 12]),  # 40 %
        (100, list(range(0, 91, 6))),  # 40 %
    ],
)
def test_the_overlap_along_the_longer_side_is_about_forty_percent(width: int, offsets: list[int]) -> None:
    assert rmac_regions(10, width, levels=1).tolist() == [[0, x, 10, x + 10] for x in offsets]


def test_regions_of_a_turned_map_are_turned() -> None:
    lying, standing = rmac_regions(11, 29), rmac_regions(29, 11)
    assert {(y1, x1, y2, x2) for y1, x1, y2, x2 in lying.tolist()} == {
        (y1, x1, y2, x2) for x1, y1, x2, y2 in standing.tolist()
    }


@given(st.integers(1, 70), st.integers(1, 70), st.integers(1, 6))
def test_regions_are_different_squares_inside_the_map_that_reach_its_edges(
    height: int, width: int, levels: int
) -> None:
    regions = rmac_regions(height, width, levels)
    y1, x1, y2, x2 = regions.T
    assert (y2 - y1 == x2 - x1).all()
    assert (y2 > y1).all()
    assert (y1.min(), x1.min(), y2.max(), x2.max()) == (0, 0, height, width)
    assert len({tuple(box) for box in regions.tolist()}) == len(regions)
    sides = [2 * min(height, width) // (level + 1) for level in range(1, levels + 1)]
    assert set((y2 - y1).tolist()) == {side for side in sides if side}


def test_a_map_of_one_cell_has_one_region() -> None:
    assert rmac_regions(1, 1).tolist() == [[0, 0, 1, 1]]


def test_regions_belong_to_the_caller() -> None:
    rmac_regions(5, 7)[:] = -1
    assert rmac_regions(5, 7).min() == 0


# -- vectors -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1, 1, 1), (3, 1, 9), (5, 9, 1), (7, 2, 2), (64, 12, 17), (33, 40, 60), (1280, 15, 20), (2048, 7, 7)]
)
@pytest.mark.parametrize("levels", [1, 3, 4])
def test_rmac_is_the_sum_of_the_regions_vectors(shape: tuple[int, int, int], levels: int) -> None:
    feature_map = sparse_map(*shape)
    np.testing.assert_allclose(rmac(feature_map, levels), plain_rmac(feature_map, levels), atol=2e-6)


def test_mac_is_the_maximum_of_every_channel_at_length_1() -> None:
    feature_map = sparse_map(200, 11, 13)
    np.testing.assert_allclose(mac(feature_map), unit(feature_map.max(axis=(1, 2))), atol=1e-6)


def test_negative_maps_are_pooled_by_their_true_maximum() -> None:
    feature_map = -1 - RNG.random((8, 6, 9), np.float32)
    np.testing.assert_allclose(rmac(feature_map), plain_rmac(feature_map), atol=1e-6)
    assert (mac(feature_map) < 0).all()


def test_region_vectors_are_the_maxima_of_the_regions_at_length_1() -> None:
    feature_map = sparse_map(30, 9, 14)
    vectors = region_vectors(feature_map)
    regions = rmac_regions(9, 14)
    assert vectors.shape == (len(regions), 30)
    for vector, (y1, x1, y2, x2) in zip(vectors, regions, strict=True):
        np.testing.assert_allclose(vector, unit(feature_map[:, y1:y2, x1:x2].max(axis=(1, 2))), atol=1e-6)


@pytest.mark.parametrize("function", [mac, rmac, region_vectors])
def test_layout_dtype_and_flags_change_no_value(function: object) -> None:
    feature_map = np.round(sparse_map(24, 10, 15) * 16) / 16  # float16 holds these, too
    expected = function(feature_map)
    assert expected.dtype == np.float32
    channels_last = np.ascontiguousarray(feature_map.transpose(1, 2, 0)).transpose(2, 0, 1)
    read_only = feature_map.copy()
    read_only.flags.writeable = False
    wide = np.repeat(feature_map, 2, axis=2)[:, :, ::2]
    mirrored = feature_map[:, ::-1, ::-1].copy()[:, ::-1, ::-1]
    fortran = np.asfortranarray(feature_map)
    others = [feature_map.astype(dtype) for dtype in (np.float16, np.float64)]
    for other in (channels_last, read_only, wide, mirrored, fortran, *others, feature_map.tolist()):
        np.testing.assert_array_equal(function(other), expected)


def test_the_map_is_not_changed() -> None:
    feature_map = sparse_map(4, 5, 6)
    before = feature_map.copy()
    rmac(feature_map)
    np.testing.assert_array_equal(feature_map, before)


def test_the_strength_of_a_map_does_not_matter() -> None:
    feature_map = sparse_map(16, 9, 9)
    for factor in (1e-30, 1e-3, 1e30):
        np.testing.assert_allclose(rmac(feature_map * np.float32(factor)), rmac(feature_map), atol=1e-5)


def test_a_map_without_activations_has_a_vector_of_zeros() -> None:
    zeros = np.zeros((6, 8, 9), np.float32)
    whitening = learn_whitening(RNG.normal(size=(50, 6)), 4)
    assert mac(zeros).tolist() == rmac(zeros).tolist() == [0] * 6
    assert mac(zeros, whitening=whitening).tolist() == rmac(zeros, whitening=whitening).tolist() == [0] * 4
    assert not region_vectors(zeros).any()


def test_regions_without_activations_are_left_out_of_the_sum() -> None:
    feature_map = np.zeros((6, 12, 12), np.float32)
    feature_map[:, :2, :2] = RNG.random((6, 2, 2))
    whitening = learn_whitening(RNG.normal(size=(50, 6)))
    np.testing.assert_allclose(
        rmac(feature_map, whitening=whitening), plain_rmac(feature_map, whitening=whitening), atol=1e-5
    )


def test_region_vectors_are_whitened_before_the_sum() -> None:
    maps = [sparse_map(20, 9, 12) for _ in range(20)]
    whitening = learn_whitening(np.vstack([region_vectors(feature_map) for feature_map in maps]), 12)
    for feature_map in maps:
        found = rmac(feature_map, whitening=whitening)
        assert found.shape == (12,)
        np.testing.assert_allclose(found, plain_rmac(feature_map, whitening=whitening), atol=1e-5)
        expected = unit(whitening.apply(mac(feature_map)))
        np.testing.assert_allclose(mac(feature_map, whitening=whitening), expected, atol=1e-5)


# -- query expansion -----------------------------------------------------------------------------------------


def test_an_expanded_query_is_the_mean_direction() -> None:
    found = expand_query([3.0, 0, 0], [[0, 0.1, 0], [0, 0, 7.0]])
    np.testing.assert_allclose(found, np.ones(3) / np.sqrt(3), rtol=1e-6)


def test_a_query_without_neighbours_stays() -> None:
    assert expand_query([3, 4], np.empty((0, 2))).tolist() == pytest.approx([0.6, 0.8])


def test_an_expanded_query_finds_what_only_its_neighbours_resemble() -> None:
    """A chain of views, each like the next: the third is closer to the mean of the first two than to the first."""
    views = np.array([[1, 0], [np.cos(0.7), np.sin(0.7)], [np.cos(1.4), np.sin(1.4)]])
    assert expand_query(views[0], views[1:2]) @ views[2] > views[0] @ views[2]


def test_neighbours_of_zeros_change_nothing() -> None:
    assert expand_query([3, 4], np.zeros((2, 2))).tolist() == pytest.approx([0.6, 0.8])


# -- mistakes ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [mac, rmac, region_vectors])
@pytest.mark.parametrize(
    ("feature_map", "error", "message"),
    [
        (np.zeros((3, 4)), ValueError, r"must have shape \(channels, height, width\) \(got \(3, 4\)\)"),
        (np.zeros((1, 3, 4, 5)), ValueError, r"got \(1, 3, 4, 5\)"),
        (np.zeros((3, 0, 4)), ValueError, r"must have a channel and a cell \(got shape \(3, 0, 4\)\)"),
        (np.zeros((0, 3, 4)), ValueError, r"got shape \(0, 3, 4\)"),
        (np.array([[[1, np.nan, np.inf]]]), ValueError, "must be finite .got 1 NaN and 1 infinite of 3 values"),
        (np.array([[[1e300]]]), ValueError, "must be finite .got 0 NaN and 1 infinite"),
        (np.zeros((1, 2, 3), complex), TypeError, "must hold real numbers .got dtype complex128"),
        (np.full((1, 2, 3), "a"), TypeError, "must hold real numbers"),
    ],
)
def test_what_is_no_feature_map_is_told(
    function: object, feature_map: np.ndarray, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        function(feature_map)


def test_levels_and_sides_below_1_are_told() -> None:
    with pytest.raises(ValueError, match=r"levels must be at least 1 .got 0"):
        rmac(np.ones((1, 2, 2)), levels=0)
    with pytest.raises(TypeError):
        rmac(np.ones((1, 2, 2)), levels=1.5)
    with pytest.raises(ValueError, match=r"width must be at least 1 .got 0"):
        rmac_regions(3, 0)


def test_a_whitening_of_another_width_is_told() -> None:
    whitening = Whitening(np.zeros(3), np.eye(3))
    for function in (mac, rmac):
        with pytest.raises(ValueError, match=r"whitening is for 3 channels .got a map of 2"):
            function(np.ones((2, 4, 4)), whitening=whitening)


def test_queries_and_neighbours_must_fit() -> None:
    with pytest.raises(ValueError, match=r"one width \(got 2 and 3\)"):
        expand_query([1, 2], np.ones((4, 3)))
    with pytest.raises(ValueError, match=r"neighbours must have shape \(n, width\) \(got \(2,\)\)"):
        expand_query([1, 2], [1, 2])
    with pytest.raises(ValueError, match="query must be finite"):
        expand_query([1, np.nan], np.ones((1, 2)))
