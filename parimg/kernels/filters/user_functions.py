"""A user's Python function as a numba type, so that loops it is compiled into are found again on disk.

Numba caches a loop that takes another jitted function only under that function's identity in this process. Here
the function is named by a digest of what it does (its code, constants, defaults, and everything that it refers
to) and the digest is the type that the loop is compiled for. A new process that meets the same function, also
one from a notebook cell or a pickle, loads the loop and compiles nothing. Used by the filters' loops.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import itertools
import os
import traceback
from types import CellType, FunctionType
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np
from numba.core import errors, types
from numba.core.imputils import lower_constant
from numba.core.registry import cpu_target
from numba.extending import NativeValue, models, register_model, unbox

from parimg.kernels.filters.compile_errors import error_of_compiling, place_of, reason_of
from parimg.kernels.filters.digests import digest_of, is_known, names_in, sources_stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from numba.core.dispatcher import Dispatcher

_dispatchers: dict[str, Dispatcher] = {}
_unnamed = itertools.count()
_AS_PYTHON = "pass python=True to run it as plain Python, which is slow"
_WAY_OUT = f"change it to what numba compiles (what it calls in other modules wants numba.njit), or {_AS_PYTHON}"
_OF_NUMBA = os.path.join(os.path.dirname(numba.__file__), "")
_BY_POSITION_OR_NAME = inspect.Parameter.POSITIONAL_OR_KEYWORD


class UserFunctionType(types.Callable, types.Opaque):
    """The numba type of one user function: calls to it are calls to what numba compiles of it."""

    def __init__(self, digest: str, chosen: Any = None) -> None:
        self.digest = digest
        self.chosen = chosen
        """What `choices.py` says of a function that only chooses among its pixels."""
        super().__init__(f"UserFunction({digest}{f', {chosen.kind.name}' if chosen else ''}, {sources_stamp()})")

    def get_call_type(self, context: Any, args: Any, kws: Any) -> Any:
        template, pysig, args, kws = _dispatchers[self.digest].get_call_template(args, kws)
        return template(context).apply(args, kws).replace(pysig=pysig)

    def get_call_signatures(self) -> tuple[Any, bool]:
        return _dispatchers[self.digest].nopython_signatures, True

    def get_impl_key(self, sig: Any) -> Any:
        return _dispatchers[self.digest].get_overload(sig.args)


_type_of_digest = functools.lru_cache(maxsize=256)(UserFunctionType)  # making a type takes 10 us


class UserFunction:
    """A function that is handed to a loop: nothing at run time, everything at compile time.

    Attributes
    ----------
    function : function
        What is compiled.
    arguments : tuple
        What it is called with behind the loop's own arguments.
    can_be_cached : bool
        Whether its digest says all about it, so that another process may take what was compiled here.
    """

    def __init__(self, function: FunctionType, arguments: tuple[Any, ...]) -> None:
        self.function = function
        self.arguments = arguments
        digest = digest_of(function)
        self.can_be_cached = digest is not None
        # Not to be confused with that of another process: such loops are kept from the disk by the caller.
        self.numba_type = _type_of_digest(digest or f"{os.getpid()}-{next(_unnamed)}")
        if self.numba_type.digest not in _dispatchers:
            _dispatchers[self.numba_type.digest] = _jitted(function, {})

    @property
    def _numba_type_(self) -> UserFunctionType:  # where numba's dispatcher looks first
        return self.numba_type

    def __reduce__(self) -> tuple[Any, ...]:
        # What numba's cache takes the hash of where a compiled closure refers to this.
        return UserFunctionType, (self.numba_type.digest,)

    def explain(
        self,
        error: Exception,
        argument_types: tuple[Any, ...],
        check_result: Callable[[Any], None],
        way_out: str = _WAY_OUT,
    ) -> TypeError:
        """What a user is told when a loop with this function could not be compiled.

        `check_result` raises an error of numba's for a type of result that the loop does not take.
        """
        first = error_of_compiling(_dispatchers[self.numba_type.digest], argument_types, check_result) or error
        if not isinstance(first, errors.NumbaError):
            # As from signatures that are not those of the code (all of scipy.stats), or f-strings.
            first = errors.NumbaError(f"numba stops with {type(first).__name__} {first}".strip())
        return TypeError(
            f"the function {self.function.__qualname__!r} cannot be compiled: "
            f"{reason_of(first)}{place_of(first)}; {way_out}"
        )


def _jitted(function: FunctionType, known: dict[FunctionType, Dispatcher]) -> Dispatcher:
    """A dispatcher of the function, and of the plain Python functions that it calls by name.

    It becomes one of this module: numba imports a function's module when it takes a loop from the disk, and an
    engine has no such module when the function comes from a script or a notebook. `known` has those that are
    jitted already, as functions may call themselves or each other.
    """
    namespace = dict(function.__globals__)
    cells = tuple(CellType() for _ in function.__closure__ or ())
    moved = FunctionType(function.__code__, namespace, function.__name__, function.__defaults__, cells)
    moved.__kwdefaults__ = function.__kwdefaults__
    moved.__qualname__, moved.__module__ = function.__qualname__, __name__
    known[function] = _jitted_as_it_is(moved)

    def compiled(value: Any) -> Any:
        if not isinstance(value, FunctionType) or is_known(value) or _has_numba_type(value):
            return value
        return known.get(value) or _jitted(value, known)

    for name in names_in(function.__code__) & namespace.keys():
        namespace[name] = compiled(namespace[name])
    for cell, given in zip(cells, function.__closure__ or (), strict=True):
        with contextlib.suppress(ValueError):  # not filled yet
            cell.cell_contents = compiled(given.cell_contents)
    return known[function]


def _jitted_as_it_is(function: FunctionType) -> Dispatcher:
    # Inlined always: only then does LLVM see the window in registers and the loop over x as one of plain
    # arithmetic. Division by zero gives inf or NaN, as it does for NumPy's numbers.
    options: dict[str, Any] = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "forceinline": True}
    dispatcher: Dispatcher = numba.njit(nogil=True, error_model="numpy", **options)(function)
    return dispatcher


def compiled_code(digest: str, argument_types: tuple[Any, ...]) -> tuple[str, Any]:
    """What LLVM made of the function of that digest, and the type that it returns."""
    dispatcher = _dispatchers[digest]
    given = dispatcher.get_call_template(argument_types, {})[2]  # with defaults behind them
    compiled: Any = dispatcher.overloads[tuple(given)]
    return compiled.library.get_llvm_str(), compiled.signature.return_type


def add_compiled(user: UserFunction, digest: str, make: Callable[[], FunctionType], chosen: Any) -> UserFunction:
    """The user's function in another form, under a digest of its own; `make` makes that once a process."""
    if digest not in _dispatchers:
        _dispatchers[digest] = _jitted_as_it_is(make())
    other = UserFunction.__new__(UserFunction)
    other.function, other.arguments, other.can_be_cached = user.function, user.arguments, user.can_be_cached
    other.numba_type = _type_of_digest(digest, chosen)
    return other


