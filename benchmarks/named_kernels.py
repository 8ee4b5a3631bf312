"""Kernels that people use, by name and by array, against the function that is made for each: one thread.

    python benchmarks/named_kernels.py [--quick] [--cpu avx2]

Answers are compared before anything is timed: whole numbers may differ by one, as OpenCV rounds weights. Shares
are of the speed of copying an image: what is read and written, over what could have been copied in the time.
"""

import math
import sys
from pathlib import Path

import cv2
import numpy as np
import processor
from paired import print_setting, run_in_turn
from scipy import ndimage, signal
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from parimg import Convolve  # noqa: E402
from parimg.kernels import convolve  # noqa: E402
from parimg.tasks._named_kernels import named_kernels  # noqa: E402

SIDE = 1024
BORDER = cv2.BORDER_REFLECT
DTYPES = ("uint8", "uint16", "float32")
RNG = np.random.default_rng(0)


def smooth_image(dtype):
    """Neighbours are alike, as in photographs."""
    image = ndimage.gaussian_filter(RNG.random((SIDE, SIDE)), 1.5)
    image = (image - image.min()) / np.ptp(image)
    return (image * {"uint8": 255, "uint16": 65535, "float32": 1}[dtype]).astype(dtype)


def disk(radius):
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
    inside = (x * x + y * y <= radius * radius).astype(float)
    return inside / inside.sum()


def motion(length, degrees):
    """A line, drawn with its pixels' shares."""
    kernel = np.zeros((length, length))
    middle, reach = length // 2, (length - 1) / 2
    angle = math.radians(degrees)
    for step in np.linspace(-reach, reach, 8 * length):
        y, x = middle + step * math.sin(angle), middle + step * math.cos(angle)
        kernel[round(y), round(x)] += 1
    return kernel / kernel.sum()


def spread(side):
    """A point-spread function that is no product: a Moffat profile with four spikes."""
    y, x = np.mgrid[:side, :side] - side // 2
    profile = (1 + (x * x + y * y) / 9) ** -2.5
    profile[np.abs(x * x - y * y) < 40] += 1e-3
    return profile / profile.sum()


def gaussian(image, sigma):
    side = 2 * math.ceil(4 * sigma) + 1
    yield "cv2.GaussianBlur", lambda: cv2.GaussianBlur(image, (side, side), sigma, borderType=BORDER)
    if image.dtype == np.float32:  # of integers it rounds between its passes
        yield "gaussian_filter", lambda: ndimage.gaussian_filter(image, sigma, radius=side // 2)


def box(image, side):
    yield "cv2.blur", lambda: cv2.blur(image, (side, side), borderType=BORDER)


def derivative(image, name):
    if name == "laplacian":
        yield "cv2.Laplacian", lambda: cv2.Laplacian(image, cv2.CV_32F, ksize=1, borderType=BORDER)
        yield "ndimage.laplace", lambda: ndimage.laplace(image, np.float32)
        return
    if name == "sobel_x":
        yield "cv2.Sobel", lambda: cv2.Sobel(image, cv2.CV_32F, 1, 0, borderType=BORDER)
        yield "ndimage.sobel", lambda: ndimage.sobel(image, 1, np.float32)
        return
    yield "cv2.Scharr", lambda: cv2.Scharr(image, cv2.CV_32F, 1, 0, borderType=BORDER)


def with_filter2d(image, kernel, depth):
    turned = kernel[::-1, ::-1].copy()
    yield "cv2.filter2D", lambda: cv2.filter2D(image, depth, turned, borderType=BORDER)


def with_fftconvolve(image, kernel):
    reach = kernel.shape[0] // 2

    def theirs():
        return signal.fftconvolve(np.pad(image, reach, "symmetric"), kernel.astype(np.float32), "valid")

    yield "signal.fftconvolve", theirs


def kernels(image):
    """Name or array, dtype of the result, label, and the peers."""
    own = image.dtype
    for sigma in (0.5, 1, 2.5, 5, 10):
        yield f"gaussian({sigma})", own, None, gaussian(image, sigma)
    for side in (3, 9, 31):
        yield f"box({side})", own, None, box(image, side)
    for name in ("sobel_x", "scharr_x", "laplacian"):
        yield name, np.dtype(np.float32), None, derivative(image, name)
    log = named_kernels("log(2)")[0]
    yield "log(2)", np.dtype(np.float32), None, with_filter2d(image, log, cv2.CV_32F)
    gabor = cv2.getGaborKernel((21, 21), 4, 0.6, 10, 0.5)
    for label, kernel, dtype in (
        ("disk of 11", disk(5), own),
        ("disk of 31", disk(15), own),
        ("Gabor, 21 x 21", gabor, np.dtype(np.float32)),
        ("motion, 15 at 30 degrees", motion(15, 30), own),
    ):
        depth = -1 if dtype == own else cv2.CV_32F
        yield kernel, dtype, label, with_filter2d(image, kernel, depth)
    psf = spread(63)
    peers = [*with_filter2d(image, psf, -1), *(with_fftconvolve(image, psf) if own == np.float32 else ())]
    yield psf, own, "PSF, 63 x 63", peers


def check_same(found, expected, label):
    assert found.shape == expected.shape
    difference = np.abs(found.astype(float) - expected)
    if found.dtype.kind in "iu":
        # cv2.GaussianBlur has weights of 8 bits for uint8 and 16 for uint16.
        allowed = 1 if found.dtype == np.uint8 else 4
    else:
        allowed = 1e-5 * max(np.abs(expected).max(), 1e-3)
    assert difference.max() <= allowed, f"{label}: differs by {difference.max()}"


def main():
    quick = "--quick" in sys.argv
    cv2.setNumThreads(1)
    print_setting("numpy", "numba", "scipy", "opencv-python-headless")
    print(f"{SIDE} x {SIDE}, ms; ratio by name, by array; share of copying")
    lowest = {}
    for dtype in DTYPES[::2] if quick else DTYPES:
        image = smooth_image(dtype)
        for kernel, out_dtype, label, peers in kernels(image):
            weights = named_kernels(kernel)[0] if isinstance(kernel, str) else kernel
            task = Convolve(kernel, dtype=str(out_dtype))

            def by_name(task=task, image=image):
                return task.transform(image)

            def by_array(image=image, weights=weights, dtype=out_dtype):
                return convolve(image, weights, dtype, casting="saturate")

            for peer, theirs in peers:
                check_same(by_array(), theirs(), f"{label or kernel}, {dtype}, {peer}")
                np.testing.assert_array_equal(by_name(), by_array())
                named, given = (run_in_turn(ours, theirs, 7 if quick else 25) for ours in (by_name, by_array))
                moved = (image.nbytes + image.size * out_dtype.itemsize) / 2
                share = moved / given.ours / processor.bytes_copied(image.nbytes)
                print(
                    f"{dtype:>8} {label or kernel:24} {peer:18} {given.ours * 1e3:7.2f} {given.theirs * 1e3:7.2f} "
                    f"{named.ratio:6.2f} {given.ratio:6.2f} {share:5.2f}",
                    flush=True,
                )
                lowest[dtype] = min(lowest.get(dtype, math.inf), named.ratio, given.ratio)
    print("lowest:", ", ".join(f"{dtype} {ratio:.2f}" for dtype, ratio in lowest.items()), "(aim 1)")


if __name__ == "__main__":
    with threadpool_limits(1):
        main()
