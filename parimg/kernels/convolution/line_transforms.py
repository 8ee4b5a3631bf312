"""Fourier transforms of a few lines, one of each column, compiled by their number and dtype.

They are LLVM code, called by address, as is the tile in `tile.py`. Nothing is checked; `across_lines.py` calls.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution.tile import address, lanes, pointer

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

# Strategy: the transform of N real lines has N / 2 + 1 complex ones, the first and the last of which are real. To
# correlate is to multiply each by that of the kernel, conjugated. A complex product takes three real ones of
# sums that are made once a line, so all that is between both transforms is real: `products(N)` lines, each
# correlated with a real kernel of its own, along all axes that are left. The way back is the way there transposed.
#
# The way there halves N until 1, 3 or 5 lines are left; a step is multiply-adds alone, six for four new lines, as
# a turn by t is cos t * (1 + i tan t). Signs are those of exp(+i t): none is left to change at a quarter turn.

_cgutils: Any = cgutils  # untyped
_intp = ir.IntType(64)
_Lines = list[ir.Value]
SIZES = (8, 10, 12, 16, 20, 24, 32, 40, 48, 64, 96)
"""Lines that are transformed together."""


def products(size: int) -> int:
    """Lines that a transform makes of so many, an even number: two that are real, three of every complex one."""
    return 2 + 3 * (size // 2 - 1)


def kernel_products(weights: NDArray[Any], size: int) -> NDArray[np.float64]:
    """What each line of a transform along the first axis is correlated with."""
    transformed = np.fft.fft(weights, size, axis=0)[: size // 2 + 1]  # of exp(-i t): conjugated already
    scales = np.full(size // 2 + 1, 2 / size)
    scales[[0, -1]] = 1 / size
    scaled = transformed * scales.reshape(-1, *[1] * (weights.ndim - 1))
    found = np.empty((products(size), *weights.shape[1:]))
    found[0], found[1] = scaled[0].real, scaled[-1].real
    real, imaginary = scaled[1:-1].real, scaled[1:-1].imag
    found[2::3], found[3::3], found[4::3] = real, imaginary - real, real + imaginary
    return found


class _Vectors:
    """Arithmetic of vectors."""

    def __init__(self, b: ir.IRBuilder, vector: ir.VectorType) -> None:
        self._b, self._vector = b, vector
        kind = ir.FunctionType(vector, [vector] * 3)
        name = f"llvm.fmuladd.v{vector.count}{'f32' if isinstance(vector.element, ir.FloatType) else 'f64'}"
        self._fused = _cgutils.get_or_insert_function(b.module, kind, name)

    def add(self, one: ir.Value, other: ir.Value) -> ir.Value:
        return self._b.fadd(one, other)

    def sub(self, one: ir.Value, other: ir.Value) -> ir.Value:
        return self._b.fsub(one, other)

    def times(self, number: float, value: ir.Value) -> ir.Value:
        return self._b.fmul(self._constant(number), value)

    def times_and(self, number: float, value: ir.Value, other: ir.Value) -> ir.Value:
        """``number * value + other``."""
        if number in {1.0, -1.0}:
            return self.add(other, value) if number == 1.0 else self.sub(other, value)
        return self._b.call(self._fused, [self._constant(number), value, other])

    def times_less(self, number: float, value: ir.Value, other: ir.Value) -> ir.Value:
        """``number * value - other``."""
        return self._b.call(self._fused, [self._constant(number), value, self._b.fneg(other)])

    def _constant(self, number: float) -> ir.Constant:
        return ir.Constant(self._vector, [number] * self._vector.count)


def _turn(part: int, size: int) -> tuple[float, float]:
    return math.cos(2 * math.pi * part / size), math.sin(2 * math.pi * part / size)


def _transformed(v: _Vectors, lines: _Lines) -> tuple[_Lines, _Lines]:
    """Real and imaginary parts, of 0 to N // 2; imaginary ones that are 0 are left as what they are not."""
    n = len(lines)
    if n == 1:
        return lines, lines
    if n == 3:
        x0, x1, x2 = lines
        both = v.add(x1, x2)
        return [v.add(x0, both), v.times_and(-0.5, both, x0)], [x0, v.times(math.sqrt(0.75), v.sub(x1, x2))]
    if n == 5:
        x0, x1, x2, x3, x4 = lines
        outer, inner, outer_less, inner_less = v.add(x1, x4), v.add(x2, x3), v.sub(x1, x4), v.sub(x2, x3)
        (c1, s1), (c2, s2) = _turn(1, 5), _turn(2, 5)
        real = [v.add(v.add(x0, outer), inner)]
        real += [v.times_and(a, outer, v.times_and(b, inner, x0)) for a, b in ((c1, c2), (c2, c1))]
        one = v.times_and(s1, outer_less, v.times(s2, inner_less))
        other = v.times_and(s2, outer_less, v.times(-s1, inner_less))
        return real, [x0, one, other]
    half = n // 2
    (even_real, even_imaginary), (odd_real, odd_imaginary) = (_transformed(v, lines[i::2]) for i in range(2))
    real, imaginary = [lines[0]] * (half + 1), [lines[0]] * (half + 1)
    real[0], real[half] = v.add(even_real[0], odd_real[0]), v.sub(even_real[0], odd_real[0])
    for k in range(1, (half + 1) // 2):
        cos, sin = _turn(k, n)
        or_, oi, ei = odd_real[k], odd_imaginary[k], even_imaginary[k]
        if cos >= sin:
            tan = sin / cos
            scale, r, i = cos, v.times_and(-tan, oi, or_), v.times_and(tan, or_, oi)
        else:
            tan = cos / sin
            scale, r, i = sin, v.times_less(tan, or_, oi), v.times_and(tan, oi, or_)
        real[k], real[half - k] = v.times_and(scale, r, even_real[k]), v.times_and(-scale, r, even_real[k])
        imaginary[k], imaginary[half - k] = v.times_and(scale, i, ei), v.times_less(scale, i, ei)
    if half % 2 == 0:
        real[half // 2], imaginary[half // 2] = even_real[half // 2], odd_real[half // 2]
    return real, imaginary


def _transposed(v: _Vectors, real: _Lines, imaginary: _Lines, n: int) -> _Lines:
    """The lines that `_transformed` transposed makes of real and imaginary parts."""
    if n == 1:
        return [real[0]]
    if n == 3:
        one, other = v.times_and(-0.5, real[1], real[0]), v.times(math.sqrt(0.75), imaginary[1])
        return [v.add(real[0], real[1]), v.add(one, other), v.sub(one, other)]
    if n == 5:
        (c1, s1), (c2, s2) = _turn(1, 5), _turn(2, 5)
        outer = v.times_and(c1, real[1], v.times_and(c2, real[2], real[0]))
        inner = v.times_and(c2, real[1], v.times_and(c1, real[2], real[0]))
        outer_less = v.times_and(s1, imaginary[1], v.times(s2, imaginary[2]))
        inner_less = v.times_and(s2, imaginary[1], v.times(-s1, imaginary[2]))
        first = v.add(v.add(real[0], real[1]), real[2])
        return [
            first,
            v.add(outer, outer_less),
            v.add(inner, inner_less),
            v.sub(inner, inner_less),
            v.sub(outer, outer_less),
        ]
    half = n // 2
    parts = half // 2 + 1
    even_real, even_imaginary, odd_real, odd_imaginary = ([real[0]] * parts for _ in range(4))
    even_real[0], odd_real[0] = v.add(real[0], real[half]), v.sub(real[0], real[half])
    for k in range(1, (half + 1) // 2):
        cos, sin = _turn(k, n)
        even_real[k] = v.add(real[k], real[half - k])
        even_imaginary[k] = v.sub(imaginary[k], imaginary[half - k])
        r, i = v.sub(real[k], real[half - k]), v.add(imaginary[k], imaginary[half - k])
        odd_real[k] = v.times_and(cos, r, v.times(sin, i))
        odd_imaginary[k] = v.times_and(cos, i, v.times(-sin, r))
    if half % 2 == 0:
        even_real[half // 2], odd_real[half // 2] = real[half // 2], imaginary[half // 2]
    found = [real[0]] * n
    found[::2] = _transposed(v, even_real, even_imaginary, half)
    found[1::2] = _transposed(v, odd_real, odd_imaginary, half)
    return found


def _there(v: _Vectors, lines: _Lines) -> _Lines:
    real, imaginary = _transformed(v, lines)
    found = [real[0], real[-1]]
    for r, i in zip(real[1:-1], imaginary[1:-1], strict=True):
        found += [v.add(r, i), r, i]
    return found


def _back(v: _Vectors, lines: _Lines, size: int) -> _Lines:
    real, imaginary = [lines[0]], [lines[0]]
    for both, r, i in zip(lines[2::3], lines[3::3], lines[4::3], strict=True):
        real.append(v.sub(both, i))
        imaginary.append(v.add(both, r))
    return _transposed(v, [*real, lines[1]], [*imaginary, lines[1]], size)


def _add_transform(
    _typing_context: Any, source: Any, source_step: Any, out: Any, out_step: Any, columns: Any, sizes: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Transform lines that lie `source_step` elements apart, to lines that lie `out_step` apart.

    Reads and writes whole vectors, the last of which may reach beyond the columns. Nothing is passed in `sizes`:
    its type holds two numbers as lengths of tuples, the lines that are transformed, and 0 for the way there or how
    many are wanted on the way back.
    """
    size, wanted = (kind.count for kind in sizes.dtype.types)
    element = ir.FloatType() if source.dtype == types.float32 else ir.DoubleType()
    item_bytes = 4 if source.dtype == types.float32 else 8
    n_lanes = lanes(source.dtype.name)
    vector = ir.VectorType(element, n_lanes)

    def generate(context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        from_p, to_p = (b.bitcast(args[i], element.as_pointer()) for i in (0, 2))
        v = _Vectors(b, vector)

        def place(first: ir.Value, step: ir.Value, line: int, column: ir.Value) -> ir.Value:
            at = b.gep(first, [b.add(b.mul(step, _intp(line)), column)])
            return b.bitcast(at, vector.as_pointer())

        with cgutils.for_range_slice(b, _intp(0), args[4], _intp(n_lanes)) as (column, _):
            n_read = products(size) if wanted else size
            read = [b.load(place(from_p, args[1], i, column), align=item_bytes) for i in range(n_read)]
            made = _back(v, read, size)[:wanted] if wanted else _there(v, read)
            for i, value in enumerate(made):
                b.store(value, place(to_p, args[3], i, column), align=item_bytes)
        return context.get_dummy_value()

    return types.void(source, source_step, out, out_step, columns, sizes), generate


_transform: Any = intrinsic(_add_transform)


def _transform_lines(  # pragma: no cover
    source: Any, source_step: int, out: Any, out_step: int, columns: int, sizes: Any
) -> None:
    _transform(source, source_step, out, out_step, columns, sizes)


def transform_address(dtype: str, size: int, wanted: int = 0) -> int:
    """Address of the transform of so many lines, or of the way back to the first `wanted` of them."""
    of_types: Any = types
    sizes = of_types.CPointer(of_types.Tuple([of_types.UniTuple(types.int8, n) for n in (size, wanted)]))
    kinds = (pointer(dtype), types.intp, pointer(dtype), types.intp, types.intp, sizes)
    return address(types.void, _transform_lines, *kinds)
