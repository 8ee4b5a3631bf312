"""NumPy's reductions of a window, as plain arithmetic on its elements.

Numba's own go through loops and branches that LLVM cannot vectorise over x: its median allocates a copy of the
window and partitions it, 100 times slower. These are registered for windows of constant length only, and only in
compiled filters; other arrays are left to numba. Loaded by `loops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from numba.extending import intrinsic, overload, overload_method

from parimg.kernels.filters.windows import Window, is_any_nan

if TYPE_CHECKING:
    from llvmlite import ir


# Exchanges that bring the median into the middle, for windows of 3 x 3 and 5 x 5: 30 and 174 minima and maxima,
# where sorting takes 40 and 202. Pairs of places in base 36.
_MEDIANS = {
    9: "12 45 78 01 34 67 12 45 78 03 58 47 36 14 25 47 42 64 42",
    25: (
        "01 34 24 23 67 57 56 9a 8a 89 cd bd bc fg eg ef ij hj hi lm km kl no "
        "25 36 06 03 47 17 14 be 8e 8b cf 9f 9c dg ag ad kn hn hk lo io il jm "
        "8h 9i 0i 09 aj 1j 1a bk 2k 2b cl 3l 3c dm 4m 4d en 5n 5e fo 6o 6f "
        "7g 7j dl fn 7d 7f 19 3b 5h bh 9h 4a 6c 7e 46 47 ce ae 67 ac 6a 6h ch 7h 7a ci 7c ai ck ak ac"
    ),
}


def median_exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Pairs that bring the middle of `count` elements, or both if it is even, into its place.

    A. W. Paeth, "Median finding on a 3-by-3 grid", Graphics Gems, 1990; N. Devillard, "Fast median search", 1998.
    """
    if count in _MEDIANS:
        return ((int(pair[0], 36), int(pair[1], 36)) for pair in _MEDIANS[count].split())
    return exchanges(count)


def exchanges(count: int) -> Iterator[tuple[int, int]]:
    """Pairs that, put into order one after the other, sort `count` elements (Batcher's odd-even mergesort).

    K. E. Batcher, "Sorting networks and their applications", AFIPS 1968.
    """
    run = 1
    while run < count:
        step = run
        while step >= 1:
            for begin in range(step % run, count - step, 2 * step):
                for low in range(begin, min(begin + step, count - step)):
                    if low // (2 * run) == (low + step) // (2 * run):
                        yield low, low + step
            step //= 2
        run *= 2


def _median(_typing_context: Any, window: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """Median of a window of floats, NaN if one is. LLVM drops the exchanges that the middle does not need."""

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        values = _elements(context, builder, window, args[0])
        unordered = is_any_nan(builder, values)
        for low, high in median_exchanges(window.count):
            one, other = values[low], values[high]
            ordered = builder.fcmp_ordered("<", one, other)
            values[low], values[high] = builder.select(ordered, one, other), builder.select(ordered, other, one)
        middle = window.count // 2
        median = values[middle]
        if window.count % 2 == 0:
            median = builder.fmul(builder.fadd(values[middle - 1], median), median.type(0.5))
        return builder.select(unordered, median.type(float("nan")), median)

    return window.dtype(window), generate


def _extreme(sign: str) -> Any:
    """An intrinsic for the smallest (``<``) or largest (``>``) of a window, NaN if one is."""

    def extreme(_typing_context: Any, window: Any) -> tuple[Any, Callable[..., ir.Value]]:
        def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
            values = _elements(context, builder, window, args[0])
            is_float = isinstance(window.dtype, types.Float)
            is_signed = not is_float and window.dtype.signed
            of_integers = builder.icmp_signed if is_signed else builder.icmp_unsigned
            compare = builder.fcmp_ordered if is_float else of_integers
            found = values[0]
            for value in values[1:]:
                found = builder.select(compare(sign, value, found), value, found)
            if not is_float:
                return found
            return builder.select(is_any_nan(builder, values), found.type(float("nan")), found)

        return window.dtype(window), generate

    return intrinsic(extreme)


def _elements(context: Any, builder: ir.IRBuilder, window: Any, value: ir.Value) -> list[ir.Value]:
    data = context.make_array(window)(context, builder, value).data
    word = context.get_value_type(types.intp)
    return [builder.load(builder.gep(data, [word(k)], inbounds=True)) for k in range(window.count)]


_median_of_floats: Any = intrinsic(_median)
_smallest, _largest = _extreme("<"), _extreme(">")


# Overloads for the processor are tried before those for any target, which numba's own are.
@overload(np.median, target="cpu", strict=False)
def _overload_median(a: Any) -> Callable[..., Any] | None:
    if isinstance(a, Window) and isinstance(a.dtype, types.Float):
        return lambda a: _median_of_floats(a)  # noqa: PLW0108 - numba wants a Python function
    return None


@overload_method(Window, "min", target="cpu", strict=False)  # type: ignore[call-arg]
@overload(np.amin, target="cpu", strict=False)
@overload(np.min, target="cpu", strict=False)
def _overload_min(a: Any) -> Callable[..., Any] | None:
    return (lambda a: _smallest(a)) if isinstance(a, Window) else None  # noqa: PLW0108


@overload_method(Window, "max", target="cpu", strict=False)  # type: ignore[call-arg]
@overload(np.amax, target="cpu", strict=False)
@overload(np.max, target="cpu", strict=False)
def _overload_max(a: Any) -> Callable[..., Any] | None:
    return (lambda a: _largest(a)) if isinstance(a, Window) else None  # noqa: PLW0108
