"""The directions of a keypoint: peaks of a histogram of the gradients around it.

`detection.py` calls, once for each keypoint.
"""

from __future__ import annotations

import numpy as np

from parimg.kernels.sift.arithmetic import compiled, exp, rounded
from parimg.kernels.sift.gradients import degrees, nearest

BINS = 36
_BINS_PER_DEGREE = np.float32(BINS / 360)
_SIGMA = np.float32(1.5)  # of the weights, in scales of the keypoint
_RADIUS = np.float32(4.5)
_PEAK = np.float32(0.8)  # of the highest bin, that makes another keypoint


@compiled
def _row_votes(above, row, below, weights, row_weight, bins, votes):
    """The bin of each sample of a row, and its vote: length of the gradient times its weight."""
    for t in range(len(weights)):
        dx = row[t + 2] - row[t]
        dy = above[t] - below[t]
        bins[t] = nearest(degrees(dy, dx) * _BINS_PER_DEGREE)
        votes[t] = np.sqrt(dx * dx + dy * dy) * (weights[t] * row_weight)


@compiled
def orientations(memory, image, stride, height, width, y, x, scale, angles, histogram):
    """Write the directions of a keypoint, degrees, into `angles` and return how many; `histogram` has BINS + 4.

    The weight of a sample at (i, j) is a product of one for i and one for j.
    """
    radius = rounded(_RADIUS * scale)
    sigma = np.float64(_SIGMA * scale)
    first_x, last_x = max(x - radius, 1), min(x + radius, width - 2) + 1
    n = last_x - first_x
    half = np.empty(radius + 1, np.float32)
    for k in range(radius + 1):
        half[k] = exp(-(k * k) / (2 * sigma * sigma))
    weights = np.empty(n, np.float32)
    for t in range(n):
        weights[t] = half[abs(first_x + t - x)]
    bins = np.empty(n, np.int32)
    votes = np.empty(n, np.float32)
    raw = histogram[2 : BINS + 2]
    raw[:] = 0
    wrapped = np.zeros(BINS + 1, np.float32)
    for v in range(max(y - radius, 1), min(y + radius, height - 2) + 1):
        start = image + v * stride + first_x
        _row_votes(
            memory[start - stride :],
            memory[start - 1 :],
            memory[start + stride :],
            weights,
            half[abs(v - y)],
            bins,
            votes,
        )
        for t in range(n):
            wrapped[bins[t]] += votes[t]
    for k in range(BINS):
        raw[k] = wrapped[k]
    raw[0] += wrapped[BINS]
    histogram[0], histogram[1] = raw[BINS - 2], raw[BINS - 1]
    histogram[BINS + 2], histogram[BINS + 3] = raw[0], raw[1]
    smooth = wrapped
    highest = np.float32(0)
    for k in range(BINS):
        outer = (histogram[k] + histogram[k + 4]) * np.float32(1 / 16)
        inner = (histogram[k + 1] + histogram[k + 3]) * np.float32(4 / 16)
        smooth[k] = outer + inner + histogram[k + 2] * np.float32(6 / 16)
        highest = max(highest, smooth[k])
    n_angles = 0
    for k in range(BINS):
        before, here, after = smooth[(k - 1) % BINS], smooth[k], smooth[(k + 1) % BINS]
        if here > before and here > after and here >= highest * _PEAK:
            place = np.float32(k) + np.float32(0.5) * (before - after) / (before - np.float32(2) * here + after)
            if place < 0:
                place += np.float32(BINS)
            elif place >= BINS:
                place -= np.float32(BINS)
            angle = np.float32(360) - np.float32(360 // BINS) * place
            angles[n_angles] = np.float32(0) if abs(angle - np.float32(360)) < np.float32(2**-23) else angle
            n_angles += 1
    return n_angles
