"""Convolution by transforms across a few lines, and direct sums along what is left.

`methods.py` is the only caller.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from parimg.kernels.borders import OUTSIDE, source_index
from parimg.kernels.convolution import line_loops, line_plan, long_lines, tile
from parimg.kernels.convolution.line_loops import call, call_for_float
from parimg.kernels.convolution.line_plan import NO_PLANE
from parimg.kernels.convolution.line_transforms import SIZES, products, transform_address
from parimg.kernels.convolution.spoiled_columns import find_spoiled, sum_taps

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parimg.kernels.convolution.arguments import Placement, Within

# Strategy: overlap-save along one axis. A block of lines that lie beside each other is transformed across them,
# column by column, which needs no shuffles: a vector holds neighbouring columns. What comes out is lines again,
# `products` of them. Each is correlated with a kernel of one axis less, by the tile of the direct sum, and all
# are transformed back. 5 x 5 x 7 over blocks of 20 lines, of which 16 come out right, takes 63 multiply-adds an
# element in place of 175, and 15 for the transforms. What lies between stays in the second-level cache.
#
# What values do not allow is summed tap by tap in images, from the lines of the block, and not in volumes, whose
# planes are gone by then. So each sum of an image depends on its column of its block alone, however it is cut.

_CACHED_BYTES = 2**19  # of a strip's lines; half of the second-level cache
_NARROWEST_STRIP = 128
# A multiply-add of the sums, a line of a block, and the same for each level of its transform, in multiply-adds at
# the processor's limit, of which one of the direct sum takes `_DIRECT`; and the call, which looks at values and
# loads more code, in the direct sum's; by dtype and for images or volumes. Fitted to a Zen 4, with AVX2 and
# AVX-512: what is taken for images of 128 to 2500 a side is the fastest, or in the mean 6 % slower.
_TIMES = {
    ("float32", False): (2.4, 0.0, 10.5, 3e5),
    ("float64", False): (2.0, 0.0, 9.5, 1e5),
    ("float32", True): (1.4, 44.0, 7.0, 1.2e6),
    ("float64", True): (1.4, 8.0, 10.0, 6e5),
}
_DIRECT = 1.3


class Blocks(NamedTuple):
    """How an array is walked: by stack, strip, block of lines and line of the block."""

    numbers: NDArray[np.int64]
    """What `_walk` unpacks first."""
    stack: NDArray[np.int64]
    """Offsets of the source and of the output, by member of the stack."""
    planes: NDArray[np.int64]
    """Offset of every extended plane of the source, or `NO_PLANE`."""
    lines: NDArray[np.int64]
    """Offset of every extended line within its plane, or `NO_PLANE`; behind the last, to the end of a block."""
    strips: NDArray[np.int64]
    runs: NDArray[np.int64]
    """See `Plan`."""


@numba.njit(cache=True, nogil=True)
def _walk(
    source: int,
    out: int,
    numbers: NDArray[np.int64],
    stack: NDArray[np.int64],
    planes: NDArray[np.int64],
    lines: NDArray[np.int64],
    strips: NDArray[np.int64],
    runs: NDArray[np.int64],
    weights: NDArray[Any],
    kernel: NDArray[np.float64],
    limit: float,
    largest: float,
    outside: float,
) -> float:
    """Correlate from one address to another; NaN if there is no `kernel` and something is not finite, else 0."""
    fill, there, add_tile, back, store, casting, rows = numbers[:7]
    size, wanted, height, width, step, line_size = numbers[7:13]
    source_bytes, source_column, out_bytes, n_planes, out_plane, n_lines, out_line, out_column = numbers[13:21]
    whole = numbers[21]  # columns of which a multiple goes straight to the output
    n_products = len(weights)
    item_bytes = weights.itemsize
    line_bytes = line_size * item_bytes
    window = height + rows - 1
    is_in_place = window == 1
    n_buffered = size + n_products * (window if is_in_place else window + rows) + wanted
    buffer = np.empty(n_buffered * line_size + 64, weights.dtype)
    first = np.intp(buffer.ctypes.data)
    first += -first % 64
    held = first + size * line_bytes  # window lines a product
    sums = held if is_in_place else held + n_products * window * line_bytes  # rows lines a product
    made = first + (n_buffered - wanted) * line_bytes
    addresses = np.empty((n_products, 2 * window), np.int64)  # of the lines of each product, twice in a row
    for product in range(n_products):
        for i in range(2 * window):
            addresses[product, i] = held + (product * window + i % window) * line_bytes
    weights_bytes = height * width * item_bytes
    begin = (first - np.intp(buffer.ctypes.data)) // item_bytes
    blocks = -(-n_lines // wanted)
    is_local = kernel.size > 0
    work = np.empty((3 if is_local else 0, line_size), weights.dtype)
    is_spoiled, sums_of_taps = np.zeros(line_size, np.bool_), np.empty(line_size)
    made_at = begin + (n_buffered - wanted) * line_size
    seen = outside - outside
    for member in range(len(stack)):
        for strip in range(len(strips)):
            column, columns, first_run, end_run = strips[strip]
            beside = columns + (width - 1) * step
            buffer[begin : begin + size * line_size] = outside
            is_blank = np.ones(size, np.bool_)
            for block in range(blocks):
                top = block * wanted
                n_stored = min(wanted, n_lines - top)
                filled = slot = plane = first_slot = 0
                has_spoiled = False
                while plane < n_planes:
                    if plane > n_planes - rows:  # the last tile does planes again
                        plane = n_planes - rows
                        first_slot = plane % window
                    for extended in range(filled, plane + window):
                        for i in range(size):
                            to = first + i * line_bytes
                            if planes[extended] == NO_PLANE or lines[top + i] == NO_PLANE:
                                if not is_blank[i]:
                                    buffer[begin + i * line_size : begin + (i + 1) * line_size] = outside
                                    is_blank[i] = True
                                continue
                            is_blank[i] = False
                            origin = source + (stack[member, 0] + planes[extended] + lines[top + i]) * source_bytes
                            for run in range(first_run, end_run):
                                start = origin + runs[run, 2] * source_column * source_bytes
                                place = to + runs[run, 0] * item_bytes
                                one = (start, runs[run, 3] * source_column, place, runs[run, 1])
                                seen += call_for_float(fill, one)
                        if is_local:
                            if limit < np.inf or seen != 0:
                                lines_of = buffer[begin : begin + size * line_size].reshape(size, line_size)
                                has_spoiled = find_spoiled(
                                    lines_of, beside, limit, largest, seen == 0, work, width, step, is_spoiled
                                )
                            seen = outside - outside
                        call(there, (first, line_size, held + slot * line_bytes, window * line_size, beside, 0))
                        slot = slot + 1 if slot + 1 < window else 0
                    filled = plane + window
                    for product in range(n_products):
                        to = sums + product * rows * line_bytes
                        # Its address is asked for here, or the table would be freed before it is used.
                        at = np.intp(addresses.ctypes.data) + (product * 2 * window + first_slot) * 8
                        taps = (np.intp(weights.ctypes.data) + product * weights_bytes, 1, height, width, step)
                        call(add_tile, (to, line_size, at, 2 * window, *taps, columns, 0))
                    for row in range(rows):
                        start = stack[member, 1] + (plane + row) * out_plane + top * out_line + column * out_column
                        row_sums = (sums + row * line_bytes, rows * line_size)
                        if n_stored == wanted and columns % whole == 0:
                            call(back, (*row_sums, out + start * out_bytes, out_line, columns, 0))
                            continue
                        call(back, (*row_sums, made, line_size, columns, 0))
                        for i in range(n_stored):
                            to = out + (start + i * out_line) * out_bytes
                            call(store, (made + i * line_bytes, to, out_column, columns, casting))
                    column_of = columns if not has_spoiled else 0
                    while column_of < columns:
                        if not is_spoiled[column_of]:
                            column_of += 1
                            continue
                        count = 1
                        while column_of + count < columns and is_spoiled[column_of + count]:
                            count += 1
                        for i in range(n_stored):
                            at = begin + i * line_size
                            reached = buffer[at : at + len(kernel) * line_size].reshape(len(kernel), line_size)
                            sum_taps(reached, kernel, column_of, step, sums_of_taps[:count])
                            buffer[made_at : made_at + count] = sums_of_taps[:count]
                            start = stack[member, 1] + (top + i) * out_line + (column + column_of) * out_column
                            call(store, (made, out + start * out_bytes, out_column, count, casting))
                        column_of += count
                    plane += rows
                    first_slot = first_slot + rows if first_slot + rows < window else first_slot + rows - window
    return seen


class Weights(NamedTuple):
    """A kernel, for `_walk`."""

    products: NDArray[Any]
    """What each line of a transform is correlated with."""
    taps: NDArray[np.float64]
    """Those of an image, for sums tap by tap; of a volume none."""
    limit: float
    """How many times what else is in its column of a block a value may be; infinite where any may."""
    largest: float
    """What absolute values must be below, for no sum to be infinite."""


class Plan(NamedTuple):
    """What is done to arrays of one shape."""

    blocks: Blocks
    axis: int
    """Of the kernel without its axes of one tap: the one that is transformed."""
    size: int
    """Lines of a block."""
    others: int
    """Taps along other axes."""
    is_constant: bool
    """Whether a constant lies beyond a border; else what is behind the last line is 0, and counts for no sum."""
    is_local: bool
    """Whether sums that values do not allow are taken tap by tap."""


@lru_cache(maxsize=256)
def plan_blocks(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    placed: Placement,
    source_dtype: np.dtype[Any],
    dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    casting: int,
    sides: tuple[int, ...],
    within: Within | None,
) -> Plan | None:
    """How such arrays are walked, or None where more axes have several taps than this serves.

    `sides` are those of the whole along the kernel's axes of several taps, and `within` says which lines of it
    these are, if they are a part.
    """
    axes, inner = line_plan.joined_axes(shape, strides, out_strides, placed, source_dtype, out_dtype)
    *outer, columns = axes
    tapped = [axis for axis in outer if axis.taps > 1]
    if not 1 <= len(tapped) <= 2:
        return None
    lines = tapped[_widest(tuple(axis.taps for axis in tapped))]
    planes = next((axis for axis in tapped if axis is not lines), line_plan.POINT)
    stack = line_plan.planes_of([axis for axis in outer if axis.taps == 1])
    others = planes.taps * columns.taps
    size = block_size(sides[tapped.index(lines)], lines.taps, others, dtype.name, is_volume=planes.taps > 1)
    if not size:
        return None
    wanted = size - lines.taps + 1
    first_line, end_line = (0, lines.length) if within is None else within.blocks(wanted, lines.length)
    n_lines = end_line - first_line
    step = 1 if inner is None else inner.length
    vectors = -(-columns.length * step // tile.lanes(dtype.name))
    chosen = tile.choose_for_width(planes.length, planes.taps, vectors)
    add_sums = (
        long_lines.one_line_address(dtype.name, columns.taps, step)
        if chosen == tile.ONE_LINE and planes.taps == 1
        else tile.tile_address(dtype.name, *chosen, fused=True)
    )
    beside = (columns.taps - 1) * step
    window = planes.taps + chosen.rows - 1
    held = products(size) * (window if window == 1 else window + chosen.rows) + size + wanted  # lines
    widest = max(_CACHED_BYTES // (held * dtype.itemsize) - beside, _NARROWEST_STRIP)
    strips, runs = line_plan.cut_into_strips(columns, step, beside, widest)
    tile_columns = chosen.vectors * tile.lanes(dtype.name)
    line_size = -(-int(strips[:, 1].max()) // tile_columns) * tile_columns + -(-beside // 16) * 16 + 16
    line_size = _spread(line_size, dtype.itemsize)
    blocks = -(-n_lines // wanted)
    is_direct = out_dtype == dtype and (inner or columns).out_stride == 1
    extended = _extended(lines)[first_line : end_line + lines.taps - 1]
    stack[:, 1] += first_line * lines.out_stride
    numbers = (
        line_loops.fill_address(source_dtype.name, dtype.name),
        transform_address(dtype.name, size),
        add_sums,
        transform_address(dtype.name, size, wanted),
        line_loops.store_address(dtype.name, out_dtype.name),
        casting if out_dtype.kind in "iu" else line_loops.TRUNCATE,
        chosen.rows,
        *(size, wanted, planes.taps, columns.taps, step, line_size),
        *(source_dtype.itemsize, (inner or columns).stride, out_dtype.itemsize),
        *(planes.length, planes.out_stride, n_lines, lines.out_stride, (inner or columns).out_stride),
        tile.lanes(dtype.name) if is_direct else 2**62,
    )
    padded = np.full(blocks * wanted + lines.taps - 1, NO_PLANE, np.int64)
    padded[: len(extended)] = extended
    found = Blocks(np.array(numbers, np.int64), stack, _extended(planes), padded, strips, runs)
    return Plan(found, tapped.index(lines), size, others, "constant" in placed.modes, is_local=planes.taps == 1)


def _spread(line_size: int, item_bytes: int) -> int:
    """Elements of a line, so that neighbouring ones do not fall into the same places of the first-level cache."""
    pieces = -(-line_size * item_bytes // 64)
    return (pieces | 1) * 64 // item_bytes


def _extended(axis: Any) -> NDArray[np.int64]:
    index = source_index(axis.mode, axis.length, axis.before, axis.taps - 1 - axis.before).astype(np.int64)
    return np.where(index == OUTSIDE, NO_PLANE, index * axis.stride)


def block_size(length: int, taps: int, others: int, dtype: str, *, is_volume: bool) -> int:
    """Lines that are best transformed together, 0 if there are too many taps."""
    fitting = [size for size in SIZES if size > taps]
    return min(fitting, key=lambda size: _time(length, taps, others, dtype, is_volume, size), default=0)


def _time(length: int, taps: int, others: int, dtype: str, is_volume: bool, size: int) -> float:
    """Of all blocks of a column of that length, in multiply-adds, `others` a line of products."""
    sums, line, level, _ = _TIMES[dtype, is_volume]
    blocks = -(-length // (size - taps + 1))
    return blocks * (products(size) * others * sums + size * (line + level * math.log2(size)))


def time_across(sides: tuple[int, ...], taps: tuple[int, ...], dtype: str) -> float:
    """Of an array of axes of several taps, in multiply-adds of the direct sum; infinite where this is no way."""
    if not 2 <= len(taps) <= 3:
        return math.inf
    axis = _widest(taps[:-1])
    others, is_volume = math.prod(taps) // taps[axis], len(taps) == 3
    size = block_size(sides[axis], taps[axis], others, dtype, is_volume=is_volume)
    if not size:
        return math.inf
    each = _time(sides[axis], taps[axis], others, dtype, is_volume, size)
    call = _TIMES[dtype, is_volume][-1]
    return call + each * math.prod(sides) / sides[axis] / _DIRECT


def _widest(taps: tuple[int, ...]) -> int:
    """Place of the largest, the last of such."""
    return max(range(len(taps)), key=lambda axis: (taps[axis], axis))


def lines_of_block(sides: tuple[int, ...], taps: tuple[int, ...], dtype: str) -> int:
    """Lines of the output by block of an image with such sides and taps."""
    return block_size(sides[0], taps[0], taps[1], dtype, is_volume=False) - taps[0] + 1


def correlate_across(plan: Plan, source: int, out: int, weights: Weights, outside: float) -> bool:
    """Correlate from one address to another; False if something is not finite, and `out` then is of no use."""
    beyond = outside if plan.is_constant else 0.0
    return bool(_walk(source, out, *plan.blocks, *weights, beyond) == 0)