def _has_numba_type(function: FunctionType) -> bool:
    """Whether numba knows what calls of a Python function are, as after `numba.extending.overload`."""
    context = cpu_target.typing_context
    context.refresh()
    try:
        context.resolve_value_type(function)
    except (ValueError, errors.NumbaError):
        return False
    return True


def run_loop(
    loop: Any,
    user: UserFunction,
    arguments: tuple[Any, ...],
    own_types: tuple[Any, ...],
    check_result: Callable[[Any], None],
) -> Any:
    """Call a loop with a user's function and the loop's arguments, from the disk's cache where possible.

    Parameters
    ----------
    loop : numba dispatcher
    user : UserFunction
        Its first argument; what the function is called with behind the loop's own arguments is the last.
    arguments : tuple
        What lies between.
    own_types : tuple of numba types
        What the loop itself calls the function with.
    check_result : callable
        Raises an error of numba's for a type of result that the loop does not take.

    Raises
    ------
    TypeError
        If it cannot be compiled.
    Exception
        What the function raises.
    """
    try:
        if user.can_be_cached:
            try:
                return loop(user, *arguments, user.arguments)
            except ImportError:
                pass  # a jitted function that it calls lies in a module that this process cannot import
        return _uncached(loop)(user, *arguments, user.arguments)
    except (MemoryError, OSError):
        raise
    except Exception as error:
        if not _is_of_compiling(error):
            raise
        raise user.explain(error, (*own_types, *map(_type_of_argument, user.arguments)), check_result) from error


def _is_of_compiling(error: Exception) -> bool:
    """Whether numba's Python code raised it, which ends before compiled code runs."""
    frames = traceback.walk_tb(error.__traceback__)
    return isinstance(error, errors.NumbaError) or any(
        frame.f_code.co_filename.startswith(_OF_NUMBA) for frame, _ in frames
    )


def _type_of_argument(argument: Any) -> Any:
    try:
        return numba.typeof(argument)
    except (ValueError, errors.NumbaError) as error:
        raise TypeError(
            f"the extra argument {argument!r:.80}, a {type(argument).__name__}, cannot be given to compiled code; "
            f"wanted numbers, arrays of them, and tuples or lists of these; {_AS_PYTHON}"
        ) from error


@functools.cache
def _uncached(loop: Any) -> Any:
    """The same loop for functions that the disk cache would not know again."""
    return numba.njit(nogil=True)(loop.py_func)


register_model(UserFunctionType)(models.OpaqueModel)


@unbox(UserFunctionType)
def _unbox(_type: Any, _value: Any, context: Any) -> NativeValue:
    return NativeValue(context.context.get_dummy_value())


@lower_constant(UserFunctionType)
def _constant(context: Any, _builder: Any, _type: Any, _value: Any) -> Any:
    return context.get_dummy_value()


