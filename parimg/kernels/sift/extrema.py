"""Extrema of the differences of Gaussians, and their places between the pixels.

`detection.py` calls, row by row while an octave is made, and again for each candidate once it is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from parimg.kernels.sift.arithmetic import compiled, rounded
from parimg.kernels.sift.pyramid import BORDER, FIRST_IMAGE, HEIGHT, STRIDE, WIDTH

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 5  # of refinement, before a candidate is given up
_HALF = np.float32(0.5)
_FIRST_DERIVATIVE = np.float32(0.5 / 255)
_SECOND_DERIVATIVE = np.float32(1 / 255)
_CROSS_DERIVATIVE = np.float32(0.25 / 255)
_TO_UNIT = np.float32(1 / 255)
_FARTHEST = np.float32((2**31 - 1) // 3)

# Strategy: an extremum is rare, 1 pixel in 1000. One pass in vectors over a row marks the pixels that are extrema
# among their 8 neighbours in the same image, and the few marked are compared with the 18 in the images beside it.


@compiled
def difference_row(memory, octave, image, y, out):
    """Image + 1 less image, of an octave's row of the plan."""
    stride = octave[STRIDE]
    low = octave[FIRST_IMAGE + image] + y * stride
    high = octave[FIRST_IMAGE + image + 1] + y * stride
    width = octave[WIDTH]
    a = memory[low : low + width]
    b = memory[high : high + width]
    for x in range(width):
        out[x] = b[x] - a[x]


@compiled
def mark_row(above, row, below, threshold, marks):
    """Mark the pixels of a row, less BORDER on either side, that are extrema of their image."""
    up = above[BORDER - 1 :]
    here = row[BORDER - 1 :]
    down = below[BORDER - 1 :]
    low = -threshold
    for x in range(len(row) - 2 * BORDER):
        v = here[x + 1]
        a, b, c, d = up[x], up[x + 1], up[x + 2], here[x]
        e, f, g, h = here[x + 2], down[x], down[x + 1], down[x + 2]
        most = (v >= a) & (v >= b) & (v >= c) & (v >= d) & (v >= e) & (v >= f) & (v >= g) & (v >= h)
        least = (v <= a) & (v <= b) & (v <= c) & (v <= d) & (v <= e) & (v <= f) & (v <= g) & (v <= h)
        marks[x] = ((v > threshold) & most) | ((v < low) & least)


@compiled
def is_extreme_beside(value, other, y, x):
    """Whether no value of the 3 x 3 around row `y` of three, column `x`, is more extreme; `other` is (3, width)."""
    for i in range(3):
        row = other[(y + i) % 3]
        for j in range(x - 1, x + 2):
            if (row[j] > value) if value > 0 else (row[j] < value):
                return False
    return True


@compiled
def scan_row(ring, y, n_octave_layers, threshold, marks, found, n_found):
    """Add the extrema of row y to `found`; returns it, as it may have grown, and how many it holds.

    `ring` is (images, 3, width), with row y of each at y % 3 of the second axis.
    """
    width = ring.shape[2]
    for layer in range(1, n_octave_layers + 1):
        image = ring[layer]
        mark_row(image[(y - 1) % 3], image[y % 3], image[(y + 1) % 3], threshold, marks)
        for word in range(0, width - 2 * BORDER, 8):
            if not marks[word : word + 8].any():
                continue
            for x in range(word, min(word + 8, width - 2 * BORDER)):
                if not marks[x]:
                    continue
                value = image[y % 3, x + BORDER]
                first = (y - 1) % 3
                if is_extreme_beside(value, ring[layer - 1], first, x + BORDER) and is_extreme_beside(
                    value, ring[layer + 1], first, x + BORDER
                ):
                    if n_found == len(found):
                        longer = np.empty((2 * n_found, 3), np.int32)
                        longer[:n_found] = found
                        found = longer
                    found[n_found, 0] = layer
                    found[n_found, 1] = y
                    found[n_found, 2] = x + BORDER
                    n_found += 1
    return found, n_found


