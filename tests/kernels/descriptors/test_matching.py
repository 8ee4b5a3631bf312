"""Descriptor matching gives OpenCV's answers: same pairs, same ties, same distances."""

import itertools
import os
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from parimg.kernels.descriptors.matching import Matches, match_descriptors, nearest_descriptors

ROOT = Path(__file__).parents[3]
DATA = Path(os.environ.get("PARIMG_DATA", ROOT.parent / "shared" / "data"))
SIZES = (1, 2, 3, 63, 64, 65)


def of_opencv(found):
    """OpenCV's matches as three arrays."""
    query = np.array([match.queryIdx for match in found], np.int32)
    train = np.array([match.trainIdx for match in found], np.int32)
    return Matches(query, train, np.array([match.distance for match in found], np.float32))


def assert_same(found, expected, rtol=0.0):
    np.testing.assert_array_equal(found.query, expected.query)
    np.testing.assert_array_equal(found.train, expected.train)
    np.testing.assert_allclose(found.distance, expected.distance, rtol=rtol, atol=0)
    assert [array.dtype.name for array in found] == ["int32", "int32", "float32"]


def assert_answers_of_opencv(query, train, norm="l2", rtol=0.0):
    """Mutual, plain, and two nearest."""
    norm_type = cv2.NORM_L2 if norm == "l2" else cv2.NORM_HAMMING
    mutual = cv2.BFMatcher(norm_type, crossCheck=True).match(query, train)
    assert_same(match_descriptors(query, train, norm=norm), of_opencv(mutual), rtol)
    matcher = cv2.BFMatcher(norm_type)
    plain = of_opencv(matcher.match(query, train))
    assert_same(match_descriptors(query, train, cross_check=None, norm=norm), plain, rtol)
    index, distance = nearest_descriptors(query, train, norm=norm)
    assert (index.dtype, distance.dtype, index.shape) == (np.int32, np.float32, (len(query), 2))
    for i, two in enumerate(matcher.knnMatch(query, train, k=2)):
        assert index[i, : len(two)].tolist() == [match.trainIdx for match in two]
        np.testing.assert_allclose(distance[i, : len(two)], [match.distance for match in two], rtol=rtol)
        assert index[i, len(two) :].tolist() == [-1] * (2 - len(two))
        assert np.isinf(distance[i, len(two) :]).all()


def few_values(shape, seed, values=3):
    """Bytes with so few values that most distances are tied."""
    return np.random.default_rng(seed).integers(0, values, shape, dtype=np.uint8)


