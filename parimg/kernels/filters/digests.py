"""Digests of all that a Python function does: its code, constants, defaults, and everything that it refers to.

The same in every process, for functions of notebook cells and pickles, too. `user_functions.py` names what it
compiles by them.
"""

from __future__ import annotations

import functools
import hashlib
import operator
import os
import sys
import weakref
from types import BuiltinFunctionType, CodeType, FunctionType, ModuleType, NoneType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numba.core.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Iterable

# What these define is told by their name and version; numba knows their functions by identity.
_KNOWN_PACKAGES = frozenset({"builtins", "cmath", "math", "numba", "numpy", "operator", "scipy", "_operator"})
_FIXED = frozenset({NoneType, bool, int, float, complex, str, bytes, type(Ellipsis)})


class _Told(NamedTuple):
    """A digest, and the objects that it was made of, none of which changes in place."""

    objects: tuple[object, ...]
    digest: str


_told: weakref.WeakKeyDictionary[FunctionType, _Told] = weakref.WeakKeyDictionary()


class _NotTold(Exception):
    """A function refers to something whose content cannot be told."""


@functools.cache
def sources_stamp() -> str:
    """What changes with any file of this folder; part of the names of types that filters are compiled for.

    numba takes a loop from the disk's cache where the file of the loop is as old as it was, whatever became of
    the files of functions and intrinsics that were compiled into it.
    """
    try:
        with os.scandir(os.path.dirname(__file__)) as entries:
            files = {entry.name: entry.stat() for entry in entries if entry.name.endswith(".py")}
    except OSError:  # in an archive, which numba keeps no cache for
        return ""
    parts = sorted((name, found.st_size, found.st_mtime_ns) for name, found in files.items())
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:8]


def digest_of(function: FunctionType) -> str | None:
    """Digest of all that a function's compiled form depends on; None where that cannot be told.

    Not in it: names, line numbers and comments, so that moving a function compiles nothing anew.
    """
    # Filters ask at each call, as a global may have changed: 2 us in place of 20 where all objects are the same.
    objects = _fixed_objects(function)
    told = _told.get(function)
    if objects and told and len(objects) == len(told.objects) and all(map(operator.is_, objects, told.objects)):
        return told.digest
    seen: dict[int, int] = {}
    made = hashlib.sha256()
    try:
        for part in _parts(function, seen):
            made.update(f"{len(part)}:".encode())
            made.update(part)
    except (_NotTold, RecursionError):
        return None
    digest = made.hexdigest()[:32]
    if objects:
        _told[function] = _Told(objects, digest)
    return digest


def _fixed_objects(function: FunctionType) -> tuple[object, ...]:
    """A function's code and all that it refers to; nothing if some of it may change and be the same object."""
    code, known = function.__code__, function.__globals__
    try:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
    except ValueError:  # not filled yet
        return ()
    names = _sorted_names(code)
    values = [*(function.__defaults__ or ()), *cells, *(known.get(name, _MISSING) for name in names)]
    return (code, *values) if all(map(_is_fixed, values)) else ()


_MISSING = object()


def _is_fixed(value: object) -> bool:
    if type(value) in _FIXED or isinstance(value, np.generic) or value is _MISSING:
        return True
    return _package(value.__name__) in _KNOWN_PACKAGES if isinstance(value, ModuleType) else is_known(value)


def _package(module: str) -> str:
    return module.partition(".")[0]


def _parts(value: Any, seen: dict[int, int]) -> Iterable[bytes]:
    """What `value` consists of, in a fixed order, the same in every process."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | type(Ellipsis)):
        yield f"{type(value).__name__} {value!r}".encode("utf-8", "surrogatepass")
    elif isinstance(value, tuple | list):
        yield f"{type(value).__name__} {len(value)}".encode()
        for item in value:
            yield from _parts(item, seen)
    elif isinstance(value, frozenset):
        yield f"frozenset {sorted(map(repr, value))}".encode()
    elif isinstance(value, np.ndarray) and not value.dtype.hasobject:
        layout = value.flags.c_contiguous, value.flags.f_contiguous
        yield f"array {value.dtype.str} {value.shape} {layout}".encode()
        yield value.tobytes()
    elif isinstance(value, np.generic | np.dtype):
        yield f"{type(value).__name__} {value!r}".encode()
    elif isinstance(value, CodeType):
        yield from _parts_of_code(value, seen)
    elif isinstance(value, ModuleType):
        yield f"module {value.__name__} {getattr(value, '__version__', '')}".encode()
    elif is_known(value):
        yield f"{value.__module__}.{value.__name__}".encode()
    elif isinstance(value, Dispatcher):
        yield f"jitted {sorted((name, repr(option)) for name, option in value.targetoptions.items())}".encode()
        yield from _parts(value.py_func, seen)
    elif isinstance(value, FunctionType):
        if id(value) in seen:  # it calls itself
            yield f"seen {seen[id(value)]}".encode()
            return
        seen[id(value)] = len(seen)
        yield from _parts_of_function(value, seen)
    else:
        raise _NotTold


def _parts_of_code(code: CodeType, seen: dict[int, int]) -> Iterable[bytes]:
    yield code.co_code
    yield f"{code.co_argcount} {code.co_flags} {code.co_names} {code.co_varnames} {code.co_freevars}".encode()
    # A docstring is a constant, too; leaving it out is not worth the exception.
    yield from _parts(code.co_consts, seen)


def _parts_of_function(function: FunctionType, seen: dict[int, int]) -> Iterable[bytes]:
    yield from _parts(function.__code__, seen)
    yield from _parts(function.__defaults__, seen)
    for cell in function.__closure__ or ():
        try:
            content = cell.cell_contents
        except ValueError:  # not filled yet
            raise _NotTold from None
        yield from _parts(content, seen)
    names = _sorted_names(function.__code__)
    for name in names:
        if name not in function.__globals__:
            continue
        value = function.__globals__[name]
        yield name.encode()
        yield from _parts(value, seen)
        if isinstance(value, ModuleType) and _package(value.__name__) not in _KNOWN_PACKAGES:
            for attribute in names:  # as in `mymodule.threshold`
                if hasattr(value, attribute):
                    yield attribute.encode()
                    yield from _parts(getattr(value, attribute), seen)


def names_in(code: CodeType) -> set[str]:
    """Names of globals and attributes that a function's code and the functions inside it mention."""
    inner = (names_in(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return set(code.co_names).union(*inner)


@functools.lru_cache(maxsize=256)
def _sorted_names(code: CodeType) -> tuple[str, ...]:
    return tuple(sorted(names_in(code)))


def is_known(value: Any) -> bool:
    """Whether it is what its module and name say, in a package that numba knows."""
    module, name = getattr(value, "__module__", None), getattr(value, "__name__", None)
    if isinstance(value, BuiltinFunctionType | type) or module == "numpy" or isinstance(value, np.ufunc):
        module = module or "numpy"
    if not isinstance(module, str) or not isinstance(name, str):
        return False
    return _package(module) in _KNOWN_PACKAGES and getattr(sys.modules.get(module), name, None) is value
