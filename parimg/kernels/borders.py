"""What lies beyond the borders of an array: SciPy's axes and modes, and modes as maps of indices.

Kernels that look at neighbourhoods call this; nothing here depends on what they compute.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

OUTSIDE = -1
"""Index of what has no source and is `cval`."""


class Run(NamedTuple):
    """Neighbouring places of an extended axis whose sources are `step` apart; `OUTSIDE` has step 0."""

    place: int
    length: int
    source: int
    step: int


_SAME_AS = {"grid-mirror": "reflect", "grid-wrap": "wrap", "grid-constant": "constant"}
Mode = Literal["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-constant", "grid-wrap"]
MODES = ("reflect", "constant", "nearest", "mirror", "wrap")


def checked_axes(axes: int | Iterable[int] | None, n_axes: int) -> tuple[int, ...]:
    """Axes counted from the first; all of them for None.

    Raises
    ------
    ValueError
        If there is no such axis, or one is named twice.
    TypeError
        If one is no integer.
    """
    if axes is None:
        return tuple(range(n_axes))
    given = tuple(map(operator.index, axes if isinstance(axes, Iterable) else (axes,)))
    for axis in given:
        if not -n_axes <= axis < n_axes:
            raise ValueError(f"axes must lie from {-n_axes} to {n_axes - 1} (got {axis})")
    chosen = tuple(axis % n_axes for axis in given)
    if len(set(chosen)) != len(chosen):
        raise ValueError(f"axes must differ from each other (got {axes!r})")
    return chosen


def checked_modes(mode: str | Sequence[str], n_axes: int) -> tuple[str, ...]:
    """One mode an axis, by its first name.

    Raises
    ------
    RuntimeError
        If a mode is unknown, or there is not one for each axis; SciPy's class of error.
    """
    modes = (mode,) * n_axes if isinstance(mode, str) else tuple(mode)
    if len(modes) != n_axes:
        raise RuntimeError(f"mode must be one name, or one for each of {n_axes} axes (got {mode!r})")
    named = tuple(_SAME_AS.get(name, name) for name in modes)
    for name in named:
        if name not in MODES:
            wanted = ", ".join(map(repr, (*MODES, *_SAME_AS)))
            raise RuntimeError(f"mode must be one of {wanted} (got {name!r})")
    return named


def source_index(mode: str, length: int, before: int, after: int) -> NDArray[np.intp]:
    """Where the values of an extended axis come from.

    Parameters
    ----------
    mode : str
        One of `MODES`.
    length : int
        Of the axis, at least 1.
    before, after : int
        How far the axis is extended.

    Returns
    -------
    ndarray of intp, shape (before + length + after,)
        Indices of the axis, or `OUTSIDE`.

    Examples
    --------
    >>> source_index("reflect", 3, 2, 2).tolist()
    [1, 0, 0, 1, 2, 2, 1]
    >>> source_index("mirror", 3, 2, 2).tolist()
    [2, 1, 0, 1, 2, 1, 0]
    >>> source_index("constant", 3, 1, 1).tolist()
    [-1, 0, 1, 2, -1]
    """
    place = np.arange(-before, length + after)
    if mode == "constant":
        return np.where((place >= 0) & (place < length), place, OUTSIDE)
    if mode == "nearest" or length == 1:
        return place.clip(0, length - 1)
    if mode == "wrap":
        return place % length
    period = 2 * length if mode == "reflect" else 2 * length - 2
    turned = place % period
    last = period - 1 if mode == "reflect" else period
    return np.where(turned < length, turned, last - turned)


def axis_runs(mode: str, length: int, before: int, after: int) -> list[Run]:
    """An extended axis as the runs that it consists of: those before the axis, the axis itself, those behind it.

    Parameters are those of `source_index`.

    Examples
    --------
    >>> for run in axis_runs("reflect", 4, 3, 1):
    ...     print(run)
    Run(place=0, length=3, source=2, step=-1)
    Run(place=3, length=4, source=0, step=1)
    Run(place=7, length=1, source=3, step=0)
    """
    index = source_index(mode, length, before, after)
    left, right = index[:before].tolist(), index[before + length :].tolist()
    return [*_runs(left, 0), Run(before, length, 0, 1), *_runs(right, before + length)]


def _runs(index: list[int], place: int) -> list[Run]:
    found = []
    start = 0
    while start < len(index):
        source, end = index[start], start + 1
        step = index[end] - source if end < len(index) else 0
        if abs(step) > 1 or (step and OUTSIDE in (source, index[end])):
            step = 0
        while end < len(index) and index[end] == source + step * (end - start) and index[end] >= min(source, 0):
            end += 1
        found.append(Run(place + start, end - start, source, step if end - start > 1 else 0))
        start = end
    return found
