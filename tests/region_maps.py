"""Maps, queries and windows that the tests of region search have in common."""

import numpy as np

RATIOS = (0.3, 0.75, 1.0, 18 / 16, 2.5)
TIGHT = (1 / 1.1, 1.1)


def unit(vector):
    return vector / np.sqrt(np.sum(vector * vector))


def relu_map(shape, seed=0, dtype=np.float32):
    return np.maximum(np.random.default_rng(seed).normal(size=shape), 0).astype(dtype)


def sparse_map(shape, seed=0, density=0.05, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return (rng.random(shape) * (rng.random(shape) < density)).astype(dtype)


def smooth_map(shape, seed=0):
    """Blobs, as convolution gives them, most of it 0."""
    rng = np.random.default_rng(seed)
    rough = rng.normal(size=shape)
    for axis in (1, 2):
        for _ in range(3):
            rough = (np.roll(rough, 1, axis) + rough + np.roll(rough, -1, axis)) / 2
    return np.maximum(rough - 2, 0).astype(np.float32)


def random_query(channels, seed=1):
    return unit(np.abs(np.random.default_rng(seed).normal(size=channels)))


def admissible(height, width, ratio, low, high, min_size=1):
    """All windows that count, in the published order."""
    return [
        (y1, x1, y2, x2)
        for y2 in range(height + 1)
        for x2 in range(width + 1)
        for y1 in range(y2)
        for x1 in range(x2)
        if min(y2 - y1, x2 - x1) >= min_size
        if ratio is None or low < (y2 - y1) / (x2 - x1) / ratio < high
    ]
