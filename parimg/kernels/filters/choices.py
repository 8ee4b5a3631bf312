"""Functions that only choose among the pixels of their window: minima, medians, ranks, thresholds.

What such a function gives does not depend on the width of its numbers, so that it is compiled for the image's own
dtype where SciPy's rules say float64: eight times as many pixels of uint8 in a register, and rows that are read
where they lie. Whether a function is one is read from what LLVM made of it for float64. Used by
`generic_filter.py`.
"""

from __future__ import annotations

import enum
import math
import re
import struct
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic
from numba.np.numpy_support import as_dtype

from parimg.kernels.filters.medians import SQUARES
from parimg.kernels.filters.user_functions import UserFunction, add_compiled, as_user_function, compiled_code
from parimg.kernels.filters.windows import Window

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: of a function without loops and branches, LLVM leaves one block of loads, comparisons, selections and
# one store. It is walked once, with what each name stands for: a pixel, or the number that a constant is. Where
# one of two that are compared is beyond all that the dtype holds, as the infinity that a minimum begins with, the
# outcome is known; a selection that is known is what it selects. What remains are pixels and whole numbers of the
# dtype, whose order is the same in float64. Whatever else stands in the block, the function keeps float64.

CHOSEN_FROM = frozenset("bBhHiIfd")
"""Dtypes whose values float64 holds."""

_NAME = r"%(?:\"[^\"]+\"|[\w.\-$]+)"
_FLOAT = rf"(?:{_NAME}|[-+\w.]+)"
_FLAGS = r"(?:nnan |ninf |nsz |contract |reassoc |arcp |afn |fast )*"
_LOAD = re.compile(rf"({_NAME}) = load double, ptr ({_NAME})")
_PLACE = re.compile(rf"({_NAME}) = getelementptr (?:inbounds |nuw |nusw )*i8, ptr ({_NAME}), i64 (\d+)")
_COMPARE = re.compile(rf"({_NAME}) = fcmp {_FLAGS}(\w+) double ({_FLOAT}), ({_FLOAT})")
_SELECT = re.compile(rf"({_NAME}) = select {_FLAGS}i1 (\S+), (i1|double) ({_FLOAT}), (?:i1|double) ({_FLOAT})")
_LOGIC = re.compile(rf"({_NAME}) = (and|or|xor) (?:disjoint )?i1 (\S+), (\S+)")
_STORE = re.compile(rf"store double ({_FLOAT}), ptr %retptr")
_SIGNS = {"eq": "==", "ne": "!=", "gt": ">", "le": "<=", "lt": "<", "ge": ">="}
_MIRRORED = {"eq": "eq", "ne": "ne", "gt": "lt", "lt": "gt", "ge": "le", "le": "ge"}


class Kind(enum.IntEnum):
    """What a function does with its pixels."""

    OTHER, CHOICE, MEDIAN = range(3)


class NotAChoice(Exception):
    """The function does something else with its pixels than choosing among them, as far as can be seen."""


