"""Short products of vectors over bytes, to bytes, in two passes whose results are those of the direct sum.

`methods.py` is the only caller.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from parimg.kernels.borders import OUTSIDE, source_index
from parimg.kernels.convolution import short_loops, tile
from parimg.kernels.convolution.direct import PreparedLines, address_of, prepare_lines
from parimg.kernels.convolution.line_loops import TRUNCATE, call, call_for_float
from parimg.kernels.convolution.short_loops import BYTES_AT_ONCE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parimg.kernels.convolution.arguments import Placement
    from parimg.kernels.convolution.weights import Kernel

# Strategy: bytes are summed across lines first, straight from the source, and the sums, extended by the border as
# a line of the source would be, along the line and rounded. Both sums, this one and the direct one, are off by
# less than `uncertainty`: where a sum lies further than that from half way between two whole numbers, both are
# rounded to the same. The others, one in 2 000 of an image with 5 x 5, are summed again one by one, in the order
# that a tile of the direct sum has there. Where there are so many that this would be slower, that takes all.

_WIDEST = 2**14  # elements of a line; a tile's sums across longer ones would leave the second-level cache
_MOST_CHANNELS = 32
_FEW = 256  # that are summed again in any image
_SHARE = 100  # and one in so many: each takes some 100 times as long as by a tile
_LARGEST = 255.0
_BELOW = 255.4  # sums, which no uncertainty then brings to what a byte does not hold
_SLACK = 1 + 1e-6  # what rounding does to the bounds themselves, and products of errors


def serves(
    source: np.dtype[Any], kernel: Kernel, out: np.dtype[Any], casting: int, shape: tuple[int, ...]
) -> bool:
    """Whether results are bytes from bytes, and the weights a short product; sizes of images do not matter."""
    if not (source == out == np.uint8) or casting == TRUNCATE or kernel.axes != (0, 1):
        return False
    if len(shape) > 3 or (len(shape) == 3 and shape[2] > _MOST_CHANNELS):
        return False
    if max(kernel.weights.shape) > short_loops.LONGEST or kernel.vectors is None:
        return False
    return bool(kernel.weights.min() >= 0 and _LARGEST * kernel.absolute_sum < _BELOW)


def fits(shape: tuple[int, ...]) -> bool:
    """Whether lines are neither shorter nor longer than they may be."""
    return BYTES_AT_ONCE <= math.prod(shape[1:]) <= _WIDEST


class Bytes(NamedTuple):
    """How arrays of one shape are walked; what `_walk` takes."""

    numbers: NDArray[np.int64]
    lines: NDArray[np.int64]
    """Source line of every extended line, or `OUTSIDE`."""
    columns: NDArray[np.int64]
    """Source element of every extended line's, or `OUTSIDE`."""
    kernel_lines: NDArray[np.int64]
    """See `_kernel_lines`."""


@lru_cache(maxsize=32)
def uncertainty(kernel: Kernel, rows: int) -> NDArray[np.float64]:
    """What the direct sum over bytes and that by two passes can differ by, in each row of a tile of so many.

    Each is wrong by half a unit in the last place of every partial sum and, without fused multiply-adds, of every
    product; and the product of the vectors' weights by the rounding of both.
    """
    across, along = _vectors(kernel)
    weights = np.squeeze(kernel.in_dtype("float32"))
    product = np.multiply.outer(across.astype(np.float64), along.astype(np.float64))
    of_weights = _LARGEST * float(np.abs(product - weights).sum())
    by_row = _kernel_lines(rows, len(across))
    by_across = max(_rounding(across[lines], _LARGEST) for lines in by_row)
    by_passes = by_across * float(along.sum()) + _rounding(along, _LARGEST * float(across.sum()) + by_across)
    direct = np.array([_rounding(weights[lines].ravel(), _LARGEST) for lines in by_row])
    return (direct + by_passes + of_weights) * _SLACK + 2.0**-24


