"""The loops of the filters: every line of the image, extended at its ends, and the user's function at every pixel.

Called by `generic_filter.py`, which checks everything; `window_plan.py` makes the plan. Bounds are not checked.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numba
import numpy as np
from numba.cpython.unsafe import tuple as unsafe_tuple
from numba.extending import overload
from numpy.typing import NDArray

from parimg.kernels.filters import reductions as _filter_reductions  # noqa: F401 - registers what numba then finds
from parimg.kernels.filters.choices import Kind
from parimg.kernels.filters.chosen_lines import filter_chosen_lines, filter_median_lines
from parimg.kernels.filters.windows import (
    count_results,
    filter_pixels,
    itemsize_of,
    read_item,
    write_place,
    write_results,
)

# Strategy: the inner loop knows where each element of the window is at x = 0, and adds x; it knows nothing of
# borders. Where windows stay within the line, and the image is contiguous and has the window's dtype, it reads the
# image itself. Elsewhere rows are copied first, extended, in the window's dtype, so that a pixel is converted once
# and not once a window; by tiles of x whose rows the second-level cache holds. The copies are in a ring: the next
# line needs one new row for each distinct offset along the axes before. Lines are taken in blocks, because finding
# the windows of a single one costs 0.5 us, as much as filtering 2000 pixels.

tuple_setitem: Any = unsafe_tuple.tuple_setitem
Indices = NDArray[np.int64]
NOWHERE = np.iinfo(np.int64).min
"""In tables of distances, in bytes: outside the image, where cval is."""


class Plan(NamedTuple):
    """What is to be filtered; `window_plan.plan_filter` makes it.

    Attributes
    ----------
    outer_shape, outer_table : int64 arrays
        Axes before y, and distances along them in bytes: element ``1 + table[axis, 0] + i`` of a row is for index
        i, which may lie outside; NOWHERE where cval is.
    outer_offsets : int64 array, shape (combinations, axes before y)
        Distinct offsets of window elements along them.
    y_table : int64 array, shape (rows + y_span - 1,)
        Distance of every row, beginning with the first that a window needs.
    y_span : int
        Rows that a window spans.
    x_table : int64 array
        Position of every pixel of an extended row, beginning with the first that a window needs; -1 outside.
    x_steps : (int, int, int, int)
        Positions of a row; neighbours at a position (as three colours); bytes between positions; how far windows
        reach to the left.
    x_range : (int, int, int)
        Positions to be filtered: the first, the one behind the last, and how many at a time.
    block : int
        Lines at a time.
    in_place : bool
        Whether rows are read from the image.
    element_outer, element_y, element_x : int64 arrays
        Where elements of the window are: combination, row of the span, position from the first needed.
    """

    outer_shape: Indices
    outer_table: Indices
    outer_offsets: Indices
    y_table: Indices
    y_span: int
    x_table: Indices
    x_steps: tuple[int, int, int, int]
    x_range: tuple[int, int, int]
    block: int
    in_place: bool
    element_outer: Indices
    element_y: Indices
    element_x: Indices


class Scratch(NamedTuple):
    """Memory of a loop.

    Attributes
    ----------
    ring : ndarray of the window's dtype, shape (combinations, block + y_span - 1, extended tile)
        Copied rows; empty if none are.
    outside : ndarray of the window's dtype, shape (elements of a line,)
        All cval; empty if rows are copied.
    starts : ndarray of int64, shape (combinations, block + y_span - 1)
        Where the rows of a block begin.
    window : ndarray of the window's dtype, one element for each of a window that is not kept on the stack
    addresses : ndarray of int64, shape (block * elements of the window,)
    """

    ring: NDArray[Any]
    outside: NDArray[Any]
    starts: Indices
    window: NDArray[Any]
    addresses: Indices


@numba.njit(cache=True, nogil=True)
def _stage_row(
    reader: Any, row: Any, source: int, positions: Any, inside: Any, group: int, x_stride: int, cval: Any
) -> None:
    """Copy a row, extended as `positions` says; those `inside` are neighbours. -1 stands for cval."""
    if source == -1:
        row[: len(positions) * group] = cval
        return
    begin, end = inside
    for low, high in ((0, begin), (end, len(positions))):
        for p in range(low, high):
            x = positions[p]
            for c in range(group):
                row[p * group + c] = cval if x < 0 else read_item(reader, source + x * x_stride, c)
    # What every pixel costs: one loop, which LLVM vectorises where elements lie side by side.
    first = source + positions[begin] * x_stride
    middle = row[begin * group : end * group]
    if x_stride == group * itemsize_of(reader):
        for i in range(len(middle)):
            middle[i] = read_item(reader, first, i)
    else:
        for i in range(end - begin):
            for c in range(group):
                middle[i * group + c] = read_item(reader, first + i * x_stride, c)


@numba.njit(cache=True, nogil=True)
def _find_rows(plan: Any, source: int, outer: int, begin: int, end: int, starts: Any) -> None:
    """Where those rows of `y_table` begin, for every combination of offsets before y; -1 where there is none."""
    y_table, table, shape, offsets = plan.y_table, plan.outer_table, plan.outer_shape, plan.outer_offsets
    n_slots = starts.shape[1]
    for combination in range(len(offsets)):
        start = source
        rest = outer
        for axis in range(len(shape) - 1, -1, -1):
            distance = table[axis, 1 + table[axis, 0] + rest % shape[axis] + offsets[combination, axis]]
            rest //= shape[axis]
            start = -1 if start == -1 or distance == NOWHERE else start + distance
        for row in range(begin, end):
            nowhere = start == -1 or y_table[row] == NOWHERE
            starts[combination, row % n_slots] = -1 if nowhere else start + y_table[row]


@numba.njit(cache=True, nogil=True)
def _place_windows(
    reader: Any, source: int, plan: Any, scratch: Any, outer: int, y: int, n: int, x_range: Any, cval: Any
) -> None:
    """Say where windows of n lines have their elements at the first x; copy the rows that are not there yet."""
    ring, outside, starts, _, addresses = scratch
    n_x, group, x_stride, before = plan.x_steps
    first, last = x_range
    element_outer, element_y, element_x = plan.element_outer, plan.element_y, plan.element_x
    count = len(element_x)
    n_slots = starts.shape[1]
    overlap = plan.y_span - 1
    begin = 0 if y == 0 else y + overlap
    end = y + n + overlap
    if plan.in_place:
        _find_rows(plan, source, outer, y, end, starts)
        for i in range(n):
            for k in range(count):
                start = starts[element_outer[k], (y + i + element_y[k]) % n_slots]
                inside = start + (first + element_x[k] - before) * x_stride
                addresses[i * count + k] = outside.ctypes.data if start == -1 else inside
        return
    _find_rows(plan, source, outer, begin, end, starts)
    positions = plan.x_table[first : last + len(plan.x_table) - n_x]
    inner = max(0, before - first), min(len(positions), before + n_x - first)
    for combination in range(len(ring)):
        for row in range(begin, end):
            slot = row % n_slots
            start = starts[combination, slot]
            _stage_row(reader, ring[combination, slot], start, positions, inner, group, x_stride, cval)
    for i in range(n):
        for k in range(count):
            row_place = element_outer[k] * ring.shape[1] + (y + i + element_y[k]) % n_slots
            place = row_place * ring.shape[2] + element_x[k] * group
            addresses[i * count + k] = ring.ctypes.data + place * ring.itemsize


def filter_block(
    function: Any,
    spec: Any,
    plan: Any,
    scratch: Any,
    sizes: tuple[int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Filter a block of lines, whose windows `_place_windows` has found.

    Parameters
    ----------
    sizes : (int, int)
        Lines, and elements of a line.
    target : int
        Address of the first result.
    steps : (int, int)
        Bytes between lines of results, and between results of one pixel.
    """
    count = len(plan.element_x)
    for i in range(sizes[0]):
        place = target + i * steps[0]
        filter_pixels(
            function, spec, scratch.addresses, i * count, scratch.window, sizes[1], place, steps[1], arguments
        )


