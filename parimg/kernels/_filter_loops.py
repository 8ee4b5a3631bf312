"""The loops of the filters: every line of the image, extended at its ends, and the user's function at every pixel.

Called by `filters.py`, which checks everything and makes the plan; bounds are not checked here.
"""

from __future__ import annotations

import functools
from typing import Any

import numba
import numpy as np

from parimg.kernels import _filter_reductions  # noqa: F401 - registers what numba then finds
from parimg.kernels._filter_windows import count_results, gather, read_item, write_results

# Strategy: rows that windows at one line need are copied into a ring, in the dtype of the window and extended
# at their ends. The next line needs one new row for each distinct offset along the axes before. So borders cost
# nothing in the inner loop, conversion is done once a row and not once a window, and memory is a few rows.
# Lines are taken in tiles, so that the rows of a tile stay in the second-level cache. The inner loop knows
# where each element of the window is at x = 0, and adds x.


NOWHERE = np.iinfo(np.int64).min
"""In tables of distances, in bytes: outside the image, where cval is."""


@numba.njit(cache=True, nogil=True)
def _stage_row(
    spec: Any, row: Any, source: int, x_table: Any, group: int, x_stride: int, itemsize: int, cval: Any
) -> None:
    """Copy a row, extended as `x_table` says; -1 stands for cval, also as its address."""
    n = len(x_table)
    if source == -1:
        row[: n * group] = cval
        return
    p = 0
    while p < n:
        x = x_table[p]
        # A run of neighbours is copied in one loop.
        end = p + 1
        while x >= 0 and end < n and x_table[end] == x + end - p:
            end += 1
        if x < 0:
            row[p * group : end * group] = cval
        elif x_stride == group * itemsize:
            first = source + x * x_stride
            for i in range((end - p) * group):
                row[p * group + i] = read_item(spec, first + i * itemsize)
        else:
            for i in range(end - p):
                for c in range(group):
                    row[(p + i) * group + c] = read_item(spec, source + (x + i) * x_stride + c * itemsize)
        p = end


@numba.njit(cache=True, nogil=True)
def _offset_source(table: Any, shape: Any, line: int, offsets: Any, source: int) -> int:
    """Address of the row that lies `offsets` from a line along the axes before y; -1 where there is none.

    `table[axis, 0]` is where the axis begins in `table[axis, 1:]`.
    """
    address = source
    rest = line
    for axis in range(len(shape) - 1, -1, -1):
        index = rest % shape[axis]
        rest //= shape[axis]
        distance = table[axis, 1 + table[axis, 0] + index + offsets[axis]]
        if distance == NOWHERE:
            return -1
        address += distance
    return address


def _filter_lines(
    function: Any,
    spec: Any,
    reader: Any,
    source: int,
    destination: int,
    outer_shape: Any,
    outer_table: Any,
    outer_offsets: Any,
    y_table: Any,
    y_span: int,
    x_table: Any,
    x_steps: Any,
    element_outer: Any,
    element_y: Any,
    element_x: Any,
    ring: Any,
    addresses: Any,
    window: Any,
    sizes: Any,
    cval: Any,
    arguments: Any,
) -> int:
    """Filter an image; how many results a pixel has is returned, 0 if it is one that is no tuple.

    Parameters
    ----------
    function : UserFunction
    spec, reader : Specification
        The reader's is that of the image and the window alone, so that rows are not compiled for every output.
    source, destination : int
        Addresses of the first pixel, and of the first result; results are C-contiguous.
    outer_shape, outer_table : int64 arrays
        Axes before y, and distances along them for `_offset_source`.
    outer_offsets : int64 array, shape (combinations, axes before y)
        Distinct offsets of window elements along them.
    y_table : int64 array, shape (rows + y_span - 1,)
        Distance of every row, beginning with the first that a window needs; NOWHERE outside.
    y_span : int
        Rows that a window spans.
    x_table : int64 array
        Position of every pixel of an extended row, beginning with the first that a window needs; -1 outside.
    x_steps : (int, int, int, int, int)
        Positions of a row; neighbours at a position (as three colours); bytes between positions; bytes of an
        element of the image; positions of a tile.
    element_outer, element_y, element_x : int64 arrays
        Where elements of the window are: combination, row of the span, position from the first needed.
    ring : array of the window's dtype, shape (combinations, y_span, extended tile)
    addresses : int64 array, one an element
    window : array of the window's dtype, one an element
    sizes : (int, int)
        Bytes of an element of the window, of one of the output.
    cval : number of the window's dtype
    arguments : tuple
        What the function is called with behind the window.
    """
    n_results = count_results(function, spec, arguments)
    n_x, group, x_stride, itemsize, tile = x_steps
    n_y = len(y_table) - y_span + 1
    n_outer = 1
    for size in outer_shape:
        n_outer *= size
    x_extent = len(x_table) - n_x
    plane = n_outer * n_y * n_x * group * sizes[1]
    if destination == 0:
        return n_results
    for first in range(0, n_x, tile):
        n_tile = min(tile, n_x - first)
        positions = x_table[first : first + n_tile + x_extent]
        for line in range(n_outer):
            for y in range(n_y):
                for dy in range(0 if y == 0 else y_span - 1, y_span):
                    for combination in range(len(outer_offsets)):
                        start = _offset_source(outer_table, outer_shape, line, outer_offsets[combination], source)
                        if start != -1:
                            start = -1 if y_table[y + dy] == NOWHERE else start + y_table[y + dy]
                        row = ring[combination, (y + dy) % y_span]
                        _stage_row(reader, row, start, positions, group, x_stride, itemsize, cval)
                for k in range(len(addresses)):
                    row = ring[element_outer[k], (y + element_y[k]) % y_span]
                    addresses[k] = row.ctypes.data + element_x[k] * group * sizes[0]
                target = destination + ((line * n_y + y) * n_x + first) * group * sizes[1]
                for x in range(n_tile * group):
                    values = gather(spec, addresses, window, x)
                    write_results(spec, target, plane, x, function(values, *arguments))
    return n_results


filter_lines = numba.njit(cache=True, nogil=True)(_filter_lines)


@functools.cache
def uncached_filter_lines() -> Any:
    """The same for functions whose content cannot be told, and which the disk cache would not know again."""
    return numba.njit(nogil=True)(_filter_lines)
