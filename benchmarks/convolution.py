"""Convolution against OpenCV, scipy.ndimage and the published text's Python function, one thread.

    python benchmarks/convolution.py [--quick] [--cpu avx2]

Answers are compared before anything is timed. Ratios are how many times faster parimg is. Shares are how many
multiply-adds the direct sum has, over what the processor could do in the time that was taken: passes and
transforms, which need fewer, come out above 1.
"""

import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
import processor
import scipy.ndimage
from paired import print_setting, run_in_turn
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from parimg.kernels import convolve, correlate  # noqa: E402

SIZES = (3, 5, 7, 9, 11, 15, 31)
SIDES = (128, 1024, 4096)
ROUNDS = {128: 301, 1024: 21, 4096: 5}
DTYPES = {"float32": (np.float32, np.float32), "uint8 to float32": (np.uint8, np.float32)}
DTYPES["float64"] = (np.float64, np.float64)
AIMS = {"float32": (1.5, 1.0), "uint8 to float32": (3.0, 1.2), "float64": (3.0, 1.2)}
MODES = ("constant", "reflect", "nearest", "mirror", "wrap")
RNG = np.random.default_rng(0)


def random_image(shape, dtype):
    return (RNG.random(shape) * 255).astype(dtype)


def check_close(found, expected, source, weights):
    assert found.dtype == expected.dtype
    bound = float(np.abs(source).max()) * float(np.abs(weights).sum())
    epsilon = 1e-5 if found.dtype == np.float32 else 1e-13
    np.testing.assert_allclose(found, expected, rtol=0, atol=epsilon * bound)


def share(image, weights, seconds, dtype):
    """Of what the processor can multiply and add."""
    return image.size * weights.size / seconds / processor.multiply_adds(np.dtype(dtype).name)


def against_filter2d(image, out_dtype, weights):
    depth = cv2.CV_32F if out_dtype == np.float32 else cv2.CV_64F

    def ours():
        return correlate(image, weights, out_dtype, mode="constant")

    def theirs():
        return cv2.filter2D(image, depth, weights, borderType=cv2.BORDER_CONSTANT)

    check_close(ours(), theirs(), image, weights)
    return ours, theirs


def report_filter2d(sides, rounds):
    for label, (dtype, out_dtype) in DTYPES.items():
        print(f"\n{label} against cv2.filter2D: ours ms / theirs ms / ratio / share")
        print(f"{'image':>6}" + "".join(f"{f'{k} x {k}':>27}" for k in SIZES))
        ratios = []
        for side in sides:
            image = random_image((side, side), dtype)
            cells = []
            for k in SIZES:
                weights = RNG.normal(size=(k, k)).astype(out_dtype)
                pair = run_in_turn(*against_filter2d(image, out_dtype, weights), rounds[side])
                ratios.append(pair.ratio)
                part = share(image, weights, pair.ours, out_dtype)
                cells.append(f"{pair.ours * 1e3:8.3f}{pair.theirs * 1e3:8.3f}{pair.ratio:6.2f}{part:5.2f}")
            print(f"{side:6}" + "".join(cells), flush=True)
        mean, least = AIMS[label]
        print(
            f"geometric mean {math.prod(ratios) ** (1 / len(ratios)):.2f} (aim {mean}), lowest {min(ratios):.2f} "
            f"(aim {least})"
        )


def report_modes():
    print("\nborder modes at 1024 x 1024, time over that of constant (aim: at most 1.1)")
    print(f"{'':>18}" + "".join(f"{f'{k} x {k}':>10}" for k in SIZES))
    for label, (dtype, out_dtype) in DTYPES.items():
        image = random_image((1024, 1024), dtype)
        for mode in MODES[1:]:
            cells = []
            for k in SIZES:
                weights = RNG.normal(size=(k, k)).astype(out_dtype)
                pair = run_in_turn(
                    lambda image=image, weights=weights, out=out_dtype: correlate(image, weights, out, "constant"),
                    lambda image=image, weights=weights, out=out_dtype, m=mode: correlate(image, weights, out, m),
                    9,
                )
                cells.append(f"{pair.ratio:10.2f}")
            print(f"{label[:8]:>9}{mode:>9}" + "".join(cells), flush=True)


