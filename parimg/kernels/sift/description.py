"""Descriptors: histograms of the gradients in a turned grid of 4 x 4 cells around each keypoint.

`features.py` calls `describe`, one of the two functions that are compiled for themselves.
"""

from __future__ import annotations

import numba
import numpy as np

from parimg.kernels.sift.arithmetic import compiled, exp, rounded, sine_and_cosine
from parimg.kernels.sift.gradients import degrees, floor
from parimg.kernels.sift.pyramid import FIRST_IMAGE, HEIGHT, STRIDE, WIDTH

CELLS = 4
BINS = 8
_CELL = np.float32(3)  # width of a cell in scales of the keypoint
_GRID = CELLS + 2
_ROOM = BINS + 2
_BINS_PER_DEGREE = np.float32(BINS / 360)
_MIDDLE = np.float32(CELLS / 2 - 0.5)
_LARGEST_PART = np.float32(0.2)  # of the length, that one element may be
_LENGTH = np.float32(512)


@compiled
def _is_inside(i_part, j, sine, cosine, i_cross):
    """Whether a sample falls into the grid."""
    row = np.float32(j) * sine + i_part + _MIDDLE
    column = np.float32(j) * cosine - i_cross + _MIDDLE
    return row > np.float32(-1) and row < np.float32(CELLS) and column > np.float32(-1) and column < np.float32(CELLS)


@compiled
def _run(i, radius, sine, cosine):
    """First and last + 1 of the columns of row i of the window that fall into the grid."""
    first, last = np.float32(-radius), np.float32(radius)
    for k in range(2):
        slope = sine if k == 0 else cosine
        offset = np.float32(i) * cosine + _MIDDLE if k == 0 else _MIDDLE - np.float32(i) * sine
        if slope != 0:
            a, b = (np.float32(-1) - offset) / slope, (np.float32(CELLS) - offset) / slope
            first, last = max(first, min(a, b)), min(last, max(a, b))
    if not first <= last + np.float32(2):
        return 0, 0
    start, stop = int(floor(first)) - 1, int(floor(last)) + 2
    start, stop = max(start, -radius), min(stop, radius)
    i_part, i_cross = np.float32(i) * cosine, np.float32(i) * sine
    while start <= stop and not _is_inside(i_part, start, sine, cosine, i_cross):
        start += 1
    while stop >= start and not _is_inside(i_part, stop, sine, cosine, i_cross):
        stop -= 1
    return start, stop + 1


@compiled
def _row_samples(above, row, below, weights, row_weight, first, i, sine, cosine, angle, places, parts):
    """Where in the grid each sample of a row falls, and its weight."""
    i_part, i_cross = np.float32(i) * cosine, np.float32(i) * sine
    for t in range(len(weights)):
        dx = row[t + 2] - row[t]
        dy = above[t] - below[t]
        j = np.float32(first + t)
        r = j * sine + i_part + _MIDDLE
        c = j * cosine - i_cross + _MIDDLE
        o = (degrees(dy, dx) - angle) * _BINS_PER_DEGREE
        r0, c0, o0 = floor(r), floor(c), floor(o)
        bin0 = np.int32(o0)
        bin0 = bin0 + np.int32(BINS) if bin0 < 0 else bin0
        bin0 = bin0 - np.int32(BINS) if bin0 >= BINS else bin0
        places[t] = ((np.int32(r0) + np.int32(1)) * np.int32(_GRID) + np.int32(c0) + np.int32(1)) * np.int32(
            _ROOM
        ) + bin0
        parts[0, t] = np.sqrt(dx * dx + dy * dy) * (weights[t] * row_weight)
        parts[1, t] = r - r0
        parts[2, t] = c - c0
        parts[3, t] = o - o0


@compiled
def _add_samples(histogram, places, parts, n):
    """Share every sample among the 8 bins around it."""
    for t in range(n):
        place = places[t]
        size, r, c, o = parts[0, t], parts[1, t], parts[2, t], parts[3, t]
        lower = size * r
        upper = size - lower
        lower_right = lower * c
        lower_left = lower - lower_right
        upper_right = upper * c
        upper_left = upper - upper_right
        turned = upper_left * o
        histogram[place] += upper_left - turned
        histogram[place + 1] += turned
        turned = upper_right * o
        histogram[place + _ROOM] += upper_right - turned
        histogram[place + _ROOM + 1] += turned
        turned = lower_left * o
        histogram[place + _GRID * _ROOM] += lower_left - turned
        histogram[place + _GRID * _ROOM + 1] += turned
        turned = lower_right * o
        histogram[place + (_GRID + 1) * _ROOM] += lower_right - turned
        histogram[place + (_GRID + 1) * _ROOM + 1] += turned


