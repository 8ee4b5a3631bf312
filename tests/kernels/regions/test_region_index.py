"""Region search gives the published function's boxes, ties included, and max-pooled search the proven best."""

import math
import subprocess
import sys
import threading
from pathlib import Path

import numba
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from region_maps import RATIOS, TIGHT, admissible, random_query, relu_map, smooth_map, sparse_map, unit

from parimg.kernels.regions.many_indexes import search_indexes
from parimg.kernels.regions.region_index import (
    RegionIndex,
    integral_image,
    region_descriptor,
)

ROOT = Path(__file__).parents[3]


@numba.njit
def published_descriptor(integral, y1, x1, y2, x2):
    region = integral[:, y2, x2] + integral[:, y1, x1] - integral[:, y1, x2] - integral[:, y2, x1]
    region /= np.sqrt(np.sum(region * region))
    return region


@numba.njit
def published_search(integral, query, ratio, low, high):
    """Written anew from the published formulas; minus one stands for a position that was never set."""
    best_score, best_box = np.inf, (-1, -1, -1, -1)
    for y2 in range(integral.shape[1]):
        for x2 in range(integral.shape[2]):
            for y1 in range(y2):
                for x1 in range(x2):
                    if ratio == 0 or low < (y2 - y1) / (x2 - x1) / ratio < high:
                        difference = published_descriptor(integral, y1, x1, y2, x2) - query
                        score = np.sqrt(np.sum(difference * difference))
                        if score < best_score:
                            best_score, best_box = score, (y1, x1, y2, x2)
    return best_score, best_box


def assert_published(feature_map, query, ratio, aspect_range=(0.8, 1.2), **options):
    score, box = published_search(integral_image(feature_map), query, ratio or 0.0, *aspect_range)
    index = RegionIndex(feature_map, **options)
    found = index.search(query, ratio, aspect_range, step=1, refine=False)
    if math.isinf(score):
        assert found == []
    else:
        assert found[0].box == box
        assert found[0].distance == pytest.approx(score, abs=1e-5)


# ---- The published function


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("shape", [(512, 18, 16), (64, 7, 23), (3, 20, 5), (2048, 6, 5), (1, 9, 9), (300, 1, 12)])
def test_box_is_the_published_one_on_random_maps(shape, ratio):
    assert_published(relu_map(shape), random_query(shape[0]), ratio)
    signed = np.random.default_rng(2).normal(size=shape)
    assert_published(signed, unit(np.random.default_rng(3).normal(size=shape[0])), ratio)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 12, 11), (2, 15, 9), (16, 10, 14), (600, 6, 7)])
@pytest.mark.parametrize("density", [0.002, 0.05, 0.4])
def test_ties_of_sparse_maps_go_to_the_window_found_first(shape, density, dtype):
    for seed in range(4):
        feature_map = sparse_map(shape, seed, density, dtype)
        for ratio in (1.0, 0.6, None):
            assert_published(feature_map, random_query(shape[0], seed), ratio)
            assert_published(feature_map, random_query(shape[0], seed), ratio, store_norms=False)


@pytest.mark.parametrize("value", [1, 0.3, -0.1, 1e-30, 1e30, np.float32(0.1)])
@pytest.mark.parametrize("shape", [(1, 1, 1), (512, 18, 16), (5, 40, 60), (2, 3, 4)])
def test_constant_maps_tie_everywhere(shape, value):
    feature_map = np.full(shape, value)
    assert_published(feature_map, unit(np.ones(shape[0])), 1.0)
    assert_published(feature_map, random_query(shape[0]), 1.3)


def test_large_map_has_the_published_box():
    assert_published(relu_map((32, 40, 60)), random_query(32), 1.0, TIGHT)
    assert_published(sparse_map((8, 40, 60)), random_query(8), 0.7)


def test_maps_that_float64_cannot_add_exactly_have_the_published_box():
    rng = np.random.default_rng(0)
    feature_map = np.exp(rng.normal(size=(4, 9, 8)) * 20) * (rng.random((4, 9, 8)) < 0.3)
    for ratio in RATIOS:
        assert_published(feature_map, random_query(4), ratio)
        assert_published(feature_map.astype(np.float32), random_query(4), ratio)