def root_sift(sift):
    return np.sqrt(sift / sift.sum(1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def temple():
    """SIFT descriptors of the 47 views, float32."""
    views = sorted((DATA / "templeRing").glob("*.png"))
    if not views:
        pytest.skip(f"no templeRing views in {DATA}; set PARIMG_DATA to the folder of real images")
    sift = cv2.SIFT_create(nfeatures=5000)
    gray = [cv2.imread(str(view), cv2.IMREAD_GRAYSCALE) for view in views]
    return [sift.detectAndCompute(image, None)[1] for image in gray]


# ---- Real images


@pytest.mark.slow
def test_all_pairs_of_temple_views_match_as_in_opencv(temple):
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    as_bytes = [view.astype(np.uint8) for view in temple]
    pairs = list(itertools.combinations(range(47), 2))
    assert len(pairs) == 1081
    for i, j in pairs:
        found = match_descriptors(as_bytes[i], as_bytes[j])
        assert_same(found, of_opencv(matcher.match(temple[i], temple[j])))


@pytest.mark.slow
def test_float_sift_is_exact_too(temple):
    for other in temple[1:4]:
        assert_answers_of_opencv(temple[0], other)


@pytest.mark.slow
def test_ratio_test_is_the_one_users_write(temple):
    query, train = temple[0], temple[1]
    two = cv2.BFMatcher(cv2.NORM_L2).knnMatch(query, train, k=2)
    expected = of_opencv([best for best, second in two if best.distance < 0.75 * second.distance])
    assert len(expected.query) > 50
    assert_same(match_descriptors(query, train, cross_check=None, max_ratio=0.75), expected)


@pytest.mark.slow
def test_root_sift_matches_as_in_opencv(temple):
    roots = [root_sift(view) for view in temple[:6]]
    for query, train in itertools.combinations(roots, 2):
        assert_answers_of_opencv(query, train, rtol=1e-5)


@pytest.mark.slow
def test_one_way_counts_are_near_the_published_ones(temple):
    """The published example used an older OpenCV, whose SIFT and rule differ; see shared/data/README.md."""
    published = [802, 549, 491, 482, 470, 441]
    counts = [len(match_descriptors(temple[0], view, cross_check="one-way").query) for view in temple[:6]]
    assert counts[0] == len(temple[0])
    assert counts == pytest.approx(published, rel=0.06)


# ---- Sizes, widths, ties


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("m", SIZES)
def test_small_sizes_with_many_ties(n, m):
    assert_answers_of_opencv(few_values((n, 128), n), few_values((m, 128), 100 + m))


@pytest.mark.parametrize(
    "width", [1, 3, 4, 5, 32, 33, 61, 64, 100, 127, 128, 129, 170, 171, 255, 256, 300, 511, 512]
)
def test_widths_of_bytes(width):
    rng = np.random.default_rng(width)
    query = rng.integers(0, 256, (70, width), dtype=np.uint8)
    train = np.concatenate([query[::2], rng.integers(0, 256, (90, width), dtype=np.uint8), query[::3]])
    assert_answers_of_opencv(query, train)


@pytest.mark.parametrize("width", [1, 3, 32, 33, 64, 127, 128, 256, 511, 512, 3000])
@pytest.mark.parametrize("scale", [1e-20, 1.0, 1e6])
def test_widths_of_floats(width, scale):
    rng = np.random.default_rng(width)
    query = (scale * rng.standard_normal((70, width))).astype(np.float32)
    train = (scale * rng.standard_normal((90, width))).astype(np.float32)
    found = match_descriptors(query, train, cross_check=None)
    distances = np.linalg.norm(query[:, None].astype(np.float64) - train[None].astype(np.float64), axis=2)
    np.testing.assert_array_equal(found.train, distances.argmin(1))
    np.testing.assert_array_equal(found.distance, distances.min(1).astype(np.float32))


def test_bytes_too_wide_for_the_exact_scan_are_exact_all_the_same():
    rng = np.random.default_rng(5)
    query, train = rng.integers(0, 256, (20, 2500), np.uint8), rng.integers(0, 256, (300, 2500), np.uint8)
    squared = ((query[:, None].astype(np.int64) - train[None]) ** 2).sum(2)
    np.testing.assert_array_equal(nearest_descriptors(query, train)[0], squared.argsort(1, kind="stable")[:, :2])


@pytest.mark.parametrize("shape", [(256, 4097), (257, 4096), (1025, 300), (600, 8300)])
def test_more_than_one_panel(shape):
    """Keys number 256 queries and 256 blocks of 8 or 16 trains; more than that is several panels."""
    n, m = shape
    assert_answers_of_opencv(few_values((n, 32), 1, values=4), few_values((m, 32), 2, values=4))


def test_equal_distances_go_to_the_lowest_index():
    descriptors = np.repeat(few_values((40, 128), 7, values=200), 5, axis=0)
    index, distance = nearest_descriptors(descriptors, descriptors)
    first = np.arange(200) // 5 * 5
    np.testing.assert_array_equal(index, np.stack([first, first + 1], axis=1))
    assert not distance.any()
    np.testing.assert_array_equal(match_descriptors(descriptors, descriptors).query, np.arange(0, 200, 5))


def test_squares_that_differ_and_roots_that_do_not():
    """OpenCV compares float32 roots, and from 2**22 on those of neighbouring integers can be equal."""
    query = np.zeros((1, 128), np.uint8)
    train = np.full((3, 128), 255, np.uint8)
    train[:, 126:] = [[7, 2], [2, 1], [2, 0]]
    squared = 126 * 255**2 + np.array([53, 5, 4])
    roots = np.sqrt(squared.astype(np.float32))
    assert roots[0] > roots[1] == roots[2]
    index, distance = nearest_descriptors(query, train)
    assert index.tolist() == [[1, 2]]
    assert distance[0].tolist() == [roots[1], roots[2]]
    assert_answers_of_opencv(query, train)
    assert_answers_of_opencv(train, query)


@pytest.mark.parametrize("seed", range(5))
def test_far_apart_bytes_with_colliding_roots(seed):
    query, train = few_values((80, 128), seed, values=6), 255 - few_values((300, 128), seed + 50, values=6)
    assert_answers_of_opencv(query, train)


def test_largest_distance_of_sift_width():
    black, white = np.zeros((2, 128), np.uint8), np.full((2, 128), 255, np.uint8)
    assert match_descriptors(black, white).distance.tolist() == [np.float32(8323200**0.5)]


@pytest.mark.parametrize("width", [1, 8, 31, 32, 61, 64])
def test_hamming_is_that_of_opencv(width):
    rng = np.random.default_rng(width)
    query, train = rng.integers(0, 256, (300, width), np.uint8), rng.integers(0, 256, (500, width), np.uint8)
    train[::7] = train[3]
    assert_answers_of_opencv(query, train, norm="hamming")


@pytest.mark.slow
def test_orb_matches_as_in_opencv(temple):
    del temple  # skips where there are no views
    views = [cv2.imread(str(DATA / "templeRing" / f"templeR000{i}.png"), cv2.IMREAD_GRAYSCALE) for i in (1, 2)]
    query, train = (cv2.ORB_create(2000).detectAndCompute(view, None)[1] for view in views)
    assert_answers_of_opencv(query, train, norm="hamming")


# ---- Properties


pairs = st.tuples(st.integers(1, 12), st.integers(1, 80), st.integers(1, 20)).flatmap(
    lambda sizes: st.tuples(
        hnp.arrays(np.uint8, (sizes[0], sizes[2])),
        hnp.arrays(np.uint8, (sizes[1], sizes[2])),
    )
)


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_any_bytes_match_as_in_opencv(pair):
    assert_answers_of_opencv(*pair)


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_mutual_matches_are_symmetric(pair):
    query, train = pair
    there, back = match_descriptors(query, train), match_descriptors(train, query)
    assert sorted(zip(there.query, there.train, strict=True)) == sorted(zip(back.train, back.query, strict=True))


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_rounded_floats_give_the_pairs_and_ties_of_whole_numbers(pair):
    """Divided by 256, plus 1, they are exact in float32 and as far apart, but take the rounded way."""
    query, train = (side.astype(np.float32) for side in pair)
    exact, rounded = match_descriptors(query, train), match_descriptors(query / 256 + 1, train / 256 + 1)
    assert_same(rounded, exact._replace(distance=exact.distance / 256))


@settings(deadline=None, max_examples=60)
@given(pairs)
def test_one_way_is_the_closest_of_those_that_chose_the_query(pair):
    query, train = pair
    closest = {}
    for match in cv2.BFMatcher(cv2.NORM_L2).match(train, query):
        if match.trainIdx not in closest or match.distance < closest[match.trainIdx][1]:
            closest[match.trainIdx] = (match.queryIdx, match.distance)
    found = match_descriptors(query, train, cross_check="one-way")
    assert found.query.tolist() == sorted(closest)
    assert found.train.tolist() == [closest[i][0] for i in sorted(closest)]
    assert found.distance.tolist() == [closest[i][1] for i in sorted(closest)]


# ---- Filters


def line(*positions):
    """Descriptors on a line, so that distances can be told by eye."""
    return np.array(positions, np.uint8)[:, None]


def test_max_distance_is_inclusive():
    query, train = line(10, 50, 90), line(13, 54, 95)
    assert match_descriptors(query, train, max_distance=4).distance.tolist() == [3, 4]


def test_ratio_test_is_strict():
    query, train = line(0, 100), line(3, 4, 98, 104)
    for cross_check in ("mutual", None):
        assert match_descriptors(query, train, cross_check, max_ratio=0.75).train.tolist() == [2]
        assert match_descriptors(query, train, cross_check, max_ratio=0.76).train.tolist() == [0, 2]


def test_one_way_ratio_looks_for_the_second_among_queries():
    query, train = line(0, 10, 200), line(1, 4, 6, 190)
    assert match_descriptors(query, train, "one-way").train.tolist() == [0, 2, 3]
    assert match_descriptors(query, train, "one-way", max_ratio=0.5).train.tolist() == [0, 3]


@pytest.mark.parametrize("cross_check", ["mutual", "one-way", None])
def test_a_match_without_rival_passes_the_ratio_test(cross_check):
    found = match_descriptors(line(7), line(9), cross_check, max_ratio=0.1)
    assert [array.tolist() for array in found] == [[0], [0], [2]]


def test_two_rivals_at_distance_zero_fail_the_ratio_test():
    assert len(match_descriptors(line(7), line(7, 7), max_ratio=1).query) == 0


# ---- What is taken


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64, np.float16, np.int64])
@pytest.mark.parametrize("order", ["read-only", "strided", "Fortran", "reversed"])
def test_any_layout_is_taken_and_left_alone(dtype, order):
    expected = match_descriptors(few_values((50, 128), 1, values=150), few_values((60, 128), 2, values=150))
    sides = []
    for n, seed in ((50, 1), (60, 2)):
        side = few_values((n, 128), seed, values=150).astype(dtype)
        if order == "strided":
            side = np.repeat(np.repeat(side, 2, axis=0), 3, axis=1)[::2, ::3]
        elif order == "Fortran":
            side = np.asfortranarray(side)
        elif order == "reversed":
            side = side[::-1, ::-1].copy()[::-1, ::-1]
        side.flags.writeable = False
        sides.append(side)
    before = [side.copy() for side in sides]
    assert_same(match_descriptors(*sides), expected)
    np.testing.assert_array_equal(sides[0], before[0])
    np.testing.assert_array_equal(sides[1], before[1])