def report_separable():
    print("\nseparable, not symmetric, 1024 x 1024, against cv2.sepFilter2D (aim 1.5)")
    for dtype in (np.float32, np.float64):
        image = random_image((1024, 1024), dtype)
        for k in (15, 31):
            across, along = RNG.normal(size=k).astype(dtype), RNG.normal(size=k).astype(dtype)
            weights = np.outer(across, along)

            def ours(image=image, weights=weights):
                return correlate(image, weights, mode="constant")

            def theirs(image=image, across=across, along=along):
                return cv2.sepFilter2D(image, -1, along, across, borderType=cv2.BORDER_CONSTANT)

            check_close(ours(), theirs(), image, weights)
            pair = run_in_turn(ours, theirs, 21)
            print(
                f"{image.dtype!s:>9} {k} x {k}: {pair.ours * 1e3:7.2f} {pair.theirs * 1e3:7.2f} {pair.ratio:6.2f}"
            )


def report_3d():
    print("\n64 x 64 x 64 with 5 x 5 x 7 against scipy.ndimage.convolve (aim 20; 15 with AVX2)")
    weights = RNG.normal(size=(5, 5, 7))
    for dtype in ("uint8", "int16", "uint16", "int32", "int64", "float32", "float64", "complex128"):
        volume = random_image((64, 64, 64), dtype)
        kernel = np.rint(weights * 4) if volume.dtype.kind in "iu" else weights

        def ours(volume=volume, kernel=kernel):
            return convolve(volume, kernel)

        def theirs(volume=volume, kernel=kernel):
            return scipy.ndimage.convolve(volume, kernel)

        if volume.dtype.kind in "iu":
            np.testing.assert_array_equal(ours(), theirs())
        else:
            check_close(ours(), theirs(), volume, kernel)
        pair = run_in_turn(ours, theirs, 5)
        sums = "float32" if dtype in {"uint8", "int16", "uint16", "float32"} else "float64"
        part = share(volume, weights, pair.ours, sums) * (2 if dtype == "complex128" else 1)
        print(
            f"{dtype:>11} {pair.ours * 1e3:7.2f} {pair.theirs * 1e3:7.2f} {pair.ratio:6.1f} {part:5.2f}",
            flush=True,
        )


def in_plain_python(image, weights):
    """What the text begins with: a padded image, and a window of it for every pixel."""
    rows, columns = weights.shape
    turned = weights[::-1, ::-1]
    padded = np.pad(image, ((rows // 2,) * 2, (columns // 2,) * 2))
    out = np.empty(image.shape)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = np.sum(np.multiply(padded[y : y + rows, x : x + columns], turned))
    return out


def report_plain_python():
    image, weights = random_image((128, 128), np.float64), RNG.normal(size=(3, 3))

    def ours():
        return convolve(image, weights, mode="constant")

    check_close(ours(), in_plain_python(image, weights), image, weights)

    def ours_often():  # as the text's %timeit does
        for _ in range(1000):
            ours()

    pair = run_in_turn(ours_often, lambda: in_plain_python(image, weights), 9)
    pair = pair._replace(ours=pair.ours / 1000, ratio=pair.ratio * 1000)
    print(f"\n128 x 128 float64 with 3 x 3 against plain Python: {pair.ratio:.0f} (aim 3000, the text's best 527)")
    print(f"ours {pair.ours * 1e6:.1f} us, plain Python {pair.theirs * 1e3:.1f} ms")


def report_first_calls():
    script = (
        "import time, numpy as np; from parimg.kernels import convolve; a = np.ones((99, 99), np.float32); "
        "w = np.arange(9.0).reshape(3, 3); start = time.perf_counter(); convolve(a, w); "
        "print(time.perf_counter() - start)"
    )
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"NUMBA_CACHE_DIR": cache, "PYTHONPATH": str(ROOT)}
        seconds = [
            float(subprocess.check_output([sys.executable, "-c", script], env=environment, text=True))
            for _ in range(6)
        ]
    print(
        f"\nfirst call ever {seconds[0]:.2f} s, of a new process {sorted(seconds[1:])[2]:.2f} s (aim 0.3), "
        "after numba was imported"
    )


def main():
    quick = "--quick" in sys.argv
    cv2.setNumThreads(1)
    print_setting("numpy", "numba", "scipy", "opencv-python-headless")
    report_filter2d(SIDES[:2] if quick else SIDES, ROUNDS)
    report_modes()
    report_separable()
    report_3d()
    report_plain_python()
    report_first_calls()


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