def test_query_that_is_opposite_to_all_windows_finds_the_least_opposite():
    assert_published(relu_map((20, 8, 9)), -random_query(20), 1.0)
    assert_published(sparse_map((4, 8, 9)), -random_query(4), None)


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    channels=st.sampled_from([1, 2, 3, 5, 33]),
    height=st.integers(1, 9),
    width=st.integers(1, 9),
    levels=st.integers(1, 4),
    unit_value=st.sampled_from([1.0, 0.1, 1 / 3]),
    ratio=st.sampled_from([None, 0.5, 1.0, 1.25, 3.0]),
    stored=st.booleans(),
)
def test_any_map_of_few_values_has_the_published_box(
    seed, channels, height, width, levels, unit_value, ratio, stored
):
    rng = np.random.default_rng(seed)
    feature_map = rng.integers(0, levels, (channels, height, width)) * unit_value
    query = unit(rng.integers(0, 3, channels) + 0.5)
    assert_published(feature_map, query, ratio, store_norms=stored)


def test_edges_of_the_aspect_range_are_left_out_as_published():
    feature_map = relu_map((8, 12, 12))
    query = random_query(8)
    for ratio in (5 / 6, 1.25, 2 / 3, 1 / 0.8, 1 / 1.2):
        assert_published(feature_map, query, ratio)
    only_square = RegionIndex(feature_map).search(query, 1.0, (0.99, 1.01), top_k=10**4)
    assert {box[2] - box[0] - box[3] + box[1] for box, _ in only_square} == {0}
    assert len(only_square) == sum(side * side for side in range(1, 13))


def test_top_k_are_the_best_in_order():
    feature_map = sparse_map((6, 7, 8), density=0.2)
    query = random_query(6)
    integral = integral_image(feature_map)
    scored = []
    for box in admissible(7, 8, 1.0, 0.8, 1.2):
        with np.errstate(invalid="ignore"):
            distance = np.sqrt(np.sum((published_descriptor.py_func(integral, *box) - query) ** 2))
        if not np.isnan(distance):
            scored.append((distance, box))
    scored.sort(key=lambda pair: pair[0])
    for top_k in (1, 5, len(scored) + 3):
        found = RegionIndex(feature_map).search(query, 1.0, top_k=top_k)
        np.testing.assert_allclose([m.distance for m in found], [d for d, _ in scored[:top_k]], atol=1e-12)
    assert {match.box for match in found} == {box for _, box in scored}


# ---- Integral image and descriptor


def test_integral_image_and_descriptor_are_the_published_ones():
    feature_map = np.random.default_rng(0).normal(size=(5, 6, 7))
    integral = integral_image(feature_map)
    assert (integral.dtype, integral.shape) == (np.float64, (5, 7, 8))
    expected = np.zeros((5, 7, 8))
    expected[:, 1:, 1:] = np.cumsum(np.cumsum(feature_map, axis=2), axis=1)
    np.testing.assert_array_equal(integral, expected)
    region = unit(feature_map[:, 1:4, 2:6].sum((1, 2)))
    np.testing.assert_allclose(region_descriptor(integral, (1, 2, 4, 6)), region)
    assert integral_image(feature_map.astype(np.float32)).dtype == np.float64


def test_region_without_a_direction_has_zeros_and_never_wins():
    feature_map = np.zeros((3, 4, 4))
    feature_map[:, 3, 3] = [-1, -2, 0]
    assert region_descriptor(integral_image(feature_map), (0, 0, 2, 2)).tolist() == [0, 0, 0]
    found = RegionIndex(feature_map).search([1, 2, 0], top_k=100)
    assert found[0].box == (0, 0, 4, 4)
    assert found[0].distance == pytest.approx(2)
    assert all(match.box[2:] == (4, 4) for match in found)
    assert RegionIndex(np.zeros((3, 4, 4))).search([1, 0, 0]) == []
    assert RegionIndex(np.zeros((3, 4, 4)), "max").search([1, 0, 0], exact=True) == []


