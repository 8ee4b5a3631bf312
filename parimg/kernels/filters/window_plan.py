"""What a filter is to do, as the arrays that its loop takes: where rows lie, where windows reach, what is outside.

Used by `generic_filter.py`; nothing here depends on the user's function.
"""

from __future__ import annotations

import functools
import math
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from parimg.kernels.borders import OUTSIDE, source_index
from parimg.kernels.filters.loops import NOWHERE, Indices, Plan, Scratch

_TILE = 2048  # elements of a row; ten rows of a tile fill the second-level cache by a sixth
_TILE_IN_PLACE = 16384  # bytes of a row; three are in the second-level cache; a fifth faster than 4096
_LARGEST_GROUP = 64
_BLOCK, _BLOCK_IN_PLACE = 8, 64  # lines; so many rows of a tile are still in that cache


def normalise_sequence(value: Any, n_axes: int, name: str) -> list[int]:
    """One integer for each axis.

    Raises
    ------
    RuntimeError
        If their number is another.
    """
    values = list(value) if np.iterable(value) else [value] * n_axes
    if len(values) != n_axes:
        raise RuntimeError(f"{name} must be a number, or one for each of {n_axes} axes (got {value!r})")
    return [operator.index(one) for one in values]


class Geometry(NamedTuple):
    """An image, and a window over it, axis by axis.

    Attributes
    ----------
    shape, strides : tuple of int
        Elements, and bytes between them. There is at least one axis, and no side of 0.
    itemsize : int
        Bytes of an element.
    offsets : sequence of int64 arrays
        Where the elements of the window lie along each axis.
    modes : sequence of str
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    itemsize: int
    offsets: Sequence[Indices]
    modes: Sequence[str]

    @property
    def x_axis(self) -> int:
        """The axis of lines: the last, but that of colours, which windows do not extend along."""
        axis, group = len(self.shape) - 1, 1
        while (
            axis > 0
            and not self.offsets[axis].any()
            and group * self.shape[axis] <= _LARGEST_GROUP
            and self.strides[axis] == self.itemsize * group
        ):
            group *= self.shape[axis]
            axis -= 1
        return axis

    def reach(self, axis: int) -> tuple[int, int]:
        """How far windows reach to both sides."""
        offsets = self.offsets[axis]
        return max(0, -int(offsets.min(initial=0))), max(0, int(offsets.max(initial=0)))

    @property
    def is_read_in_place(self) -> bool:
        """Whether lines need not be copied."""
        axis = self.x_axis
        is_contiguous = self.strides[axis] == self.itemsize * math.prod(self.shape[axis + 1 :])
        return is_contiguous and self.shape[axis] > sum(self.reach(axis))


class Footprint(NamedTuple):
    """The elements of a window, as what a plan is remembered by: sides, bools as bytes, shifts."""

    shape: tuple[int, ...]
    elements: bytes
    origins: tuple[int, ...]

    @property
    def offsets(self) -> list[Indices]:
        """Where its elements lie along each axis."""
        places = np.nonzero(np.frombuffer(self.elements, bool).reshape(self.shape))
        sides = zip(places, self.shape, self.origins, strict=True)
        return [axis - size // 2 - origin for axis, size, origin in sides]


# What is filtered mostly has the shape of what was filtered before; for 2048 rows, planning takes 0.2 ms.
@functools.lru_cache(maxsize=8)
def plan_filter(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    itemsize: int,
    footprint: Footprint,
    modes: tuple[str, ...],
    *,
    has_dtype: bool,
) -> Plan:
    """Plan to filter an image.

    With `has_dtype` the image's dtype is the window's: then lines are read where they lie, if they are contiguous.
    """
    geometry = Geometry(shape, strides, itemsize, footprint.offsets, modes)
    elements = geometry.offsets
    in_place = has_dtype and geometry.is_read_in_place
    x_axis = geometry.x_axis
    group = math.prod(shape[x_axis + 1 :])
    reach = [geometry.reach(axis) for axis in range(len(shape))]
    tables = [source_index(mode, size, *outside) for size, outside, mode in zip(shape, reach, modes, strict=True)]
    n_outer = max(0, x_axis - 1)
    longest = max((len(table) for table in tables[:n_outer]), default=0)
    outer_table = np.full((n_outer, 1 + longest), NOWHERE, np.int64)
    for axis in range(n_outer):
        outer_table[axis, 0] = reach[axis][0]
        outer_table[axis, 1 : 1 + len(tables[axis])] = _distances(tables[axis], strides[axis])
    if x_axis > 0:
        above, below = reach[x_axis - 1]
        y_span = above + below + 1
        y_table = _distances(tables[x_axis - 1], strides[x_axis - 1])
        element_y = elements[x_axis - 1] + above
    else:
        y_table, y_span, element_y = np.zeros(1, np.int64), 1, np.zeros_like(elements[0])
    outer_offsets, element_outer = _distinct(elements[:n_outer], len(elements[0]))
    left, right = reach[x_axis]
    n_x = shape[x_axis]
    tile = max(_TILE // group, 8 * (left + right))
    return Plan(
        np.array(shape[:n_outer], np.int64),
        outer_table,
        outer_offsets,
        y_table,
        y_span,
        tables[x_axis],
        (n_x, group, strides[x_axis], left),
        (left, n_x - right, max(1, _TILE_IN_PLACE // (group * itemsize))) if in_place else (0, n_x, tile),
        _BLOCK_IN_PLACE if in_place else _BLOCK,
        in_place,
        n_x * group if in_place and "constant" in modes else 0,
        element_outer,
        element_y,
        elements[x_axis] + left,
    )


def make_scratch(plan: Plan, dtype: np.dtype[Any], cval: Any, *, on_stack: bool) -> Scratch:
    """Memory for a loop, with windows of `dtype`."""
    n_elements = len(plan.element_x)
    n_rows = plan.block + plan.y_span - 1
    n_x, group, _, _ = plan.x_steps
    begin, end, tile = plan.x_range
    combinations, reach = len(plan.outer_offsets), len(plan.x_table) - n_x
    end_lines = max(begin, n_x - end)
    across = end_lines + reach, n_rows * group
    along = n_rows, (min(tile, n_x) + reach) * group
    return Scratch(
        np.empty((combinations, *(across if plan.in_place else along)), dtype),
        np.full(plan.n_outside, cval, dtype) if plan.n_outside else np.empty(0, dtype),
        np.empty((combinations, n_rows), np.int64),
        np.empty(0 if on_stack else n_elements, dtype),
        np.empty(max(plan.block, end_lines) * n_elements, np.int64),
    )


def _distances(indices: Indices, stride: int) -> Indices:
    return np.where(indices == OUTSIDE, NOWHERE, indices * stride)


def _distinct(offsets: Sequence[Indices], n_elements: int) -> tuple[Indices, Indices]:
    """Distinct offsets along several axes, and which of them every element has."""
    if not offsets or not n_elements:
        return np.zeros((1, len(offsets)), np.int64), np.zeros(n_elements, np.int64)
    distinct, which = np.unique(np.stack(offsets, axis=1), axis=0, return_inverse=True)
    return np.ascontiguousarray(distinct, np.int64), which.reshape(-1).astype(np.int64)
