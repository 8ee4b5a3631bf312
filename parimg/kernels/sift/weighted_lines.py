"""The inner loop of a blur: a weighted sum of lines, symmetric about one, in vector registers.

The vertical pass gives it rows of the image, the horizontal pass one row at different offsets. Nothing is
checked here; `pyramid.py` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.registry import cpu_target
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: VECTORS vectors of sums stay in registers while the taps are walked, the radius being a number and
# not compiled in. Every lane holds one pixel and adds its taps from the centre outwards, so the answer does not
# depend on the width of a vector. Products and sums carry no `contract` flag: LLVM fuses none of them.

_, _, _FEATURES = cpu_target.target_context.codegen().magic_tuple()
LANES = 16 if "+avx512f" in _FEATURES.split(",") else 8 if "+avx" in _FEATURES.split(",") else 4
VECTORS = 8
PADDING = 16  # floats to a multiple of which rows are padded, a whole vector on every processor

_types: Any = types  # untyped
_int32, _intp, _float = ir.IntType(32), ir.IntType(64), ir.FloatType()
_vector = ir.VectorType(_float, LANES)


def _add_lines(
    _typing_context: Any, memory: Any, out: Any, lines: Any, weights: Any, radius: Any, count: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write `count` floats at place `out` of `memory`.

    `lines` holds the places in memory of the centre's line and then those of each pair at distance 1, 2, ...;
    `weights` one for the centre and one a pair. `count` is a multiple of PADDING.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        floats, table, factors = (
            context.make_array(signature.args[i])(context, b, args[i]).data for i in (0, 2, 3)
        )
        out_place, n_pairs, n_columns = args[1], args[4], args[5]
        with b.goto_entry_block():
            totals = [b.alloca(_vector) for _ in range(VECTORS)]

        def in_all_lanes(scalar: ir.Value) -> ir.Value:
            undefined = ir.Constant(_vector, ir.Undefined)
            one = b.insert_element(undefined, scalar, _int32(0))
            return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_int32, LANES), [0] * LANES))

        def vector(start: ir.Value, v: int) -> ir.Value:
            place = b.gep(floats, [b.add(start, _intp(v * LANES))])
            return b.bitcast(place, _vector.as_pointer())

        def line(index: ir.Value, column: ir.Value) -> ir.Value:
            return b.add(b.load(b.gep(table, [index])), column)

        def block(column: ir.Value, n_vectors: int) -> None:
            weight = in_all_lanes(b.load(factors))
            start = line(_intp(0), column)
            for v in range(n_vectors):
                b.store(b.fmul(b.load(vector(start, v), align=4), weight), totals[v])
            with cgutils.for_range(b, n_pairs) as loop:
                weight = in_all_lanes(b.load(b.gep(factors, [b.add(loop.index, _intp(1))])))
                first = b.add(b.mul(loop.index, _intp(2)), _intp(1))
                left, right = line(first, column), line(b.add(first, _intp(1)), column)
                for v in range(n_vectors):
                    pair = b.fadd(b.load(vector(left, v), align=4), b.load(vector(right, v), align=4))
                    b.store(b.fadd(b.load(totals[v]), b.fmul(pair, weight)), totals[v])
            start = b.add(out_place, column)
            for v in range(n_vectors):
                b.store(b.load(totals[v]), vector(start, v), align=4)

        wide = VECTORS * LANES
        whole = b.mul(b.sdiv(n_columns, _intp(wide)), _intp(wide))
        with cgutils.for_range_slice(b, _intp(0), whole, _intp(wide)) as (column, _):
            block(column, VECTORS)
        with cgutils.for_range_slice(b, whole, n_columns, _intp(LANES)) as (column, _):
            block(column, 1)
        return context.get_dummy_value()

    return types.void(memory, types.intp, lines, weights, types.intp, types.intp), generate


add_lines: Any = intrinsic(_add_lines)
