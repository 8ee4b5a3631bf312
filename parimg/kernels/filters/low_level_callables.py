"""LowLevelCallables for SciPy's own filters, of plain Python functions.

Called by users through `parimg.kernels`. SciPy hands a callable the address of its user data; here that is a block
of eight-byte words, in which the extra arguments lie one after the other, numbers as they are and arrays as
address and shape. So arguments are read at each call, and others of the same types compile nothing anew.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import numba
import numpy as np
from numba import carray, types  # type: ignore[attr-defined] # no re-export, says its stub
from numba.core.errors import TypingError
from numba.core.imputils import lower_constant
from numba.extending import intrinsic, models, register_model, typeof_impl
from numba.np.arrayobj import populate_array
from numba.np.numpy_support import from_dtype
from scipy import LowLevelCallable

from parimg.kernels.filters.user_functions import as_user_function

if TYPE_CHECKING:
    from types import FunctionType

    from llvmlite import ir

_double = types.CPointer(types.float64)
_index = types.CPointer(types.intp)
# What SciPy documents, on every platform: it knows `intptr_t` by that name, while the C type that ctypes has for
# it is `long` on Linux and macOS and `long long` on Windows.
_WAY_OUT = "change it to what numba compiles, or give parimg's or SciPy's filter the plain function (python=True)"
_OF_WINDOWS = "int (double *, intptr_t, double *, void *)"
_OF_LINES = "int (double *, intptr_t, double *, intptr_t, void *)"
_OF_POSITIONS = "int (intptr_t *, double *, int, int, void *)"


def jit_filter_function(
    function: Callable[..., object] | None = None,
    *,
    extra_arguments: Iterable[Any] = (),
) -> Any:
    """Compile a function of a window for `scipy.ndimage.generic_filter`, as llc's decorator of that name does.

    Parameters
    ----------
    function : callable
        Called with the elements of the window, a float64 array of one dimension, and the extra arguments; returns
        a number. Without it, a decorator is returned.
    extra_arguments : sequence
        Numbers and arrays that `function` is called with behind the window.

    Returns
    -------
    scipy.LowLevelCallable
        With the signature that SciPy documents, on every platform.

    Raises
    ------
    TypeError
        If numba cannot compile the function: the message has its reason and the line; or if an extra argument is
        neither a number nor an array of numbers.

    Notes
    -----
    What is compiled is kept on disk, unless the function refers to what cannot be told apart, such as an object.
    An exception in the function is printed, and SciPy's call fails.
    `parimg.kernels.generic_filter` needs no such callable and is faster: the function is part of its loop.

    References
    ----------
    J. Nunez-Iglesias, "Prettier LowLevelCallables with Numba JIT and decorators", 2017.

    Examples
    --------
    >>> from scipy import ndimage
    >>> @jit_filter_function
    ... def spread(values):
    ...     return values.max() - values.min()
    >>> ndimage.generic_filter([[1, 2, 4], [1, 9, 4]], spread, size=(1, 3))
    array([[1, 3, 2],
           [8, 8, 5]])
    """
    if function is None:
        return functools.partial(jit_filter_function, extra_arguments=extra_arguments)
    signature = types.intc(_double, types.intp, _double, types.voidptr)
    window = types.Array(types.float64, 1, "C")
    return _low_level(function, _of_windows, signature, _OF_WINDOWS, (window,), extra_arguments, types.float64)


def jit_filter1d_function(
    function: Callable[..., object] | None = None,
    *,
    extra_arguments: Iterable[Any] = (),
) -> Any:
    """Compile a function of a line for `scipy.ndimage.generic_filter1d`, as llc's decorator of that name does.

    Parameters
    ----------
    function : callable
        Called with the extended input line and the output line, float64 arrays, and the extra arguments; it writes
        the output line. Without it, a decorator is returned.
    extra_arguments : sequence
        Numbers and arrays that `function` is called with behind the lines.

    Returns
    -------
    scipy.LowLevelCallable

    Raises
    ------
    TypeError
        As `jit_filter_function`.

    Examples
    --------
    >>> from scipy import ndimage
    >>> @jit_filter1d_function
    ... def difference(line, result):
    ...     for i in range(len(result)):
    ...         result[i] = line[i + 1] - line[i]
    >>> ndimage.generic_filter1d([1, 2, 4, 8], difference, filter_size=2)
    array([0, 1, 2, 4])
    """
    if function is None:
        return functools.partial(jit_filter1d_function, extra_arguments=extra_arguments)
    signature = types.intc(_double, types.intp, _double, types.intp, types.voidptr)
    line = types.Array(types.float64, 1, "C")
    return _low_level(function, _of_lines, signature, _OF_LINES, (line, line), extra_arguments, None)


def jit_geometric_function(
    function: Callable[..., object] | None = None,
    *,
    extra_arguments: Iterable[Any] = (),
) -> Any:
    """Compile a mapping for `scipy.ndimage.geometric_transform`, as llc's decorator of that name does.

    Parameters
    ----------
    function : callable
        Called with the output position, an array of integers, the array of floats that it writes the input
        position into, and the extra arguments. Without it, a decorator is returned.
    extra_arguments : sequence
        Numbers and arrays that `function` is called with behind the positions.

    Returns
    -------
    scipy.LowLevelCallable

    Raises
    ------
    TypeError
        As `jit_filter_function`.

    Examples
    --------
    >>> from scipy import ndimage
    >>> @jit_geometric_function
    ... def shifted(position, place):
    ...     place[0] = position[0] - 1
    >>> ndimage.geometric_transform([1, 2, 4, 8], shifted, order=0)
    array([0, 1, 2, 4])
    """
    if function is None:
        return functools.partial(jit_geometric_function, extra_arguments=extra_arguments)
    signature = types.intc(_index, _double, types.intc, types.intc, types.voidptr)
    positions = types.Array(types.intp, 1, "C"), types.Array(types.float64, 1, "C")
    return _low_level(function, _of_positions, signature, _OF_POSITIONS, positions, extra_arguments, None)


# -- the callbacks --------------------------------------------------------------------------------------------


def _of_windows(user: Any, words: Words) -> FunctionType:
    def callback(values, n, result, data):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        result[0] = user(carray(values, (n,)), *read_words(words, data))
        return 1

    return callback  # type: ignore[return-value]


def _of_lines(user: Any, words: Words) -> FunctionType:
    def callback(line, n_line, result, n_result, data):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        user(carray(line, (n_line,)), carray(result, (n_result,)), *read_words(words, data))
        return 1

    return callback  # type: ignore[return-value]


def _of_positions(user: Any, words: Words) -> FunctionType:
    def callback(position, place, n_output, n_input, data):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202
        user(carray(position, (n_output,)), carray(place, (n_input,)), *read_words(words, data))
        return 1

    return callback  # type: ignore[return-value]


def _low_level(
    function: Callable[..., object],
    make_callback: Callable[[Any, Words], FunctionType],
    signature: Any,
    c_signature: str,
    argument_types: tuple[Any, ...],
    extra_arguments: Iterable[Any],
    result_type: Any,
) -> LowLevelCallable:
    user = as_user_function(function, len(argument_types), extra_arguments, None)
    words = Words(user.arguments)
    callback = make_callback(user, words)

    def check_result(kind: Any) -> None:
        kind = types.unliteral(kind)
        if result_type is not None and not isinstance(kind, types.Integer | types.Float | types.Boolean):
            raise TypingError(f"it returns {kind}, wanted a real number")

    try:
        compiled = numba.cfunc(signature, cache=user.can_be_cached)(callback)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        given = (*argument_types, *words.numba_type.kinds)
        raise user.explain(error, given, check_result, way_out=_WAY_OUT) from error
    pointer: Any = compiled.ctypes
    pointer.compiled = compiled  # lives as long as the callable
    return LowLevelCallable(pointer, words.address, signature=c_signature)


# -- extra arguments as user data -------------------------------------------------------------------------------


class WordsType(types.Opaque):
    """The numba type of a `Words`: that of every argument."""

    def __init__(self, kinds: tuple[Any, ...]) -> None:
        self.kinds = kinds
        super().__init__(f"Words{kinds}")


class Words:
    """Extra arguments in eight-byte words, and what is compiled of how they lie there."""

    def __init__(self, arguments: Iterable[Any]) -> None:
        words: list[Any] = []
        self._arrays: list[np.ndarray[Any, Any]] = []
        kinds: list[Any] = []
        for argument in arguments:
            value = np.asarray(argument)
            if value.dtype.kind not in "biuf" or value.dtype.char in "eg" or not value.dtype.isnative:
                raise TypeError(
                    "extra arguments of a low-level callable must be numbers, or arrays of them "
                    f"(got {argument!r:.80}, a {type(argument).__name__})"
                )
            if value.ndim == 0:
                dtype = {"f": np.float64, "u": np.uint64}.get(value.dtype.kind, np.int64)
                words.append(dtype(value))
                kinds.append(from_dtype(np.dtype(dtype)))
                continue
            value = np.require(value, requirements=["C_CONTIGUOUS", "ALIGNED"])
            self._arrays.append(value)
            words += [np.int64(word) for word in (value.__array_interface__["data"][0], *value.shape)]
            kinds.append(types.Array(from_dtype(value.dtype), value.ndim, "C"))
        self._memory = np.array([word.view(np.int64) for word in words] or [0], np.int64)
        self.numba_type = WordsType(tuple(kinds))

    @property
    def address(self) -> ctypes.c_void_p:
        """Where they lie; it keeps them alive."""
        pointer = ctypes.c_void_p(self._memory.__array_interface__["data"][0])
        pointer.words = self  # type: ignore[attr-defined]
        return pointer

    def __reduce__(self) -> tuple[Any, ...]:
        # What numba's cache takes the hash of where a compiled closure refers to this.
        return WordsType, (self.numba_type.kinds,)


register_model(WordsType)(models.OpaqueModel)


@typeof_impl.register(Words)
def _type_of(value: Words, _context: Any) -> WordsType:
    return value.numba_type


@lower_constant(WordsType)
def _constant(context: Any, _builder: Any, _type: Any, _value: Any) -> Any:
    return context.get_dummy_value()


def _read_words(_typing_context: Any, words: Any, data: Any) -> tuple[Any, Callable[..., ir.Value]]:
    """The arguments, as a tuple."""
    result = types.Tuple(words.kinds)

    def generate(context: Any, builder: ir.IRBuilder, _signature: Any, args: Any) -> ir.Value:
        word = context.get_value_type(types.intp)
        place = 0

        def next_word(kind: Any) -> ir.Value:
            nonlocal place
            pointer = builder.gep(builder.bitcast(args[1], word.as_pointer()), [word(place)])
            place += 1
            return builder.load(builder.bitcast(pointer, kind.as_pointer()))

        values = []
        for kind in words.kinds:
            if not isinstance(kind, types.Array):
                values.append(next_word(context.get_value_type(kind)))
                continue
            address = next_word(word)
            shape = [next_word(word) for _ in range(kind.ndim)]
            array = context.make_array(kind)(context, builder)
            itemsize = word(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
            strides = [itemsize]
            for size in shape[:0:-1]:
                strides.insert(0, builder.mul(strides[0], size))
            data_type = context.get_data_type(kind.dtype).as_pointer()
            populate_array(array, builder.inttoptr(address, data_type), shape, strides, itemsize, None)
            values.append(array._getvalue())  # noqa: SLF001 - numba's way
        return context.make_tuple(builder, result, values)

    return result(words, data), generate


read_words: Any = intrinsic(_read_words)
