"""Keypoints of an image: the octaves are made strip by strip and searched while they are hot.

`features.py` calls `find_keypoints`, one of the two functions that are compiled for themselves.
"""

from __future__ import annotations

import numba
import numpy as np

from parimg.kernels.sift.arithmetic import compiled, exp2, rounded
from parimg.kernels.sift.extrema import TILE, refined, scan_rows
from parimg.kernels.sift.orientation import BINS, orientations
from parimg.kernels.sift.pyramid import (
    BORDER,
    FIRST_IMAGE,
    HEIGHT,
    STRIDE,
    WIDTH,
    blur_rows,
    double_rows,
    halve,
)
from parimg.kernels.sift.weighted_lines import PADDING

_STRIP = 16  # rows
# Columns of the keypoints
X, Y, SIZE, ANGLE, RESPONSE = 0, 1, 2, 3, 4


@compiled
def _make_octave(image, memory, plan, octave, n_octave_layers, radii, weights, line, threshold, found):
    """Fill the images of an octave and find the extrema; returns them and their number.

    Strategy: every image is made as far as the rows of the one before it allow, then the next strip is begun. So
    rows are read again while they are in the second-level cache.
    """
    sizes = plan[octave]
    height, width, stride = sizes[HEIGHT], sizes[WIDTH], sizes[STRIDE]
    n_images = n_octave_layers + 3
    done = np.zeros(n_images, np.int64)
    table = np.empty(4 * radii.max() + 2, np.int64)
    tile = np.zeros((n_images - 1, 3, TILE + 2 * PADDING), np.float32)
    marks = np.empty((TILE, 2), np.int64)
    first = sizes[FIRST_IMAGE]
    # The doubled image lies where the last image goes; the rows still wanted of it are never overwritten.
    doubled = sizes[FIRST_IMAGE + n_images - 1]
    n_doubled = 0
    n_found = 0
    n_scanned = BORDER
    if octave > 0:
        before = plan[octave - 1]
        source = before[FIRST_IMAGE + n_octave_layers]
        halve(memory, source, before[STRIDE], before[HEIGHT], before[WIDTH], first, stride, height, width)
        done[0] = height
    bottom = 0
    while done[n_images - 1] < height:
        bottom = min(bottom + _STRIP, height)
        if octave == 0:
            ready = min(bottom + radii[0], height)
            double_rows(image, memory, doubled, stride, n_doubled, ready, line)
            n_doubled = ready
            blur_rows(
                memory, doubled, first, height, width, stride, done[0], bottom, weights[0], radii[0], line, table
            )
            done[0] = bottom
        for i in range(1, n_images):
            above = min(done[i - 1], bottom)
            ready = height if done[i - 1] == height and bottom == height else max(above - radii[i], done[i])
            if i == n_images - 1 and done[0] < height:
                ready = max(min(ready, done[0] - radii[0]), done[i])
            blur_rows(
                memory,
                sizes[FIRST_IMAGE + i - 1],
                sizes[FIRST_IMAGE + i],
                height,
                width,
                stride,
                done[i],
                ready,
                weights[i],
                radii[i],
                line,
                table,
            )
            done[i] = ready
        ready = min(done[n_images - 1] - 1, height - BORDER)
        if ready > n_scanned:
            found, n_found = scan_rows(
                memory, sizes, n_octave_layers, n_scanned, ready, threshold, tile, marks, found, n_found
            )
            n_scanned = ready
    return found, n_found


@numba.njit(cache=True, nogil=True, error_model="numpy")
def find_keypoints(
    image, memory, plan, radii, weights, line, n_octave_layers, contrast_threshold, edge_threshold, sigma
):
    """Every keypoint of an image, in no useful order, in pixels of the doubled image.

    Returns float32 (n, 5) and their octaves, int32, as `SIFTFeatures` describes them; the octave is counted from
    0 for the doubled image.
    """
    threshold = np.float32(np.floor(0.5 * contrast_threshold / n_octave_layers * 255))
    keypoints = np.empty((1024, 5), np.float32)
    octaves = np.empty(1024, np.int32)
    n = 0
    found = np.empty((1024, 3), np.int32)
    angles = np.empty(BINS, np.float32)
    histogram = np.empty(BINS + 4, np.float32)
    for octave in range(len(plan)):
        sizes = plan[octave]
        found, n_found = _make_octave(
            image, memory, plan, octave, n_octave_layers, radii, weights, line, threshold, found
        )
        pixel = np.float32(1 << octave)
        for candidate in range(n_found):
            is_keypoint, layer, y, x, ds, dy, dx, contrast = refined(
                memory,
                sizes,
                n_octave_layers,
                np.int64(found[candidate, 0]),
                np.int64(found[candidate, 1]),
                np.int64(found[candidate, 2]),
                np.float32(contrast_threshold),
                np.float32(edge_threshold),
            )
            if not is_keypoint:
                continue
            scale = np.float32(sigma * exp2((np.float64(layer) + ds) / n_octave_layers))
            n_angles = orientations(
                memory,
                sizes[FIRST_IMAGE + layer],
                sizes[STRIDE],
                sizes[HEIGHT],
                sizes[WIDTH],
                y,
                x,
                scale,
                angles,
                histogram,
            )
            if n + n_angles > len(keypoints):
                longer, more = np.empty((2 * len(keypoints), 5), np.float32), np.empty(2 * len(octaves), np.int32)
                longer[:n], more[:n] = keypoints[:n], octaves[:n]
                keypoints, octaves = longer, more
            for i in range(n_angles):
                keypoints[n, X] = (np.float32(x) + dx) * pixel
                keypoints[n, Y] = (np.float32(y) + dy) * pixel
                keypoints[n, SIZE] = scale * pixel * np.float32(2)
                keypoints[n, ANGLE] = angles[i]
                keypoints[n, RESPONSE] = abs(contrast)
                octaves[n] = octave + (layer << 8) + (rounded((ds + np.float32(0.5)) * np.float32(255)) << 16)
                n += 1
    return keypoints[:n], octaves[:n]
