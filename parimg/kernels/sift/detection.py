"""Keypoints of an image: the octaves are made strip by strip and searched while they are hot.

`features.py` calls `find_keypoints`, one of the two functions that are compiled for themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np

from parimg.kernels.sift.arithmetic import compiled, exp2, rounded
from parimg.kernels.sift.extrema import TILE, refined, scan_rows
from parimg.kernels.sift.orientation import BINS, RADIUS, orientations
from parimg.kernels.sift.pyramid import (
    BORDER,
    HEIGHT,
    REACH,
    STRIP,
    Floats,
    Integers,
    Pyramid,
    blur_rows,
    double_rows,
    halve_rows,
    table_size,
)
from parimg.kernels.sift.weighted_lines import PADDING

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Columns of the keypoints
X, Y, SIZE, ANGLE, RESPONSE = 0, 1, 2, 3, 4

# Strategy: every image of an octave is made as far as the rows of the one before it allow, the rows found in it
# are searched, and the next strip is begun. So rows are read again while they are in the second-level cache, and
# of images that no descriptor is made from only the last rows are kept, over and over in the same place.


@compiled
def _make_rows(
    image: NDArray[np.uint8],
    memory: Floats,
    pyramid: Pyramid,
    octave: int,
    table: Integers,
    done: Integers,
    bottom: int,
) -> None:
    """Make the first image of an octave down to row `bottom`, the others as far; `done` has the rows of each."""
    sizes, radii = pyramid.plan[octave], pyramid.radii
    height, n_images = sizes[HEIGHT], pyramid.n_layers + 2
    if octave == 0:
        ready = min(bottom + radii[0], height)
        double_rows(image, memory, sizes, n_images, done[n_images], ready, pyramid.lines)
        done[n_images] = ready
        blur_rows(memory, pyramid, sizes, n_images, 0, done[0], bottom, table)
    else:
        halve_rows(memory, pyramid.plan[octave - 1], pyramid.n_layers, sizes, done[0], bottom)
    done[0] = bottom
    for i in range(1, n_images):
        ready = height if done[i - 1] == height else max(done[i - 1] - radii[i], 0)
        while done[i] < ready:
            last = min(done[i] + STRIP, ready)
            blur_rows(memory, pyramid, sizes, i - 1, i, done[i], last, table)
            done[i] = last


@compiled
def _longer(rows: Any) -> Any:
    """The rows in an array with room for twice as many."""
    more = np.empty((2 * len(rows), rows.shape[1]), rows.dtype)
    more[: len(rows)] = rows
    return more


@numba.njit(cache=True, nogil=True, error_model="numpy")
def find_keypoints(
    image: NDArray[np.uint8],
    memory: Floats,
    pyramid: Pyramid,
    contrast_threshold: float,
    edge_threshold: float,
    sigma: float,
) -> tuple[Floats, NDArray[np.int32]]:
    """Every keypoint of an image, in no useful order, in pixels of the doubled image.

    Returns float32 (n, 5) and their octaves, int32, as `SIFTFeatures` describes them; the octave is counted from
    0 for the doubled image.
    """
    n_layers = pyramid.n_layers
    keypoints = np.empty((1024, 5), np.float32)
    octaves = np.empty((1024, 1), np.int32)
    n = 0
    angles = np.empty(BINS, np.float32)
    histogram = np.empty(BINS + 4, np.float32)
    table = np.empty(table_size(pyramid), np.int64)
    tile = np.zeros((n_layers + 1, 3, TILE + 2 * PADDING), np.float32)
    marks = np.empty((TILE, 2), np.int64)
    candidates = np.empty((256, 3), np.int32)
    found = np.empty((256, 7), np.float32)
    least = np.float32(np.floor(0.5 * contrast_threshold / n_layers * 255))
    # Rows below a candidate that its refinement may ask for
    ahead = REACH + 1 + pyramid.radii[n_layers + 2]
    for octave in range(len(pyramid.plan)):
        sizes, pixel = pyramid.plan[octave], np.float32(1 << octave)
        height = sizes[HEIGHT]
        done = np.zeros(n_layers + 3, np.int64)
        n_found = n_turned = bottom = 0
        n_scanned = BORDER
        while bottom < height:
            bottom = min(bottom + STRIP, height)
            _make_rows(image, memory, pyramid, octave, table, done, bottom)
            ready = height - BORDER if bottom == height else done[n_layers + 1] - ahead
            if ready > n_scanned:
                candidates, n_candidates = scan_rows(
                    memory, pyramid, sizes, n_scanned, ready, least, tile, marks, table, candidates
                )
                n_scanned = ready
                for k in range(n_candidates):
                    if n_found == len(found):
                        found = _longer(found)
                    n_found += refined(
                        memory,
                        pyramid,
                        sizes,
                        candidates[k],
                        np.float32(contrast_threshold),
                        np.float32(edge_threshold),
                        table,
                        found[n_found],
                    )
            # Directions are sought while the rows are hot, or else when they are there.
            for k in range(n_turned, n_found):
                layer, y, x = int(found[k, 0]), int(found[k, 1]), int(found[k, 2])
                ds, dy, dx, contrast = found[k, 3], found[k, 4], found[k, 5], found[k, 6]
                scale = np.float32(sigma * exp2((np.float64(layer) + ds) / n_layers))
                if y + rounded(RADIUS * scale) + 1 >= done[layer] and bottom < height:
                    break
                n_turned = k + 1
                n_angles = orientations(memory, sizes, layer, y, x, scale, angles, histogram)
                if n + n_angles > len(keypoints):
                    keypoints, octaves = _longer(keypoints), _longer(octaves)
                for i in range(n_angles):
                    keypoints[n, X] = (np.float32(x) + dx) * pixel
                    keypoints[n, Y] = (np.float32(y) + dy) * pixel
                    keypoints[n, SIZE] = scale * pixel * np.float32(2)
                    keypoints[n, ANGLE] = angles[i]
                    keypoints[n, RESPONSE] = abs(contrast)
                    between = rounded((ds + np.float32(0.5)) * np.float32(255))
                    octaves[n, 0] = octave + (layer << 8) + (between << 16)
                    n += 1
    return keypoints[:n], octaves[:n, 0]