@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
@pytest.mark.parametrize(("n", "m"), [(0, 0), (0, 5), (5, 0)])
@pytest.mark.parametrize("cross_check", ["mutual", "one-way", None])
def test_nothing_matches_nothing(dtype, n, m, cross_check):
    query, train = np.zeros((n, 128), dtype), np.zeros((m, 128), dtype)
    found = match_descriptors(query, train, cross_check, max_ratio=0.8)
    assert [(len(array), array.dtype.name) for array in found] == [(0, "int32"), (0, "int32"), (0, "float32")]
    index, distance = nearest_descriptors(query, train)
    assert (index.shape, distance.shape) == ((n, 2), (n, 2))
    assert (index == -1).all()
    assert np.isinf(distance).all()


def test_the_descriptors_of_a_blank_image_match_nothing():
    blank = cv2.SIFT_create().detectAndCompute(np.zeros((64, 64), np.uint8), None)[1]
    some = np.ones((3, 128), np.float32)
    assert blank is None
    for query, train in ((blank, some), (some, blank), (blank, blank)):
        assert len(match_descriptors(query, train).query) == 0
    assert nearest_descriptors(some, blank)[0].shape == (3, 2)


# ---- What is refused


good = np.zeros((3, 128), np.float32)


@pytest.mark.parametrize(
    ("query", "train", "error", "message"),
    [
        (good, good[:, :64], ValueError, r"query and train must have the same width \(got 128 and 64\)"),
        (good[0], good, ValueError, r"query must have shape \(descriptors, width\).*got \(128,\)"),
        (good, good[:, :0], ValueError, r"train must have shape .*got \(3, 0\)"),
        (good, good.astype(np.uint8), TypeError, r"the same dtype \(got float32 and uint8\)"),
        (good, good.astype(np.float64), TypeError, r"the same dtype \(got float32 and float64\)"),
        (good > 0, good > 0, TypeError, r"query must hold real numbers \(got dtype bool\)"),
        (good, good.astype(complex), TypeError, r"train must hold real numbers \(got dtype complex128\)"),
        (good, np.array([["a"]]), TypeError, r"train must hold real numbers \(got dtype <U1\)"),
    ],
)
def test_wrong_arrays_are_named(query, train, error, message):
    for function in (match_descriptors, nearest_descriptors):
        with pytest.raises(error, match=message):
            function(query, train)


