"""Passes of a few taps along and across lines, all of which are written out.

Compiled by dtype and number of taps, as `tile.py` tells, and called as its tiles are, but for the pass that makes
bytes; `line_plan.py` and `byte_passes.py` choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution import long_lines, tile
from parimg.kernels.convolution.line_loops import as_line

if TYPE_CHECKING:
    from collections.abc import Callable

LONGEST = 9  # taps; their weights stay in registers
BYTES_AT_ONCE = 32
"""Sums that are rounded to bytes together; a line must have as many."""
_ROUNDING = 1.5 * 2.0**23  # added to a float32 below 2^22, leaves its nearest whole number in the lowest bits
_VECTOR_BYTES = tile.lanes("float32") * 4
_types: Any = types  # untyped
_byte, _int32, _intp = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_cgutils: Any = cgutils  # untyped


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
        self.vectors = [self.in_all_lanes(factor) for factor in self.factors]

    def typed(self, place: ir.Value) -> ir.Value:
        return self.b.bitcast(place, self.element.as_pointer())

    def line_at(self, table: ir.Value, number: int, element: ir.Type | None = None) -> ir.Value:
        """The line whose address is in a table."""
        b = self.b
        address = b.load(b.gep(b.bitcast(table, _intp.as_pointer()), [_intp(number)]))
        return b.inttoptr(address, (element or self.element).as_pointer())

    def in_all_lanes(self, scalar: ir.Value) -> ir.Value:
        undefined = ir.Constant(self.vector, ir.Undefined)
        one = self.b.insert_element(undefined, scalar, _int32(0))
        first = ir.Constant(ir.VectorType(_int32, self.lanes), [0] * self.lanes)
        return self.b.shuffle_vector(one, undefined, first)

    def read(self, place: ir.Value) -> ir.Value:
        """A vector of elements, or of bytes as such, that need not be aligned."""
        b, given = self.b, place.type.pointee
        at = b.bitcast(place, ir.VectorType(given, self.lanes).as_pointer())
        if given == _byte:
            return b.uitofp(b.load(at, align=1), self.vector)
        return b.load(at, align=self.item_bytes)

    def add(self, total: ir.Value | None, value: ir.Value, factor: ir.Value) -> ir.Value:
        """A multiply-add, to 0 at first, as tiles do: that decides on the sign of a zero."""
        product = self.b.fmul(value, factor, flags=("contract",))
        before = ir.Constant(value.type, [0.0] * value.type.count if value.type == self.vector else 0.0)
        return self.b.fadd(before if total is None else total, product, flags=("contract",))

    def for_columns(self, columns: ir.Value, at_once: int, step: Callable[..., None]) -> None:
        """Call with an index, what reads there, what stores there and the weights: of vectors, then one by one."""
        b = self.b

        def read(place: ir.Value, index: ir.Value) -> ir.Value:
            return self.read(b.gep(place, [index]))

        def store(value: ir.Value, place: ir.Value, index: ir.Value) -> None:
            b.store(value, b.bitcast(b.gep(place, [index]), value.type.as_pointer()), align=self.item_bytes)

        def read_one(place: ir.Value, index: ir.Value) -> ir.Value:
            value = b.load(b.gep(place, [index]))
            return b.uitofp(value, self.element) if value.type == _byte else value

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

    Nothing is passed in `sizes`: rows, taps and whether lines are bytes are the lengths of its tuples. Nothing is
    read or written beyond. The lines are read, and so each sum is taken, in the order of a tile of `tile.py`.
    """
    rows, taps, of_bytes = (kind.count for kind in sizes.dtype.types)
    order = tile.order_of_lines(rows, taps)

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        out_p, out_step, table, weights_p, n, _ = args
        sums = _Pass(b, out.dtype, _VECTOR_BYTES, weights_p, taps)
        places = [sums.line_at(table, y, _byte if of_bytes else None) for y in range(rows + taps - 1)]
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


