"""The inner loop of a blur: a weighted sum of lines, symmetric about one, in vector registers.

The vertical pass gives it rows of the image, the horizontal pass one row at different offsets. Nothing is
checked here; `pyramid.py` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.sift.vectors import INDEX, WIDTH, in_all_lanes, load, pointers, store

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: VECTORS vectors of sums stay in registers while the taps are walked, the radius being a number and
# not compiled in. Every lane holds one pixel and adds its taps from the centre outwards, so the answer does not
# depend on the width of a vector.

VECTORS = 8
PADDING = 16  # floats to a multiple of which rows are padded, a whole vector on every processor


def _add_lines(
    _typing_context: Any,
    memory: Any,
    out: Any,
    lines: Any,
    offset: Any,
    weights: Any,
    radius: Any,
    count: Any,
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write `count` floats, a multiple of PADDING, from place `out` of `memory` on.

    `lines` holds 2 `radius` + 1 places in memory, to which `offset` is added; `weights` one for the line in the
    middle and one for each pair at distance 1, 2, ...
    """
    kinds = (memory, out, lines, offset, weights, radius, count)

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        b = builder
        floats, target, table, shift, factors, n_pairs, n_columns = pointers(context, b, signature, args)
        start = b.gep(floats, [shift])
        target = b.gep(floats, [target])
        with b.goto_entry_block():
            totals = [b.alloca(ir.VectorType(ir.FloatType(), WIDTH)) for _ in range(VECTORS)]

        def line(index: ir.Value, column: ir.Value) -> ir.Value:
            return b.gep(start, [b.add(b.load(b.gep(table, [index])), column)])

        def block(column: ir.Value, n_vectors: int) -> None:
            weight = in_all_lanes(b, b.load(factors), WIDTH)
            middle = line(n_pairs, column)
            for v in range(n_vectors):
                b.store((load(b, b.gep(middle, [INDEX(v * WIDTH)]), WIDTH) * weight).value, totals[v])
            with cgutils.for_range_slice(b, INDEX(1), b.add(n_pairs, INDEX(1)), INDEX(1)) as (distance, _):
                weight = in_all_lanes(b, b.load(b.gep(factors, [distance])), WIDTH)
                left, right = line(b.sub(n_pairs, distance), column), line(b.add(n_pairs, distance), column)
                for v in range(n_vectors):
                    place = [INDEX(v * WIDTH)]
                    pair = load(b, b.gep(left, place), WIDTH) + load(b, b.gep(right, place), WIDTH)
                    b.store((load(b, _first(b, totals[v]), WIDTH) + pair * weight).value, totals[v])
            first = b.gep(target, [column])
            for v in range(n_vectors):
                store(load(b, _first(b, totals[v]), WIDTH), b.gep(first, [INDEX(v * WIDTH)]))

        wide = INDEX(VECTORS * WIDTH)
        whole = b.mul(b.sdiv(n_columns, wide), wide)
        with cgutils.for_range_slice(b, INDEX(0), whole, wide) as (column, _):
            block(column, VECTORS)
        with cgutils.for_range_slice(b, whole, n_columns, INDEX(WIDTH)) as (column, _):
            block(column, 1)
        return context.get_dummy_value()

    return types.void(*kinds), generate


def _first(b: ir.IRBuilder, vector: ir.Value) -> ir.Value:
    return b.bitcast(vector, ir.FloatType().as_pointer())


add_lines: Any = intrinsic(_add_lines)
