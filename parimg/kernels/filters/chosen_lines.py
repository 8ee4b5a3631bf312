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
from parimg.kernels.filters.medians import SQUARES, medians
from parimg.kernels.filters.windows import filter_block, pointer_at

if TYPE_CHECKING:
    from collections.abc import Callable

_HAS = frozenset(cpu_target.target_context.codegen().magic_tuple()[2].split(","))
_VECTOR_BYTES = 64 if "+avx512bw" in _HAS else 32 if "+avx2" in _HAS else 16
_REGISTERS = 32 if _HAS & {"+avx512vl", "+neon"} else 16
_MOST_OF_TWO = 6
"""Elements of the largest window of which two lines are done at once.

Three rows of 2048 float64 do not fit into the first-level cache: then each is read from the second three times for
one line at a time, twice for two.
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

    def _align_stack(self) -> None:
        """Have registers that are spilled lie aligned.

        LLVM leaves the stack as it comes where nothing on it asks for more. What crosses cache lines takes twice
        as long then: medians took up to 1.9 times as long in one process as in the next.
        """
        with self.builder.goto_entry_block():
            asking = self.builder.alloca(self.kind)
            asking.align = _VECTOR_BYTES
        used = ir.FunctionType(ir.VoidType(), [asking.type])
        self.builder.asm(used, "", "r", [asking], side_effect=True)  # no instruction

    def write_each(
        self, length: ir.Value, targets: list[ir.Value], results: Callable[[ir.Value], list[ir.Value]]
    ) -> None:
        """Emit a loop that writes vectors of results along a line for each target.

        The first and the last overlap the ones beside. The others begin where results are aligned to vectors:
        those that cross cache lines are written slower. Each is written when the pixels of the next have been
        read: where image and output lie a multiple of 4 KiB apart, as large arrays do, reading beside what has
        just been written waits for it, as if it were the same place. Medians took up to half as long again.
        """
        b, lanes, zero = self.builder, self.word(self.kind.count), self.word(0)
        last = b.sub(length, lanes)
        beyond = b.and_(targets[0], self.word(_VECTOR_BYTES - 1))
        begin = b.sub(zero, b.udiv(beyond, self.word(_VECTOR_BYTES // self.kind.count)))
        self._align_stack()
        nothing = ir.Constant(self.kind, None)  # written at x = 0 before the first result is
        waiting = [_cgutils.alloca_once_value(b, nothing) for _ in targets]
        place_before = _cgutils.alloca_once_value(b, zero)

        def write() -> None:
            for value, target in zip(waiting, targets, strict=True):
                self.write(b.load(value), target, b.load(place_before))

        with _cgutils.for_range_slice(b, begin, length, lanes) as (place, _):
            x = b.select(b.icmp_signed("<", place, last), place, last)
            x = b.select(b.icmp_signed(">", x, zero), x, zero)
            found = results(x)
            write()
            for value, place_of_it in zip(found, waiting, strict=True):
                b.store(value, place_of_it)
            b.store(x, place_before)
        write()


def _choice_lines(spec: Any) -> int:
    """Lines of choices at once: two where the addresses of all their pixels fit into registers."""
    return 2 if spec.count <= _MOST_OF_TWO else 1


def _says_choice_lines(_typing_context: Any, spec: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Lines that `_choose_lines` does at once."""
    return types.intp(spec), lambda context, *_: context.get_constant(types.intp, _choice_lines(spec))