def _add_bytes(
    _typing_context: Any,
    out: Any,
    near: Any,
    line: Any,
    weights: Any,
    step: Any,
    columns: Any,
    limit: Any,
    sizes: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Round sums over taps that lie `step` elements apart, which are from 0 to 255, to bytes.

    Returns how many pairs of numbers were written to `near`, one for each `BYTES_AT_ONCE` sums of which some are
    further than `limit` from the nearest whole number: the column of the first, and which they are, a bit each.
    Nothing is passed in `sizes`: the number of taps is the length of its tuple. Nothing is read or written beyond.
    """
    taps = sizes.dtype.count

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        out_p, near_p, line_p, weights_p, tap_step, n, furthest, _ = args
        # Of longer vectors each tap would cross a cache line.
        sums = _Pass(b, line.dtype, min(_VECTOR_BYTES, 32), weights_p, taps)
        line_p = sums.typed(line_p)
        lines = [b.gep(line_p, [b.mul(tap_step, _intp(tap))]) for tap in range(taps)]
        whole, mask = ir.VectorType(_int32, sums.lanes), ir.IntType(sums.lanes)
        rounding = ir.Constant(sums.vector, [_ROUNDING] * sums.lanes)
        kind = ir.FunctionType(sums.vector, [sums.vector])
        absolute = _cgutils.get_or_insert_function(b.module, kind, f"llvm.fabs.v{sums.lanes}f32")
        furthest = sums.in_all_lanes(b.fptrunc(furthest, sums.element))
        with b.goto_entry_block():
            count = b.alloca(_intp)
        b.store(_intp(0), count)
        last = b.sub(n, _intp(BYTES_AT_ONCE))
        with cgutils.for_range_slice(b, _intp(0), n, _intp(BYTES_AT_ONCE)) as (index, _):
            first = b.select(b.icmp_signed("<", index, last), index, last)
            results, distances = [], []
            for part in range(0, BYTES_AT_ONCE, sums.lanes):
                total = None
                for place, factor in zip(lines, sums.vectors, strict=True):
                    total = sums.add(total, sums.read(b.gep(place, [b.add(first, _intp(part))])), factor)
                rounded = b.fadd(total, rounding)
                results.append(b.bitcast(rounded, whole))
                distances.append(b.call(absolute, [b.fsub(total, b.fsub(rounded, rounding))]))
            packed = b.trunc(_joined(b, results), ir.VectorType(_byte, BYTES_AT_ONCE))
            b.store(packed, b.bitcast(b.gep(out_p, [first]), packed.type.as_pointer()), align=1)
            greatest = distances[0]
            for distance in distances[1:]:
                greatest = b.select(b.fcmp_ordered(">", distance, greatest), distance, greatest)
            beyond = b.bitcast(b.fcmp_ordered(">", greatest, furthest), mask)
            with b.if_then(b.icmp_unsigned("!=", beyond, mask(0)), likely=False):
                which = _intp(0)
                for part, distance in enumerate(distances):
                    bits = b.zext(b.bitcast(b.fcmp_ordered(">", distance, furthest), mask), _intp)
                    which = b.or_(which, b.shl(bits, _intp(part * sums.lanes)))
                at = b.gep(near_p, [b.mul(b.load(count), _intp(2))])
                b.store(first, at)
                b.store(which, b.gep(at, [_intp(1)]))
                b.store(b.add(b.load(count), _intp(1)), count)
        return b.sitofp(b.load(count), ir.DoubleType())

    return types.float64(out, near, line, weights, step, columns, limit, sizes), generate


def _joined(b: ir.IRBuilder, vectors: list[ir.Value]) -> ir.Value:
    """Vectors, a power of two of them, behind each other as one."""
    while len(vectors) > 1:
        lanes = 2 * vectors[0].type.count
        places = ir.Constant(ir.VectorType(_int32, lanes), list(range(lanes)))
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        vectors = [b.shuffle_vector(one, other, places) for one, other in pairs]
    return vectors[0]


def _add_in_order(
    _typing_context: Any, total: Any, value: Any, weight: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Add a product, fused where a tile's are."""

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        product = b.fmul(args[1], args[2], flags=("contract",))
        return b.fadd(args[0], product, flags=("contract",))

    return total(total, value, weight), generate


_line: Any = intrinsic(_add_line)
_across: Any = intrinsic(_add_across)
_bytes: Any = intrinsic(_add_bytes)
_added: Any = intrinsic(_add_in_order)


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


def _bytes_function(  # pragma: no cover
    out: Any, near: Any, line: Any, weights: Any, step: int, columns: int, limit: float, taps: Any
) -> float:
    return float(_bytes(out, near, line, weights, step, columns, limit, taps))


def _one_byte(  # pragma: no cover
    out: Any, lines: Any, columns: Any, weights: Any, height: int, width: int, step: int, outside: float
) -> None:
    """Round the sum over lines of bytes, in their order, and over columns that lie `step` places apart."""
    total = np.float32(0)
    for y in range(height):
        line = as_line(lines[y], out)
        for x in range(width):
            column = columns[x * step]
            value = np.float32(outside) if column < 0 else np.float32(line[column])
            total = _added(total, value, weights[y * width + x])
    out[0] = np.uint8(np.rint(total))


def line_address(dtype: str, taps: int, step: int) -> int:
    """Address of the sum of so many taps along a line, with the arguments of a tile of one row."""
    if taps > LONGEST:
        return long_lines.one_line_address(dtype, taps, step)
    kinds = (*tile.tile_kinds(dtype), _types.CPointer(_types.UniTuple(types.int8, taps)))
    return tile.address(types.void, _line_function, *kinds)


def across_address(dtype: str, rows: int, taps: int, *, of_bytes: bool = False) -> int:
    """Address of the sums of so many taps across lines, for so many rows, with the arguments of a tile."""
    sizes = _types.Tuple([_types.UniTuple(types.int8, number) for number in (rows, taps, int(of_bytes))])
    return tile.address(types.void, _across_function, *tile.tile_kinds(dtype), _types.CPointer(sizes))


def bytes_address(taps: int) -> int:
    """Address of the sums of so many taps along a line of float32 that become bytes."""
    pointers = (tile.pointer(kind) for kind in ("uint8", "intp", "float32", "float32"))
    kinds = (*pointers, types.intp, types.intp, types.float64, _types.CPointer(_types.UniTuple(types.int8, taps)))
    return tile.address(types.float64, _bytes_function, *kinds)


def one_byte_address() -> int:
    """Address of the direct sum of one byte."""
    pointers = (tile.pointer(kind) for kind in ("uint8", "intp", "intp", "float32"))
    return tile.address(types.void, _one_byte, *pointers, *[types.intp] * 3, types.float64)