@compiled
def _write(histogram, descriptor):
    """Normalise a histogram into bytes, as section 6 of Lowe's paper."""
    values = np.empty(CELLS * CELLS * BINS, np.float32)
    n = 0
    for row in range(CELLS):
        for column in range(CELLS):
            cell = ((row + 1) * _GRID + column + 1) * _ROOM
            histogram[cell] += histogram[cell + BINS]
            histogram[cell + 1] += histogram[cell + BINS + 1]
            for k in range(BINS):
                values[n] = histogram[cell + k]
                n += 1
    most = np.sqrt(_square_sum(values)) * _LARGEST_PART
    for k in range(len(values)):
        values[k] = min(values[k], most)
    factor = _LENGTH / max(np.sqrt(_square_sum(values)), np.float32(2**-23))
    for k in range(len(values)):
        descriptor[k] = np.uint8(min(rounded(values[k] * factor), 255))


@compiled
def _square_sum(values):
    """A sum of 16 sums, each of every 16th square."""
    sums = np.zeros(16, np.float32)
    for first in range(0, len(values), 16):
        for k in range(16):
            sums[k] += values[first + k] * values[first + k]
    total = np.float32(0)
    for k in range(16):
        total += sums[k]
    return total


@compiled
def _describe_one(memory, image, stride, height, width, x, y, angle, scale, histogram, descriptor):
    cell = _CELL * scale
    diagonal = np.sqrt(np.float64(width * width + height * height))
    radius = min(
        rounded(cell * np.float32(1.4142135623730951) * np.float32(CELLS + 1) * np.float32(0.5)), int(diagonal)
    )
    sine64, cosine64 = sine_and_cosine(np.float64(angle))
    sine, cosine = np.float32(sine64) / cell, np.float32(cosine64) / cell
    half = np.empty(radius + 1, np.float32)
    exponent = -1 / (0.5 * CELLS * CELLS) / (np.float64(cell) * cell)
    for k in range(radius + 1):
        half[k] = exp(exponent * (k * k))
    both = np.empty(2 * radius + 1, np.float32)
    for k in range(2 * radius + 1):
        both[k] = half[abs(k - radius)]
    places = np.empty(2 * radius + 1, np.int32)
    parts = np.empty((4, 2 * radius + 1), np.float32)
    histogram[:] = 0
    column, line = rounded(x), rounded(y)
    for i in range(max(-radius, 1 - line), min(radius, height - 2 - line) + 1):
        first, last = _run(i, radius, sine, cosine)
        first, last = max(first, 1 - column), min(last, width - 1 - column)
        n = last - first
        if n <= 0:
            continue
        start = image + (line + i) * stride + column + first
        _row_samples(
            memory[start - stride :],
            memory[start - 1 :],
            memory[start + stride :],
            both[radius + first : radius + last],
            half[abs(i)],
            first,
            i,
            sine,
            cosine,
            angle,
            places,
            parts,
        )
        _add_samples(histogram, places, parts, n)
    _write(histogram, descriptor)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def describe(memory, plan, keypoints, octaves):
    """Descriptors, uint8 (n, 128), of keypoints that `find_keypoints` gave, the memory being as it left it."""
    descriptors = np.empty((len(keypoints), CELLS * CELLS * BINS), np.uint8)
    histogram = np.empty(_GRID * _GRID * _ROOM, np.float32)
    for k in range(len(keypoints)):
        octave, layer = octaves[k] & 255, (octaves[k] >> 8) & 255
        sizes = plan[octave]
        shrink = np.float32(1) / np.float32(1 << octave)
        angle = np.float32(360) - keypoints[k, 3]
        if abs(angle - np.float32(360)) < np.float32(2**-23):
            angle = np.float32(0)
        _describe_one(
            memory,
            sizes[FIRST_IMAGE + layer],
            sizes[STRIDE],
            sizes[HEIGHT],
            sizes[WIDTH],
            keypoints[k, 0] * shrink,
            keypoints[k, 1] * shrink,
            angle,
            keypoints[k, 2] * shrink * np.float32(0.5),
            histogram,
            descriptors[k],
        )
    return descriptors
