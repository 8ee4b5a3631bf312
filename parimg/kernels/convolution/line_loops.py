"""The lines of a convolution: filled from the input, stored to the output; and sums that leave out zero weights.

Compiled by dtype, as `tile.py` tells; `direct.py` calls them by address.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution.tile import address, pointer, tile_kinds

if TYPE_CHECKING:
    from collections.abc import Callable

TRUNCATE, ROUND, SATURATE = range(3)
_BEYOND_32_BITS = 2.0**31 - 1  # rounding stays below
# Integers at once: LLVM's vectoriser packs those of each register by themselves, and a line of 1024 bytes then
# took 159 ns in place of 103 with AVX2.
_STORED = 32
_int32, _intp = ir.IntType(32), ir.IntType(64)
_cgutils: Any = cgutils  # untyped


def _as_line(_typing_context: Any, address: Any, like: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """An address as a pointer to elements of the same dtype as another's."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        return builder.inttoptr(args[0], context.get_value_type(signature.return_type))

    return like(address, like), generate


def _wrap(_typing_context: Any, out: Any, value: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """A float as the integer that C's conversion gives: without its fraction, modulo the width.

    What 64 bits do not hold, and NaN, becomes 0: LLVM leaves open what its conversion makes of that, and
    processors differ. Its saturating conversion takes three times as long.
    """
    kind = out.dtype
    is_integer = isinstance(kind, types.Integer)

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        number = args[1]
        if not is_integer:
            return context.cast(b, number, value, kind)

        def within(low: float, high: float) -> ir.Value:
            """The number if it is from `low` up to `high`, else 0."""
            fits = (b.fcmp_ordered(">=", number, number.type(low)), b.fcmp_ordered("<", number, number.type(high)))
            return b.select(b.and_(*fits), number, number.type(0.0))

        whole = b.fptosi(within(-(2.0**63), 2.0**63), _intp)
        if kind == types.uint64:
            is_large = b.fcmp_ordered(">=", number, number.type(2.0**63))
            whole = b.select(is_large, b.fptoui(within(0.0, 2.0**64), _intp), whole)
        return b.trunc(whole, ir.IntType(kind.bitwidth)) if kind.bitwidth < 64 else whole

    return kind(out, value), generate


def _saturate(_typing_context: Any, out: Any, value: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """A float as the nearest integer that the dtype of `out` has, NaN as 0."""
    kind = out.dtype
    is_integer = isinstance(kind, types.Integer)

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        number = args[1]
        if not is_integer:
            return context.cast(b, number, value, kind)
        result = ir.IntType(kind.bitwidth)
        if kind.bitwidth <= 16:
            # Both ends are floats: comparing takes a sixth of LLVM's saturating conversion, which does not come
            # in vectors.
            low, high = (number.type(float(end)) for end in (kind.minval, kind.maxval))
            number = b.select(b.fcmp_ordered("ord", number, number), number, number.type(0.0))
            number = b.select(b.fcmp_ordered("<", number, low), low, number)
            number = b.select(b.fcmp_ordered(">", number, high), high, number)
            return b.trunc(b.fptosi(number, _int32), result)
        sign, float_name = "s" if kind.signed else "u", "f32" if value == types.float32 else "f64"
        function = ir.FunctionType(result, [number.type])
        name = f"llvm.fpto{sign}i.sat.i{kind.bitwidth}.{float_name}"
        return b.call(_cgutils.get_or_insert_function(b.module, function, name), [number])

    return kind(out, value), generate


def _saturate_vectors(
    _typing_context: Any, sums: Any, out: Any, count: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Store floats as the nearest integers that the dtype of `out` has, NaN as 0, `_STORED` at once.

    Returns how many are stored, which is none where the dtype is no integer of 16 bits at most.
    """
    kind = np.dtype(out.dtype.name)
    is_short = kind.kind in "iu" and kind.itemsize <= 2

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        if not is_short:
            return _intp(0)
        sums_p, out_p, n = args
        item_bytes = 4 if sums.dtype == types.float32 else 8
        element = ir.FloatType() if item_bytes == 4 else ir.DoubleType()
        floats, whole = ir.VectorType(element, _STORED), ir.VectorType(_int32, _STORED)
        results = ir.VectorType(ir.IntType(8 * kind.itemsize), _STORED)
        limits = (float(np.iinfo(kind).min), float(np.iinfo(kind).max))
        zero, low, high = (ir.Constant(floats, [number] * _STORED) for number in (0.0, *limits))
        name = f"llvm.rint.v{_STORED}f{8 * item_bytes}"
        rint = _cgutils.get_or_insert_function(b.module, ir.FunctionType(floats, [floats]), name)
        done = b.and_(n, _intp(-_STORED))
        with cgutils.for_range_slice(b, _intp(0), done, _intp(_STORED)) as (i, _):
            place = b.bitcast(b.gep(sums_p, [i]), floats.as_pointer())
            numbers = b.call(rint, [b.load(place, align=item_bytes)])
            if kind.kind == "i":
                numbers = b.select(b.fcmp_ordered("ord", numbers, numbers), numbers, zero)
            numbers = b.select(b.fcmp_ordered(">", numbers, low), numbers, low)  # NaN is not
            numbers = b.select(b.fcmp_ordered("<", numbers, high), numbers, high)
            to = b.bitcast(b.gep(out_p, [i]), results.as_pointer())
            b.store(b.trunc(b.fptosi(numbers, whole), results), to, align=kind.itemsize)
        return done

    return types.intp(sums, out, count), generate


def _narrow(_typing_context: Any, out: Any, value: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """A float within 32 bits as an integer of as many at most, without its fraction; other kinds as `_wrap`."""
    kind = out.dtype
    if not _is_of_32_bits(kind):
        return _wrap(_typing_context, out, value)

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        whole = b.fptosi(args[1], _int32)
        return b.trunc(whole, ir.IntType(kind.bitwidth)) if kind.bitwidth < 32 else whole

    return kind(out, value), generate


def _says_32_bits(_typing_context: Any, out: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Whether the dtype of `out` is an integer of 32 bits at most."""
    return types.boolean(out), lambda *_: ir.Constant(ir.IntType(1), int(_is_of_32_bits(out.dtype)))


def _is_of_32_bits(kind: Any) -> bool:
    return isinstance(kind, types.Integer) and np.dtype(kind.name).itemsize <= 4


def _prefetch(_typing_context: Any, address: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Ask for the cache line at an address, which may lie anywhere."""

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        place = b.inttoptr(args[0], ir.IntType(8).as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [place.type, *[_int32] * 3])
        function = _cgutils.get_or_insert_function(b.module, kind, "llvm.prefetch.p0")
        b.call(function, [place, _int32(0), _int32(3), _int32(1)])  # to read, into the nearest cache, data
        return context.get_dummy_value()

    return types.void(address), generate


def _calling(result: Any, kind: ir.Type) -> Any:
    """An intrinsic that calls a C function of integers and addresses, by its address."""

    def invoke(_typing_context: Any, address: Any, arguments: Any) -> tuple[Any, Callable[..., ir.Value]]:
        def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            values = [builder.extract_value(args[1], i) for i in range(len(arguments))]
            function = ir.FunctionType(kind, [value.type for value in values])
            value = builder.call(builder.inttoptr(args[0], function.as_pointer()), values)
            return context.get_dummy_value() if result == types.void else value

        return result(address, arguments), generate

    return intrinsic(invoke)


call = _calling(types.void, ir.VoidType())
call_for_float = _calling(types.float64, ir.DoubleType())
prefetch: Any = intrinsic(_prefetch)
as_line: Any = intrinsic(_as_line)
_wrapped: Any = intrinsic(_wrap)
_narrowed: Any = intrinsic(_narrow)
_has_32_bits: Any = intrinsic(_says_32_bits)
_saturated: Any = intrinsic(_saturate)
_saturated_vectors: Any = intrinsic(_saturate_vectors)


def _fill_line(source: Any, step: int, line: Any, count: int) -> float:  # pragma: no cover
    """Copy `count` elements that lie `step` apart into a line, converting them."""
    if step == 1:
        for i in range(count):
            line[i] = source[i]
    else:
        for i in range(count):
            line[i] = source[i * step]
    return 0.0


def _fill_line_with_floats(source: Any, step: int, line: Any, count: int) -> float:  # pragma: no cover
    """Do the same and return NaN if one of them is NaN or infinite, else 0."""
    line[0] = source[0]
    seen = line[0] - line[0]  # of the line's own dtype: in float64 it took twice as long as all the rest
    if step == 1:
        for i in range(count):
            line[i] = source[i]
            seen += line[i] - line[i]
    else:
        for i in range(count):
            line[i] = source[i * step]
            seen += line[i] - line[i]
    return np.float64(seen)


def _store_line(sums: Any, out: Any, step: int, count: int, casting: int) -> None:  # pragma: no cover
    """Convert a line of sums to the dtype of the output; see `Casting` in `convolve.py`."""
    if casting == SATURATE:
        done = _saturated_vectors(sums, out, count) if step == 1 else 0
        for i in range(done, count):
            out[i * step] = _saturated(out, np.rint(sums[i]))
        return
    if _has_32_bits(out):
        beyond = 0
        for i in range(count):
            beyond += not abs(sums[i]) < _BEYOND_32_BITS  # NaN is
        if beyond == 0:  # a fifth of the time of what follows, and the same
            if casting == ROUND:
                for i in range(count):
                    out[i * step] = _narrowed(out, np.rint(sums[i]))
            else:
                for i in range(count):
                    out[i * step] = _narrowed(out, sums[i])
            return
    if casting == ROUND:
        for i in range(count):
            out[i * step] = _wrapped(out, np.rint(sums[i]))
    else:
        for i in range(count):
            out[i * step] = _wrapped(out, sums[i])


def _add_taps(  # pragma: no cover
    out: Any,
    _out_stride: int,
    lines: Any,
    line_count: int,
    weights: Any,
    planes: int,
    height: int,
    width: int,
    step: int,
    columns: int,
    _sizes: Any,
) -> None:
    """Do the same as a tile of one row, leaving out taps of weight 0: NaN and infinity do not pass them."""
    for i in range(columns):
        out[i] = 0
    for row in range(planes * height):
        source = as_line(lines[row // height * line_count + row % height], out)
        for x in range(width):
            weight = weights[row * width + x]
            if weight != 0:
                for i in range(columns):
                    out[i] += source[i + x * step] * weight


def taps_address(dtype: str) -> int:
    """Address of what serves lines with NaN or infinity, a row at a time."""
    return address(types.void, _add_taps, *tile_kinds(dtype), types.intp)


def fill_address(source: str, dtype: str) -> int:
    """Address of the loop that converts a line of the input."""
    function = _fill_line_with_floats if source.startswith("float") else _fill_line
    return address(types.float64, function, pointer(source), types.intp, pointer(dtype), types.intp)


def store_address(dtype: str, out: str) -> int:
    """Address of the loop that converts a line of sums, which must begin at a multiple of 16 bytes.

    Without AVX, LLVM rounds them by `cvtps2dq` straight from memory, which ends the process where they are not
    aligned.
    """
    return address(types.void, _store_line, pointer(dtype), pointer(out), *[types.intp] * 3)