@pytest.mark.parametrize("odd", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("name", ["query", "train"])
def test_nan_and_infinity_are_named(odd, name):
    sides = {"query": good.copy(), "train": good.copy()}
    sides[name][1, 5] = odd
    with pytest.raises(ValueError, match=rf"{name} must be finite in float32 \(got NaN or infinity in row 1\)"):
        match_descriptors(**sides)


def test_floats_beyond_float32_are_named():
    with pytest.raises(ValueError, match="query must be finite in float32"):
        match_descriptors(np.full((1, 4), 1e300), np.ones((1, 4)))


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match=r"k must be 1 or 2 \(got 3\)"):
        nearest_descriptors(good, good, k=3)
    with pytest.raises(ValueError, match=r"norm must be 'l2' or 'hamming' \(got 'l1'\)"):
        nearest_descriptors(good, good, norm="l1")
    with pytest.raises(TypeError, match=r"query must be uint8 for the Hamming distance \(got float32\)"):
        nearest_descriptors(good, good, norm="hamming")
    with pytest.raises(ValueError, match=r"cross_check must be 'mutual', 'one-way' or None \(got True\)"):
        match_descriptors(good, good, cross_check=True)
    for ratio in (0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="max_ratio must be above 0 and at most 1"):
            match_descriptors(good, good, max_ratio=ratio)
    for distance in (-1, float("nan")):
        with pytest.raises(ValueError, match="max_distance must not be negative"):
            match_descriptors(good, good, max_distance=distance)


