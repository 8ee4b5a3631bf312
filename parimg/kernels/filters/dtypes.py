"""Arrays that filters read and write: which dtypes compiled code takes, and what is converted for it.

Used by the filters.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

COMPILED_DTYPES = frozenset("?bBhHiIlLqQfd")


def readable(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The image in a dtype that compiled code reads: itself, except half, long and foreign floats."""
    if image.dtype.char in COMPILED_DTYPES and image.dtype.isnative:
        return image
    return image.astype(np.float64 if image.dtype.char in "ge" else image.dtype.newbyteorder("="))


def output_dtype(output: npt.NDArray[Any] | npt.DTypeLike | None, default: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype of what is asked for as `output`.

    Raises
    ------
    RuntimeError
        If it is none of numbers.
    """
    if isinstance(output, np.ndarray):
        return output.dtype
    dtype = default.newbyteorder("=") if output is None else np.dtype(output)
    if dtype.kind not in "biufc":
        raise RuntimeError(f"output must have a numeric dtype (got {dtype})")
    return dtype


def compiled_dtype(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The dtype that a loop writes, in native byte order: the wanted one, or float64, which is converted then.

    Integers are never converted afterwards: what becomes of NaN then depends on the processor.
    """
    return dtype.newbyteorder("=") if dtype.char in COMPILED_DTYPES else np.dtype(np.float64)


def can_be_written(array: npt.NDArray[Any], dtype: np.dtype[Any], inputs: Iterable[Any]) -> bool:
    """Whether the loop can write into an array at once: it reads none of it, and elements lie side by side."""
    flags = array.flags

    def is_read(value: Any) -> bool:
        if isinstance(value, tuple):
            return any(map(is_read, value))
        return isinstance(value, np.ndarray) and np.may_share_memory(array, value)

    return (
        array.dtype == dtype
        and array.dtype.isnative
        and flags.c_contiguous
        and flags.writeable
        and not any(map(is_read, inputs))
    )


def address_of(array: npt.NDArray[Any]) -> int:
    """Where an array begins in memory."""
    address: int = array.__array_interface__["data"][0]
    return address
