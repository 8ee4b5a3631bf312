"""Descriptors: histograms of the gradients in a turned grid of 4 x 4 cells around each keypoint.

`features.py` calls `describe`, one of the two functions that are compiled for themselves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.sift.arithmetic import compiled, exp, rounded, sine_and_cosine
from parimg.kernels.sift.detection import ANGLE, SIZE, X, Y
from parimg.kernels.sift.gradients import LANES, gradients
from parimg.kernels.sift.pyramid import HEIGHT, STRIDE, WIDTH, Floats, Integers, row_place
from parimg.kernels.sift.vectors import INDEX, Vector, constant, in_all_lanes, load, pointers, store, transposed

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

CELLS = 4
BINS = 8
_CELL = np.float32(3)  # width of a cell in scales of the keypoint
_GRID = CELLS + 2
_CORNERS = 8
_SIZE = (CELLS + 1) ** 2 * BINS * _CORNERS
_BINS_PER_DEGREE = BINS / 360
_MIDDLE = CELLS / 2 - 0.5
_MIDDLE32 = np.float32(_MIDDLE)
_LARGEST_PART = np.float32(0.2)  # of the length, that one element may be
_LENGTH = np.float32(512)
_FLOAT_ROUNDING = np.float32(1.5 * 2**23)  # to add it leaves no room for digits after the point
_float, _int = ir.FloatType(), ir.IntType(32)

# Strategy: a row of the window is cut to the run of samples that fall into the grid, half of all. A vector of
# samples gets its gradients and places at once. A sample belongs to 2 x 2 cells and 2 of their bins: the corners
# of a square between the cells' centres. Every square keeps its 8 corners side by side for each of 8 directions,
# so a sample is one addition of one vector, to a place that no other square or direction overlaps (additions
# to the bins themselves took twice as long). Samples of even and odd number go to places of their own, so that
# one need not wait for the other to be written. In the end, corners are gathered into bins.


@compiled
def _is_inside(i_part: Any, j: int, sine: Any, cosine: Any, i_cross: Any) -> bool:
    """Whether a sample falls into the grid."""
    row = np.float32(j) * sine + i_part + _MIDDLE32
    column = np.float32(j) * cosine - i_cross + _MIDDLE32
    return bool(row > -1 and row < CELLS and column > -1 and column < CELLS)


@compiled
def _run(i: int, radius: int, sine: Any, cosine: Any, per_sine: Any, per_cosine: Any) -> tuple[int, int]:
    """First and last + 1 of the columns of row i of the window that fall into the grid.

    A division by sine and cosine, whose inverses are given, says where about; the test itself says where.
    """
    i_part, i_cross = np.float32(i) * cosine, np.float32(i) * sine
    first, last = np.float32(-radius), np.float32(radius)
    for offset, inverse in ((i_part + _MIDDLE32, per_sine), (_MIDDLE32 - i_cross, per_cosine)):
        if inverse != 0:
            a, b = (np.float32(-1) - offset) * inverse, (np.float32(CELLS) - offset) * inverse
            low, high = (a, b) if a < b else (b, a)
            first, last = max(first, low), min(last, high)
    if not first <= last + np.float32(2):
        return 0, 0
    start, stop = int(first) - 2, int(last) + 2
    start, stop = max(start, -radius), min(stop, radius)
    while start <= stop and not _is_inside(i_part, start, sine, cosine, i_cross):
        start += 1
    while stop >= start and not _is_inside(i_part, stop, sine, cosine, i_cross):
        stop -= 1
    return start, stop + 1


def _share_row(
    _typing_context: Any,
    memory: Any,
    place: Any,
    stride: Any,
    n: Any,
    weights: Any,
    row_weight: Any,
    first: Any,
    i_part: Any,
    i_cross: Any,
    sine: Any,
    cosine: Any,
    angle: Any,
    corners: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Share `n` samples of a row among the bins around each, from `place` of an image on.

    `first` is their column in the window. `weights`, as the memory, may be read up to 7 floats beyond.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        floats, start, step, count, factors, factor, column, *rest, bins = pointers(context, b, signature, args)
        factor, i_row, i_column, sin, cos, turn = (in_all_lanes(b, x, LANES) for x in (factor, *rest))
        lanes = constant(b, [float(lane) for lane in range(LANES)])
        numbers = constant(b, list(range(LANES)))
        whole_turn = float(BINS)
        with cgutils.for_range_slice(b, INDEX(0), count, INDEX(LANES)) as (t, _):
            length, direction = gradients(b, floats, b.add(start, t), step)
            j = in_all_lanes(b, b.sitofp(b.add(column, t), _float), LANES) + lanes
            r = j * sin + i_row + _MIDDLE
            c = j * cos - i_column + _MIDDLE
            o = (direction - turn) * _BINS_PER_DEGREE
            o = (o < 0.0).where(o + whole_turn, o)
            r0, c0, o0 = r.floor(), c.floor(), o.floor()
            left = b.trunc(b.sub(count, t), _int)
            is_sample = numbers < in_all_lanes(b, left, LANES)
            size = length * (load(b, b.gep(factors, [t]), LANES) * factor)
            size = is_sample.where(size, 0.0)
            shares = [size]
            for part in (r - r0, c - c0, o - o0):
                shares = [share for whole in shares for share in _split(whole, part)]
            o0 = (o0 > BINS - 0.5).where(o0 - whole_turn, o0)
            square = (r0 * float(CELLS + 1) + c0 + float(CELLS + 2)) * whole_turn + o0
            place = is_sample.where(square.cut() * _CORNERS, 0)
            samples = transposed(shares)
            for pair in range(0, LANES, 2):
                with b.if_then(b.icmp_signed(">", left, _int(pair))):
                    for lane in (pair, pair + 1):
                        at = b.add(b.sext(place.lane(lane), INDEX), INDEX(lane % 2 * _SIZE))
                        at = b.gep(bins, [at])
                        store(load(b, at, _CORNERS) + samples[lane], at)
        return context.get_dummy_value()

    kinds = (memory, place, stride, n, weights, row_weight, first, i_part, i_cross, sine, cosine, angle, corners)
    return types.void(*kinds), generate


def _split(whole: Vector, part: Vector) -> tuple[Vector, Vector]:
    after = whole * part
    return whole - after, after


def _gather(_typing_context: Any, corners: Any, cells: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Add what the corners of all squares hold to the bins of the cells, (CELLS + 2, CELLS + 2, BINS)."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        source, target = pointers(context, b, signature, args)
        before = ir.Constant(ir.VectorType(_int, BINS), [(k - 1) % BINS for k in range(BINS)])
        for row in range(CELLS + 1):
            for column in range(CELLS + 1):
                first = (row * (CELLS + 1) + column) * BINS * _CORNERS
                rows = [
                    load(b, b.gep(source, [INDEX(first + k * _CORNERS)]), _CORNERS)
                    + load(b, b.gep(source, [INDEX(_SIZE + first + k * _CORNERS)]), _CORNERS)
                    for k in range(BINS)
                ]
                by_corner = transposed(rows)
                for corner in range(0, _CORNERS, 2):
                    next_bin = by_corner[corner + 1]
                    turned = Vector(b, b.shuffle_vector(next_bin.value, next_bin.value, before))
                    cell = (row + corner // 4) * (CELLS + 2) + column + corner // 2 % 2
                    at = b.gep(target, [INDEX(cell * BINS)])
                    store(load(b, at, BINS) + (by_corner[corner] + turned), at)
        return context.get_dummy_value()

    return types.void(corners, cells), generate


gather: Any = intrinsic(_gather)
share_row: Any = intrinsic(_share_row)


@compiled
def _write(cells: Floats, descriptor: NDArray[np.uint8]) -> None:
    """Normalise a histogram into bytes, as section 6 of Lowe's paper."""
    values = np.empty(CELLS * CELLS * BINS, np.float32)
    width = CELLS * BINS
    for row in range(CELLS):
        first = ((row + 1) * _GRID + 1) * BINS
        values[row * width : (row + 1) * width] = cells[first : first + width]
    most = np.sqrt(_square_sum(values)) * _LARGEST_PART
    for k in range(len(values)):
        values[k] = min(values[k], most)
    factor = _LENGTH / max(np.sqrt(_square_sum(values)), np.float32(2**-23))
    for k in range(len(values)):
        level: Any = np.int32((values[k] * factor + _FLOAT_ROUNDING) - _FLOAT_ROUNDING)
        descriptor[k] = min(level, 255)