@overload(filter_block, strict=False)
def _overload_filter_block(function: Any, *_others: Any) -> Callable[..., None]:
    kind = function.chosen.kind if function.chosen else Kind.OTHER
    return {Kind.MEDIAN: filter_median_lines, Kind.CHOICE: filter_chosen_lines.py_func}.get(kind, filter_block)


def _filter_lines(
    function: Any,
    spec: Any,
    reader: Any,
    source: int,
    destination: int,
    plan: Any,
    scratch: Any,
    itemsize: int,
    cval: Any,
    arguments: Any,
) -> Any:
    """Filter an image; how many results a pixel has is returned, 0 if it is one that is no tuple.

    Parameters
    ----------
    function : UserFunction
    spec, reader : Specification
        The reader's is that of the image and the window alone, so that rows are not compiled for every output.
    source, destination : int
        Addresses of the first pixel, and of the first result; results are C-contiguous. Nothing is filtered if
        the destination is 0.
    plan : Plan
    scratch : Scratch
    itemsize : int
        Bytes of a result.
    cval : number of the window's dtype
    arguments : tuple
        What the function is called with behind the window.
    """
    n_results = count_results(function, spec, arguments)
    if destination == 0:
        return n_results
    n_x, group = plan.x_steps[:2]
    n_y = len(plan.y_table) - plan.y_span + 1
    n_outer = 1
    for size in plan.outer_shape:
        n_outer *= size
    plane = n_outer * n_y * n_x * group * itemsize
    begin, end, tile = plan.x_range
    for first in range(begin, end, tile):
        last = min(first + tile, end)
        for outer in range(n_outer):
            for y in range(0, n_y, plan.block):
                n = min(plan.block, n_y - y)
                _place_windows(reader, source, plan, scratch, outer, y, n, (first, last), cval)
                target = destination + ((outer * n_y + y) * n_x + first) * group * itemsize
                sizes = (n, (last - first) * group)
                steps = (n_x * group * itemsize, plane)
                filter_block(function, spec, plan, scratch, sizes, target, steps, arguments)
    return n_results


