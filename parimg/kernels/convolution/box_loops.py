"""The loops of boxes: sums of columns, moved down by a line, and windows of these along a line.

C functions compiled by dtype and called by address, as `tile.py` tells; `boxes.py` calls. Nothing is checked here.
"""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from parimg.kernels.convolution import tile
from parimg.kernels.convolution.tile import address, pointer

if TYPE_CHECKING:
    from collections.abc import Callable

# Strategy: a window differs from the one before by a column that enters and one that leaves. These differences are
# summed up within a vector by log2(lanes) shifted adds, and to that the last window of the vector before is added,
# so that the time does not depend on the width. Windows of a few columns are added up one by one, which is less.
# Columns of several channels are `step` elements apart, and so is all of this.

VECTOR_BYTES = min(tile.lanes("float32") * 4, 32)
_WIDEST_WRITTEN_OUT = 3
_WIDEST_ADDED = {"uint16": 12, "uint32": 10, "float32": 7, "float64": 7}  # columns; wider windows are scanned
_AT_ONCE = 64  # bytes of sums that are rounded and stored together
_types: Any = types  # untyped, as is the next
_cgutils: Any = cgutils
_int32, _intp = ir.IntType(32), ir.IntType(64)
_Arguments = tuple[Any, "Callable[..., ir.Value]"]


def lanes_of(dtype: str) -> int:
    """Elements of a vector."""
    return VECTOR_BYTES // np.dtype(dtype).itemsize


def _element(kind: Any) -> ir.Type:
    dtype = np.dtype(kind.name)
    if dtype.kind in "iu":
        return ir.IntType(dtype.itemsize * 8)
    return ir.FloatType() if kind == types.float32 else ir.DoubleType()


def _is_float(kind: ir.Type) -> bool:
    return not isinstance(kind, ir.IntType)


def _in_all_lanes(b: ir.IRBuilder, value: ir.Value, lanes: int) -> ir.Value:
    undefined = ir.Constant(ir.VectorType(value.type, lanes), ir.Undefined)
    one = b.insert_element(undefined, value, _int32(0))
    return b.shuffle_vector(one, undefined, ir.Constant(ir.VectorType(_int32, lanes), [0] * lanes))


def _load(b: ir.IRBuilder, place: ir.Value, index: ir.Value, lanes: int) -> ir.Value:
    """Elements from an index on, which need not be aligned."""
    at = b.gep(place, [index])
    element = place.type.pointee
    size = element.width // 8 if isinstance(element, ir.IntType) else 4 if element == ir.FloatType() else 8
    return b.load(b.bitcast(at, ir.VectorType(element, lanes).as_pointer()), align=size)


def _store(b: ir.IRBuilder, vector: ir.Value, place: ir.Value, index: ir.Value) -> None:
    at = b.bitcast(b.gep(place, [index]), vector.type.as_pointer())
    b.store(vector, at, align=1)


def _cast(b: ir.IRBuilder, value: ir.Value, element: ir.Type) -> ir.Value:
    """Numbers as others that hold them; integers are unsigned if they are not negative by their dtype."""
    kind = value.type
    is_vector = isinstance(kind, ir.VectorType)
    given = kind.element if is_vector else kind
    wanted = ir.VectorType(element, kind.count) if is_vector else element
    if given == element:
        return value
    if _is_float(given):
        return (b.fpext if element == ir.DoubleType() else b.fptrunc)(value, wanted)
    return b.zext(value, wanted) if given.width < element.width else b.trunc(value, wanted)