def _vectors(kernel: Kernel) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Across lines and along them."""
    factors = kernel.factors("float32")
    return factors.across[0].astype(np.float32), factors.along[0].astype(np.float32)


def _kernel_lines(rows: int, height: int) -> list[list[int]]:
    """For every row of a tile of the direct sum, in which order the lines of the kernel come."""
    order = tile.order_of_lines(rows, height)
    return [[y - row for y in order if 0 <= y - row < height] for row in range(rows)]


def _rounding(weights: NDArray[np.float32], largest: float) -> float:
    """The largest error of a sum in float32 of weights, in their order, times values up to `largest`."""
    products = weights.astype(np.float64) * largest * _SLACK
    partial = np.concatenate([products, np.cumsum(products) * _SLACK])
    return float((np.spacing(partial.astype(np.float32)) / 2).astype(np.float64).sum())


@lru_cache(maxsize=64)
def plan_bytes(
    shape: tuple[int, ...],
    line_bytes: int,
    out_line_bytes: int,
    taps: tuple[int, int],
    modes: tuple[str, str],
    before: tuple[int, int],
) -> Bytes:
    """Of planes, or of planes with channels beside each other, which are the last axis; lines are contiguous."""
    step = shape[2] if len(shape) == 3 else 1
    rows = tile.choose(shape[0], taps[0], 0).rows
    after = [k - 1 - here for k, here in zip(taps, before, strict=True)]
    size, beside = shape[1] * step, (taps[1] - 1) * step
    numbers = (
        short_loops.across_address("float32", rows, taps[0], of_bytes=True),
        short_loops.bytes_address(taps[1]),
        short_loops.one_byte_address(),
        *(rows, *taps, step, size, before[1] * step),
        -(-(size + beside) // 16) * 16 + 16,  # of a line of sums, which is no multiple of 4 KiB if size is
        *(line_bytes, out_line_bytes),
    )
    columns = source_index(modes[1], shape[1], before[1], after[1]).astype(np.int64)
    each = np.where(columns == OUTSIDE, OUTSIDE, columns * step)[:, None] + np.arange(step)
    each[columns == OUTSIDE] = OUTSIDE
    return Bytes(
        np.array(numbers, np.int64),
        source_index(modes[0], shape[0], before[0], after[0]).astype(np.int64),
        each.ravel().astype(np.int64),
        np.array(_kernel_lines(rows, taps[0]), np.int64),
    )


class PreparedBytes(NamedTuple):
    """All that these passes need but the arrays, whose lines are contiguous."""

    plan: Bytes
    weights: NDArray[np.float32]
    """Of the direct sum, for each row of a tile in its order."""
    across: NDArray[np.float32]
    along: NDArray[np.float32]
    limits: NDArray[np.float64]
    """How far from the nearest whole number a sum may be, for each row of a tile."""
    direct: PreparedLines

    def run(self, source: NDArray[Any], out: NDArray[Any], outside: float) -> bool:
        """Correlate as the direct sum does, if not by it; see `correlate_lines`."""
        by_passes = (self.plan, self.weights, self.across, self.along, self.limits)
        is_done = _walk(address_of(source), address_of(out), *by_passes, outside)
        return bool(is_done) or self.direct.run(source, out, outside)


def prepare_bytes(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], placed: Placement, casting: int, cval: float
) -> PreparedBytes | PreparedLines:
    """What is to be done with such arrays: the direct sum where a constant that is no byte lies outside."""
    direct = prepare_lines(source, kernel.in_dtype("float32"), out, placed, casting=casting, fused=True)
    if "constant" in placed.modes and not (0 <= cval <= _LARGEST and float(cval).is_integer()):
        return direct
    taps, modes, before = ((each[0], each[1]) for each in placed)
    plan = plan_bytes(source.shape, source.strides[0], out.strides[0], taps, modes, before)
    weights = np.squeeze(kernel.in_dtype("float32"))[plan.kernel_lines]
    limits = 0.5 - uncertainty(kernel, len(plan.kernel_lines))
    return PreparedBytes(plan, weights, *_vectors(kernel), limits, direct)


@numba.njit(cache=True, nogil=True)
def _walk(
    source: int,
    out: int,
    plan: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]],
    weights: NDArray[np.float32],
    across: NDArray[np.float32],
    along: NDArray[np.float32],
    limits: NDArray[np.float64],
    outside: float,
) -> bool:
    numbers, lines, columns, kernel_lines = plan
    add_across, add_along, add_one, rows, height, width, step, size = numbers[:8]
    n_before, line_size, line_bytes, out_bytes = numbers[8:]
    beside = (width - 1) * step
    window = height + rows - 1
    n_lines = len(lines) - height + 1
    sums = np.empty(rows * line_size + 16, np.float32)
    begin = (-(np.intp(sums.ctypes.data) // 4 + n_before)) % 16  # so that what is written across is aligned
    beyond = np.float32(across.astype(np.float64).sum() * outside)
    nothing = np.full(size, outside).astype(np.uint8)
    near = np.empty((size // BYTES_AT_ONCE + 1, 2), np.int64)
    table = np.empty(window, np.int64)
    in_order = np.empty(height, np.int64)
    n_again = line = 0
    while line < n_lines:
        line = min(line, n_lines - rows)  # the last tile does lines again
        for y in range(window):
            if lines[line + y] == OUTSIDE:
                table[y] = np.intp(nothing.ctypes.data)
            else:
                table[y] = source + lines[line + y] * line_bytes
        to = (np.intp(sums[begin + n_before :].ctypes.data), line_size)
        kernel = (np.intp(across.ctypes.data), 1, height, 1, 1)
        call(add_across, (*to, np.intp(table.ctypes.data), window, *kernel, size, 0))
        for row in range(rows):
            extended = sums[begin + row * line_size :]
            for x in range(beside):
                place = x if x < n_before else x + size
                extended[place] = beyond if columns[place] == OUTSIDE else extended[n_before + columns[place]]
            out_line = out + (line + row) * out_bytes
            taps = (np.intp(along.ctypes.data), step, size, limits[row], 0)
            lists = (out_line, np.intp(near.ctypes.data), np.intp(extended.ctypes.data))
            n_near = np.intp(call_for_float(add_along, (*lists, *taps)))
            if n_near > 0:
                for y in range(height):
                    in_order[y] = table[row + kernel_lines[row, y]]
            for i in range(n_near):
                for x in range(BYTES_AT_ONCE):
                    if near[i, 1] >> x & 1:
                        column = near[i, 0] + x
                        places = (np.intp(in_order.ctypes.data), np.intp(columns[column:].ctypes.data))
                        of_row = (np.intp(weights[row].ctypes.data), height, width, step, outside)
                        call(add_one, (out_line + column, *places, *of_row))
                        n_again += 1
        if n_again > _FEW + (line + rows) * size // _SHARE:
            return False
        line += rows
    return True
