"""Sums of many taps along one line, with a fraction of the loads that a tile of one line takes.

LLVM code, compiled by dtype and called by address with the arguments of a tile, as `tile.py` tells; `line_plan.py`
and `across_lines.py` choose.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution import tile

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: a line by itself has nothing that two rows share, so each multiply-add of a tile waits for a load, of
# which half cross a cache line. Here the taps are dealt out to `_PARTS` sums: part r takes taps r, r + _PARTS and
# so on, and its sum for column x is held in lane x + r. Then all parts multiply the same vector, which is loaded
# once, at a multiple of `_PARTS` columns. At the end their sums are shifted by 0, 1, ... lanes and added; the last
# vector of each waits for the next columns, of which it needs the first lanes.

_types: Any = types  # untyped
_int32, _intp = ir.IntType(32), ir.IntType(64)
_SHORTEST = 8  # taps; of fewer, dealing out and shifting takes what is saved
_PARTS = 4
# Sums of all parts, the vectors that are read and a weight fill the registers; without fused multiply-adds a
# product needs one more. 31 taps over 1000 columns take 0.58 of the time of a tile, with 6 vectors and with 3;
# where a weight of each part was held, 16 registers did not do, and it took 1.3 times as long as a tile.
_VECTORS = 6 if tile.HAS_32_REGISTERS else 3 if tile.HAS_FUSED else 2
READS_BEYOND = (1 + _VECTORS) * tile.lanes("float32")


def _add_long_line(
    _typing_context: Any, out: Any, lines: Any, weights: Any, width: Any, columns: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write sums over `width` neighbouring taps of the first line of a table, which may be written over.

    Writes whole vectors, the last of which may reach beyond the columns, and reads up to `READS_BEYOND` columns
    further than the last tap of the last column.
    """
    element = ir.FloatType() if weights.dtype == types.float32 else ir.DoubleType()
    item_bytes = 4 if weights.dtype == types.float32 else 8
    lanes = tile.lanes(weights.dtype.name)
    parts, vectors = min(_PARTS, lanes), _VECTORS
    vector = ir.VectorType(element, lanes)
    chunk = vectors * lanes

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        out_p, table, weight_p, taps, n = args
        out_p, weight_p = (b.bitcast(place, element.as_pointer()) for place in (out_p, weight_p))
        line = b.inttoptr(b.load(b.bitcast(table, _intp.as_pointer())), element.as_pointer())
        places = [(part, v) for part in range(parts) for v in range(vectors)]
        with b.goto_entry_block():
            totals = {place: b.alloca(vector) for place in places}
            waiting = [b.alloca(vector) for _ in range(parts)]
        undefined = ir.Constant(vector, ir.Undefined)

        def in_all_lanes(place: ir.Value) -> ir.Value:
            one = b.insert_element(undefined, b.load(place), _int32(0))
            return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_int32, lanes), [0] * lanes))

        def add(first: ir.Value, tap: ir.Value, of_parts: range) -> None:
            """Multiply the vectors from a column on by the taps from one on, each for its part."""
            ats = [b.gep(line, [b.add(first, _intp(v * lanes))]) for v in range(vectors)]
            read = [b.load(b.bitcast(at, vector.as_pointer()), align=item_bytes) for at in ats]
            for part in of_parts:
                factor = in_all_lanes(b.gep(weight_p, [b.add(tap, _intp(part))]))
                for v, value in enumerate(read):
                    product = b.fmul(value, factor, flags=("contract",))
                    b.store(b.fadd(b.load(totals[part, v]), product, flags=("contract",)), totals[part, v])

        for place in waiting:
            b.store(ir.Constant(vector, [0.0] * lanes), place)
        dealt_out = b.and_(taps, _intp(-parts))
        with cgutils.for_range_slice(b, _intp(0), b.add(n, _intp(lanes)), _intp(chunk)) as (column, _):
            for place in places:
                b.store(ir.Constant(vector, [0.0] * lanes), totals[place])
            with cgutils.for_range_slice(b, _intp(0), dealt_out, _intp(parts)) as (tap, _):
                add(b.add(column, tap), tap, range(parts))
            for part in range(parts - 1):
                with b.if_then(b.icmp_signed("<", b.add(dealt_out, _intp(part)), taps)):
                    add(b.add(column, dealt_out), dealt_out, range(part, part + 1))
            for v in range(vectors):
                total = None
                for part in range(parts):
                    before = b.load(waiting[part] if v == 0 else totals[part, v - 1])
                    shift = ir.Constant(ir.VectorType(_int32, lanes), [part + i for i in range(lanes)])
                    shifted = b.shuffle_vector(before, b.load(totals[part, v]), shift)
                    total = shifted if total is None else b.fadd(total, shifted)
                at = b.add(column, _intp((v - 1) * lanes))
                is_wanted = b.icmp_signed("<", at, n)
                if v == 0:
                    is_wanted = b.and_(is_wanted, b.icmp_signed(">=", at, _intp(0)))
                with b.if_then(is_wanted, likely=True):
                    b.store(total, b.bitcast(b.gep(out_p, [at]), vector.as_pointer()), align=item_bytes)
            for part in range(parts):
                b.store(b.load(totals[part, vectors - 1]), waiting[part])
        return context.get_dummy_value()

    return types.void(out, lines, weights, width, columns), generate


_long_line: Any = intrinsic(_add_long_line)


def _long_line_function(  # pragma: no cover
    out: Any,
    _out_stride: int,
    lines: Any,
    _line_count: int,
    weights: Any,
    _planes: int,
    _height: int,
    width: int,
    _step: int,
    columns: int,
    _sizes: Any,
) -> None:
    _long_line(out, lines, weights, width, columns)


def one_line_address(dtype: str, taps: int, step: int) -> int:
    """Address of sums of so many taps, `step` elements apart, along a line, with the arguments of a tile."""
    if step > 1 or taps < _SHORTEST:
        return tile.tile_address(dtype, *tile.ONE_LINE, fused=True)
    return tile.address(types.void, _long_line_function, *tile.tile_kinds(dtype), types.intp)
