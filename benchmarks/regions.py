"""Region search against the published numba function, and the paper's method written as plainly: one thread.

    python benchmarks/regions.py

takes the feature maps of a photograph of the folder of real images (PARIMG_DATA) where there is one, beside random
maps. Boxes are compared before anything is timed.
"""

import os
import sys
from pathlib import Path

import numba
import numpy as np
from paired import print_setting, run_in_turn
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DATA = Path(os.environ.get("PARIMG_DATA", ROOT.parent / "shared" / "data"))

from parimg.kernels.regions.many_indexes import search_indexes  # noqa: E402
from parimg.kernels.regions.region_index import RegionIndex, integral_image  # noqa: E402

PAPER_RANGE = (1 / 1.1, 1.1)


# ---- The published search


@numba.njit(nogil=True)
def published_descriptor(integral, y1, x1, y2, x2):
    region = integral[:, y2, x2] + integral[:, y1, x1] - integral[:, y1, x2] - integral[:, y2, x1]
    region /= np.sqrt(np.sum(region * region))
    return region


@numba.njit(nogil=True)
def published_search(integral, query, ratio):
    best_score, best_box = np.inf, (0, 0, 0, 0)
    for y2 in range(integral.shape[1]):
        for x2 in range(integral.shape[2]):
            for y1 in range(y2):
                for x1 in range(x2):
                    if 0.8 < (y2 - y1) / (x2 - x1) / ratio < 1.2:
                        difference = published_descriptor(integral, y1, x1, y2, x2) - query
                        score = np.sqrt(np.sum(difference * difference))
                        if score < best_score:
                            best_score, best_box = score, (y1, x1, y2, x2)
    return best_score, best_box


# ---- The paper's search in the same plain manner: same levels, same grid, same moves as ours


def plain_power_integral(feature_map, alpha=10):
    largest = feature_map.max((1, 2)).astype(np.float64)
    levels = np.floor(8 * feature_map / np.where(largest > 0, largest, 1)[:, None, None] + 0.5)
    return integral_image(levels**alpha), largest


@numba.njit(nogil=True)
def plain_score(integral, scale, query, y1, x1, y2, x2):
    region = integral[:, y2, x2] + integral[:, y1, x1] - integral[:, y1, x2] - integral[:, y2, x1]
    region = region**0.1 * scale
    norm = np.sqrt(np.sum(region * region))
    return np.sum(region * query) / norm if norm > 0 else -np.inf


@numba.njit(nogil=True)
def plain_search(integral, scale, query, ratio, low, high, step, refine):
    height, width = integral.shape[1] - 1, integral.shape[2] - 1
    best_score, best = -np.inf, (0, 0, 0, 0)
    for y1 in range(0, height, step):
        for x1 in range(0, width, step):
            for y2 in range(y1 + 1, height + 1):
                for x2 in range(x1 + 1, width + 1):
                    on_grid = (y2 % step == 0 or y2 == height) and (x2 % step == 0 or x2 == width)
                    if on_grid and low < (y2 - y1) / (x2 - x1) / ratio < high:
                        score = plain_score(integral, scale, query, y1, x1, y2, x2)
                        if score > best_score:
                            best_score, best = score, (y1, x1, y2, x2)
    if not refine:
        return best_score, best
    for shift in (3, 2, 1):
        moved = True
        while moved:
            moved = False
            y1, x1, y2, x2 = best
            for first in range(4):
                for second in range(first, 4):
                    for signs in range(2 if first == second else 4):
                        move = [0, 0, 0, 0]
                        move[first] = shift if signs & 1 else -shift
                        if second != first:
                            move[second] = shift if signs & 2 else -shift
                        box = (y1 + move[0], x1 + move[1], y2 + move[2], x2 + move[3])
                        if box[0] < 0 or box[1] < 0 or box[2] > height or box[3] > width:
                            continue
                        if box[2] <= box[0] or box[3] <= box[1]:
                            continue
                        if not low < (box[2] - box[0]) / (box[3] - box[1]) / ratio < high:
                            continue
                        score = plain_score(integral, scale, query, *box)
                        if score > best_score:
                            best_score, best, moved = score, box, True
    return best_score, best


# ---- Maps


def random_map(shape, seed=0):
    return np.maximum(np.random.default_rng(seed).normal(size=shape), 0).astype(np.float32)


def real_maps(channels):
    """Of two photographs of one building, 24 x 32 cells, the first channels; None without model or photographs."""
    views = [DATA / "lund" / name for name in ("01.jpg", "05.jpg")]
    model = DATA / "models" / "efficientnet_lite0_features.onnx"
    if not all(path.exists() for path in (*views, model)):
        return None
    import cv2

    cv2.setNumThreads(1)
    network = cv2.dnn.readNetFromONNX(str(model))
    maps = []
    for view in views:
        blob = cv2.dnn.blobFromImage(cv2.imread(str(view)), 1 / 128, (1024, 768), (127, 127, 127), swapRB=True)
        network.setInput(blob)
        maps.append(network.forward()[0, :channels].copy())
    return maps


