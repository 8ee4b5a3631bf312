"""Vectors of float32 and int32 in LLVM code, written as arithmetic.

Inner loops whose shape LLVM's vectoriser does not find are written with these. No operation carries a flag that
allows another order or a fused product and sum, so each lane's result is the same on every processor.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

FEATURES = cpu_target.target_context.codegen().magic_tuple()[2].split(",")
# Lanes of a whole register
WIDTH = 16 if "+avx512f" in FEATURES else 8 if "+avx" in FEATURES else 4
INDEX = ir.IntType(64)
_float, _int = ir.FloatType(), ir.IntType(32)
_cgutils: Any = cgutils  # untyped
# SSE2 has no instruction for it, and would call a C library lane by lane.
_HAS_FLOOR = platform.machine() not in {"x86_64", "AMD64"} or "+sse4.1" in FEATURES


@dataclass(frozen=True)
class Vector:
    """Lanes of float32 or int32; the other side of an operator may be a plain number."""

    builder: ir.IRBuilder
    value: ir.Value

    @property
    def is_float(self) -> bool:
        return bool(self.value.type.element == _float)

    def _same(self, other: Vector | float) -> ir.Value:
        if isinstance(other, Vector):
            return other.value
        return ir.Constant(self.value.type, [other] * self.value.type.count)

    def _new(self, value: ir.Value) -> Vector:
        return Vector(self.builder, value)

    def __add__(self, other: Vector | float) -> Vector:
        b = self.builder
        return self._new((b.fadd if self.is_float else b.add)(self.value, self._same(other)))

    def __sub__(self, other: Vector | float) -> Vector:
        b = self.builder
        return self._new((b.fsub if self.is_float else b.sub)(self.value, self._same(other)))

    def __rsub__(self, other: float) -> Vector:
        return self._new(self._same(other)) - self

    def __mul__(self, other: Vector | float) -> Vector:
        b = self.builder
        return self._new((b.fmul if self.is_float else b.mul)(self.value, self._same(other)))

    def __truediv__(self, other: Vector) -> Vector:
        return self._new(self.builder.fdiv(self.value, other.value))

    def _compare(self, sign: str, other: Vector | float) -> Vector:
        b = self.builder
        compare = b.fcmp_ordered if self.is_float else b.icmp_signed
        return self._new(compare(sign, self.value, self._same(other)))

    def __lt__(self, other: Vector | float) -> Vector:
        return self._compare("<", other)

    def __gt__(self, other: Vector | float) -> Vector:
        return self._compare(">", other)

    def __le__(self, other: Vector | float) -> Vector:
        return self._compare("<=", other)

    def __ge__(self, other: Vector | float) -> Vector:
        return self._compare(">=", other)

    def where(self, yes: Vector | float, no: Vector | float) -> Vector:
        """Of a comparison: one or the other lane by lane; one of them is a vector."""
        kind = next(side.value.type for side in (yes, no) if isinstance(side, Vector))
        sides = (
            side.value if isinstance(side, Vector) else ir.Constant(kind, [side] * kind.count)
            for side in (yes, no)
        )
        return self._new(self.builder.select(self.value, *sides))

    def smaller(self, other: Vector | float) -> Vector:
        return (self < other).where(self, other)

    def larger(self, other: Vector | float) -> Vector:
        return (self > other).where(self, other)

    def __and__(self, other: Vector) -> Vector:
        return self._new(self.builder.and_(self.value, other.value))

    def __or__(self, other: Vector) -> Vector:
        return self._new(self.builder.or_(self.value, other.value))

    def bits(self) -> ir.Value:
        """Of a comparison: its lanes as the bits of an integer."""
        lanes = self.value.type.count
        return self.builder.zext(self.builder.bitcast(self.value, ir.IntType(lanes)), INDEX)

    def absolute(self) -> Vector:
        return self._intrinsic("fabs")

    def root(self) -> Vector:
        return self._intrinsic("sqrt")

    def _intrinsic(self, name: str) -> Vector:
        kind = ir.FunctionType(self.value.type, [self.value.type])
        full = f"llvm.{name}.v{self.value.type.count}f32"
        function = _cgutils.get_or_insert_function(self.builder.module, kind, full)
        return self._new(self.builder.call(function, [self.value]))

    def cut(self) -> Vector:
        """To int32, towards 0."""
        return self._new(self.builder.fptosi(self.value, ir.VectorType(_int, self.value.type.count)))

    def as_float(self) -> Vector:
        return self._new(self.builder.sitofp(self.value, ir.VectorType(_float, self.value.type.count)))

    def floor(self) -> Vector:
        """The integer below, as float32."""
        if _HAS_FLOOR:
            return self._intrinsic("floor")
        cut = self.cut().as_float()
        return (cut > self).where(cut - 1.0, cut)

    def lane(self, number: int) -> ir.Value:
        return self.builder.extract_element(self.value, _int(number))


def transposed(rows: Sequence[Vector]) -> list[Vector]:
    """Eight vectors of eight lanes, the first of which holds lane 0 of each of the given."""
    # Halves of 4 lanes, the registers of SSE and of AVX's shuffles, are crossed only in the last step.
    steps = (
        (1, (0, 8, 1, 9, 4, 12, 5, 13), (2, 10, 3, 11, 6, 14, 7, 15)),
        (2, (0, 1, 8, 9, 4, 5, 12, 13), (2, 3, 10, 11, 6, 7, 14, 15)),
        (4, (0, 1, 2, 3, 8, 9, 10, 11), (4, 5, 6, 7, 12, 13, 14, 15)),
    )
    rows = list(rows)
    for distance, low, high in steps:
        new = list(rows)
        for first in range(8):
            if first & distance:
                continue
            a, b = rows[first], rows[first + distance]
            for place, mask in ((first, low), (first + distance, high)):
                numbers = ir.Constant(ir.VectorType(_int, 8), list(mask))
                new[place] = Vector(a.builder, a.builder.shuffle_vector(a.value, b.value, numbers))
        rows = new
    return [rows[lane] for lane in (0, 2, 1, 3, 4, 6, 5, 7)]


def in_all_lanes(builder: ir.IRBuilder, scalar: ir.Value, lanes: int) -> Vector:
    kind = ir.VectorType(scalar.type, lanes)
    undefined = ir.Constant(kind, ir.Undefined)
    one = builder.insert_element(undefined, scalar, _int(0))
    zeros = ir.Constant(ir.VectorType(_int, lanes), [0] * lanes)
    return Vector(builder, builder.shuffle_vector(one, undefined, zeros))


def constant(builder: ir.IRBuilder, numbers: Sequence[float]) -> Vector:
    kind = _int if all(isinstance(number, int) for number in numbers) else _float
    return Vector(builder, ir.Constant(ir.VectorType(kind, len(numbers)), list(numbers)))


def load(builder: ir.IRBuilder, pointer: ir.Value, lanes: int) -> Vector:
    """From the element that `pointer` points at; it need not be aligned."""
    kind = ir.VectorType(pointer.type.pointee, lanes)
    return Vector(builder, builder.load(builder.bitcast(pointer, kind.as_pointer()), align=4))


def store(vector: Vector, pointer: ir.Value) -> None:
    place = vector.builder.bitcast(pointer, vector.value.type.as_pointer())
    vector.builder.store(vector.value, place, align=4)


def pointers(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> Iterator[ir.Value]:
    """The arguments of an intrinsic, arrays as the pointers to their first elements."""
    for kind, value in zip(signature.args, args, strict=True):
        is_array = hasattr(kind, "layout")
        yield context.make_array(kind)(context, builder, value).data if is_array else value
