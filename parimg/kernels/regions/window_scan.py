"""The inner loop of a sum-pooled search: the highest score of many windows, eight at once.

Compiled; called by `sum_pooling.py`. Written as vectors, because rows of windows are as short as maps are
narrow: what LLVM makes of the plain loop takes most of them one by one, and four times as long.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

if TYPE_CHECKING:
    from collections.abc import Callable

# Doubles in a vector; where registers hold fewer, LLVM takes several.
PADDING = 8
_scores = ir.VectorType(ir.DoubleType(), PADDING)
_norms = ir.VectorType(ir.FloatType(), PADDING)
_NEVER = -1e300
# Untyped in numba.
_local: Any = cgutils.alloca_once_value
_function: Any = cgutils.get_or_insert_function


def _highest(
    _typing_context: Any, strip: Any, inverse: Any, _first: Any, _end: Any, _start: Any, _slack: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """The highest score of the windows of a strip with widths from `first` up to `end`.

    A window from x1 to x2 scores ``(strip[x2] - strip[x1] + slack) * inverse``. The inverse norms, float32, lie by
    width and then by x1, those of the first width from `start` on. Both arrays are C-contiguous and PADDING
    longer than what counts: `strip` has width + 1 + PADDING values. Bounds are not checked.
    """

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        strip_array, inverse_array = (
            context.make_array(kind)(context, builder, value)
            for kind, value in zip(signature.args[:2], args[:2], strict=True)
        )
        lines = builder.extract_value(strip_array.shape, 0)
        index = lines.type
        columns = builder.sub(lines, index(PADDING))
        lane = ir.Constant(ir.VectorType(index, PADDING), list(range(PADDING)))
        never = ir.Constant(_scores, [_NEVER] * PADDING)

        def in_all_lanes(scalar: ir.Value) -> ir.Value:
            undefined = ir.Constant(ir.VectorType(scalar.type, PADDING), ir.Undefined)
            one = builder.insert_element(undefined, scalar, ir.IntType(32)(0))
            first_lane = ir.Constant(ir.VectorType(ir.IntType(32), PADDING), None)
            return builder.shuffle_vector(one, undefined, first_lane)

        def load(pointer: ir.Value, place: ir.Value, kind: ir.VectorType) -> ir.Value:
            element = builder.gep(pointer, [place])
            return builder.load(builder.bitcast(element, kind.as_pointer()), align=4)

        best = _local(builder, never)
        row = _local(builder, args[4])
        added = in_all_lanes(args[5])
        with cgutils.for_range_slice(builder, args[2], args[3], index(1), index) as (dx, _):
            windows = builder.sub(columns, dx)
            last = in_all_lanes(windows)
            norms = builder.gep(inverse_array.data, [builder.load(row)])
            with cgutils.for_range_slice(builder, index(0), windows, index(PADDING), index) as (x1, _):
                left = load(strip_array.data, x1, _scores)
                right = load(strip_array.data, builder.add(x1, dx), _scores)
                norm = builder.fpext(load(norms, x1, _norms), _scores)
                score = builder.fmul(builder.fadd(builder.fsub(right, left), added), norm)
                exists = builder.icmp_signed("<", builder.add(in_all_lanes(x1), lane), last)
                score = builder.select(exists, score, never)
                kept = builder.load(best)
                builder.store(builder.select(builder.fcmp_ordered(">", score, kept), score, kept), best)
            builder.store(builder.add(builder.load(row), windows), row)
        reduce = _function(
            builder.module, ir.FunctionType(ir.DoubleType(), [_scores]), f"llvm.vector.reduce.fmax.v{PADDING}f64"
        )
        return builder.call(reduce, [builder.load(best)])

    whole = types.intp
    return types.float64(strip, inverse, whole, whole, whole, types.float64), generate


def _ask(_typing_context: Any, array: Any, _place: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Ask for the cache line of an element of a C-contiguous array, which is not checked to be one."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        byte = builder.bitcast(builder.gep(data, [args[1]]), ir.IntType(8).as_pointer())
        whole = ir.IntType(32)
        prefetch = _function(
            builder.module, ir.FunctionType(ir.VoidType(), [byte.type, whole, whole, whole]), "llvm.prefetch.p0"
        )
        builder.call(prefetch, [byte, whole(0), whole(3), whole(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


highest_score: Any = intrinsic(_highest)
ask_for: Any = intrinsic(_ask)
