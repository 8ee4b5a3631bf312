"""SIFT against OpenCV's: one thread, real pictures.

    python benchmarks/sift.py

wants the folder of real images (PARIMG_DATA). Answers are compared before anything is timed. OpenCV's memory is
kept from image to image, as parimg's engines do; without, page faults make it up to twice as slow. Linux only, for
the peaks of memory.
"""

import ctypes
import os
import platform
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from paired import print_setting, run_in_turn
from scipy.spatial import cKDTree

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
DATA = Path(os.environ.get("PARIMG_DATA", ROOT.parent / "shared" / "data"))

from parimg.kernels.sift.features import detect_sift  # noqa: E402

N_FEATURES = 5000
PICTURES = {
    "templeRing": ("templeRing/templeR0001.png", None),
    "Lund": ("lund/21.jpg", None),
    "Lund, enlarged": ("lund/21.jpg", (1600, 1200)),
    "Lund, enlarged much": ("lund/21.jpg", (4000, 3000)),
}


def picture(name):
    path, size = PICTURES[name]
    image = cv2.imread(str(DATA / path), cv2.IMREAD_GRAYSCALE)
    if image is None:
        sys.exit(f"no picture {DATA / path}; set PARIMG_DATA to the folder of real images")
    return image if size is None else cv2.resize(image, size, interpolation=cv2.INTER_CUBIC)


def shares_found(image):
    """Of each side's keypoints, those that the other has within 0.05 pixels, 1 % of size and 0.5 degrees."""
    sides = (
        np.array([(*point.pt, point.size, point.angle) for point in keypoints])
        for keypoints in (cv2.SIFT_create().detect(image), detect_sift(image).to_opencv())
    )
    theirs, ours = sides

    def share(left, right):
        near = cKDTree(right[:, :2]).query_ball_point(left[:, :2], 0.05)
        found = 0
        for rows, (_, _, size, angle) in zip(near, left, strict=True):
            turned = np.abs((right[rows, 3] - angle + 180) % 360 - 180)
            found += ((turned < 0.5) & (np.abs(right[rows, 2] / size - 1) < 0.01)).any()
        return found / len(left)

    return share(theirs, ours), share(ours, theirs)


def keep_freed_memory():
    """Buffers of up to 32 MB stay with the process, as in parimg's engines."""
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        libc.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD
        libc.mallopt(-1, 2**29)  # M_TRIM_THRESHOLD


def opencv():
    return cv2.SIFT.create(N_FEATURES, 3, 0.04, 10, 1.6, cv2.CV_8U)


def added_megabytes(name, side):
    """How much the peak of a fresh process grows by one picture."""
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import sift, numpy as np;"
        "small = np.random.default_rng(0).integers(0, 255, (64, 64)).astype('u1');"
        f"run = sift.{side}; image = sift.picture({name!r}); run(small);"
        "peak = lambda: int(open('/proc/self/status').read().split('VmHWM:')[1].split()[0]);"
        "before = peak(); run(image); print((peak() - before) / 1024)"
    )
    return float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


def ours(image):
    return detect_sift(image, N_FEATURES)


def theirs(image):
    return opencv().detectAndCompute(image, None)


def main():
    cv2.setNumThreads(1)
    keep_freed_memory()
    print_setting("numpy", "numba", "opencv-python-headless")
    print(f"{'picture':20} {'size':>11} {'found':>15} {'ours, ms':>9} {'theirs, ms':>10} {'ratio':>6} {'MB':>12}")
    for name in PICTURES:
        image = picture(name)
        found = shares_found(image)
        assert min(found) > 0.995, found
        detector = opencv()
        pair = run_in_turn(
            lambda image=image: ours(image),
            lambda image=image, detector=detector: detector.detectAndCompute(image, None),
            rounds=25 if image.size < 1e6 else 7,
        )
        size = f"{image.shape[1]} x {image.shape[0]}"
        times = f"{pair.ours * 1e3:9.1f} {pair.theirs * 1e3:10.1f} {pair.ratio:6.2f}"
        memory = f"{added_megabytes(name, 'ours'):5.0f} {added_megabytes(name, 'theirs'):6.0f}"
        print(f"{name:20} {size:>11} {found[0]:7.2%} {found[1]:7.2%} {times} {memory}", flush=True)


if __name__ == "__main__":
    main()
