"""Passes of a few taps along and across lines, all of which are written out.

Compiled by dtype and number of taps, as `tile.py` tells, and called as its tiles are; `line_plan.py` chooses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution import tile

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 9  # taps; their weights stay in registers
_VECTOR_BYTES = tile.lanes("float32") * 4
_types: Any = types  # untyped
_int32, _intp = ir.IntType(32), ir.IntType(64)


class _Pass:
    """What both passes are written with."""

    def __init__(self, b: ir.IRBuilder, dtype: Any, vector_bytes: int, weights: ir.Value, taps: int) -> None:
        self.b = b
        self.element = ir.FloatType() if dtype == types.float32 else ir.DoubleType()
        self.item_bytes = np.dtype(dtype.name).itemsize
        self.lanes = vector_bytes // self.item_bytes
        self.vector = ir.VectorType(self.element, self.lanes)
        places = [b.gep(self.typed(weights), [_intp(tap)]) for tap in range(taps)]
        self.factors = [b.load(place) for place in places]
        self.vectors = [self._in_all_lanes(factor) for factor in self.factors]

    def typed(self, place: ir.Value) -> ir.Value:
        return self.b.bitcast(place, self.element.as_pointer())

    def line_at(self, table: ir.Value, number: int) -> ir.Value:
        """The line whose address is in a table."""
        b = self.b
        address = b.load(b.gep(b.bitcast(table, _intp.as_pointer()), [_intp(number)]))
        return b.inttoptr(address, self.element.as_pointer())

    def _in_all_lanes(self, scalar: ir.Value) -> ir.Value:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, scalar, _int32(0))
        first = ir.Constant(ir.VectorType(_int32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, undefined, first)

    def add(self, total: ir.Value | None, value: ir.Value, factor: ir.Value) -> ir.Value:
        """A multiply-add, to 0 at first, as tiles do: that decides on the sign of a zero."""
        product = self.b.fmul(value, factor, flags=("contract",))
        before = ir.Constant(value.type, [0.0] * value.type.count if value.type == self.vector else 0.0)
        return self.b.fadd(before if total is None else total, product, flags=("contract",))

    def for_columns(self, columns: ir.Value, at_once: int, step: Callable[..., None]) -> None:
        """Call with an index, what reads there, what stores there and the weights: of vectors, then one by one."""
        b = self.b

        def at(place: ir.Value, index: ir.Value) -> ir.Value:
            return b.bitcast(b.gep(place, [index]), self.vector.as_pointer())

        def read(place: ir.Value, index: ir.Value) -> ir.Value:
            return b.load(at(place, index), align=self.item_bytes)

        def store(value: ir.Value, place: ir.Value, index: ir.Value) -> None:
            b.store(value, at(place, index), align=self.item_bytes)

        def read_one(place: ir.Value, index: ir.Value) -> ir.Value:
            return b.load(b.gep(place, [index]))

        def store_one(value: ir.Value, place: ir.Value, index: ir.Value) -> None:
            b.store(value, b.gep(place, [index]))

        whole = b.and_(columns, _intp(-at_once * self.lanes))
        with cgutils.for_range_slice(b, _intp(0), whole, _intp(at_once * self.lanes)) as (column, _):
            for part in range(at_once):
                step(b.add(column, _intp(part * self.lanes)), read, store, self.vectors)
        with cgutils.for_range_slice(b, whole, columns, _intp(1)) as (column, _):
            step(column, read_one, store_one, self.factors)


def _add_line(
    _typing_context: Any, out: Any, lines: Any, weights: Any, step: Any, columns: Any, sizes: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write sums over taps that lie `step` elements apart, of the first line of a table.

    Nothing is passed in `sizes`: the number of taps is the length of its tuple. Nothing is read or written beyond.
    """
    taps = sizes.dtype.count

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        out_p, table, weights_p, tap_step, n, _ = args
        # Of longer vectors each tap would cross a cache line.
        sums = _Pass(b, out.dtype, min(_VECTOR_BYTES, 32), weights_p, taps)
        line, to = sums.line_at(table, 0), sums.typed(out_p)
        places = [b.gep(line, [b.mul(tap_step, _intp(tap))]) for tap in range(taps)]

        def add_up(column: ir.Value, read: Any, store: Any, factors: list[ir.Value]) -> None:
            total = None
            for place, factor in zip(places, factors, strict=True):
                total = sums.add(total, read(place, column), factor)
            store(total, to, column)

        sums.for_columns(n, 2, add_up)
        return _context.get_dummy_value()

    return types.void(out, lines, weights, step, columns, sizes), generate


def _add_across(
    _typing_context: Any, out: Any, out_stride: Any, lines: Any, weights: Any, columns: Any, sizes: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write sums over as many lines of a table as there are taps, and for further rows over the next lines.

    Nothing is passed in `sizes`: rows and taps are the lengths of its tuples. Nothing is read or written beyond.
    The lines are read, and so each sum is taken, in the order of a tile of `tile.py`.
    """
    rows, taps = (kind.count for kind in sizes.dtype.types)
    pairs = [line for y in range(rows - 1) for line in (y, taps + y)]
    order = [*pairs, *range(rows - 1, taps)] if rows <= taps + 1 else list(range(rows + taps - 1))

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        out_p, out_step, table, weights_p, n, _ = args
        sums = _Pass(b, out.dtype, _VECTOR_BYTES, weights_p, taps)
        places = [sums.line_at(table, y) for y in range(rows + taps - 1)]
        targets = [b.gep(sums.typed(out_p), [b.mul(out_step, _intp(row))]) for row in range(rows)]

        def add_up(column: ir.Value, read: Any, store: Any, factors: list[ir.Value]) -> None:
            totals: list[ir.Value | None] = [None] * rows
            for y in order:
                value = read(places[y], column)
                for row in range(rows):
                    if 0 <= y - row < taps:
                        totals[row] = sums.add(totals[row], value, factors[y - row])
            for total, target in zip(totals, targets, strict=True):
                store(total, target, column)

        sums.for_columns(n, 1, add_up)
        return _context.get_dummy_value()

    return types.void(out, out_stride, lines, weights, columns, sizes), generate


_line: Any = intrinsic(_add_line)
_across: Any = intrinsic(_add_across)


def _line_function(  # pragma: no cover
    out: Any,
    _out_stride: int,
    lines: Any,
    _line_count: int,
    weights: Any,
    _planes: int,
    _height: int,
    _width: int,
    step: int,
    columns: int,
    taps: Any,
) -> None:
    _line(out, lines, weights, step, columns, taps)


def _across_function(  # pragma: no cover
    out: Any,
    out_stride: int,
    lines: Any,
    _line_count: int,
    weights: Any,
    _planes: int,
    _height: int,
    _width: int,
    _step: int,
    columns: int,
    sizes: Any,
) -> None:
    _across(out, out_stride, lines, weights, columns, sizes)


def line_address(dtype: str, taps: int) -> int:
    """Address of the sum of so many taps along a line, with the arguments of a tile of one row."""
    if taps > LONGEST:
        return tile.tile_address(dtype, *tile.ONE_LINE, fused=True)
    kinds = (*tile.tile_kinds(dtype), _types.CPointer(_types.UniTuple(types.int8, taps)))
    return tile.address(types.void, _line_function, *kinds)


def across_address(dtype: str, rows: int, taps: int) -> int:
    """Address of the sums of so many taps across lines, for so many rows, with the arguments of a tile."""
    sizes = _types.Tuple([_types.UniTuple(types.int8, number) for number in (rows, taps)])
    return tile.address(types.void, _across_function, *tile.tile_kinds(dtype), _types.CPointer(sizes))