class Emit(NamedTuple):
    """Where code goes, and the dtype of its numbers."""

    builder: ir.IRBuilder
    dtype: np.dtype[Any]
    kind: ir.Type
    """LLVM's type of a number, or of a vector of them."""

    def _in_all_lanes(self, number: float) -> ir.Value:
        return self.kind([number] * self.kind.count if isinstance(self.kind, ir.VectorType) else number)

    def constant(self, number: float) -> ir.Value:
        if self.dtype.kind == "f":
            with np.errstate(over="ignore"):
                is_held = math.isnan(number) or float(self.dtype.type(number)) == number
            if not is_held:
                raise NotAChoice(f"{number} is no {self.dtype}")
            return self._in_all_lanes(number)
        if not self.is_held(number):
            raise NotAChoice(f"{number} is no {self.dtype}")
        return self._in_all_lanes(int(number))

    def is_held(self, number: float) -> bool:
        limits = np.iinfo(self.dtype)
        return math.isfinite(number) and number == int(number) and limits.min <= number <= limits.max

    def compare(self, predicate: str, left: Any, right: Any) -> Any:
        """A condition: a Python bool where it is known, or code."""
        if isinstance(left, float) and isinstance(right, float):
            return _compare_numbers(predicate, left, right)
        if self.dtype.kind == "f":
            one, other = (self.constant(side) if isinstance(side, float) else side for side in (left, right))
            sign = predicate if predicate in ("ord", "uno") else _SIGNS[predicate[1:]]
            how = self.builder.fcmp_unordered if predicate[0] == "u" else self.builder.fcmp_ordered
            return how(sign, one, other)
        if isinstance(left, float):
            if predicate not in ("ord", "uno"):
                predicate = predicate[0] + _MIRRORED[predicate[1:]]
            left, right = right, left
        if isinstance(right, float) and math.isnan(right):
            return predicate[0] == "u"
        if predicate in ("ord", "uno"):
            return predicate == "ord"
        sign = predicate[1:]
        if isinstance(right, float):
            limits = np.iinfo(self.dtype)
            if right > limits.max or right < limits.min:
                return _compare_numbers("o" + sign, 0.0, right)
            if right != int(right):
                if sign in ("eq", "ne"):
                    return sign == "ne"
                below = sign in ("lt", "le")
                sign, right = ("le", math.floor(right)) if below else ("ge", math.ceil(right))
            right = self._in_all_lanes(int(right))
        how = self.builder.icmp_signed if self.dtype.kind == "i" else self.builder.icmp_unsigned
        return how(_SIGNS[sign], left, right)

    def select(self, condition: Any, one: Any, other: Any) -> Any:
        if isinstance(condition, bool):
            return one if condition else other
        if isinstance(one, float) and isinstance(other, float) and _same(one, other):
            return one
        sides = (self.constant(side) if isinstance(side, float) else side for side in (one, other))
        return self.builder.select(condition, *sides)

    def combine(self, operation: str, one: Any, other: Any) -> Any:
        """Of two conditions."""
        if isinstance(one, bool):
            one, other = other, one
        if isinstance(one, bool):
            return {"and": one and other, "or": one or other, "xor": one != other}[operation]
        if not isinstance(other, bool):
            how = {"and": self.builder.and_, "or": self.builder.or_, "xor": self.builder.xor}[operation]
            return how(one, other)
        if operation == "xor":
            return self.builder.not_(one) if other else one
        return (one if other else False) if operation == "and" else (True if other else one)


def _same(one: float, other: float) -> bool:
    return struct.pack("d", one) == struct.pack("d", other)


def _compare_numbers(predicate: str, left: float, right: float) -> bool:
    unordered = math.isnan(left) or math.isnan(right)
    if predicate in ("ord", "uno"):
        return unordered == (predicate == "uno")
    if unordered:
        return predicate[0] == "u"
    sign = predicate[1:]
    return bool(
        {
            "eq": left == right, "ne": left != right, "gt": left > right,
            "le": left <= right, "lt": left < right, "ge": left >= right,
        }[sign]
    )  # fmt: skip


def _number(text: str) -> float:
    if text.startswith("0x"):
        return float(struct.unpack(">d", bytes.fromhex(text[2:].rjust(16, "0")))[0])
    try:
        return float(text)
    except ValueError:
        raise NotAChoice(text) from None