def _high_half(b: ir.IRBuilder, one: ir.Value, other: ir.Value) -> ir.Value:
    """The upper halves of the products of two vectors of unsigned integers."""
    bits, lanes = one.type.element.width, one.type.count
    if bits == 16:
        wide = ir.VectorType(_int32, lanes)
        product = b.mul(b.zext(one, wide), b.zext(other, wide))
        return b.trunc(b.lshr(product, ir.Constant(wide, [bits] * lanes)), one.type)
    # Elements with even and with odd places by themselves: half as many shuffles as widening takes.
    wide = ir.VectorType(_intp, lanes // 2)
    half, low = ir.Constant(wide, [bits] * (lanes // 2)), ir.Constant(wide, [2**bits - 1] * (lanes // 2))
    pairs, factor = b.bitcast(one, wide), b.and_(b.bitcast(other, wide), low)
    even, odd = b.mul(b.and_(pairs, low), factor), b.mul(b.lshr(pairs, half), factor)
    return b.bitcast(b.or_(b.lshr(even, half), b.and_(odd, b.not_(low))), one.type)


def _move_columns(
    _typing_context: Any, sums: Any, entering: Any, leaving: Any, constant: Any, count: Any
) -> _Arguments:
    """Add a line to the sums of columns, take another away, and add a number to each.

    Returns the largest absolute value that enters where they are floats, which a NaN is not, else 0.
    """
    element, given = _element(sums.dtype), _element(entering.dtype)
    is_signed = np.dtype(entering.dtype.name).kind == "i"
    lanes = _AT_ONCE // np.dtype(sums.dtype.name).itemsize

    def widened(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
        if _is_float(given) or not _is_float(element):
            return _cast(b, value, element)
        is_vector = isinstance(value.type, ir.VectorType)
        wanted = ir.VectorType(element, value.type.count) if is_vector else element
        return (b.sitofp if is_signed else b.uitofp)(value, wanted)

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        sums_p, entering_p, leaving_p, number, n = args
        add, subtract = (b.fadd, b.fsub) if _is_float(element) else (b.add, b.sub)
        if not _is_float(element):
            number = b.trunc(b.fptosi(number, _intp), element)
        elif element == ir.FloatType():
            number = b.fptrunc(number, element)
        with b.goto_entry_block():
            largest = b.alloca(ir.VectorType(given, lanes))
            largest_one = b.alloca(given)
        finds_largest = _is_float(given)
        if finds_largest:
            b.store(ir.Constant(largest.type.pointee, [0.0] * lanes), largest)
            b.store(ir.Constant(given, 0.0), largest_one)

        def keep_largest(value: ir.Value, place: ir.Value) -> None:
            name = (
                "llvm.fabs."
                + (f"v{lanes}" if place is largest else "")
                + ("f32" if given == ir.FloatType() else "f64")
            )
            kind = ir.FunctionType(value.type, [value.type])
            size = b.call(_cgutils.get_or_insert_function(b.module, kind, name), [value])
            before = b.load(place)
            b.store(b.select(b.fcmp_ordered(">", size, before), size, before), place)

        whole = b.and_(n, _intp(-lanes))
        constant_vector = _in_all_lanes(b, number, lanes)
        with cgutils.for_range_slice(b, _intp(0), whole, _intp(lanes)) as (i, _):
            enters, leaves = _load(b, entering_p, i, lanes), _load(b, leaving_p, i, lanes)
            change = subtract(widened(b, enters), widened(b, leaves))
            _store(b, add(_load(b, sums_p, i, lanes), add(change, constant_vector)), sums_p, i)
            if finds_largest:
                keep_largest(enters, largest)
        with cgutils.for_range_slice(b, whole, n, _intp(1)) as (i, _):
            enters, leaves = (b.load(b.gep(place, [i])) for place in (entering_p, leaving_p))
            change = subtract(widened(b, enters), widened(b, leaves))
            place = b.gep(sums_p, [i])
            b.store(add(b.load(place), add(change, number)), place)
            if finds_largest:
                keep_largest(enters, largest_one)
        if not finds_largest:
            return ir.Constant(ir.DoubleType(), 0.0)
        found = b.load(largest)
        for lane in range(lanes):
            one, before = b.extract_element(found, _int32(lane)), b.load(largest_one)
            b.store(b.select(b.fcmp_ordered(">", one, before), one, before), largest_one)
        return _cast(b, b.load(largest_one), ir.DoubleType())

    return types.float64(sums, entering, leaving, constant, count), generate


def _add_windows(
    _typing_context: Any,
    sums: Any,
    carry: Any,
    out: Any,
    columns: Any,
    width: Any,
    factor: Any,
    rounding: Any,
    sizes: Any,
) -> _Arguments:
    """Write what the sums of `width` columns, `step` elements apart, come to, for so many columns.

    Sums of floats are multiplied by `factor`; integers become ``(sum + bias) * multiplier >> bits + shift``, the
    three numbers being in `rounding`. `sizes` holds three numbers as lengths of tuples: the step; the width, if
    the sums of so many columns are written out, else 0; and whether windows are scanned. Then `carry` holds a
    vector whose last `step` elements are the windows before the first, and `step` elements before `sums` are 0.
    Reads up to `_AT_ONCE` bytes beyond the last window, writes nothing beyond.
    """
    step, written_out, is_scanned = (kind.count for kind in sizes.dtype.types)
    element, result = _element(sums.dtype), _element(out.dtype)
    bits = np.dtype(sums.dtype.name).itemsize * 8
    lanes = VECTOR_BYTES * 8 // bits
    at_once = _AT_ONCE * 8 // bits
    vector = ir.VectorType(element, lanes)

    def generate(_context: Any, b: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        sums_p, carry_p, out_p, n_columns, n_width, weight, rounding_p, _ = args
        add, subtract = (b.fadd, b.fsub) if _is_float(element) else (b.add, b.sub)
        kept = ir.VectorType(element, at_once)
        with b.goto_entry_block():
            before = b.alloca(vector)
            total = b.alloca(kept)
            last = b.alloca(ir.VectorType(result, at_once))

        def read_number(place: int) -> ir.Value:
            number = b.trunc(b.load(b.gep(rounding_p, [_intp(place)])), element)
            return _in_all_lanes(b, number, at_once)

        if _is_float(element):
            weights = _in_all_lanes(b, _cast(b, weight, element), at_once)
        else:
            constants = read_number(0), read_number(2)

        def rounded(value: ir.Value) -> ir.Value:
            if _is_float(element):
                return _cast(b, b.fmul(value, weights), result)
            # The multiplier is read anew each time: LLVM finds the multiplication for the high half only where
            # both factors are widened beside it.
            bias, shift = constants
            multiplier = read_number(1)
            return _cast(b, b.lshr(_high_half(b, b.add(value, bias), multiplier), shift), result)

        def shuffled(one: ir.Value, other: ir.Value, places: list[int]) -> ir.Value:
            return b.shuffle_vector(one, other, ir.Constant(ir.VectorType(_int32, len(places)), places))

        def summed_up(change: ir.Value) -> ir.Value:
            """Each element and those before it, of the same channel."""
            zero = ir.Constant(vector, [0.0 if _is_float(element) else 0] * lanes)
            # Within halves of 16 bytes first, where that is possible: across them it takes twice as many shuffles,
            # and with AVX-512 LLVM takes `vexpandps`, which made the whole loop twice as slow.
            part = 128 // bits if 128 // bits % step == 0 else lanes
            moved = step
            while moved < part:
                change = add(
                    change,
                    shuffled(
                        zero,
                        change,
                        [lanes + lane - moved if lane % part >= moved else 0 for lane in range(lanes)],
                    ),
                )
                moved *= 2
            if part < lanes:
                ends = [lanes + part - step + lane % step if lane >= part else 0 for lane in range(lanes)]
                change = add(change, shuffled(zero, change, ends))
            return change

        def scanned(column: ir.Value) -> ir.Value:
            parts: list[ir.Value] = []
            ends: list[ir.Value] = []
            first = b.load(before)
            for part in range(at_once // lanes):
                here = b.add(column, _intp(part * lanes))
                entering = _load(b, sums_p, b.add(here, reach), lanes)
                change = summed_up(subtract(entering, _load(b, sums_p, b.sub(here, _intp(step)), lanes)))
                # Ends are summed up by themselves, so that no vector waits for the one before.
                parts.append(add(reduce(add, [change, *ends]), first))
                ends.append(shuffled(change, change, last_of_channels))
                if lanes % step:  # in the next vector, channels have other places
                    first, ends = add(shuffled(first, first, next_of_channels), ends[0]), []
            b.store(add(reduce(add, ends), first) if ends else first, before)
            while len(parts) > 1:
                every = list(range(2 * parts[0].type.count))
                pairs = zip(parts[::2], parts[1::2], strict=True)
                parts = [shuffled(one, other, every) for one, other in pairs]
            return parts[0]

        def added(column: ir.Value) -> ir.Value:
            if written_out:
                places = [b.add(column, _intp(x * step)) for x in range(written_out)]
                return reduce(add, [_load(b, sums_p, place, at_once) for place in places])
            b.store(_load(b, sums_p, column, at_once), total)
            with cgutils.for_range_slice(b, _intp(1), n_width, _intp(1)) as (x, _):
                one = _load(b, sums_p, b.add(column, b.mul(x, _intp(step))), at_once)
                b.store(add(b.load(total), one), total)
            return b.load(total)

        last_of_channels = [lanes - step + lane % step for lane in range(lanes)]
        next_of_channels = [(lane + lanes) % step for lane in range(lanes)]
        reach = b.mul(b.sub(n_width, _intp(1)), _intp(step))
        if is_scanned:
            given = _load(b, carry_p, _intp(0), lanes)
            b.store(shuffled(given, given, last_of_channels), before)
        with cgutils.for_range_slice(b, _intp(0), n_columns, _intp(at_once)) as (column, _):
            value = rounded((scanned if is_scanned else added)(column))
            left = b.sub(n_columns, column)
            with b.if_else(b.icmp_signed(">=", left, _intp(at_once)), likely=True) as (then, otherwise):
                with then:
                    _store(b, value, out_p, column)
                with otherwise:
                    b.store(value, last)
                    first = b.bitcast(last, result.as_pointer())
                    cgutils.memcpy(b, b.gep(out_p, [column]), first, left)
        return _context.get_dummy_value()

    return types.void(sums, carry, out, columns, width, factor, rounding, sizes), generate


_columns: Any = intrinsic(_move_columns)
_windows: Any = intrinsic(_add_windows)


def _columns_function(  # pragma: no cover
    sums: Any, entering: Any, leaving: Any, constant: float, count: int
) -> Any:
    return _columns(sums, entering, leaving, constant, count)


def _windows_function(  # pragma: no cover
    sums: Any, carry: Any, out: Any, columns: int, width: int, factor: float, rounding: Any, sizes: Any
) -> None:
    _windows(sums, carry, out, columns, width, factor, rounding, sizes)


def columns_address(source: str, sums: str) -> int:
    """Address of what moves sums of that dtype by lines of another; see `_move_columns`."""
    line = pointer(source)
    return address(types.float64, _columns_function, pointer(sums), line, line, types.float64, types.intp)


def is_scanned(sums: str, step: int, width: int) -> bool:
    """Whether windows of that width are, see above."""
    return width > _WIDEST_ADDED[sums] and step <= lanes_of(sums)


def windows_address(sums: str, out: str, step: int, width: int) -> int:
    """Address of what writes windows; see `_add_windows`."""
    scanned = is_scanned(sums, step, width)
    numbers = (step, width if width <= _WIDEST_WRITTEN_OUT else 0, int(scanned))
    sizes = _types.Tuple([_types.UniTuple(types.int8, number) for number in numbers])
    kinds = (pointer(sums), pointer(sums), pointer(out), types.intp, types.intp, types.float64, pointer("intp"))
    return address(types.void, _windows_function, *kinds, _types.CPointer(sizes))