@compiled
def refined(memory, octave, n_octave_layers, layer, y, x, contrast_threshold, edge_threshold):
    """The place of an extremum between pixels and layers, by Newton's method as in section 4 of Lowe's paper.

    Returns whether it is a keypoint, its layer, row and column, how far it is from them along each, and the
    contrast.
    """
    stride, height, width = octave[STRIDE], octave[HEIGHT], octave[WIDTH]
    nothing = (False, layer, y, x, np.float32(0), np.float32(0), np.float32(0), np.float32(0))
    for _ in range(_STEPS):
        at = y * stride + x
        # below, here and above in scale
        p0 = octave[FIRST_IMAGE + layer - 1] + at
        p1 = octave[FIRST_IMAGE + layer] + at
        p2 = octave[FIRST_IMAGE + layer + 1] + at
        p3 = octave[FIRST_IMAGE + layer + 2] + at
        value = memory[p2] - memory[p1]
        right, left = memory[p2 + 1] - memory[p1 + 1], memory[p2 - 1] - memory[p1 - 1]
        down, up = memory[p2 + stride] - memory[p1 + stride], memory[p2 - stride] - memory[p1 - stride]
        after, before = memory[p3] - memory[p2], memory[p1] - memory[p0]
        gx = (right - left) * _FIRST_DERIVATIVE
        gy = (down - up) * _FIRST_DERIVATIVE
        gs = (after - before) * _FIRST_DERIVATIVE
        twice = value * np.float32(2)
        hxx = (right + left - twice) * _SECOND_DERIVATIVE
        hyy = (down + up - twice) * _SECOND_DERIVATIVE
        hss = (after + before - twice) * _SECOND_DERIVATIVE
        down_right = memory[p2 + stride + 1] - memory[p1 + stride + 1]
        down_left = memory[p2 + stride - 1] - memory[p1 + stride - 1]
        up_right = memory[p2 - stride + 1] - memory[p1 - stride + 1]
        up_left = memory[p2 - stride - 1] - memory[p1 - stride - 1]
        hxy = (down_right - down_left - up_right + up_left) * _CROSS_DERIVATIVE
        after_x = (memory[p3 + 1] - memory[p2 + 1]) - (memory[p3 - 1] - memory[p2 - 1])
        before_x = (memory[p1 + 1] - memory[p0 + 1]) - (memory[p1 - 1] - memory[p0 - 1])
        hxs = (after_x - before_x) * _CROSS_DERIVATIVE
        after_y = (memory[p3 + stride] - memory[p2 + stride]) - (memory[p3 - stride] - memory[p2 - stride])
        before_y = (memory[p1 + stride] - memory[p0 + stride]) - (memory[p1 - stride] - memory[p0 - stride])
        hys = (after_y - before_y) * _CROSS_DERIVATIVE

        # The Hessian's inverse by cofactors, in float32 as the peer's.
        cxx = hyy * hss - hys * hys
        cxy = hxs * hys - hxy * hss
        cxs = hxy * hys - hyy * hxs
        determinant = hxx * cxx + hxy * cxy + hxs * cxs
        dx = dy = ds = np.float32(0)
        if determinant != 0:
            scale = np.float32(-1) / determinant
            dx = scale * (gx * cxx + gy * cxy + gs * cxs)
            dy = scale * (gx * cxy + gy * (hxx * hss - hxs * hxs) + gs * (hxy * hxs - hxx * hys))
            ds = scale * (gx * cxs + gy * (hxy * hxs - hxx * hys) + gs * (hxx * hyy - hxy * hxy))
        if abs(dx) < _HALF and abs(dy) < _HALF and abs(ds) < _HALF:
            contrast = value * _TO_UNIT + _HALF * (gx * dx + gy * dy + gs * ds)
            if abs(contrast) * np.float32(n_octave_layers) < contrast_threshold:
                return nothing
            trace = hxx + hyy
            minor = hxx * hyy - hxy * hxy
            past = edge_threshold + np.float32(1)
            if minor <= 0 or trace * trace * edge_threshold >= past * past * minor:
                return nothing
            return True, layer, y, x, ds, dy, dx, contrast
        if not (abs(dx) <= _FARTHEST and abs(dy) <= _FARTHEST and abs(ds) <= _FARTHEST):
            return nothing
        x += rounded(dx)
        y += rounded(dy)
        layer += rounded(ds)
        if (
            layer < 1
            or layer > n_octave_layers
            or x < BORDER
            or x >= width - BORDER
            or y < BORDER
            or y >= height - BORDER
        ):
            return nothing
    return nothing