def unit(vector):
    vector = vector.astype(np.float64)
    return vector / np.sqrt(np.sum(vector * vector))


def window_query(feature_map):
    """What a user would look for: a window, truly max-pooled."""
    return unit(feature_map[:, 5:15, 8:18].max((1, 2)))


def print_pair(label, pair, calls=1):
    """`calls`: how many searches of ours one turn held."""
    print(f"{label:66} {pair.ours / calls * 1e3:8.4f} {pair.theirs * 1e3:9.3f} {pair.ratio * calls:7.1f}")


def repeated(function, calls):
    """For what takes microseconds: after a call of the other, caches hold nothing of ours."""

    def run():
        for _ in range(calls):
            function()

    return run


# ---- Comparisons


def against_published(feature_map, query, ratio):
    integral = integral_image(feature_map)
    index = RegionIndex(feature_map)
    distance, box = published_search(integral, query, ratio)
    found = index.search(query, ratio, refine=False)
    assert found[0].box == box
    assert abs(found[0].distance - distance) < 1e-5
    once = RegionIndex(feature_map, store_norms=False).search(query, ratio, refine=False)
    assert once == found

    def theirs():
        return published_search(integral, query, ratio)

    windows = f"{found.evaluated} windows"

    def search():
        return index.search(query, ratio)

    def search_from_map():
        return RegionIndex(feature_map, store_norms=False).search(query, ratio)

    def published_from_map():
        return published_search(integral_image(feature_map), query, ratio)

    pair = run_in_turn(repeated(search, 200), theirs, 15)
    print_pair(f"sum, {windows}, index given, 200 searches a turn", pair, 200)
    print_pair("    one search a turn, out of cold caches", run_in_turn(search, theirs, 15))
    queries = [query] * 200
    pair = run_in_turn(lambda: index.search_many(queries, ratio), theirs, 15)
    print_pair("    200 queries in one call, each", pair, 200)
    indexes = [RegionIndex(feature_map) for _ in range(200)]
    pair = run_in_turn(lambda: search_indexes(indexes, query, ratio), theirs, 15)
    print_pair("    200 indexes (137 MB) in one call, each", pair, 200)
    pair = run_in_turn(repeated(search_from_map, 20), published_from_map, 15)
    print_pair("from the raw map, one query, 20 a turn", pair, 20)
    print_pair("    one a turn, out of cold caches", run_in_turn(search_from_map, published_from_map, 15))
    build = run_in_turn(lambda: RegionIndex(feature_map), theirs, 15)
    print(f"building the index: {build.ours * 1e3:.2f} ms, {index.nbytes / (4 * feature_map.size):.2f} x the map")


def against_paper(name, feature_map, query):
    integral, scale = plain_power_integral(feature_map)
    index = RegionIndex(feature_map, "max")

    def plain(step, *, refine):
        return plain_search(integral, scale, query, 1.0, *PAPER_RANGE, step, refine)

    def ours(**options):
        return index.search(query, 1.0, PAPER_RANGE, **options)

    for step, refine in ((3, True), (1, False)):
        found = ours(step=step)[0]
        score, box = plain(step, refine=refine)
        # Near-ties may fall either way: ours adds in float32, the other in float64.
        assert found.box == box or abs(np.sqrt(2 - 2 * score) - found.distance) < 1e-4, (found, box)
    everything, proven = ours(), ours(exact=True)
    assert proven == everything
    print(f"{name}: distance {proven[0].distance:.3f}, {index.nbytes / (4 * feature_map.size):.2f} x the map")
    refined = run_in_turn(lambda: ours(step=3), lambda: plain(3, refine=True), 9)
    print_pair("    step 3 + refinement, against plain numba", refined)
    print_pair(
        f"    exact ({proven.evaluated} evaluated), against plain numba, step 1",
        run_in_turn(lambda: ours(exact=True), lambda: plain(1, refine=False), 3),
    )
    print_pair(
        f"    exact, against our own step 1 ({everything.evaluated} windows)",
        run_in_turn(lambda: ours(exact=True), ours, 25),
    )


def main():
    print_setting("numpy", "numba")
    print(f"{'':66} {'ours, ms':>8} {'theirs':>9} {'ratio':>7}")
    for ratio in (18 / 16, 1.0):
        print(f"512 x 18 x 16, aspect ratio {ratio}")
        against_published(
            random_map((512, 18, 16)), unit(np.abs(np.random.default_rng(1).normal(size=512))), ratio
        )
    rng = np.random.default_rng(2)
    feature_map = random_map((512, 24, 32))
    query = unit(np.maximum(rng.normal(size=512), 0))
    against_paper("max, 512 x 24 x 32, random, own window", feature_map, window_query(feature_map))
    against_paper("max, 512 x 24 x 32, random, random query", feature_map, query)
    real = real_maps(512)
    if real is None:
        print(f"no model and photographs in {DATA}; set PARIMG_DATA to the folder of real images")
        return
    first, second = real
    against_paper("max, 512 x 24 x 32, photograph, own window", first, window_query(first))
    against_paper("max, 512 x 24 x 32, photograph, other view", first, window_query(second))


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
