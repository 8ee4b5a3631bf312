"""Pixel graphs and branch tables of skeletons against skan: a retina, nine of it, random volumes, new processes.

    python benchmarks/skeletons.py

wants skan. Tables are compared before anything is timed. One core, one thread.
"""

import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
from paired import print_setting, run_in_turn
from skan import csr
from skimage.color import rgb2gray
from skimage.data import binary_blobs, retina
from skimage.filters import sato, threshold_otsu
from skimage.morphology import skeletonize
from threadpoolctl import threadpool_limits

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

import parimg.kernels as pk  # noqa: E402

# Each prints nothing and ends once it has the table.
OURS = "import sys, numpy as np, parimg.kernels as pk; pk.branches(pk.pixel_graph(np.load(sys.argv[1])))"
THEIRS = (
    "import sys, numpy as np; from skan import csr; "
    "csr.summarize(csr.Skeleton(np.load(sys.argv[1])), separator='_')"
)
NUMBA = "import numpy as np, numba; numba.njit(cache=False)  # what a process with any compiled kernel begins with"


def retina_skeleton():
    ridges = sato(rgb2gray(retina()))
    return skeletonize(ridges > threshold_otsu(ridges))


def random_volume(side):
    blobs = binary_blobs(side, n_dim=3, blob_size_fraction=12.8 / side, volume_fraction=0.3, rng=0)
    return skeletonize(blobs).astype(bool)


def ours(skeleton):
    return pk.branches(pk.pixel_graph(skeleton))


def theirs(skeleton):
    return csr.summarize(csr.Skeleton(skeleton), separator="_")


def check_same(skeleton):
    found, expected = ours(skeleton), theirs(skeleton)
    for name in expected.columns:
        np.testing.assert_allclose(found[name], expected[name], rtol=1e-11, atol=1e-7, err_msg=name)


def compare(name, skeleton, rounds):
    check_same(skeleton)
    table = run_in_turn(lambda: ours(skeleton), lambda: theirs(skeleton), rounds)
    frame = run_in_turn(lambda: pd.DataFrame(ours(skeleton)), lambda: theirs(skeleton), rounds)
    n_pixels = int(skeleton.sum())
    print(
        f"{name:<24}{n_pixels:>9}{table.ours * 1e3:>9.2f} ms{table.theirs * 1e3:>9.1f} ms{table.ratio:>7.1f}"
        f"{frame.ratio:>20.1f}{table.ours / n_pixels * 1e9:>16.0f} ns",
        flush=True,
    )


def in_new_processes(skeleton, rounds):
    def run(script, path):
        command = [sys.executable, "-W", "ignore", "-c", script, path]
        return lambda: subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT)})

    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "skeleton.npy")
        np.save(path, skeleton)
        pair = run_in_turn(run(OURS, path), run(THEIRS, path), rounds)
        bare = run_in_turn(run(OURS, path), run(NUMBA, path), rounds)
    print(f"new process, caches on disk: {pair.ours:.2f} s, skan {pair.theirs:.2f} s, ratio {pair.ratio:.1f}")
    print(f"importing numba alone: {bare.theirs:.2f} s")


def main():
    warnings.simplefilter("ignore", DeprecationWarning)  # of pandas 3.1, for skan's own lines
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    print_setting("numpy", "numba", "scikit-image", "skan", "pandas")
    eye = retina_skeleton()
    with threadpool_limits(1):
        print(
            f"{'':<24}{'pixels':>9}{'ours':>12}{'skan':>12}{'ratio':>7}{'ratio, as DataFrame':>20}{'a pixel':>19}"
        )
        compare("retina", eye, rounds=21)
        compare("retina, 3 x 3", np.tile(eye, (3, 3)), rounds=9)
        for side in (128, 256):
            compare(f"random volume, {side}^3", random_volume(side), rounds=9)
        in_new_processes(eye, rounds=5)


if __name__ == "__main__":
    main()