# ---- How it runs


@pytest.mark.parametrize("divisor", [1, 256], ids=["whole numbers", "floats"])
def test_memory_does_not_grow_with_the_product_of_sizes(divisor):
    """A 5000 x 5000 matrix of float32 alone would be 100 MB."""
    rng = np.random.default_rng(0)
    query, train = (rng.integers(0, 200, (5000, 128)).astype(np.float32) / divisor for _ in range(2))
    match_descriptors(query[:9], train[:9])
    tracemalloc.start()
    match_descriptors(query, train, max_ratio=0.9)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 32e6


def test_threads_do_not_disturb_each_other():
    query, train = few_values((700, 128), 1, values=100), few_values((900, 128), 2, values=100)
    expected = match_descriptors(query, train)
    found = [None] * 4

    def match(place):
        found[place] = match_descriptors(query, train)

    threads = [threading.Thread(target=match, args=(place,)) for place in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one in found:
        assert_same(one, expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "features"),
    [
        ("generic", ""),
        ("haswell", "+avx,+avx2,+fma,+popcnt"),
    ],
)
def test_processors_without_byte_products_give_the_same_answers(name, features):
    """The same checks in a process whose numba is told to use less of the processor."""
    code = """
import test_matching as t
from parimg.kernels.descriptors import layout as _descriptor_layout
assert not _descriptor_layout.MULTIPLIES_BYTES
for n, m in ((3, 65), (300, 2500)):
    t.assert_answers_of_opencv(t.few_values((n, 128), 1), t.few_values((m, 128), 2))
    t.assert_answers_of_opencv(t.few_values((n, 32), 1, 256), t.few_values((m, 32), 2, 256), norm="hamming")
t.test_squares_that_differ_and_roots_that_do_not()
t.test_widths_of_floats(128, 1.0)
"""
    environment = {
        **os.environ,
        "NUMBA_CPU_NAME": name,
        "NUMBA_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)]),
    }
    subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=200)