def _filter_each_line(
    function: Any,
    spec: Any,
    reader: Any,
    source: int,
    destination: int,
    shape: Any,
    strides: Any,
    x_table: Any,
    x_steps: Any,
    line: Any,
    result: Any,
    sizes: Any,
    cval: Any,
    arguments: Any,
) -> None:
    """Call the function with every line along x, extended, and the line for its results.

    Parameters
    ----------
    function, spec, reader, source, destination, cval, arguments
        As for `_filter_lines`.
    shape, strides : int64 arrays
        Of the other axes.
    x_table : int64 array
        Position of every element of an extended line; -1 outside.
    x_steps : (int, int)
        Bytes between positions; how far a line is extended to the left.
    line, result : float64 arrays
        What the function is given.
    sizes : (int,)
        Bytes of a result.
    """
    x_stride, before = x_steps
    n_lines = 1
    for size in shape:
        n_lines *= size
    n = len(result)
    for i in range(n_lines):
        start = source
        rest = i
        for axis in range(len(shape) - 1, -1, -1):
            start += rest % shape[axis] * strides[axis]
            rest //= shape[axis]
        _stage_row(reader, line, start, x_table, (before, before + n), 1, x_stride, cval)
        result[:] = 0
        function(line, result, *arguments)
        for x in range(n):
            write_results(spec, destination + i * n * sizes[0], 0, x, result[x])


def _map_positions(
    function: Any, shape: Any, first: int, input_shape: Any, places: Any, pad: int, arguments: Any
) -> None:
    """Call the function with every position of an array of a shape, its first index counted from `first`.

    What it returns, plus `pad`, is written into `places`, of shape (axes of the input, positions).
    """
    for i, position in enumerate(np.ndindex(shape)):
        place = function(tuple_setitem(position, 0, position[0] + first), *arguments)
        write_place(places, i, place, pad, input_shape)


filter_lines = numba.njit(cache=True, nogil=True)(_filter_lines)
filter_each_line = numba.njit(cache=True, nogil=True)(_filter_each_line)
map_positions = numba.njit(cache=True, nogil=True)(_map_positions)