# ---- Grid and refinement


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_grid_lines_are_multiples_of_the_step_and_the_edges(pooling):
    index = RegionIndex(relu_map((4, 8, 10)), pooling)
    found = index.search(random_query(4), step=3, refine=False, top_k=10**4)
    assert {box[0] for box, _ in found} == {0, 3, 6}
    assert {box[2] for box, _ in found} == {3, 6, 8}
    assert {box[1] for box, _ in found} == {0, 3, 6, 9}
    assert {box[3] for box, _ in found} == {3, 6, 9, 10}
    assert len(found) == found.evaluated == 6 * 10


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_refinement_is_never_worse_and_keeps_to_what_counts(pooling):
    for seed in range(5):
        feature_map = smooth_map((32, 24, 20), seed)
        index = RegionIndex(feature_map, pooling)
        query = index.descriptor((5, 4, 16, 15))
        coarse = index.search(query, 1.0, TIGHT, step=3, refine=False, min_size=4)[0]
        fine = index.search(query, 1.0, TIGHT, step=3, min_size=4)[0]
        best = index.search(query, 1.0, TIGHT, min_size=4)[0]
        assert best.distance <= fine.distance + 1e-6
        assert fine.distance <= coarse.distance + 1e-6
        assert fine.box in admissible(24, 20, 1.0, *TIGHT, 4)
        assert best.box == (5, 4, 16, 15)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_step_of_one_is_used_where_the_grid_has_no_window(pooling):
    index = RegionIndex(relu_map((4, 4, 3)), pooling)
    query = random_query(4)
    assert index.search(query, 2.0, TIGHT, step=3) == index.search(query, 2.0, TIGHT)
    assert len(index.search(query, 2.0, TIGHT, step=3)) == 1


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_windows_that_refine_to_the_same_one_are_returned_once(pooling):
    feature_map = smooth_map((32, 16, 16))
    index = RegionIndex(feature_map, pooling)
    found = index.search(index.descriptor((4, 4, 10, 10)), 1.0, step=3, top_k=20)
    assert len({match.box for match in found}) == len(found) <= 20
    assert [m.distance for m in found] == sorted(m.distance for m in found)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_min_size_bounds_both_sides(pooling):
    index = RegionIndex(relu_map((4, 8, 9)), pooling)
    found = index.search(random_query(4), min_size=5, top_k=1000)
    assert {box for box, _ in found} == set(admissible(8, 9, None, 0, 0, 5))


@pytest.mark.parametrize(
    "box", [(0, 0, 9, 8), (1, 0, 9, 8), (0, 2, 8, 8), (1, 1, 8, 7), (0, 0, 9, 5), (2, 3, 4, 6)]
)
def test_the_distance_of_the_best_window_is_that_of_its_cells_however_large_it_is(box):
    rng = np.random.default_rng(4)
    y1, x1, y2, x2 = box
    feature_map = rng.integers(-40, 40, (40, 9, 8)).astype(np.float32)
    noise = rng.integers(-40, 40, (40, y2 - y1, x2 - x1))
    noise[:, -1, -1] -= noise.sum((1, 2))  # of all windows of the box, only the box itself has none
    feature_map[:, y1:y2, x1:x2] = noise + 3 * np.arange(1, 41)[:, None, None]
    query = unit(np.arange(1.0, 41) + 0.3 * rng.normal(size=40))
    vector = feature_map[:, y1:y2, x1:x2].astype(np.float64).sum((1, 2))
    distance = np.linalg.norm(vector / np.linalg.norm(vector) - query)
    assert RegionIndex(feature_map).search(query)[0] == (box, pytest.approx(distance, rel=1e-13))


# ---- Many queries, many indexes