class _Call(NamedTuple):
    function: Callable[..., object]
    arguments: tuple[Any, ...]
    keywords: dict[str, Any]


def as_user_function(
    function: Callable[..., object], n_own: int, arguments: Iterable[Any], keywords: Mapping[str, Any] | None
) -> UserFunction:
    """A function and what it is called with, as loops want it: the extra arguments by position.

    Parameters
    ----------
    function : callable
        A Python function, a jitted one, a `functools.partial` of one, or what numba knows: ``np.median``.
    n_own : int
        How many arguments the loop itself gives, before the others.
    arguments, keywords
        The other arguments.

    Raises
    ------
    TypeError
        If it cannot be called so, or is none of these.
    """
    call = _Call(function, tuple(arguments), dict(keywords or {}))
    while isinstance(call.function, functools.partial) and not call.function.args:
        call = _Call(call.function.func, call.arguments, {**call.function.keywords, **call.keywords})
    plain = getattr(call.function, "py_func", call.function)
    if not isinstance(plain, FunctionType):
        if not callable(plain):
            raise TypeError(f"function must be callable (got {plain!r:.80}, a {type(plain).__name__})")
        if call.keywords or not is_known(plain):
            raise TypeError(
                f"a {type(plain).__name__} cannot be compiled; wanted a Python function with positional arguments "
                f"(got {plain!r:.80}); {_AS_PYTHON}"
            )
        return UserFunction(_calling(plain, len(call.arguments)), as_compiled_code_reads(call.arguments))
    return UserFunction(plain, as_compiled_code_reads(_by_position(plain, n_own, call.arguments, call.keywords)))


def as_compiled_code_reads(value: Any) -> Any:
    """Arrays in native byte order and aligned, copied where they are not, also inside tuples and lists.

    numba refuses an array of another byte order, but inside a tuple takes it for one that it has met in native
    order, and reads garbage; of alignment it knows nothing. Lists in lists it reads as garbage, too, and takes
    all items of a list for what the first is: lists become arrays of numbers, or tuples.
    """
    if isinstance(value, memoryview):
        value = np.asarray(value)
    if isinstance(value, np.ndarray) and not (value.dtype.isnative and value.flags.aligned):
        return value.astype(value.dtype.newbyteorder("="))
    if isinstance(value, list):
        is_of_numbers = all(isinstance(item, complex | float | int | np.number | np.bool_) for item in value)
        value = np.array(value) if is_of_numbers else tuple(value)
    if isinstance(value, tuple):
        items = [as_compiled_code_reads(item) for item in value]
        is_changed = any(new is not old for new, old in zip(items, value, strict=True))
        return value if not is_changed else type(value)(*items) if hasattr(value, "_fields") else tuple(items)
    return value


def _by_position(
    function: FunctionType, n_own: int, arguments: tuple[Any, ...], keywords: Mapping[str, Any]
) -> tuple[Any, ...]:
    code, defaults = function.__code__, function.__defaults__ or ()
    takes_own = code.co_argcount - len(defaults) <= n_own <= code.co_argcount and not code.co_kwonlyargcount
    if takes_own and not arguments and not keywords:
        return ()  # as found below, in 8 us
    try:
        bound = inspect.signature(function).bind(*[None] * n_own, *arguments, **keywords)
    except TypeError as error:
        raise TypeError(
            f"the function {function.__qualname__!r} cannot be called with {n_own} argument(s) of ours, extra "
            f"arguments {arguments!r:.80} and keywords {dict(keywords)!r:.80}: {error}"
        ) from None
    if keywords:
        parameters = bound.signature.parameters
        by_name_only = [
            name
            for name in keywords
            if name not in parameters or parameters[name].kind is not _BY_POSITION_OR_NAME
        ]
        if by_name_only or any(kind.kind is inspect.Parameter.VAR_POSITIONAL for kind in parameters.values()):
            raise TypeError(
                f"the function {function.__qualname__!r} takes {sorted(by_name_only or keywords)} by name only, "
                "which numba does not compile; let it take them by position, or pass python=True"
            )
        bound.apply_defaults()
        last = max(list(parameters).index(name) for name in keywords)
        return tuple(list(bound.arguments.values())[n_own : last + 1])
    return bound.args[n_own:]


@functools.lru_cache(maxsize=256)  # the same object each time, whose digest is known
def _calling(function: Any, n_arguments: int) -> FunctionType:
    """A Python function that calls `function`, which numba knows, though it is no Python function."""

    def call(values):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN202 - numba types it
        return function(values)

    def call_with(values, *arguments):  # type: ignore[no-untyped-def] # noqa: ANN001, ANN002, ANN202
        return function(values, *arguments)

    chosen = call_with if n_arguments else call
    chosen.__qualname__ = chosen.__name__ = getattr(function, "__name__", "function")
    return chosen  # type: ignore[return-value]
