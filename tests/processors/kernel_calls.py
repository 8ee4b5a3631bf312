"""A small call of every kernel: to compile them for processors that are not here, and to run them emulated.

Used by `compile_kernels.py` and `emulate_aarch64.py`; wants NumPy and parimg's kernels only.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

import parimg.kernels as pk

RNG = np.random.default_rng(3)
IMAGE = RNG.integers(0, 100, (12, 16))
NOISE = RNG.random((64, 64))
MAP = np.maximum(RNG.normal(size=(8, 6, 7)), 0) + 0.1
VECTORS = RNG.integers(0, 256, (300, 128))
BINOMIAL = [1, 4, 6, 4, 1]
SKELETON = np.zeros((9, 11), int)
SKELETON[4, 1:10] = SKELETON[1:8, 5] = 1
QUERY = np.arange(1.0, 9.0)


def first_sum(line, result):
    for i in range(len(result)):
        result[i] = line[i] + line[i + 1]


def blobs():
    """A picture in which SIFT finds something."""
    y, x = np.mgrid[:96, :128]
    picture = sum(
        np.exp(-((y - cy) ** 2 + (x - cx) ** 2 * (1 + k % 3)) / (2 * (2 + k % 4) ** 2)) * (-1) ** k
        for k, (cy, cx) in enumerate(RNG.uniform(12, 84, (25, 2)))
    )
    return np.clip(128 + 100 * picture, 0, 255).astype(np.uint8)


def branches_of(skeleton, values=None):
    return pk.branches(pk.pixel_graph(skeleton), values)


def of_every_dtype() -> dict[str, tuple[Any, Callable[..., Any]]]:
    """Arrays, and what is called with them in several dtypes."""
    return {
        "convolve": (IMAGE, lambda a: pk.convolve(a, np.ones((3, 3)))),
        "boxes": (
            NOISE * 255,
            lambda a: [pk.convolve(a, np.full((k, k), 1 / k**2), casting="saturate") for k in (3, 5, 31)],
        ),
        "boxes of colours": (
            VECTORS.reshape(20, 20, 96)[..., :3] / 2,
            lambda a: pk.convolve(a, np.ones((11, 13)), np.float32, axes=(0, 1)),
        ),
        "convolve by transforms": (
            np.tile(NOISE, (4, 1)) * 90,
            # Not to integers: these show where sums beside a step were rounded to the other side.
            lambda a: pk.convolve(a, np.tile(NOISE, (2, 1))[:99, :29], np.float32),
        ),
        "convolve volumes": (
            VECTORS.reshape(12, 40, 80),
            lambda a: pk.convolve(a, NOISE[:27, 0].reshape(3, 3, 3)),
        ),
        "convolve across lines": (
            VECTORS.reshape(12, 40, 80),
            lambda a: pk.convolve(a, NOISE[:25, :7].reshape(5, 5, 7)),
        ),
        "weights": (IMAGE[:3, :3], lambda a: pk.correlate(IMAGE.astype(float), a, precision="float64")),
        "generic_filter": (IMAGE, lambda a: pk.generic_filter(a, np.max, 3)),
        "medians of squares": (
            NOISE * 255,
            lambda a: [pk.generic_filter(a, np.median, side) for side in (3, 5)],
        ),
        "generic_filter1d": (IMAGE, lambda a: pk.generic_filter1d(a, first_sum, 2)),
        "match_descriptors": (VECTORS, lambda a: pk.match_descriptors(a, VECTORS[::-1].astype(a.dtype))),
        "nearest_descriptors": (VECTORS, lambda a: pk.nearest_descriptors(VECTORS[5:].astype(a.dtype), a)),
        "mac": (MAP, pk.mac),
        "rmac": (MAP, pk.rmac),
        "region_vectors": (MAP, pk.region_vectors),
        "sum index": (MAP, lambda a: list(pk.RegionIndex(a).search(QUERY))),
        "max index": (MAP, lambda a: list(pk.RegionIndex(a, "max").search(QUERY))),
        "integral_image": (MAP, pk.integral_image),
        "pixel_graph": (SKELETON, branches_of),
        "values": (SKELETON * 7, lambda a: branches_of(SKELETON, a)),
    }


def of_one_dtype() -> dict[str, Callable[[], Any]]:
    """What takes one dtype, or makes no difference between them."""
    graph = pk.pixel_graph(SKELETON)
    bits = VECTORS.astype(np.uint8)
    roots = np.sqrt(VECTORS[:, :64] / 255.0).astype(np.float32)
    calls = {
        f"convolve to {out}, {casting}": lambda out=out, casting=casting: pk.convolve(
            NOISE * 300 - 20, np.eye(5), out, casting=casting
        )
        for casting in ("truncate", "saturate")
        for out in ("u1", "i2", "u8")
    }
    return calls | {
        "convolve bytes": lambda: pk.convolve(blobs(), np.outer(BINOMIAL, BINOMIAL) / 256, casting="saturate"),
        "detect_sift": lambda: tuple(pk.detect_sift(blobs())),
        "hamming": lambda: pk.match_descriptors(bits, bits[::-1], norm="hamming"),
        "roots": lambda: pk.match_descriptors(roots, roots[::-1], max_ratio=0.9),
        "exact": lambda: list(pk.RegionIndex(MAP, "max").search(QUERY, exact=True)),
        "no norms": lambda: list(pk.RegionIndex(MAP, store_norms=False).search(QUERY, step=2)),
        "geometric_transform": lambda: pk.geometric_transform(NOISE, lambda place: (place[0] + 0.5, place[1])),
        "median": lambda: pk.generic_filter(NOISE * 255, np.median, 5, output="u1"),
        "whitening": lambda: abs(pk.learn_whitening(VECTORS[:, :8].astype(float)).apply(VECTORS[:, :8])),
        "expand_query": lambda: pk.expand_query(VECTORS[0] + 1.0, VECTORS[1:4] + 1.0),
        "prune": lambda: pk.branches(pk.prune(graph, 2.0)),
        "main_branch": lambda: pk.main_branch(graph),
        "sholl": lambda: pk.sholl(graph, (4, 5), [1.0, 2.0]),
        "branch_label_image": lambda: pk.branch_label_image(graph),
    }


def all_calls(dtypes: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], Any]]]:
    """Names, and calls without arguments."""
    for name, (array, kernel) in of_every_dtype().items():
        for dtype in dtypes:
            yield f"{name}, {dtype}", lambda kernel=kernel, array=array, dtype=dtype: kernel(array.astype(dtype))
    yield from of_one_dtype().items()