@pytest.mark.parametrize("pooling", ["sum", "max"])
@pytest.mark.parametrize("options", [{}, {"step": 3}, {"exact": True, "top_k": 3}])
def test_many_queries_answer_as_one_at_a_time(pooling, options):
    index = RegionIndex(relu_map((16, 10, 12)), pooling)
    queries = [random_query(16, seed) for seed in range(7)]
    ratios = [1.0, None, 0.5, 2.0, 1.0, 30.0, 1.5]
    expected = [index.search(query, ratio, **options) for query, ratio in zip(queries, ratios, strict=True)]
    found = index.search_many(np.stack(queries), ratios, **options)
    assert found == expected
    assert [f.evaluated for f in found] == [e.evaluated for e in expected]
    assert index.search_many(queries, 1.0, **options) == [index.search(query, 1.0, **options) for query in queries]
    assert index.search_many([]) == []


def test_many_indexes_of_any_size_answer_as_one_at_a_time():
    indexes = [
        RegionIndex(relu_map((16, height, width), height), pooling, store_norms=width % 2 == 0)
        for height, width in ((3, 4), (12, 5), (1, 1), (9, 9))
        for pooling in ("sum", "max")
    ]
    indexes.append(RegionIndex(np.random.default_rng(0).random((16, 5, 5))))
    query = random_query(16)
    for options in ({}, {"aspect_ratio": 1.0, "top_k": 2}, {"exact": True}):
        expected = [index.search(query, **options) for index in indexes]
        assert search_indexes(iter(indexes), query, **options) == expected
    assert search_indexes([], query) == []
    with pytest.raises(ValueError, match="channels"):
        search_indexes([*indexes, RegionIndex(np.ones((2, 3, 3)))], query)


# ---- Files and memory


