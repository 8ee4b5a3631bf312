"""The window that a filter function is given, and how pixels are read, gathered and written around it.

A window of a size known when compiled is an array on the stack whose shape is a constant of its type. Once the
user's function is inlined and its loops over the window are unrolled, the array is gone: its elements are
registers, and the loop over x is one of plain arithmetic, which LLVM vectorises. Reads and writes are intrinsics
on addresses, without bounds checks; those of the loop say that they never overlap, without which LLVM would
compare every pair of rows at run time and give up beyond eight. Used by the filters' loops.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.core.imputils import impl_ret_borrowed, lower_builtin
from numba.extending import NativeValue, intrinsic, models, register_model, unbox
from numba.np.numpy_support import as_dtype, from_dtype

from parimg.kernels.filters.digests import sources_stamp

if TYPE_CHECKING:
    import numpy as np

LARGEST_ON_STACK = 128
"""Elements of the largest window that is a type of its own; larger ones are arrays, whatever their size."""


class Window(types.Array):
    """An array of one dimension and constant length. The function may change it: it is the pixel's own."""

    def __init__(self, dtype: Any, count: int) -> None:
        super().__init__(dtype, 1, "C", name=f"Window({dtype}, {count})")
        self.count = count

    @property
    def key(self) -> Any:
        return (*super().key, self.count)