def emit_choice(code: str, pixels: list[ir.Value], emit: Emit) -> ir.Value:
    """Write code that chooses among pixels of a dtype as `code`, LLVM's for float64, does.

    Raises
    ------
    NotAChoice
        If the code does anything else.
    """
    values: dict[str, Any] = {}
    head = code[code.index("define ") :]
    window = re.findall(_NAME, head[: head.index("{")])[-1]  # the last argument
    places = {window: 0}
    result = None

    def value(name: str) -> Any:
        return values[name] if name in values else _number(name)

    def condition(name: str) -> Any:
        return values[name] if name in values else {"true": True, "false": False}[name.rstrip(",")]

    try:
        for line in _lines(code):
            if found := _PLACE.match(line):
                places[found[1]] = places[found[2]] + int(found[3])
            elif found := _LOAD.match(line):
                values[found[1]] = pixels[places[found[2]] // 8]
            elif found := _COMPARE.match(line):
                values[found[1]] = emit.compare(found[2], value(found[3]), value(found[4]))
            elif found := _SELECT.match(line):
                of = value if found[3] == "double" else condition
                chosen, one, other = condition(found[2]), of(found[4]), of(found[5])
                if of is condition:
                    if isinstance(chosen, bool):
                        values[found[1]] = one if chosen else other
                    else:
                        left = emit.combine("and", chosen, one)
                        right = emit.combine("and", emit.combine("xor", chosen, True), other)
                        values[found[1]] = emit.combine("or", left, right)
                else:
                    values[found[1]] = emit.select(chosen, one, other)
            elif found := _LOGIC.match(line):
                values[found[1]] = emit.combine(found[2], condition(found[3]), condition(found[4]))
            elif found := _STORE.match(line):
                result = value(found[1])
            elif line == "ret i32 0":
                break
            elif line and not re.fullmatch(r"[\w.\-$]+:.*", line):
                raise NotAChoice(line)
        else:
            raise NotAChoice("it does not end")
    except KeyError as error:
        raise NotAChoice(f"{error} is none of its pixels") from None
    if result is None:
        raise NotAChoice("nothing is given")
    return emit.constant(result) if isinstance(result, float) else result


def _lines(code: str) -> list[str]:
    """Of the function that LLVM's code begins with."""
    start = code.index("define ")
    return [line.strip() for line in code[start : code.index("\n}", start)].splitlines()[1:]]


def element_type(dtype: np.dtype[Any]) -> ir.Type:
    """LLVM's type of a number."""
    if dtype.kind == "f":
        return ir.FloatType() if dtype.itemsize == 4 else ir.DoubleType()
    return ir.IntType(8 * dtype.itemsize)


def code_of(function: Any, window: Window) -> str:
    """What LLVM made of a function of windows of float64."""
    wide = Window(types.float64, window.count)
    code, kind = compiled_code(function.digest, (wide,))
    if kind != types.float64:
        raise NotAChoice(f"it returns {kind}")
    return code


def _find_kind(_typing_context: Any, function: Any, spec: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """What a function does with windows of the specification's dtype, a `Kind`."""
    module = ir.Module()
    kind = element_type(as_dtype(spec.values))
    scratch = ir.Function(module, ir.FunctionType(ir.VoidType(), [kind] * spec.count), "scratch")
    builder = ir.IRBuilder(scratch.append_basic_block())
    try:
        code = code_of(function, spec.window)
        emit_choice(code, list(scratch.args), Emit(builder, as_dtype(spec.values), kind))
        is_median = spec.count in SQUARES and _body(code) == _body(code_of(_MEDIAN.numba_type, spec.window))
        answer = Kind.MEDIAN if is_median else Kind.CHOICE
    except NotAChoice:
        answer = Kind.OTHER

    def generate(context: Any, _builder: ir.IRBuilder, _signature: Any, _args: Any) -> ir.Value:
        return context.get_constant(types.intp, answer)

    return types.intp(function, spec), generate


_MEDIAN = as_user_function(np.median, 1, (), {})


def _body(code: str) -> list[str]:
    """Instructions of LLVM's code, with its names for values replaced by numbers."""
    numbers: dict[str, str] = {}
    return [
        re.sub(_NAME, lambda name: numbers.setdefault(name[0], f"%{len(numbers)}"), line)
        for line in _lines(code)
        if not line.endswith(":")
    ]


_find_kind_intrinsic: Any = intrinsic(_find_kind)


def _find_out(function: Any, spec: Any, _arguments: Any) -> Any:
    return _find_kind_intrinsic(function, spec)


# Kept on disk like the loops, so that a new process need not compile the function for float64 to know.
find_out = numba.njit(cache=True, nogil=True)(_find_out)


def narrowed(user: UserFunction, dtype: np.dtype[Any], kind: Kind) -> UserFunction:
    """The same function for windows of a dtype that it chooses from; it gives a number of that dtype.

    `kind` is how lines are filtered with it: as with any other function, by vectors, or as squares whose median
    it is.
    """
    function = user.numba_type
    digest = f"{function.digest} of {dtype.str}"
    return add_compiled(user, digest, lambda: _choosing(function), Chosen(function, kind))


class Chosen(NamedTuple):
    """What a narrowed function comes from: the type of the user's, and what that does."""

    function: Any
    kind: Kind


def _choosing(function: Any) -> Any:
    def choose(_typing_context: Any, values: Any) -> tuple[Any, Callable[..., ir.Value]]:
        def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            data = context.make_array(values)(context, builder, args[0]).data
            word = context.get_value_type(types.intp)
            pixels = [builder.load(builder.gep(data, [word(k)], inbounds=True)) for k in range(values.count)]
            emit = Emit(builder, as_dtype(values.dtype), element_type(as_dtype(values.dtype)))
            return emit_choice(code_of(function, values), pixels, emit)

        return values.dtype(values), generate

    chosen: Any = intrinsic(choose)
    return lambda values: chosen(values)  # noqa: PLW0108 - numba wants a Python function
