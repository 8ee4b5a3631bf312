"""Filters with a user's function against SciPy with an llc callable, SciPy's own filters and OpenCV: one thread.

    python benchmarks/filters.py [--cpu avx2]

wants llc. Answers are compared before anything is timed. Shares are of the speed of copying an image, of the time
that it takes to read and write as much.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import cv2
import llc
import numba
import numpy as np
import processor
from paired import print_setting, run_in_turn
from scipy import ndimage
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from parimg.kernels import generic_filter, generic_filter1d, geometric_transform  # noqa: E402

SIDE = 2048
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)
THRESHOLD = 0.2


def fmin(values):
    result = np.inf
    for v in values:
        if v < result:  # noqa: PLR1730 - the published text's function
            result = v
    return result


def median(values):
    return np.median(values)


def conditional_mean(values):
    """Mean of the pixels that differ from the centre by less than a threshold."""
    centre = values[len(values) // 2]
    total, n = 0.0, 0
    for v in values:
        if abs(v - centre) < THRESHOLD:
            total += v
            n += 1
    return total / n


def moving_sum(line, result):
    total = 0.0
    for i in range(8):
        total += line[i]
    for i in range(len(result)):
        total += line[i + 8]
        result[i] = total
        total -= line[i]


def swirl(position):
    y, x = position[0] - 512.0, position[1] - 512.0
    angle = 0.5 * np.exp(-(x * x + y * y) / 1e5)
    return 512.0 + np.cos(angle) * y - np.sin(angle) * x, 512.0 + np.sin(angle) * y + np.cos(angle) * x


def swirl_into(position, place):
    place[0], place[1] = swirl_jitted(position)


swirl_jitted = numba.njit(swirl)


def filters(image):
    """Label, ours, theirs; the answers are the same to `rtol`."""
    out = np.empty_like(image)
    low_level = {function: llc.jit_filter_function(function) for function in (fmin, median, conditional_mean)}
    yield "fmin, cross", "scipy.ndimage.grey_erosion", *(
        lambda: generic_filter(image, fmin, footprint=CROSS, output=out),
        lambda: ndimage.grey_erosion(image, footprint=CROSS, output=out),
    )  # fmt: skip
    yield "fmin, cross", "generic_filter with llc", *(
        lambda: generic_filter(image, fmin, footprint=CROSS, output=out),
        lambda: ndimage.generic_filter(image, low_level[fmin], footprint=CROSS, output=out),
    )  # fmt: skip
    for function in (median, conditional_mean):
        yield f"{function.__name__}, 5 x 5", "generic_filter with llc", *(
            lambda function=function: generic_filter(image, function, 5, output=out),
            lambda function=function: ndimage.generic_filter(image, low_level[function], 5, output=out),
        )  # fmt: skip
    yield "median, 5 x 5", "scipy.ndimage.median_filter", *(
        lambda: generic_filter(image, median, 5, output=out),
        lambda: ndimage.median_filter(image, 5, output=out),
    )  # fmt: skip
    of_lines = llc.jit_filter1d_function(moving_sum)
    yield "generic_filter1d, sum of 9", "generic_filter1d with llc", *(
        lambda: generic_filter1d(image, moving_sum, 9, output=out),
        lambda: ndimage.generic_filter1d(image, of_lines, 9, output=out),
    )  # fmt: skip
    of_positions = llc.jit_geometric_function(swirl_into)
    yield "geometric_transform, linear", "geometric_transform with llc", *(
        lambda: geometric_transform(image, swirl, output=out, order=1),
        lambda: ndimage.geometric_transform(image, of_positions, output=out, order=1),
    )  # fmt: skip


def specialists(image):
    """The same, against OpenCV in the image's own dtype."""
    out, name = np.empty_like(image), image.dtype.name
    cross = CROSS.astype(np.uint8)
    yield f"fmin, cross, {name}", "cv2.erode", *(
        lambda: generic_filter(image, fmin, footprint=CROSS, output=out),
        lambda: cv2.erode(image, cross, dst=out, borderType=cv2.BORDER_REFLECT),
    )  # fmt: skip
    if image.dtype == np.float64:  # which medianBlur does not take
        return
    for side in (3, 5):
        yield f"median, {side} x {side}, {name}", "cv2.medianBlur", *(
            lambda side=side: generic_filter(image, np.median, side, output=out, mode="nearest"),
            lambda side=side: cv2.medianBlur(image, side, dst=out),
        )  # fmt: skip


def compare(image, label, peer, ours, theirs, rounds):
    found, expected = np.array(ours()), np.array(theirs())
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    pair = run_in_turn(ours, theirs, rounds)
    share = image.nbytes / pair.ours / processor.bytes_copied(image.nbytes)  # results are as large as images
    times = f"{pair.ours * 1e3:9.2f} {pair.theirs * 1e3:10.2f} {pair.ratio:7.2f}"
    print(f"{label:32} {peer:36} {times} {share:6.2f}", flush=True)


START = """
import time
import numpy as np
from parimg.kernels.filters.generic_filter import generic_filter
def {name}(values):
    return values.max() - values.min()
image = np.zeros((64, 64))
begin = time.perf_counter()
generic_filter(image, {name}, 3)
print(time.perf_counter() - begin)
"""


def first_calls():
    """Seconds of the first call ever, and of the first in new processes, for a function that lies in no file."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder, "PYTHONPATH": str(ROOT)}

        def run(name):
            command = [sys.executable, "-c", START.format(name=name)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            return float(done.stdout)

        return run("spread"), sorted(run("spread") for _ in range(5))[2]


def main():
    cv2.setNumThreads(1)
    print_setting("numpy", "numba", "scipy", "opencv-python-headless", "llc")
    image = np.random.default_rng(0).random((SIDE, SIDE))
    print(f"{f'{SIDE} x {SIDE}':32} {'against':36} {'ours, ms':>9} {'theirs, ms':>10} {'ratio':>7} {'share':>6}")
    for label, peer, ours, theirs in filters(image):
        compare(image, label, peer, ours, theirs, rounds=5 if "llc" in peer else 11)
    for dtype in (np.uint8, np.uint16, np.float32, np.float64):
        largest = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else 1
        own = (image * largest).astype(dtype)
        for label, peer, ours, theirs in specialists(own):
            compare(own, label, peer, ours, theirs, rounds=31)
    begin = time.perf_counter()
    first, later = first_calls()
    print(f"first call ever {first:.2f} s, of a new process {later:.2f} s ({time.perf_counter() - begin:.0f} s)")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
