"""Boxes, kernels of equal weights, by running sums: the time of a pixel hardly grows with the box.

`methods.py` is the only caller.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from parimg.kernels.borders import OUTSIDE, source_index
from parimg.kernels.convolution import box_loops, line_loops
from parimg.kernels.convolution.line_loops import call, call_for_float

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: sums of the columns, as high as the box, move from line to line of the output: a line of the input
# enters, another leaves. Their ends are extended as lines of the input would be, since sums of a border are the
# border of sums. Windows of them are the sums of the box. Sums are exact, or taken in float64, so that what builds
# up from line to line stays far below a rounding of the output.

_NOT_ROUNDED = (0, 0, 0)


class Rounding(NamedTuple):
    """How a sum that is a whole number becomes the nearest one to its mean: see `box_loops`."""

    bias: int
    multiplier: int
    shift: int


class Boxes(NamedTuple):
    """How arrays of one shape are walked; what `_walk` takes."""

    numbers: NDArray[np.int64]
    lines: NDArray[np.int64]
    """Source line of every extended line, or `OUTSIDE`."""
    ends: NDArray[np.int64]
    """Source column of those before the first and behind the last, or `OUTSIDE`."""
    rounding: NDArray[np.int64]
    like: NDArray[Any]
    """An empty array of the dtype of the sums."""


@lru_cache(maxsize=64)
def exact_rounding(weight: float, largest: int, bits: int) -> Rounding | None:
    """How sums of up to `largest` are multiplied by a weight and rounded, in whole numbers of so many bits.

    None if that cannot be: the weight must be 1 over an odd number, for then no mean lies halfway between two
    whole numbers. What is returned gives for each sum what rounding ``sum * weight`` in float64 gives.
    """
    if not 1e-9 < weight < 0.5:
        return None
    divisor = round(1 / weight)
    bias = divisor // 2
    shift = divisor.bit_length() - 1
    multiplier = -(-(1 << bits + shift) // divisor)
    if divisor % 2 == 0 or multiplier >= 1 << bits or largest + bias >= 1 << bits:
        return None
    # Both ways grow with the sum: they are the same if each value begins at the same sum.
    values = np.arange(1, (largest + bias) // divisor + 1, dtype=np.uint64)
    first = values * divisor - bias
    for sums, expected in ((first, values), (first - 1, values - 1)):
        found = (sums + bias) * multiplier >> (bits + shift)
        if (found != expected).any() or (np.rint(sums * weight) != expected).any():
            return None
    return Rounding(bias, multiplier, shift)


@lru_cache(maxsize=64)
def plan_boxes(
    shape: tuple[int, ...],
    line_bytes: int,
    out_line_bytes: int,
    taps: tuple[int, int],
    modes: tuple[str, str],
    before: tuple[int, int],
    source_dtype: np.dtype[Any],
    dtype: str,
    out_dtype: np.dtype[Any],
    casting: int,
    rounding: Rounding | None,
) -> Boxes:
    """Of planes, or of planes with channels beside each other, which are the last axis; lines are contiguous."""
    step = shape[2] if len(shape) == 3 else 1
    after = [k - 1 - here for k, here in zip(taps, before, strict=True)]
    is_direct = rounding is not None or out_dtype in {np.dtype(dtype), np.dtype(np.float32)}
    lanes = box_loops.lanes_of(dtype)
    columns = source_index(modes[1], shape[1], before[1], after[1])
    numbers = (
        box_loops.columns_address(source_dtype.name, dtype),
        box_loops.windows_address(dtype, out_dtype.name if is_direct else dtype, step, taps[1]),
        0 if is_direct else line_loops.store_address(dtype, out_dtype.name),
        casting if out_dtype.kind in "iu" else line_loops.TRUNCATE,
        int(box_loops.is_scanned(dtype, step, taps[1])),
        *(*taps, step, shape[1], before[1], lanes),
        *(line_bytes, source_dtype.itemsize, out_line_bytes),
    )
    return Boxes(
        np.array(numbers, np.int64),
        source_index(modes[0], shape[0], before[0], after[0]).astype(np.int64),
        np.concatenate([columns[: before[1]], columns[before[1] + shape[1] :]]).astype(np.int64),
        np.array(rounding or _NOT_ROUNDED, np.int64),
        np.empty(0, dtype),
    )


def correlate_box(plan: Boxes, source: int, out: int, weight: float, outside: float) -> float:
    """Sums over a box times a weight, from one address to another.

    Returns the largest absolute value if they are floats, else 0; NaN if something is not finite, and then the
    output is not right.
    """
    return float(_walk(source, out, *plan, weight, outside))


@numba.njit(cache=True, nogil=True)
def _walk(
    source: int,
    out: int,
    numbers: NDArray[np.int64],
    lines: NDArray[np.int64],
    ends: NDArray[np.int64],
    rounding: NDArray[np.int64],
    like: NDArray[Any],
    weight: float,
    outside: float,
) -> float:
    move, add_windows, store, casting, is_scanned, height, width, step, columns = numbers[:9]
    before, lanes, line_bytes, item_bytes, out_bytes = numbers[9:]
    size = columns * step
    n_before, n_after = before * step, (width - 1 - before) * step
    # A vector before the sums is 0, and so is what lies behind them and may be read.
    sums = np.zeros(lanes + n_before + size + n_after + 128, like.dtype)
    middle = lanes + n_before
    result = np.empty(size if store else 0, like.dtype)  # aligned, as `store_address` wants it
    carry = np.zeros(lanes, like.dtype)
    zeros = np.zeros(size * item_bytes, np.uint8)
    nothing = np.intp(zeros.ctypes.data)
    middle_address = np.intp(sums[middle:].ctypes.data)
    largest = np.float64(0)
    for extended in range(len(lines)):
        y = extended - height + 1  # of the output
        entering = leaving = nothing
        constant = 0.0
        if lines[extended] == OUTSIDE:
            constant += outside
        else:
            entering = source + lines[extended] * line_bytes
        if y > 0:
            if lines[y - 1] == OUTSIDE:
                constant -= outside
            else:
                leaving = source + lines[y - 1] * line_bytes
        largest = max(largest, call_for_float(move, (middle_address, entering, leaving, constant, size)))
        if y < 0:
            continue
        for x in range(width - 1):
            to = (x if x < before else x + columns) * step + lanes
            for channel in range(step):
                if ends[x] == OUTSIDE:
                    sums[to + channel] = height * outside
                else:
                    sums[to + channel] = sums[middle + ends[x] * step + channel]
        if is_scanned:
            carry[:] = 0
            if step == 1:  # a loop that LLVM makes vectors of
                for x in range(width - 1):
                    carry[lanes - 1] += sums[lanes + x]
            else:
                for x in range(width - 1):
                    for channel in range(step):
                        carry[lanes - step + channel] += sums[lanes + x * step + channel]
        to = np.intp(result.ctypes.data) if store else out + y * out_bytes
        first_window = np.intp(sums[lanes:].ctypes.data)
        arguments = (first_window, np.intp(carry.ctypes.data), to, size, width, weight)
        call(add_windows, (*arguments, np.intp(rounding.ctypes.data), 0))
        if store:
            call(store, (to, out + y * out_bytes, 1, size, casting))
    for i in range(size):
        largest += np.float64(sums[middle + i]) * 0
    return largest + (outside - outside)
