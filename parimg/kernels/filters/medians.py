"""Medians of squares of 3 x 3 and 5 x 5: several lines of results at once, which share most of the work.

`chosen_lines.py` emits this where `choices.py` has found the user's function to be a median, and `is_square` its
window to be one.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

from llvmlite import ir
from numba import types
from numba.core import cgutils

from parimg.kernels.filters.windows import is_any_nan

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: rows of the window are sorted, each by itself. Two lines of results share all rows of their windows
# but one: of these the values are merged that may become the median whatever the last row holds, 4 of 6 or 6 of
# 20, and each line puts its own row to them. Of 3 x 3 the 4 need no order but that of the rows' second values: the
# median is that of the largest first, the median second and the smallest third value of all rows. A result then
# takes 22 minima and maxima where the shortest network takes 30, one of 5 x 5 108 where it takes 174; of four
# lines at once, which have rows and merged rows in common, too, 19 and 83.5. Keeping sorted rows from line to line
# leaves 17 and 72, and was slower by a third and more: the kept rows lie 4 KiB apart, or leave the first-level
# cache.

SQUARES = {9: 3, 25: 5}
"""Sides by the number of elements."""
_cgutils: Any = cgutils  # untyped


def is_square(plan: Any) -> bool:
    """Whether windows are all of a square across lines and along them, with a side of `SQUARES`."""
    side = SQUARES.get(len(plan.element_x), 0)
    return len(plan.outer_offsets) == 1 and plan.y_span == side and int(plan.element_x.max()) == side - 1


class Network(NamedTuple):
    """Minima and maxima of numbers, none of which is NaN."""

    builder: Any
    dtype: Any

    def exchanged(self, one: Any, other: Any) -> list[Any]:
        """The smaller and the larger of two numbers."""
        if isinstance(self.dtype, types.Float):
            ordered = self.builder.fcmp_ordered("<", one, other)
            return [self.builder.select(ordered, one, other), self.builder.select(ordered, other, one)]
        sign = "s" if self.dtype.signed else "u"
        return [self._extreme(f"llvm.{sign}{name}", one, other) for name in ("min", "max")]

    def _extreme(self, name: str, one: ir.Value, other: ir.Value) -> ir.Value:
        kind = ir.FunctionType(one.type, [one.type, one.type])
        full_name = f"{name}.v{one.type.count}i{one.type.element.width}"
        function = _cgutils.get_or_insert_function(self.builder.module, kind, full_name)
        return self.builder.call(function, [one, other])

    def merged(self, left: list[Any], right: list[Any]) -> list[Any]:
        """Two sorted lists as one (Batcher's odd-even merge); LLVM drops the exchanges that nothing needs."""
        if not left or not right:
            return left + right
        if len(left) == len(right) == 1:
            return self.exchanged(left[0], right[0])
        even, odd = (self.merged(left[first::2], right[first::2]) for first in (0, 1))
        found, even = even[:1], even[1:]
        for one, other in zip(odd, even, strict=False):
            found += self.exchanged(one, other)
        shorter = min(len(odd), len(even))
        return found + odd[shorter:] + even[shorter:]

    def ordered(self, values: list[Any]) -> list[Any]:
        """A list sorted."""
        half = len(values) // 2
        return self.merged(self.ordered(values[:half]), self.ordered(values[half:])) if half else values

    def middle_of_six(self, one: list[Any], other: list[Any]) -> list[Any]:
        """Of two sorted threes: the larger first, the second ones in order, the smaller third.

        The first and the third of a row can be the median of three rows only if they are so of all rows.
        """
        low, high = self.exchanged(one[0], other[0])[1], self.exchanged(one[2], other[2])[0]
        return [low, *self.exchanged(one[1], other[1]), high]

    def median_of_nine(self, candidates: list[Any], row: list[Any]) -> Any:
        """The median of three sorted rows, of which two are `middle_of_six`."""
        low, less, greater, high = candidates
        low, high = self.exchanged(low, row[0])[1], self.exchanged(high, row[2])[0]
        middle = self.exchanged(less, self.exchanged(greater, row[1])[0])[1]
        low, middle = self.exchanged(low, middle)
        return self.exchanged(low, self.exchanged(middle, high)[0])[1]

    def median(self, candidates: list[Any], row: list[Any]) -> Any:
        """The median of candidates and a sorted row.

        It is the least of the larger ones of all pairs of places that have as many values up to them as it has.
        """
        found = candidates[-1]
        for place, candidate in enumerate(candidates[:-1]):
            larger = self.exchanged(candidate, row[-1 - place])[1]
            found = self.exchanged(larger, found)[0]
        return found


def medians(
    builder: Any,
    dtype: Any,
    side: int,
    lines: int,
    read: Callable[[int], list[ir.Value]],
) -> list[ir.Value]:
    """Emit the medians of windows one line below the other, NaN where a pixel is: a vector a line.

    Parameters
    ----------
    dtype : numba type
        Of the pixels.
    side : int
        Of a window; odd.
    lines : int
        How many windows; even.
    read : callable
        Gives vectors of the pixels of a row, of ``side + lines - 1``.
    """
    network = Network(builder, dtype)
    merged = network.middle_of_six if side == 3 else network.merged
    median_of = network.median_of_nine if side == 3 else network.median

    @functools.cache
    def ordered(row: int) -> _Row:
        pixels = read(row)
        is_float = isinstance(dtype, types.Float)
        return _Row(network.ordered(pixels), [is_any_nan(builder, pixels)] if is_float else [])

    @functools.cache
    def two(row: int) -> _Row:
        one, other = ordered(row), ordered(row + 1)
        return _Row(merged(one.values, other.values), _either(builder, one.nan + other.nan))

    found = []
    for line in range(0, lines, 2):
        pairs = [two(row) for row in range(line + 1, line + side, 2)]
        shared = functools.reduce(network.merged, (pair.values for pair in pairs))
        nan = _either(builder, [one for pair in pairs for one in pair.nan])
        middle, reach = len(shared) // 2, (side + 1) // 2
        for row in (line, line + side):
            median = median_of(shared[middle - reach : middle + reach], ordered(row).values)
            for unordered in _either(builder, nan + ordered(row).nan):
                not_a_number = ir.Constant(median.type, [float("nan")] * median.type.count)
                median = builder.select(unordered, not_a_number, median)
            found.append(median)
    return found


class _Row(NamedTuple):
    """Sorted vectors, and whether one is NaN: a condition, or none for integers."""

    values: list[Any]
    nan: list[ir.Value]


def _either(builder: Any, conditions: list[ir.Value]) -> list[ir.Value]:
    return [functools.reduce(builder.or_, conditions)] if conditions else []