@pytest.mark.parametrize("shape", [(512, 18, 16), (512, 24, 32), (1, 30, 30), (1, 1, 1), (64, 40, 60)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_index_takes_at_most_three_times_the_float32_map(shape, dtype):
    feature_map = np.random.default_rng(0).random(shape).astype(dtype)
    for pooling in ("sum", "max"):
        assert RegionIndex(feature_map, pooling).nbytes <= 3 * 4 * feature_map.size


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_any_layout_is_taken_and_never_changed(pooling):
    base = np.asfortranarray(relu_map((12, 14, 10)))
    expected = RegionIndex(base, pooling).search(random_query(12), 1.0)
    frozen = np.ascontiguousarray(base)
    frozen.flags.writeable = False
    strided = np.zeros((24, 28, 10), np.float32)[::2, ::2]
    strided[:] = base
    query = random_query(12)
    query.flags.writeable = False
    for feature_map in (base, frozen, strided, base[:, ::-1][:, ::-1], base.tolist()):
        assert RegionIndex(feature_map, pooling).search(query, 1.0) == expected
    np.testing.assert_array_equal(base, relu_map((12, 14, 10)))
    levels = (relu_map((3, 6, 6)) * 50).astype(np.uint8)
    of_bytes, of_floats = (RegionIndex(values, pooling) for values in (levels, levels.astype(float)))
    assert of_bytes.search([1, 2, 3]) == of_floats.search([1, 2, 3])


def test_scale_of_map_and_query_does_not_matter():
    feature_map = relu_map((8, 9, 9))
    query = random_query(8)
    for pooling in ("sum", "max"):
        expected = RegionIndex(feature_map, pooling).search(query, 1.0)
        for factor in (2.0**-100, 2.0**100):
            found = RegionIndex(feature_map * np.float32(factor), pooling).search(query * factor, 1.0)
            assert found[0].box == expected[0].box
            assert found[0].distance == pytest.approx(expected[0].distance, abs=1e-6)


def test_search_frees_the_gil():
    index = RegionIndex(relu_map((256, 30, 30)), store_norms=False)
    query = random_query(256)
    index.search(query)
    ticks = 0
    worker = threading.Thread(target=lambda: [index.search(query) for _ in range(10)])
    worker.start()
    while worker.is_alive():
        ticks += 1
        worker.join(0.001)
    assert ticks > 3


# ---- Errors


@pytest.mark.parametrize(("feature_map", "message"), [
    (np.ones((3, 4)), r"feature_map must have shape .* \(got \(3, 4\)\)"),
    (np.ones((3, 0, 4)), r"each at least 1 \(got \(3, 0, 4\)\)"),
    (np.array([[[1, np.nan]]]), r"finite values only \(got nan at \(0, 0, 1\)\)"),
    (np.array([[[1, 2], [-np.inf, 0]]]), r"got -inf at \(0, 1, 0\)"),
    (np.ones((1, 1, 40000), np.uint8), "32767 rows and columns"),
    (np.full((1, 1, 1), 1e200), "squares are finite"),
])  # fmt: skip
@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_bad_map_is_refused_with_its_shape_or_value(feature_map, message, pooling):
    with pytest.raises(ValueError, match=message):
        RegionIndex(feature_map, pooling)


def test_max_pooling_refuses_negative_values_and_powers_that_overflow():
    with pytest.raises(ValueError, match=r"not be negative for pooling='max' \(got -2\)"):
        RegionIndex([[[1, -2.0]]], "max")
    for alpha in (0, 21, 20):
        with pytest.raises(ValueError, match="alpha must be at least 1"):
            RegionIndex(np.ones((1, 4, 4)), "max", alpha)
    with pytest.raises(ValueError, match="pooling must be 'sum' or 'max'"):
        RegionIndex(np.ones((1, 4, 4)), "mean")
    with pytest.raises(TypeError, match="real numbers"):
        RegionIndex(np.ones((1, 4, 4), complex))
    with pytest.raises(TypeError, match="real numbers"):
        integral_image([[["a"]]])


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_bad_query_is_refused(pooling):
    index = RegionIndex(np.ones((3, 4, 4)), pooling)
    with pytest.raises(ValueError, match=r"query must have shape \(3,\).*got \(4,\)"):
        index.search(np.ones(4))
    with pytest.raises(ValueError, match="query must have a direction"):
        index.search(np.zeros(3))
    with pytest.raises(ValueError, match=r"query must hold finite values only \(got nan at \(1,\)\)"):
        index.search([1, np.nan, 0])
    with pytest.raises(TypeError, match="query must hold real numbers"):
        index.search([1j, 0, 0])
    with pytest.raises(ValueError, match="one for each of 2 queries"):
        index.search_many(np.ones((2, 3)), [1.0])


@pytest.mark.parametrize(("options", "message"), [
    ({"aspect_ratio": 0}, "aspect_ratio must be positive"),
    ({"aspect_ratio": math.nan}, "aspect_ratio must be positive"),
    ({"aspect_range": (1.2, 0.8)}, "aspect_range must be two numbers, the lower one first"),
    ({"step": 0}, "step must be at least 1"),
    ({"min_size": 0}, "min_size must be at least 1"),
    ({"top_k": 0}, "top_k must be at least 1"),
    ({"aspect_range": None}, "aspect_range must be two numbers, .*got None"),
    ({"aspect_range": "ab"}, "aspect_range must be two numbers, .*got 'ab'"),
    ({"aspect_range": ("a", "b")}, r"aspect_range must be two numbers, .*got \('a', 'b'\)"),
    ({"aspect_range": [1, 2, 3]}, r"aspect_range must be two numbers"),
    ({"aspect_range": (1, 2, 3)}, r"aspect_range must be two numbers, .*got \(1, 2, 3\)"),
    ({"step": 1.5}, r"step must be an integer \(got 1.5\)"),
    ({"min_size": None}, r"min_size must be an integer \(got None\)"),
    ({"top_k": "2"}, r"top_k must be an integer \(got '2'\)"),
    ({"aspect_ratio": "ab"}, "aspect_ratio must be a number, .*got 'ab'"),
    ({"aspect_ratio": ["a"]}, "aspect_ratio must be a number, .*got 'a'"),
    ({"aspect_ratio": object()}, "aspect_ratio must be a number, .*got <object"),
])  # fmt: skip
def test_bad_parameter_is_refused(options, message):
    with pytest.raises((TypeError, ValueError), match=message):
        RegionIndex(np.ones((3, 4, 4))).search(np.ones(3), **options)


@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_no_more_windows_are_returned_than_there_are(pooling):
    index = RegionIndex(relu_map((8, 3, 4)) + 1, pooling)
    found = index.search(random_query(8), top_k=10**12)
    assert len(found) == len({match.box for match in found}) == 6 * 10
    assert found == index.search(random_query(8), top_k=60)
    smaller = RegionIndex(relu_map((8, 2, 2)) + 1, pooling)
    many = search_indexes([index, smaller], random_query(8), top_k=10**12)
    assert [len(found) for found in many] == [60, 9]


def test_an_aspect_range_may_be_any_pair():
    index = RegionIndex(relu_map((8, 6, 6)))
    expected = index.search(random_query(8), 1.0, (0.5, 2.0))
    for pair in ([0.5, 2.0], np.array([0.5, 2.0])):
        assert index.search(random_query(8), 1.0, pair) == expected


@pytest.mark.parametrize("box", [(0, 0, 0, 1), (0, 0, 5, 1), (-1, 0, 1, 1), (1, 1, 2), (2, 0, 1, 1)])
def test_bad_box_is_refused(box):
    with pytest.raises(ValueError, match="box must be"):
        region_descriptor(integral_image(np.ones((1, 4, 4))), box)
    with pytest.raises(ValueError, match="box must be"):
        RegionIndex(np.ones((1, 4, 4))).descriptor(box)


@pytest.mark.parametrize("options", [{"aspect_ratio": 50.0}, {"min_size": 5}, {"exact": True, "min_size": 5}])
@pytest.mark.parametrize("pooling", ["sum", "max"])
def test_no_window_that_counts_is_an_empty_list(options, pooling):
    found = RegionIndex(np.ones((3, 4, 4)), pooling).search(np.ones(3), **options)
    assert found == []
    assert found.evaluated == 0


# ---- A new process


def test_import_loads_nothing_but_numpy_and_numba():
    code = (
        "import sys, numpy, numba; before = set(sys.modules); import parimg.kernels.regions.region_index;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert set(ran.stdout.split()) <= {"parimg", "numpy", "numba", "llvmlite", "lazy_loader"}


def test_boxes_are_told_in_pixels_where_the_index_knows_the_image(tmp_path):
    RegionIndex(relu_map((3, 12, 16)), "max", image_size=(768, 1000)).save(tmp_path / "index.npy")
    index = RegionIndex.load(tmp_path / "index.npy")
    assert index.image_size == (768, 1000)
    assert index.in_pixels((0, 0, 12, 16)) == (0, 0, 768, 1000)
    assert index.in_pixels((3, 5, 6, 8)) == (192, 312, 384, 500)
    with pytest.raises(ValueError, match="within 12 x 16 cells"):
        index.in_pixels((0, 0, 13, 1))
    RegionIndex(relu_map((3, 2, 2))).save(tmp_path / "index.npy")
    assert RegionIndex.load(tmp_path / "index.npy").image_size is None
    with pytest.raises(ValueError, match="image_size"):
        RegionIndex(relu_map((3, 2, 2))).in_pixels((0, 0, 1, 1))


@pytest.mark.parametrize("size", [(0, 5), (3,), 7, (2.5, 3)])
def test_an_image_size_that_is_none_is_refused(size):
    with pytest.raises(ValueError, match="image_size must be"):
        RegionIndex(relu_map((3, 2, 2)), image_size=size)


@pytest.mark.parametrize("image_size", [(1, 1), (3, 2), (4, 4), (7, 900)])
def test_no_box_is_empty_in_pixels_also_of_images_with_fewer_pixels_than_cells(
    image_size: tuple[int, int],
) -> None:
    index = RegionIndex(np.ones((1, 4, 4), np.float32), image_size=image_size)
    edges = [(first, end) for first in range(4) for end in range(first + 1, 5)]
    for top, bottom in edges:
        for left, right in edges:
            y1, x1, y2, x2 = index.in_pixels((top, left, bottom, right))
            assert 0 <= y1 < y2 <= image_size[0]
            assert 0 <= x1 < x2 <= image_size[1]
