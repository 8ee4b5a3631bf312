"""Descriptor matching against OpenCV's brute-force matcher and faiss: real SIFT descriptors, one thread.

    python benchmarks/matching.py

wants faiss-cpu and the folder of real images (PARIMG_DATA). Answers are compared before anything is timed. The
share is of the 16-bit integers that the processor can multiply; where it has products of bytes, 2 is the most.
"""

import os
import sys
import tracemalloc
from pathlib import Path

import cv2
import faiss
import numpy as np
from paired import print_setting, run_in_turn
from processor import multiply_adds
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DATA = Path(os.environ.get("PARIMG_DATA", ROOT.parent / "shared" / "data"))

from parimg.kernels.descriptors.matching import match_descriptors, nearest_descriptors  # noqa: E402

SIZES = ((818, 858), (2000, 2000), (5000, 5000), (8192, 8192))
RATIO = 0.75


def real_sift(views):
    sift = cv2.SIFT_create()
    gray = (cv2.imread(str(view), cv2.IMREAD_GRAYSCALE) for view in views)
    return np.concatenate([sift.detectAndCompute(image, None)[1] for image in gray])


def root_sift(descriptors):
    return np.sqrt(descriptors / descriptors.sum(1, keepdims=True)).astype(np.float32)


def check_same(found, expected, rtol=0.0):
    np.testing.assert_array_equal(found.query, [match.queryIdx for match in expected])
    np.testing.assert_array_equal(found.train, [match.trainIdx for match in expected])
    np.testing.assert_allclose(found.distance, [match.distance for match in expected], rtol=rtol)


def against_cross_check(query, train, theirs=None):
    """`theirs`: what OpenCV is given, where that differs from what we are given."""
    matcher = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True)
    theirs = theirs or (query, train)
    check_same(match_descriptors(query, train), matcher.match(*theirs), rtol=1e-5 if query.max() < 1 else 0)
    return lambda: match_descriptors(query, train), lambda: matcher.match(*theirs)


def against_ratio_test(query, train):
    matcher = cv2.BFMatcher(cv2.NORM_L2)

    def theirs():
        two = matcher.knnMatch(query, train, k=2)
        return [best for best, second in two if best.distance < RATIO * second.distance]

    def ours():
        return match_descriptors(query, train, cross_check=None, max_ratio=RATIO)

    check_same(ours(), theirs())
    return ours, theirs


def against_faiss(query, train):
    """Both directions, as a mutual match needs them. Faiss orders ties otherwise: distances are compared."""

    def theirs():
        found = []
        for left, right in ((query, train), (train, query)):
            index = faiss.IndexFlatL2(left.shape[1])
            index.add(right)
            found.append(index.search(left, 1))
        return found

    for (left, right), (squared, _) in zip(((query, train), (train, query)), theirs(), strict=True):
        ours = nearest_descriptors(left, right, k=1)[1]
        # Faiss multiplies in float32 and cancels: 1e-6 of the squared length, which is 1 for RootSIFT.
        np.testing.assert_allclose(ours**2, squared, rtol=1e-6, atol=3e-6 if query.max() < 1 else 0)
    return lambda: match_descriptors(query, train), theirs


def extra_megabytes(query, train):
    """The peak of what numpy allocates in a match; compiled code adds less than 1 MB."""
    match_descriptors(query[:100], train[:100])
    tracemalloc.start()
    match_descriptors(query, train)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return peak / 1e6


def main():
    cv2.setNumThreads(1)
    faiss.omp_set_num_threads(1)
    views = sorted((DATA / "lund").glob("*.jpg"))
    if not views:
        sys.exit(f"no photographs in {DATA / 'lund'}; set PARIMG_DATA to the folder of real images")
    queries, trains = real_sift(views[0:6:2]), real_sift(views[1:6:2])
    print_setting("numpy", "numba", "opencv-python-headless", "faiss-cpu")
    query, train = queries[:5000], trains[:5000]
    extra = extra_megabytes(query, train), extra_megabytes(root_sift(query), root_sift(train))
    print("extra memory, 5000 x 5000: SIFT {:.1f} MB, RootSIFT {:.1f} MB".format(*extra))
    print(f"{'query x train':>13}  {'against':42} {'ours, ms':>9} {'theirs, ms':>10} {'ratio':>6} {'share':>6}")
    for n, m in SIZES:
        query, train = queries[:n], trains[:m]
        as_bytes = query.astype(np.uint8), train.astype(np.uint8)
        roots = root_sift(query), root_sift(train)
        for label, (ours, theirs) in (
            ("BFMatcher(crossCheck=True), float32", against_cross_check(query, train)),
            ("BFMatcher(crossCheck=True), we take uint8", against_cross_check(*as_bytes, (query, train))),
            ("BFMatcher.knnMatch(k=2), ratio test", against_ratio_test(query, train)),
            ("faiss.IndexFlatL2, both directions", against_faiss(query, train)),
            ("BFMatcher(crossCheck=True), RootSIFT", against_cross_check(*roots)),
            ("faiss.IndexFlatL2, both ways, RootSIFT", against_faiss(*roots)),
        ):
            pair = run_in_turn(ours, theirs, rounds=25 if n < 1000 else 9 if n < 8000 else 5)
            times = f"{pair.ours * 1e3:9.2f} {pair.theirs * 1e3:10.2f}"
            share = n * m * query.shape[1] / pair.ours / multiply_adds("int16")
            print(f"{n:>6} x {m:<4}  {label:42} {times} {pair.ratio:6.1f} {share:6.2f}")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
