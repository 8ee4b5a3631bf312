"""The directions of a keypoint: peaks of a histogram of the gradients around it.

`detection.py` calls, once for each keypoint.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.sift.arithmetic import compiled, exp, rounded
from parimg.kernels.sift.gradients import LANES, gradients, nearest
from parimg.kernels.sift.pyramid import HEIGHT, STRIDE, WIDTH, Floats, Integers, row_place
from parimg.kernels.sift.vectors import INDEX, constant, in_all_lanes, load, pointers

if TYPE_CHECKING:
    from collections.abc import Callable

BINS = 36
_ROOM = 40  # floats of a histogram: BINS, one for 360 degrees, and up to a multiple of 8
_HISTOGRAMS = 4
_BINS_PER_DEGREE = BINS / 360
_SIGMA = np.float32(1.5)  # of the weights, in scales of the keypoint
RADIUS = np.float32(4.5)
_PEAK = np.float32(0.8)  # of the highest bin, that makes another keypoint


def _vote_row(
    _typing_context: Any,
    memory: Any,
    place: Any,
    stride: Any,
    n: Any,
    weights: Any,
    row_weight: Any,
    histograms: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Add `n` samples of a row, from `place` of an image on, to the bins of their directions.

    `weights`, as the memory, may be read up to 7 floats beyond. Every fourth sample goes to the same one of four
    histograms of ROOM, so that one need not wait for the other to be written.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        floats, start, step, count, factors, factor, bins = pointers(context, b, signature, args)
        factor = in_all_lanes(b, factor, LANES)
        numbers = constant(b, list(range(LANES)))
        with cgutils.for_range_slice(b, INDEX(0), count, INDEX(LANES)) as (t, _):
            length, direction = gradients(b, floats, b.add(start, t), step)
            left = b.trunc(b.sub(count, t), ir.IntType(32))
            is_sample = numbers < in_all_lanes(b, left, LANES)
            vote = is_sample.where(length * (load(b, b.gep(factors, [t]), LANES) * factor), 0.0)
            bin_number = nearest(direction * _BINS_PER_DEGREE)
            for first in range(0, LANES, _HISTOGRAMS):
                with b.if_then(b.icmp_signed(">", left, ir.IntType(32)(first))):
                    for lane in range(first, first + _HISTOGRAMS):
                        number = b.add(b.sext(bin_number.lane(lane), INDEX), INDEX(lane % _HISTOGRAMS * _ROOM))
                        at = b.gep(bins, [number])
                        b.store(b.fadd(b.load(at), vote.lane(lane)), at)
        return context.get_dummy_value()

    return types.void(memory, place, stride, n, weights, row_weight, histograms), generate


vote_row: Any = intrinsic(_vote_row)


@compiled
def orientations(
    memory: Floats, octave: Integers, layer: int, y: int, x: int, scale: Any, angles: Floats, histogram: Floats
) -> int:
    """Write the directions of a keypoint, degrees, into `angles` and return how many; `histogram` has BINS + 4.

    The weight of a sample at (i, j) is a product of one for i and one for j.
    """
    height, width, stride = octave[HEIGHT], octave[WIDTH], octave[STRIDE]
    radius = rounded(RADIUS * scale)
    sigma = np.float64(_SIGMA * scale)
    first_x, last_x = max(x - radius, 1), min(x + radius, width - 2) + 1
    n = last_x - first_x
    both = np.zeros(2 * radius + 1 + LANES, np.float32)
    shrinking = exp(-1 / (2 * sigma * sigma))
    weight, ratio = 1.0, shrinking
    for k in range(radius + 1):
        both[radius - k] = both[radius + k] = weight
        weight *= ratio
        ratio *= shrinking * shrinking
    votes = np.zeros(_HISTOGRAMS * _ROOM, np.float32)
    weights = both[radius + first_x - x :]
    for v in range(max(y - radius, 1), min(y + radius, height - 2) + 1):
        vote_row(memory, row_place(octave, layer, v) + first_x, stride, n, weights, both[radius + v - y], votes)
    for k in range(BINS + 1):  # 360 degrees are 0
        for other in range(1, _HISTOGRAMS):
            votes[k] += votes[other * _ROOM + k]
    votes[0] += votes[BINS]
    histogram[2 : BINS + 2] = votes[:BINS]
    histogram[0], histogram[1] = votes[BINS - 2], votes[BINS - 1]
    histogram[BINS + 2], histogram[BINS + 3] = votes[0], votes[1]
    smooth = votes
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
