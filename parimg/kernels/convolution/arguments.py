"""What the arguments of `convolve` and `correlate` mean: SciPy's rules for axes, origins, modes and outputs.

`convolve.py` is the only caller.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.borders import checked_axes, checked_modes

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

Axes = int | Sequence[int] | None
Origin = int | Sequence[int]
Mode = str | Sequence[str]


class Placement(NamedTuple):
    """How a kernel lies on an array, one entry an axis of the array."""

    shape: tuple[int, ...]
    """Of the kernel, 1 along axes that it is not applied to."""
    modes: tuple[str, ...]
    before: tuple[int, ...]
    """Taps before the one on the output's own place, of the kernel as it is correlated."""


class Within(NamedTuple):
    """Where a part of an image lies, if its sums are to be those of the whole to the last bit."""

    shape: tuple[int, ...]
    """Of the whole."""
    row: int
    """Of the part, the first whose sums are wanted."""
    begin: int
    """The same row of the whole."""
    end: int
    """Of the whole, the row behind the last that is wanted."""

    def blocks(self, lines: int, height: int) -> tuple[int, int]:
        """Rows of the part, of that height, of the blocks of so many lines of the whole that the wanted lie in."""
        begin, end = self.begin // lines * lines, -(-self.end // lines) * lines
        first = self.row - (self.begin - begin)
        return first, min(first + end - begin, height)


def placement(
    n_axes: int, shape: tuple[int, ...], mode: Mode, origin: Origin, axes: Axes, *, is_convolution: bool
) -> Placement:
    """Place a kernel of that shape on an array of `n_axes` axes.

    Raises
    ------
    RuntimeError
        If the kernel has another number of axes, or no weights; if there is not one mode or origin for all
        axes, or one for each; if a mode is unknown.
    ValueError
        If an axis is out of range or given twice, or an origin lies beyond the kernel.
    TypeError
        If axes or origins are no integers.
    """
    if not isinstance(mode, str):
        mode = tuple(mode)
    if isinstance(origin, Iterable):
        origin = tuple(origin)
    if isinstance(axes, Iterable):
        axes = tuple(axes)
    return _placement(n_axes, shape, mode, origin, axes, is_convolution)


@lru_cache(maxsize=256)
def _placement(
    n_axes: int,
    shape: tuple[int, ...],
    mode: str | tuple[str, ...],
    origin: int | tuple[int, ...],
    axes: int | tuple[int, ...] | None,
    is_convolution: bool,
) -> Placement:
    chosen = checked_axes(axes, n_axes)
    if len(shape) != len(chosen):
        along = f"{n_axes} axes of input" if axes is None else f"axes={axes!r}"
        raise RuntimeError(f"weights must have one axis for each of {along} (got shape {shape})")
    if 0 in shape:
        raise RuntimeError(f"weights must hold at least one number (got shape {shape})")
    origins = origin if isinstance(origin, tuple) else (origin,) * len(chosen)
    if len(origins) != len(chosen):
        raise RuntimeError(f"origin must be one integer, or one for each of {len(chosen)} axes (got {origin!r})")
    modes = dict(zip(chosen, checked_modes(mode, len(chosen)), strict=True))
    origin_of = dict(zip(chosen, map(operator.index, origins), strict=True))
    size_of = dict(zip(sorted(chosen), shape, strict=True))
    before = []
    for axis in range(n_axes):
        size, shift = size_of.get(axis, 1), origin_of.get(axis, 0)
        if is_convolution:  # the kernel is turned round, and with it the place of its centre
            shift = -shift - (1 - size % 2)
        if not 0 <= size // 2 + shift < size:
            lowest, highest = -(size // 2), (size - 1) // 2
            if is_convolution:
                lowest, highest = -highest - (1 - size % 2), -lowest - (1 - size % 2)
            raise ValueError(
                f"origin along axis {axis} must lie from {lowest} to {highest} for {size} weights "
                f"(got {origin_of[axis]})"
            )
        before.append(size // 2 + shift)
    sizes = tuple(size_of.get(axis, 1) for axis in range(n_axes))
    return Placement(sizes, tuple(modes.get(axis, "nearest") for axis in range(n_axes)), tuple(before))


def output_array(
    output: NDArray[Any] | DTypeLike | None, shape: tuple[int, ...], default: np.dtype[Any], is_complex: bool
) -> NDArray[Any]:
    """The array that takes the result: the one given, or a new one of the dtype given or of the default.

    Raises
    ------
    RuntimeError
        If its shape differs, or it is real where the result is complex.
    ValueError
        If it is read-only.
    TypeError
        If its dtype holds no numbers.
    """
    if output is None:
        return np.empty(shape, default)
    if isinstance(output, str | type | np.dtype):
        dtype = np.dtype(output)
        if is_complex and dtype.kind in "biuf":
            warnings.warn(f"output of dtype {dtype} becomes complex, as the result is", stacklevel=4)
            dtype = np.promote_types(dtype, np.complex64)
        out = np.empty(shape, dtype)
    else:
        out = np.asarray(output)
        if out.shape != shape:
            raise RuntimeError(f"output must have the shape of input, {shape} (got {out.shape})")
        if not out.flags.writeable:
            raise ValueError("output must be writable (got a read-only array)")
        if is_complex and out.dtype.kind != "c":
            raise RuntimeError(f"output must be complex, as the result is (got {out.dtype})")
    if out.dtype.kind not in "biufc":
        raise TypeError(f"output must have a dtype of numbers (got {out.dtype})")
    return out
