"""Ends of lines, where windows reach beyond the image: few pixels of many lines, laid across in a small buffer.

There the end of a block of lines is a few long lines, which are filtered as any others. For images that are read
where they lie; `loops.py` calls.
"""

from __future__ import annotations

from typing import Any

import numba

from parimg.kernels.filters.windows import copy_result, read_item


@numba.njit(cache=True, nogil=True)
def place_end(reader: Any, plan: Any, scratch: Any, n: int, x_range: Any, cval: Any) -> None:
    """Copy what windows of pixels `x_range` of n lines read, row after row, and say where windows begin there."""
    ring, _, starts, _, addresses = scratch
    n_x, group, x_stride, _ = plan.x_steps
    first, last = x_range
    positions = plan.x_table[first : last + len(plan.x_table) - n_x]
    for combination in range(len(ring)):
        for p in range(len(positions)):
            line = ring[combination, p]
            if positions[p] < 0:
                line[:] = cval
                continue
            distance = positions[p] * x_stride
            for c in range(group):
                for row in range(n + plan.y_span - 1):
                    line[row * group + c] = read_item(reader, starts[combination, row] + distance, c)
    count = len(plan.element_x)
    for i in range(last - first):
        for k in range(count):
            line = plan.element_outer[k] * ring.shape[1] + i + plan.element_x[k]
            place = line * ring.shape[2] + plan.element_y[k] * group
            addresses[i * count + k] = ring.ctypes.data + place * ring.itemsize


@numba.njit(nogil=True)
def write_end(spec: Any, results: int, target: int, sizes: Any, steps: Any, row: int, itemsize: int) -> None:
    """Copy results that lie across to where they belong.

    Parameters
    ----------
    results, target : int
        Addresses of the first result, here and there.
    sizes : (int, int, int, int)
        Results of a pixel, lines across, elements of such a line, neighbours at a position.
    steps : (int, int)
        Bytes between results of a pixel, here and there.
    row : int
        Bytes between rows there.
    itemsize : int
        Bytes of a result.
    """
    n_results, n_lines, length, group = sizes
    for k in range(n_results):
        for line in range(n_lines):
            for c in range(group):
                here = results + k * steps[0] + (line * length + c) * itemsize
                there = target + k * steps[1] + (line * group + c) * itemsize
                for i in range(length // group):
                    copy_result(spec, here + i * group * itemsize, there + i * row)
