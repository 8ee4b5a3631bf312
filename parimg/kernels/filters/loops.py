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
from parimg.kernels.filters.line_ends import place_end, write_end
from parimg.kernels.filters.windows import (
    count_results,
    filter_block,
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
    n_outside : int
        Elements of a row of cval; 0 where none is wanted.
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
    n_outside: int
    element_outer: Indices
    element_y: Indices
    element_x: Indices


class Scratch(NamedTuple):
    """Memory of a loop.

    Attributes
    ----------
    ring : ndarray of the window's dtype, shape (combinations, block + y_span - 1, extended tile)
        Copied rows. If rows are read from the image, ends of lines laid across: of shape (combinations, extended
        end, (block + y_span - 1) * neighbours).
    outside : ndarray of the window's dtype, shape (n_outside,)
        All cval.
    starts : ndarray of int64, shape (combinations, block + y_span - 1)
        Where the rows of a block begin; where there is none, -1, or `outside` if rows are not copied.
    window : ndarray of the window's dtype, one element for each of a window that is not kept on the stack
    addresses : ndarray of int64, shape (lines of a block, or of an end if more, times elements of the window,)
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
def _find_rows(plan: Any, source: int, outer: int, rows: Any, starts: Any, first_slot: Any, nowhere: Any) -> None:
    """Where rows of `y_table` begin, for every combination of offsets before y; `nowhere` where there is none.

    Callers give no literals, which would be compiled for by themselves: 0.4 s.
    """
    y_table, table, shape, offsets = plan.y_table, plan.outer_table, plan.outer_shape, plan.outer_offsets
    begin, end = rows
    n_slots = starts.shape[1]
    for combination in range(len(offsets)):
        start = source
        rest = outer
        for axis in range(len(shape) - 1, -1, -1):
            distance = table[axis, 1 + table[axis, 0] + rest % shape[axis] + offsets[combination, axis]]
            rest //= shape[axis]
            start = -1 if start == -1 or distance == NOWHERE else start + distance
        slot = first_slot
        for row in range(begin, end):
            is_nowhere = start == -1 or y_table[row] == NOWHERE
            starts[combination, slot] = nowhere if is_nowhere else start + y_table[row]
            slot = 0 if slot + 1 == n_slots else slot + 1


@numba.njit(cache=True, nogil=True)
def _point_into_image(source: int, plan: Any, scratch: Any, outer: int, y: int, n: int, first: int) -> None:
    """Say where windows of n lines have their elements at the first x, in rows of the image and of cval."""
    _, outside, starts, _, addresses = scratch
    _, _, x_stride, before = plan.x_steps
    nowhere = np.int64(outside.ctypes.data)
    _find_rows(plan, source, outer, (y, y + n + plan.y_span - 1), starts, np.int64(0), nowhere)
    count = len(plan.element_x)
    for k in range(count):
        combination, first_row = plan.element_outer[k], plan.element_y[k]
        distance = (first + plan.element_x[k] - before) * x_stride
        for i in range(n):
            addresses[i * count + k] = starts[combination, first_row + i] + distance


@numba.njit(cache=True, nogil=True)
def _copy_rows(
    reader: Any, source: int, plan: Any, scratch: Any, outer: int, y: int, n: int, x_range: Any, cval: Any
) -> None:
    """Copy the rows for n lines that are not there yet; say where windows have their elements at the first x."""
    ring, _, starts, _, addresses = scratch
    n_x, group, x_stride, before = plan.x_steps
    first, last = x_range
    n_slots = starts.shape[1]
    overlap = plan.y_span - 1
    begin = 0 if y == 0 else y + overlap
    end = y + n + overlap
    _find_rows(plan, source, outer, (begin, end), starts, begin % n_slots, np.int64(-1))
    positions = plan.x_table[first : last + len(plan.x_table) - n_x]
    inner = max(0, before - first), min(len(positions), before + n_x - first)
    for combination in range(len(ring)):
        for row in range(begin, end):
            slot = row % n_slots
            start = starts[combination, slot]
            _stage_row(reader, ring[combination, slot], start, positions, inner, group, x_stride, cval)
    count = len(plan.element_x)
    for k in range(count):
        for i in range(n):
            row_place = plan.element_outer[k] * n_slots + (y + i + plan.element_y[k]) % n_slots
            place = row_place * ring.shape[2] + plan.element_x[k] * group
            addresses[i * count + k] = ring.ctypes.data + place * ring.itemsize


def _filter_block_by_kind(*_arguments: Any) -> None:
    """Do what `windows.filter_block` does, in the way that is best for the function."""


@overload(_filter_block_by_kind, strict=False)
def _overload_filter_block(function: Any, *_others: Any) -> Callable[..., None]:
    kind = function.chosen.kind if function.chosen else Kind.OTHER
    by_kind = {Kind.MEDIAN: filter_median_lines, Kind.CHOICE: filter_chosen_lines}
    return by_kind.get(kind, filter_block.py_func)


def _filter_lines(
    function: Any,
    spec: Any,
    reader: Any,
    source: int,
    destination: int,
    plan_fields: Any,
    scratch_fields: Any,
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
    plan_fields, scratch_fields : tuple
        A `Plan` and a `Scratch` as plain tuples, which numba takes 4 us less to receive.
    itemsize : int
        Bytes of a result.
    cval : number of the window's dtype
    arguments : tuple
        What the function is called with behind the window.
    """
    plan, scratch = Plan(*plan_fields), Scratch(*scratch_fields)
    n_results = count_results(function, spec, arguments)
    if destination == 0:
        return n_results
    n_x, group = plan.x_steps[:2]
    n_y = len(plan.y_table) - plan.y_span + 1
    n_outer = 1
    for size in plan.outer_shape:
        n_outer *= size
    plane = n_outer * n_y * n_x * group * itemsize
    row = n_x * group * itemsize
    begin, end, tile = plan.x_range
    block_row = plan.block * group * itemsize
    results = np.empty(max(1, n_results) * max(begin, n_x - end) * block_row, np.uint8)  # of ends of lines
    in_results: Any = np.int64(results.ctypes.data)
    for first in range(begin, end, tile):
        last = min(first + tile, end)
        for outer in range(n_outer):
            for y in range(0, n_y, plan.block):
                n = min(plan.block, n_y - y)
                # The middle of lines, or all; the left end, the right end.
                for part, x_range in enumerate(((first, last), (0, begin), (end, n_x))):
                    low, high = x_range
                    if part > 0 and (low == high or (first != begin if part == 1 else last != end)):
                        continue
                    target = destination + (outer * n_y + y) * row + low * group * itemsize
                    if part == 0:
                        if plan.in_place:
                            _point_into_image(source, plan, scratch, outer, y, n, low)
                        else:
                            _copy_rows(reader, source, plan, scratch, outer, y, n, x_range, cval)
                        elements = plan.element_x, plan.element_y
                        sizes = n, (high - low) * group, group
                        place, steps = target, (row, plane)
                    else:
                        place_end(reader, plan, scratch, n, x_range, cval)
                        elements = plan.element_y, plan.element_x
                        sizes = high - low, n * group, group
                        line = n * group * itemsize
                        place, steps = in_results, (line, (high - low) * line)
                    _filter_block_by_kind(function, spec, scratch, elements, sizes, place, steps, arguments)
                    if part > 0:
                        counts = max(1, n_results), *sizes
                        write_end(spec, place, target, counts, (steps[1], plane), row, itemsize)
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
