"""Lines of functions that only choose among their pixels, vector by vector: no pixel is done by itself.

Such a function may be called again for a pixel, so that the last vector of a line overlaps the one before, where
LLVM's vectoriser leaves up to four vectors of single pixels. For windows and results of the image's dtype;
`loops.py` calls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from parimg.kernels.filters.choices import Emit, code_of, element_type, emit_choice
from parimg.kernels.filters.medians import SQUARES, write_medians
from parimg.kernels.filters.windows import filter_pixels, pointer_at

if TYPE_CHECKING:
    from collections.abc import Callable

_HAS = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
_VECTOR_BYTES = 64 if "+avx512bw" in _HAS else 32 if "+avx2" in _HAS else 16
TOGETHER = 2
"""Lines of medians that are done at once.

Four are a quarter faster, but took more than twice as long over 2048 pixels of float32, perhaps as ten rows a
multiple of 4 KiB apart want the same eight places of the first-level cache.
"""
_cgutils: Any = cgutils  # untyped


def _lanes(spec: Any) -> int:
    return int(_VECTOR_BYTES // as_dtype(spec.values).itemsize)


def _says_lanes(_typing_context: Any, spec: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Pixels of a vector, the shortest line that is filtered here."""
    return types.intp(spec), lambda context, *_: context.get_constant(types.intp, _lanes(spec))


class _Vectors:
    """Where code that reads and writes vectors goes."""

    def __init__(self, context: Any, builder: ir.IRBuilder, spec: Any) -> None:
        self.context, self.builder = context, builder
        self.element = element_type(as_dtype(spec.values))
        self.kind = ir.VectorType(self.element, _lanes(spec))
        self.word = context.get_value_type(types.intp)

    def addresses(self, array_type: Any, array: ir.Value, begin: ir.Value, count: int) -> list[ir.Value]:
        """So many addresses of an array of them."""
        first = self.context.make_array(array_type)(self.context, self.builder, array).data
        places = (self.builder.add(begin, self.word(k)) for k in range(count))
        return [self.builder.load(self.builder.gep(first, [place], inbounds=True)) for place in places]

    def _at(self, address: ir.Value, x: ir.Value) -> ir.Value:
        return self.builder.bitcast(pointer_at(self.builder, address, self.element, x), self.kind.as_pointer())

    def read(self, address: ir.Value, x: ir.Value) -> ir.Value:
        return self.builder.load(self._at(address, x), align=1)

    def write(self, value: ir.Value, address: ir.Value, x: ir.Value) -> None:
        self.builder.store(value, self._at(address, x), align=1)

    def each(self, length: ir.Value, body: Callable[[ir.Value], None]) -> None:
        """Emit a loop over the places of vectors in a line; the last overlaps the one before."""
        b, lanes = self.builder, self.word(self.kind.count)
        last = b.sub(length, lanes)
        with _cgutils.for_range_slice(b, self.word(0), length, lanes) as (x, _):
            body(b.select(b.icmp_signed("<", x, last), x, last))


def _filter_line(
    _typing_context: Any, function: Any, spec: Any, addresses: Any, begin: Any, length: Any, target: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write what a function chooses for a line, whose windows have their elements at `addresses` at x = 0."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        vectors = _Vectors(context, builder, spec)
        places = vectors.addresses(addresses, args[2], args[3], spec.count)
        emit = Emit(builder, as_dtype(spec.values), vectors.kind)
        code = code_of(function.chosen.function, spec.window)

        def body(x: ir.Value) -> None:
            vectors.write(emit_choice(code, [vectors.read(place, x) for place in places], emit), args[5], x)

        vectors.each(args[4], body)
        return context.get_dummy_value()

    return types.void(function, spec, addresses, begin, length, target), generate


def _filter_lines_together(
    _typing_context: Any, spec: Any, rows: Any, group: Any, length: Any, target: Any, step: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write the medians of `TOGETHER` lines, `step` bytes apart.

    `rows` has the addresses of the first pixel of each row; the next of a window is `group` elements further.
    """
    side = SQUARES[spec.count]

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        vectors = _Vectors(context, b, spec)
        word = vectors.word
        sources = vectors.addresses(rows, args[1], word(0), side + TOGETHER - 1)
        targets = [b.add(args[4], b.mul(args[5], word(line))) for line in range(TOGETHER)]

        def emit(apart: ir.Value) -> None:
            def body(x: ir.Value) -> None:
                def read(row: int) -> list[ir.Value]:
                    places = (b.add(x, b.mul(apart, word(k))) for k in range(side))
                    return [vectors.read(sources[row], place) for place in places]

                def write(line: int, medians: ir.Value) -> None:
                    vectors.write(medians, targets[line], x)

                write_medians(b, spec.values, side, TOGETHER, read, write)

            vectors.each(args[3], body)

        with b.if_else(b.icmp_signed("==", args[2], word(1)), likely=True) as (beside, apart):
            with beside:
                emit(word(1))  # places that are constants need no registers
            with apart:
                emit(args[2])
        return context.get_dummy_value()

    return types.void(spec, rows, group, length, target, step), generate


_lanes_of: Any = intrinsic(_says_lanes)
_line: Any = intrinsic(_filter_line)
_lines_together: Any = intrinsic(_filter_lines_together)


@numba.njit(nogil=True)
def filter_chosen_lines(
    function: Any,
    spec: Any,
    plan: Any,
    scratch: Any,
    sizes: tuple[int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Do what `loops.filter_block` does."""
    n, length = sizes
    count = len(plan.element_x)
    addresses = scratch.addresses
    for i in range(n):
        place = target + i * steps[0]
        if length < _lanes_of(spec):
            filter_pixels(function, spec, addresses, i * count, scratch.window, length, place, steps[1], arguments)
        else:
            _line(function, spec, addresses, i * count, length, place)


def filter_median_lines(
    function: Any,
    spec: Any,
    plan: Any,
    scratch: Any,
    sizes: tuple[int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Do what `loops.filter_block` does, for medians of squares."""
    n, length = sizes
    count = len(plan.element_x)
    addresses = scratch.addresses
    if n < TOGETHER or length < _lanes_of(spec):
        filter_chosen_lines(function, spec, plan, scratch, sizes, target, steps, arguments)
        return
    rows = np.empty(plan.y_span + TOGETHER - 1, np.int64)
    for begin in range(0, n, TOGETHER):
        first = min(begin, n - TOGETHER)  # the last do some again
        for k in range(count):
            if plan.element_x[k] == 0:
                for line in range(TOGETHER):
                    rows[plan.element_y[k] + line] = addresses[(first + line) * count + k]
        _lines_together(spec, rows, plan.x_steps[1], length, target + first * steps[0], steps[0])
