"""Extrema of the differences of Gaussians, and their places between the pixels.

`detection.py` calls, row by row while an octave is made, and again for each candidate once it is whole.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.sift.arithmetic import compiled, rounded
from parimg.kernels.sift.pyramid import (
    BORDER,
    HEIGHT,
    REACH,
    Floats,
    Integers,
    Pyramid,
    last_difference,
    row_place,
)
from parimg.kernels.sift.pyramid import WIDTH as COLUMNS
from parimg.kernels.sift.vectors import INDEX, WIDTH, Vector, constant, in_all_lanes, load, pointers, store

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

_STEPS = 5  # of refinement, before a candidate is given up
_HALF = np.float32(0.5)
_FIRST_DERIVATIVE = np.float32(0.5 / 255)
_SECOND_DERIVATIVE = np.float32(1 / 255)
_CROSS_DERIVATIVE = np.float32(0.25 / 255)
_TO_UNIT = np.float32(1 / 255)
_FARTHEST = np.float32((2**31 - 1) // 3)

# Strategy: an extremum is rare, 1 pixel in 1000. Differences are taken for a tile of TILE columns, three rows of
# each image, which stay in the first-level cache. Vectors of pixels are asked, with a way out after each question,
# for their contrast and whether they are extrema among their neighbours in the same image and the next ones in
# scale; the few left are compared with all 26.
TILE = 256


def _subtract_rows(
    _typing_context: Any, memory: Any, places: Any, n: Any, count: Any, out: Any, step: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Rows i + 1 less rows i, of `n` + 1 that begin at `places`; `step` floats lie between two of `out`."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        floats, table, n_rows, n_columns, target, distance = pointers(context, b, signature, args)
        with cgutils.for_range(b, n_rows) as loop:
            low = b.gep(floats, [b.load(b.gep(table, [loop.index]))])
            high = b.gep(floats, [b.load(b.gep(table, [b.add(loop.index, INDEX(1))]))])
            row = b.gep(target, [b.mul(loop.index, distance)])
            with cgutils.for_range_slice(b, INDEX(0), n_columns, INDEX(WIDTH)) as (x, _):
                store(load(b, b.gep(high, [x]), WIDTH) - load(b, b.gep(low, [x]), WIDTH), b.gep(row, [x]))
        return context.get_dummy_value()

    return types.void(memory, places, n, count, out, step), generate


def _mark_candidates(
    _typing_context: Any,
    before: Any,
    above: Any,
    here: Any,
    below: Any,
    after: Any,
    count: Any,
    threshold: Any,
    marks: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write the columns of vectors with candidates, and the bits of these, into `marks` (n, 2); returns how many.

    Columns 1 to `count` of the rows are asked; `before` and `after` are the same row in scale.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        *rows, n_columns, limit, target = pointers(context, b, signature, args)
        limit = in_all_lanes(b, limit, WIDTH)
        lanes = constant(b, list(range(WIDTH)))
        with b.goto_entry_block():
            number = b.alloca(INDEX)
        b.store(INDEX(0), number)
        with cgutils.for_range_slice(b, INDEX(0), n_columns, INDEX(WIDTH)) as (x, _):

            def at(row: int, shift: int) -> Vector:
                return load(b, b.gep(rows[row], [b.add(x, INDEX(shift))]), WIDTH)

            value = at(2, 1)
            inside = lanes < in_all_lanes(b, b.trunc(b.sub(n_columns, x), ir.IntType(32)), WIDTH)
            contrast = (value.absolute() > limit) & inside
            with b.if_then(b.icmp_unsigned("!=", contrast.bits(), INDEX(0))):
                others = [at(2, 0), at(2, 2), at(0, 1), at(4, 1)]
                others += [at(row, shift) for row in (1, 3) for shift in range(3)]
                largest = smallest = others[0]
                for other in others[1:]:
                    largest, smallest = largest.larger(other), smallest.smaller(other)
                peak = (value > 0.0) & (value >= largest)
                pit = (value < 0.0) & (value <= smallest)
                bits = (contrast & (peak | pit)).bits()
                with b.if_then(b.icmp_unsigned("!=", bits, INDEX(0))):
                    n = b.load(number)
                    place = b.gep(target, [b.mul(n, INDEX(2))])
                    b.store(b.add(x, INDEX(1)), place)
                    b.store(bits, b.gep(place, [INDEX(1)]))
                    b.store(b.add(n, INDEX(1)), number)
        return b.load(number)

    return types.intp(before, above, here, below, after, count, threshold, marks), generate


subtract_rows: Any = intrinsic(_subtract_rows)
mark_candidates: Any = intrinsic(_mark_candidates)


@compiled
def _is_extreme_beside(value: Any, first: Any, second: Any, third: Any, x: int) -> bool:
    """Whether none of the 3 x 3 in columns x - 1 to x + 1 of three rows is more extreme."""
    for row in (first, second, third):
        for j in range(x - 1, x + 2):
            if (row[j] > value) if value > 0 else (row[j] < value):
                return False
    return True


@compiled
def scan_rows(
    memory: Floats,
    pyramid: Pyramid,
    octave: Integers,
    first: int,
    last: int,
    threshold: Any,
    tile: Floats,
    marks: Integers,
    table: Integers,
    found: NDArray[np.int32],
) -> tuple[NDArray[np.int32], int]:
    """Write layer, row and column of the extrema of rows `first` to `last` into `found`.

    `tile` is (differences, 3, TILE + 2 * PADDING), `marks` (TILE, 2). Returns `found`, as it may have grown, and
    how many it holds.
    """
    n_found = 0
    n_layers = pyramid.n_layers
    places = np.empty(n_layers + 2, np.int64)
    beyond = np.empty((3, 3), np.float32)
    end = octave[COLUMNS] - BORDER
    for left in range(BORDER, end, TILE):
        count = min(TILE, end - left)
        for below in range(first - 1, last + 1):
            for i in range(n_layers + 2):
                places[i] = row_place(octave, i, below) + left - 1
            subtract_rows(memory, places, n_layers + 1, count + 2, tile[0, below % 3], 3 * tile.shape[2])
            if below <= first:
                continue
            y = below - 1
            i, j, k = (y - 1) % 3, y % 3, below % 3
            for layer in range(1, n_layers + 1):
                image, before = tile[layer], tile[layer - 1]
                after = tile[layer + 1] if layer < n_layers else before
                n_marks = mark_candidates(
                    before[j], image[i], image[j], image[k], after[j], count, threshold, marks
                )
                for mark in range(n_marks):
                    x, bits = marks[mark, 0] - 1, marks[mark, 1] << 1
                    while bits > 1:
                        x, bits = x + 1, bits >> 1
                        if not bits & 1:
                            continue
                        value = image[j, x]
                        if not _is_extreme_beside(value, before[i], before[j], before[k], x):
                            continue
                        if layer < n_layers:
                            if not _is_extreme_beside(value, after[i], after[j], after[k], x):
                                continue
                        else:
                            last_difference(memory, pyramid, octave, y, left - 1 + x, table, beyond)
                            if not _is_extreme_beside(value, beyond[0], beyond[1], beyond[2], 1):
                                continue
                        if n_found == len(found):
                            longer = np.empty((2 * n_found, 3), np.int32)
                            longer[:n_found] = found
                            found = longer
                        found[n_found, 0] = layer
                        found[n_found, 1] = y
                        found[n_found, 2] = left - 1 + x
                        n_found += 1
    return found, n_found


@compiled
def refined(
    memory: Floats,
    pyramid: Pyramid,
    octave: Integers,
    candidate: NDArray[np.int32],
    contrast_threshold: Any,
    edge_threshold: Any,
    table: Integers,
    keypoint: Floats,
) -> bool:
    """The place of an extremum between pixels and layers, by Newton's method as in section 4 of Lowe's paper.

    One that wanders beyond REACH is given up: its rows may be gone, and what it nears is a candidate itself.
    Returns whether it is a keypoint, and then writes its layer, row and column, how far it is from them along
    each, and the contrast.
    """
    height, width = octave[HEIGHT], octave[COLUMNS]
    layer, y, x = int(candidate[0]), int(candidate[1]), int(candidate[2])
    found_at = y
    d = np.empty((3, 3, 3), np.float32)  # layer, row, column
    for _ in range(_STEPS):
        for i in range(3):
            image = layer - 1 + i
            if image > pyramid.n_layers:
                last_difference(memory, pyramid, octave, y, x, table, d[i])
                continue
            for j in range(3):
                low = row_place(octave, image, y - 1 + j) + x - 1
                high = row_place(octave, image + 1, y - 1 + j) + x - 1
                for k in range(3):
                    d[i, j, k] = memory[high + k] - memory[low + k]
        value = d[1, 1, 1]
        gx = (d[1, 1, 2] - d[1, 1, 0]) * _FIRST_DERIVATIVE
        gy = (d[1, 2, 1] - d[1, 0, 1]) * _FIRST_DERIVATIVE
        gs = (d[2, 1, 1] - d[0, 1, 1]) * _FIRST_DERIVATIVE
        twice = value * np.float32(2)
        hxx = (d[1, 1, 2] + d[1, 1, 0] - twice) * _SECOND_DERIVATIVE
        hyy = (d[1, 2, 1] + d[1, 0, 1] - twice) * _SECOND_DERIVATIVE
        hss = (d[2, 1, 1] + d[0, 1, 1] - twice) * _SECOND_DERIVATIVE
        hxy = (d[1, 2, 2] - d[1, 2, 0] - d[1, 0, 2] + d[1, 0, 0]) * _CROSS_DERIVATIVE
        hxs = (d[2, 1, 2] - d[2, 1, 0] - d[0, 1, 2] + d[0, 1, 0]) * _CROSS_DERIVATIVE
        hys = (d[2, 2, 1] - d[2, 0, 1] - d[0, 2, 1] + d[0, 0, 1]) * _CROSS_DERIVATIVE

        # The Hessian's inverse by cofactors, in float32 as the peer's.
        cxx = hyy * hss - hys * hys
        cxy = hxs * hys - hxy * hss
        cxs = hxy * hys - hyy * hxs
        determinant = hxx * cxx + hxy * cxy + hxs * cxs
        dx = dy = ds = np.float32(0)
        if determinant != 0:
            scale = np.float32(-1) / determinant
            dx = scale * (gx * cxx + gy * cxy + gs * cxs)
            dy = scale * (gx * cxy + gy * (hxx * hss - hxs * hxs) + gs * (hxy * hxs - hxx * hys))
            ds = scale * (gx * cxs + gy * (hxy * hxs - hxx * hys) + gs * (hxx * hyy - hxy * hxy))
        if abs(dx) < _HALF and abs(dy) < _HALF and abs(ds) < _HALF:
            contrast = value * _TO_UNIT + _HALF * (gx * dx + gy * dy + gs * ds)
            if abs(contrast) * np.float32(pyramid.n_layers) < contrast_threshold:
                return False
            trace = hxx + hyy
            minor = hxx * hyy - hxy * hxy
            past = edge_threshold + np.float32(1)
            if minor <= 0 or trace * trace * edge_threshold >= past * past * minor:
                return False
            keypoint[0], keypoint[1], keypoint[2] = layer, y, x
            keypoint[3], keypoint[4], keypoint[5], keypoint[6] = ds, dy, dx, contrast
            return True
        if not (abs(dx) <= _FARTHEST and abs(dy) <= _FARTHEST and abs(ds) <= _FARTHEST):
            return False
        x += rounded(dx)
        y += rounded(dy)
        layer += rounded(ds)
        if (
            layer < 1
            or layer > pyramid.n_layers
            or x < BORDER
            or x >= width - BORDER
            or y < BORDER
            or y >= height - BORDER
            or abs(y - found_at) > REACH
        ):
            return False
    return False
