"""LowLevelCallables for SciPy's own filters, of plain Python functions.

Called by users through `parimg.kernels`. SciPy hands a callable the address of its user data; here that is a block of
eight-byte words, in which the extra arguments lie one after the other, numbers as they are and arrays as address and
shape. So arguments are read at each call, and others of the same types compile nothing anew.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, overload

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import NumbaError, TypingError
from numba.extending import NativeValue, intrinsic, models, register_model, typeof_impl, unbox
from numba.np.numpy_support import from_dtype
from scipy import LowLevelCallable

from parimg.kernels._filter_functions import UserFunction, as_user_function

if TYPE_CHECKING:
    from types import FunctionType

_double = types.CPointer(types.float64)
_index = types.CPointer(types.intp)
# What SciPy documents, on every platform: it knows `intptr_t` by that name, while the C type that ctypes has for it
# is `long` on Linux and macOS and `long long` on Windows.
_OF_WINDOWS = "int (double *, intptr_t, double *, void *)"
_OF_LINES = "int (double *, intptr_t, double *, intptr_t, void *)"
_OF_POSITIONS = "int (intptr_t *, double *, int, int, void *)"
