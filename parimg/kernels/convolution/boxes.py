"""Boxes, kernels of equal weights, by running sums: the time of a pixel hardly grows with the box.

`methods.py` is the only caller.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from parimg.kernels.borders import OUTSIDE, source_index
from parimg.kernels.convolution import line_loops
from parimg.kernels.convolution.line_loops import call, call_for_float
from parimg.kernels.convolution.line_plan import column_runs

if TYPE_CHECKING:
    from numpy.typing import NDArray

# Strategy: a line of sums down the height of the box moves from line to line of the output, gaining a line of the
# input and losing another, both read anew with their borders. Across it, sums of 2, 4, 8 ... neighbours are taken
# one after the other, and the width is put together from those: all adds are of whole vectors. Sums are exact, or
# taken in float64, so that what builds up from line to line stays far below a rounding of the output.


class Boxes(NamedTuple):
    """How arrays of one shape are walked; what `_walk` takes."""

    numbers: NDArray[np.int64]
    lines: NDArray[np.int64]
    """Source line of every extended line, or `OUTSIDE`."""
    runs: NDArray[np.int64]
    """Place, length, source and step of the runs that fill an extended line."""


@lru_cache(maxsize=64)
def plan_boxes(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    taps: tuple[int, int],
    modes: tuple[str, str],
    before: tuple[int, int],
    source_dtype: np.dtype[Any],
    dtype: str,
    out_dtype: np.dtype[Any],
    casting: int,
) -> Boxes:
    """Of planes, or of planes with channels beside each other, which are the last axis."""
    step = shape[2] if len(shape) == 3 else 1
    after = [k - 1 - here for k, here in zip(taps, before, strict=True)]
    runs = column_runs(modes[1], shape[1], before[1], after[1], step)
    numbers = (
        line_loops.fill_address(source_dtype.name, dtype),
        line_loops.store_address(dtype, out_dtype.name),
        casting if out_dtype.kind in "iu" else line_loops.TRUNCATE,
        *(*taps, step, shape[1] * step),
        *(strides[0], strides[-1], source_dtype.itemsize),
        *(out_strides[0], out_strides[-1] // out_dtype.itemsize),
    )
    lines = source_index(modes[0], shape[0], before[0], after[0]).astype(np.int64)
    return Boxes(np.array(numbers, np.int64), lines, runs)


def correlate_box(plan: Boxes, source: int, out: int, weight: NDArray[Any], outside: float) -> bool:
    """Sums over a box times a weight, from one address to another.

    `weight` is an array of one element, of the dtype of the arithmetic. False if something is not finite: then the
    output is not right.
    """
    return bool(_walk(source, out, *plan, weight, outside) == 0)


@numba.njit(cache=True, nogil=True)
def _walk(
    source: int,
    out: int,
    numbers: NDArray[np.int64],
    lines: NDArray[np.int64],
    runs: NDArray[np.int64],
    weight: NDArray[Any],
    outside: float,
) -> float:
    fill, store, casting, height, width, step, columns = numbers[:7]
    line_bytes, column_bytes, item_bytes, out_bytes, out_step = numbers[7:]
    size = columns + (width - 1) * step
    buffers = np.zeros((3, size), weight.dtype)
    total, new, old = buffers[0], buffers[1], buffers[2]
    result = np.empty(size, weight.dtype)  # an array of its own is aligned, as `store_address` wants it
    levels = 0
    while width >> levels:
        levels += 1
    doubled = np.empty((levels, size), weight.dtype)
    factor = weight[0]
    seen = outside - outside
    for extended in range(len(lines)):
        y = extended - height + 1  # of the output
        for line, which in ((new, extended), (old, y - 1)):
            if which < 0:
                continue
            if lines[which] == OUTSIDE:
                line[:] = outside
                continue
            for run in range(len(runs)):
                place, length, origin, run_step = runs[run]
                if origin == OUTSIDE:
                    line[place : place + length] = outside
                    continue
                address = np.intp(line.ctypes.data) + place * weight.itemsize
                element = source + lines[which] * line_bytes + origin * column_bytes
                seen += call_for_float(fill, (element, run_step * (column_bytes // item_bytes), address, length))
        for i in range(size):
            total[i] += new[i] - old[i]
        if y < 0:
            continue
        # `sums` are of `span` neighbours. Those of the first `offset` are in `found`, as long as that is one of
        # them, and then in `result`. In place and not are two loops: what may be either LLVM does not vectorise.
        sums = found = total
        span, offset, parts = 1, 0, 0
        for level in range(levels):
            if width >> level & 1:
                part = sums[offset * step :]
                if parts == 0:
                    found = sums
                elif parts == 1:
                    for i in range(columns):
                        result[i] = found[i] + part[i]
                else:
                    for i in range(columns):
                        result[i] += part[i]
                parts += 1
                offset += span
            if width >> level > 1:
                ahead, both = sums[span * step :], doubled[level]
                for i in range(size - (2 * span - 1) * step):
                    both[i] = sums[i] + ahead[i]
                sums, span = both, 2 * span
        if parts == 1:
            for i in range(columns):
                result[i] = found[i] * factor
        else:
            for i in range(columns):
                result[i] *= factor
        call(store, (np.intp(result.ctypes.data), out + y * out_bytes, out_step, columns, casting))
    return seen