@register_model(Window)
class _WindowModel(models.StructModel):
    """An array's fields, without an owner to count references for. Only the address is passed on.

    What receives it rebuilds the rest from constants: functions are optimised before they are inlined, and loops
    of unknown length would not be unrolled.
    """

    def __init__(self, manager: Any, kind: Window) -> None:
        words = types.UniTuple(types.intp, 1)
        members = [
            ("meminfo", types.voidptr),
            ("parent", types.voidptr),
            ("nitems", types.intp),
            ("itemsize", types.intp),
            ("data", types.CPointer(kind.dtype)),
            ("shape", words),
            ("strides", words),
        ]
        super().__init__(manager, kind, members)

    def get_argument_type(self) -> Any:
        return self.get_value_type().elements[4]

    def as_argument(self, builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return builder.extract_value(value, 4)

    def from_argument(self, builder: ir.IRBuilder, value: ir.Value) -> ir.Value:
        return _window_at(builder, self.get_value_type(), self._fe_type, value)


def _window_at(builder: ir.IRBuilder, struct: Any, kind: Window, data: ir.Value) -> ir.Value:
    word = struct.elements[2]
    itemsize, count = word(as_dtype(kind.dtype).itemsize), word(kind.count)
    value = ir.Constant(struct, None)
    for part, place in ((count, 2), (itemsize, 3), (data, 4), (count, (5, 0)), (itemsize, (6, 0))):
        value = builder.insert_value(value, part, place)
    return value


class SpecificationType(types.Opaque):
    """The numba type of a `Specification`."""

    def __init__(self, image: Any, values: Any, output: Any, count: int) -> None:
        self.image, self.values, self.output, self.count = image, values, output, count
        super().__init__(f"Specification({image}, {values}, {output}, {count}, {sources_stamp()})")

    @functools.cached_property  # making a type takes 10 us
    def window(self) -> Any:
        """Type of what the function is given."""
        return Window(self.values, self.count) if self.count else types.Array(self.values, 1, "C")


class Specification:
    """Dtypes of the image, of the window and of the output, and the window's length; 0 if not a constant.

    All of it is known when a loop is compiled, nothing is left of it at run time.
    """

    def __init__(self, image: np.dtype[Any], values: np.dtype[Any], output: np.dtype[Any], count: int = 0) -> None:
        dtypes = (from_dtype(dtype) for dtype in (image, values, output))
        image_type, values_type, output_type = dtypes
        self.numba_type = SpecificationType(image_type, values_type, output_type, count)

    @property
    def _numba_type_(self) -> SpecificationType:  # where numba's dispatcher looks first
        return self.numba_type


# What a filter wants is mostly what the last one wanted, and three dtypes take numba 10 us to look up.
@functools.lru_cache(maxsize=256)
def specification(
    image: np.dtype[Any], values: np.dtype[Any], output: np.dtype[Any], count: int = 0
) -> Specification:
    """A `Specification` of these, made once."""
    return Specification(image, values, output, count)


register_model(SpecificationType)(models.OpaqueModel)


@unbox(SpecificationType)
def _unbox(_type: Any, _value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


def _refuse_index(context: Any, builder: ir.IRBuilder, kind: Window, index: int) -> bool:
    """Whether a constant index lies outside a window; then IndexError is raised where it is used, as by NumPy."""
    is_outside = not -kind.count <= index < kind.count
    if is_outside:
        message = f"index {index} is out of bounds for a window of {kind.count} elements"
        with builder.if_then(cgutils.true_bit, likely=False):
            context.call_conv.return_user_exc(builder, IndexError, (message,))
    return is_outside


def _getitem(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    if not _refuse_index(context, builder, signature.args[0], args[1]):
        raise NotImplementedError  # then numba takes its own way
    return context.get_constant_null(signature.return_type)


def _setitem(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
    window, index, value = args
    if _refuse_index(context, builder, signature.args[0], index):
        return context.get_dummy_value()
    place = context.get_constant(signature.args[1], index)
    return context.get_function(operator.setitem, signature)(builder, (window, place, value))


lower_builtin("static_getitem", Window, types.IntegerLiteral)(_getitem)
lower_builtin("static_setitem", Window, types.Integer, types.Any)(_setitem)


# -- reading and writing --------------------------------------------------------------------------------------


def _mark(builder: ir.IRBuilder, instruction: Any, *, read: bool) -> None:
    """Say that what the loop over x reads never overlaps what it writes."""
    module = builder.module
    domain = module.add_metadata([ir.MetaDataString(module, "parimg filters")])
    inputs, outputs = (
        module.add_metadata([module.add_metadata([ir.MetaDataString(module, f"parimg {what}"), domain])])
        for what in ("inputs", "outputs")
    )
    instruction.set_metadata("alias.scope", inputs if read else outputs)
    instruction.set_metadata("noalias", outputs if read else inputs)


def pointer_at(builder: ir.IRBuilder, address: ir.Value, data_type: Any, index: ir.Value) -> ir.Value:
    """Of an element, counted from an address."""
    return builder.gep(builder.inttoptr(address, data_type.as_pointer()), [index], inbounds=True)


def _read_item(_typing_context: Any, spec: Any, address: Any, index: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """An element of the image, counted from an address, as an element of the window."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        model = context.data_model_manager[spec.image]
        pointer = pointer_at(builder, args[1], model.get_data_type(), args[2])
        value = model.from_data(builder, builder.load(pointer, align=1))
        return _converted(context, builder, value, spec.image, spec.values)

    return spec.values(spec, address, index), generate


def _copy_result(_typing_context: Any, spec: Any, source: Any, target: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Copy a result from one address to another."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        kind = context.data_model_manager[spec.output].get_data_type()
        places = [builder.inttoptr(address, kind.as_pointer()) for address in args[1:]]
        builder.store(builder.load(places[0], align=1), places[1], align=1)
        return context.get_dummy_value()

    return types.void(spec, source, target), generate


def _itemsize_of(_typing_context: Any, spec: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Bytes of an element of the image."""

    def generate(context: Any, _builder: ir.IRBuilder, _signature: Any, _args: Any) -> ir.Value:
        return context.get_constant(types.intp, as_dtype(spec.image).itemsize)

    return types.intp(spec), generate


def _gather(
    _typing_context: Any, spec: Any, addresses: Any, begin: Any, buffer: Any, x: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """The window at x: on the stack of the loop itself, or in `buffer` if it is long.

    `addresses` has, from `begin` on, the address of each of its elements at x = 0.
    """

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        word = context.get_value_type(types.intp)
        element = context.get_value_type(spec.values)
        first = context.make_array(addresses)(context, builder, args[1]).data
        first = builder.gep(first, [args[2]], inbounds=True)

        def copy(k: ir.Value, target: ir.Value) -> None:
            address = builder.load(builder.gep(first, [k], inbounds=True))
            value = builder.load(pointer_at(builder, address, element, args[4]), align=1)
            for instruction in (address, value):
                _mark(builder, instruction, read=True)
            builder.store(value, builder.gep(target, [k], inbounds=True))

        if spec.count == 0:
            data = context.make_array(buffer)(context, builder, args[3])
            with cgutils.for_range(builder, data.nitems) as loop:
                copy(loop.index, data.data)
            return impl_ret_borrowed(context, builder, buffer, args[3])
        with builder.goto_entry_block():
            window = builder.alloca(ir.ArrayType(element, spec.count))
        data = builder.bitcast(window, element.as_pointer())
        for k in range(spec.count):
            copy(word(k), data)
        return _window_at(builder, context.get_value_type(spec.window), spec.window, data)

    return spec.window(spec, addresses, begin, buffer, x), generate


def _results(value: Any) -> tuple[Any, ...]:
    """Types of the numbers that a function gives for a pixel."""
    items = tuple(getattr(value, "types", (value,)))
    if not items:
        raise TypingError("it returns an empty tuple, wanted a number, or several as a tuple")
    for item in items:
        if not isinstance(types.unliteral(item), types.Integer | types.Float | types.Boolean):
            raise TypingError(f"it returns {item}, wanted a real number, or several as a tuple")
    return items


def check_result(value: Any) -> None:
    """Refuse a type that is no number, nor a tuple of numbers, with TypingError."""
    _results(value)


def _write_results(
    _typing_context: Any, spec: Any, address: Any, plane: Any, x: Any, value: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write what the function gave at x; `plane` is the number of bytes between results of one pixel."""
    items = _results(value)

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        model = context.data_model_manager[spec.output]
        for k, kind in enumerate(items):
            result = builder.extract_value(args[4], k) if isinstance(value, types.BaseTuple) else args[4]
            if isinstance(kind, types.Literal):
                result = context.cast(builder, result, kind, types.unliteral(kind))
            result = _converted(context, builder, result, types.unliteral(kind), spec.output)
            start = builder.add(args[1], builder.mul(args[2], args[2].type(k)))
            place = pointer_at(builder, start, model.get_data_type(), args[3])
            _mark(builder, builder.store(model.as_data(builder, result), place, align=1), read=False)
        return context.get_dummy_value()

    return types.void(spec, address, plane, x, value), generate


def _converted(context: Any, builder: ir.IRBuilder, value: ir.Value, kind: Any, wanted: Any) -> ir.Value:
    """A number as C converts it, as SciPy does: towards zero, then the low bits.

    What 64 bits do not hold, and NaN, becomes 0: of that, C and LLVM say nothing, and processors differ.
    """
    if isinstance(wanted, types.Float) or not isinstance(kind, types.Float):
        return context.cast(builder, value, kind, wanted)

    def within(low: float, high: float) -> ir.Value:
        """The number if it is from `low` up to `high`, else 0."""
        above, below = (builder.fcmp_ordered(sign, value, value.type(n)) for sign, n in ((">=", low), ("<", high)))
        return builder.select(builder.and_(above, below), value, value.type(0.0))

    wide = ir.IntType(64)
    whole = builder.fptosi(within(-(2.0**63), 2.0**63), wide)
    if isinstance(wanted, types.Boolean):
        return builder.icmp_signed("!=", whole, wide(0))
    if not wanted.signed and wanted.bitwidth == 64:
        is_large = builder.fcmp_ordered(">=", value, value.type(2.0**63))
        whole = builder.select(is_large, builder.fptoui(within(0.0, 2.0**64), wide), whole)
    return whole if wanted.bitwidth == 64 else builder.trunc(whole, ir.IntType(wanted.bitwidth))


def is_any_nan(builder: ir.IRBuilder, values: list[ir.Value]) -> ir.Value:
    """Whether one of some floats is NaN."""
    unordered = builder.fcmp_unordered("uno", values[0], values[-1])
    for one, other in zip(values[1::2], values[2::2], strict=False):
        unordered = builder.or_(unordered, builder.fcmp_unordered("uno", one, other))
    return unordered


def _count_results(
    typing_context: Any, function: Any, spec: Any, arguments: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """How many numbers the function gives for a pixel; 0 if it gives one that is no tuple."""
    signature = typing_context.resolve_function_type(function, (spec.window, *arguments), {})
    value = signature.return_type
    count = len(_results(value)) if isinstance(value, types.BaseTuple) else 0

    def generate(context: Any, _builder: ir.IRBuilder, _signature: Any, _args: Any) -> ir.Value:
        return context.get_constant(types.intp, count)

    return types.intp(function, spec, arguments), generate


def check_place(value: Any, n_axes: int) -> None:
    """Refuse a type that is no position, a tuple of that many numbers, with TypingError."""
    kinds = _results(value) if isinstance(value, types.BaseTuple) else ()
    if len(kinds) != n_axes:
        raise TypingError(f"it returns {value}, wanted a tuple of numbers, one for each axis of the input")


def _write_place(
    _typing_context: Any, places: Any, index: Any, place: Any, pad: Any, input_shape: Any
) -> tuple[Any, Callable[..., ir.Value]]:
    """Write a position into a column of an array; the input's shape says how many numbers it has."""
    check_place(place, len(input_shape))
    kinds = [types.unliteral(kind) for kind in _results(place)]

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, args: Any) -> ir.Value:
        array = context.make_array(places)(context, builder, args[0])
        row = builder.extract_value(array.shape, 1)
        pad_value = context.cast(builder, args[3], signature.args[3], types.float64)
        for k, kind in enumerate(kinds):
            item = builder.extract_value(args[2], k)
            if isinstance(place.types[k], types.Literal):
                item = context.cast(builder, item, place.types[k], kind)
            item = builder.fadd(context.cast(builder, item, kind, types.float64), pad_value)
            offset = builder.add(builder.mul(row, row.type(k)), args[1])
            builder.store(item, builder.gep(array.data, [offset], inbounds=True))
        return context.get_dummy_value()

    return types.void(places, index, place, pad, input_shape), generate


read_item: Any = intrinsic(_read_item)
copy_result: Any = intrinsic(_copy_result)
itemsize_of: Any = intrinsic(_itemsize_of)
gather: Any = intrinsic(_gather)
write_results: Any = intrinsic(_write_results)
write_place: Any = intrinsic(_write_place)
count_results: Any = intrinsic(_count_results)


@numba.njit(nogil=True)
def filter_block(
    function: Any,
    spec: Any,
    scratch: Any,
    elements: Any,
    sizes: tuple[int, int, int],
    target: int,
    steps: tuple[int, int],
    arguments: Any,
) -> None:
    """Call the function with all windows of a block of lines, and write what it gives.

    Parameters
    ----------
    scratch : loops.Scratch
        Its `addresses` have, line by line, the address of each element of the window at x = 0.
    elements : (int64 array, int64 array)
        Where elements of the window are, along lines and across.
    sizes : (int, int, int)
        Lines, elements of a line, and neighbours at a position (as three colours).
    target : int
        Address of the first result.
    steps : (int, int)
        Bytes between lines of results, and between results of one pixel.
    """
    count = len(elements[0])
    for i in range(sizes[0]):
        place = target + i * steps[0]
        for x in range(sizes[1]):
            window = gather(spec, scratch.addresses, i * count, scratch.window, x)
            write_results(spec, place, steps[1], x, function(window, *arguments))