@compiled
def _square_sum(values: Floats) -> Any:
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
def _describe_one(
    memory: Floats,
    octave: Integers,
    layer: int,
    x: int,
    y: int,
    angle: Any,
    size: Any,
    corners: Floats,
    cells: Floats,
    descriptor: NDArray[np.uint8],
) -> None:
    height, width, stride = octave[HEIGHT], octave[WIDTH], octave[STRIDE]
    cell = _CELL * (size * np.float32(0.5))
    radius = rounded(cell * np.float32(1.4142135623730951) * np.float32(CELLS + 1) * np.float32(0.5))
    radius = min(radius, int(np.sqrt(np.float64(width * width + height * height))))
    sine64, cosine64 = sine_and_cosine(np.float64(angle))
    sine, cosine = np.float32(sine64) / cell, np.float32(cosine64) / cell
    both = np.zeros(2 * radius + 1 + LANES, np.float32)
    # exp(-a k k) from one k to the next: the ratio of neighbours shrinks by a constant factor.
    shrinking = exp(-1 / (0.5 * CELLS * CELLS) / (np.float64(cell) * cell))
    weight, ratio = 1.0, shrinking
    for k in range(radius + 1):
        both[radius - k] = both[radius + k] = weight
        weight *= ratio
        ratio *= shrinking * shrinking
    per_sine = np.float32(1) / sine if abs(sine) > np.float32(1e-9) else np.float32(0)
    per_cosine = np.float32(1) / cosine if abs(cosine) > np.float32(1e-9) else np.float32(0)
    corners[:] = 0
    cells[:] = 0
    for i in range(max(-radius, 1 - y), min(radius, height - 2 - y) + 1):
        first, last = _run(i, radius, sine, cosine, per_sine, per_cosine)
        first, last = max(first, 1 - x), min(last, width - 1 - x)
        n = last - first
        if n <= 0:
            continue
        start = row_place(octave, layer, y + i) + x + first
        share_row(
            memory,
            start,
            stride,
            n,
            both[radius + first :],
            both[radius + i],
            first,
            np.float32(i) * cosine,
            np.float32(i) * sine,
            sine,
            cosine,
            angle,
            corners,
        )
    gather(corners, cells)
    _write(cells, descriptor)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def describe(memory: Floats, plan: Integers, keypoints: Floats, octaves: NDArray[np.int32]) -> NDArray[np.uint8]:
    """Descriptors, uint8 (n, 128), of keypoints that `find_keypoints` gave, the memory being as it left it."""
    descriptors = np.empty((len(keypoints), CELLS * CELLS * BINS), np.uint8)
    corners = np.empty(2 * _SIZE, np.float32)
    cells = np.empty(_GRID * _GRID * BINS, np.float32)
    for k in range(len(keypoints)):
        octave, layer = octaves[k] & 255, (octaves[k] >> 8) & 255
        shrink = np.float32(1) / np.float32(1 << octave)
        angle = np.float32(360) - keypoints[k, ANGLE]
        _describe_one(
            memory,
            plan[octave],
            layer,
            rounded(keypoints[k, X] * shrink),
            rounded(keypoints[k, Y] * shrink),
            np.float32(0) if abs(angle - np.float32(360)) < np.float32(2**-23) else angle,
            keypoints[k, SIZE] * shrink,
            corners,
            cells,
            descriptors[k],
        )
    return descriptors