def _choose_lines(
    _typing_context: Any, function: Any, spec: Any, addresses: Any, steps: Any, length: Any, target: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write what a function chooses for lines.

    Their windows have their elements at `addresses` at x = 0. `steps` are the place of the first line's there, how
    far the next line's are from it, and bytes between lines of results; the last two are 0 if there is one line.
    """

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        vectors = _Vectors(context, b, spec)
        begin, apart, step = (b.extract_value(args[3], k) for k in range(3))
        lines = [vectors.word(line) for line in range(_choice_lines(spec))]
        places = [
            vectors.addresses(addresses, args[2], b.add(begin, b.mul(apart, line)), spec.count) for line in lines
        ]
        targets = [b.add(args[5], b.mul(step, line)) for line in lines]
        emit = Emit(b, as_dtype(spec.values), vectors.kind)
        code = code_of(function.chosen.function, spec.window)

        def results(x: ir.Value) -> list[ir.Value]:
            return [emit_choice(code, [vectors.read(place, x) for place in line], emit) for line in places]

        vectors.write_each(args[4], targets, results)
        return context.get_dummy_value()

    return types.void(function, spec, addresses, steps, length, target), generate


def _median_lines(spec: Any) -> int:
    """Lines of medians at once: four, which share most, or as many as registers hold.

    Where lines are a multiple of 4 KiB apart, ten of them do not fit into the first-level cache together.
    """
    is_small = SQUARES[spec.count] == 3 and not isinstance(spec.values, types.Float)
    return 2 if is_small and _REGISTERS == 16 else 4


def _says_median_lines(_typing_context: Any, spec: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Lines that `_filter_lines_together` does at once."""
    return types.intp(spec), lambda context, *_: context.get_constant(types.intp, _median_lines(spec))


def _filter_lines_together(
    _typing_context: Any, spec: Any, rows: Any, group: Any, length: Any, target: Any, step: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write the medians of lines, `step` bytes apart.

    `rows` has the addresses of the first pixel of each row; the next of a window is `group` elements further.
    """
    side, lines = SQUARES[spec.count], _median_lines(spec)

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        vectors = _Vectors(context, b, spec)
        word = vectors.word
        sources = vectors.addresses(rows, args[1], word(0), side + lines - 1)
        targets = [b.add(args[4], b.mul(args[5], word(line))) for line in range(lines)]

        def emit(apart: ir.Value) -> None:
            def results(x: ir.Value) -> list[ir.Value]:
                def read(row: int) -> list[ir.Value]:
                    places = (b.add(x, b.mul(apart, word(k))) for k in range(side))
                    return [vectors.read(sources[row], place) for place in places]

                return medians(b, spec.values, side, lines, read)

            vectors.write_each(args[3], targets, results)

        with b.if_else(b.icmp_signed("==", args[2], word(1)), likely=True) as (beside, apart):
            with beside:
                emit(word(1))  # places that are constants need no registers
            with apart:
                emit(args[2])
        return context.get_dummy_value()

    return types.void(spec, rows, group, length, target, step), generate


_lanes_of: Any = intrinsic(_says_lanes)
_choice_lines_of: Any = intrinsic(_says_choice_lines)
_median_lines_of: Any = intrinsic(_says_median_lines)
_choose: Any = intrinsic(_choose_lines)
_lines_together: Any = intrinsic(_filter_lines_together)


def filter_chosen_lines(
    function: Any,
    spec: Any,
    scratch: Any,
    elements: Any,
    sizes: tuple[int, int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Do what `windows.filter_block` does."""
    n, length, _ = sizes
    count = len(elements[0])
    if length < _lanes_of(spec):
        filter_block(function, spec, scratch, elements, sizes, target, steps, arguments)
        return
    together = min(n, _choice_lines_of(spec))
    apart = (count, steps[0]) if together > 1 else (0, 0)
    for begin in range(0, n, together):
        first = min(begin, n - together)  # the last do some again
        places = first * count, *apart
        _choose(function, spec, scratch.addresses, places, length, target + first * steps[0])


_chosen_lines = numba.njit(nogil=True)(filter_chosen_lines)


def filter_median_lines(
    function: Any,
    spec: Any,
    scratch: Any,
    elements: Any,
    sizes: tuple[int, int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Do what `windows.filter_block` does, for medians of squares."""
    n, length, group = sizes
    along, across = elements
    count = len(along)
    addresses = scratch.addresses
    together = _median_lines_of(spec)
    if n < together or length < _lanes_of(spec):
        _chosen_lines(function, spec, scratch, elements, sizes, target, steps, arguments)
        return
    rows = np.empty(count + together, np.int64)
    for begin in range(0, n, together):
        first = min(begin, n - together)  # the last do some again
        for k in range(count):
            if along[k] == 0:
                for line in range(together):
                    rows[across[k] + line] = addresses[(first + line) * count + k]
        _lines_together(spec, rows, group, length, target + first * steps[0], steps[0])
