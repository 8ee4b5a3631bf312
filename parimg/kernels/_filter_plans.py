"""What a filter is to do, as the arrays that its loop takes: where rows lie, where windows reach, what is outside.

Used by `filters.py`; nothing here depends on the user's function.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from parimg.kernels._filter_loops import NOWHERE

Mode = Literal["reflect", "mirror", "nearest", "wrap", "constant", "grid-mirror", "grid-constant", "grid-wrap"]
_SAME_AS = {"grid-mirror": "reflect", "grid-constant": "constant", "grid-wrap": "wrap"}
_MODES = ("reflect", "mirror", "nearest", "wrap", "constant")
_TILE = 2048  # elements of a row; five rows of a tile fill the second-level cache by a tenth
_LARGEST_GROUP = 64
_Indices = npt.NDArray[np.int64]


class Plan(NamedTuple):
    """Arguments of the loop, and the shape of the rings; see `_filter_loops.filter_lines`."""

    outer_shape: _Indices
    outer_table: _Indices
    outer_offsets: _Indices
    y_table: _Indices
    y_span: int
    x_table: _Indices
    x_steps: tuple[int, int, int, int, int]
    element_outer: _Indices
    element_y: _Indices
    element_x: _Indices
    ring_shape: tuple[int, int, int]


def normalise_modes(mode: str | Sequence[str], n_axes: int) -> list[str]:
    """One of the five modes for each axis.

    Raises
    ------
    RuntimeError
        If a mode is unknown, or their number is another than that of the axes; as SciPy does.
    """
    modes = [mode] * n_axes if isinstance(mode, str) else list(mode)
    if len(modes) != n_axes:
        raise RuntimeError(
            f"mode must be one of {', '.join(_MODES)}, or one for each of {n_axes} axes (got {mode!r})"
        )
    named = [_SAME_AS.get(one, one) for one in modes]
    for one in named:
        if one not in _MODES:
            raise RuntimeError(f"mode must be one of {', '.join([*_MODES, *_SAME_AS])} (got {one!r})")
    return named


def normalise_axes(axes: int | Iterable[int] | None, ndim: int) -> tuple[int, ...]:
    """Axes counted from the first.

    Raises
    ------
    ValueError
        If there is no such axis, or one is named twice.
    """
    if axes is None:
        return tuple(range(ndim))
    given = tuple(operator.index(axis) for axis in (axes if isinstance(axes, Iterable) else (axes,)))
    if any(not -ndim <= axis < ndim for axis in given):
        raise ValueError(f"axes must lie from {-ndim} to {ndim - 1}, those of the input (got {axes!r})")
    found = tuple(axis % ndim for axis in given)
    if len(set(found)) != len(found):
        raise ValueError(f"axes must be unique (got {axes!r})")
    return found


def normalise_sequence(value: Any, n_axes: int, name: str) -> list[int]:
    """One integer for each axis.

    Raises
    ------
    RuntimeError
        If their number is another.
    """
    values = list(value) if np.iterable(value) else [value] * n_axes
    if len(values) != n_axes:
        raise RuntimeError(f"{name} must be a number, or one for each of {n_axes} axes (got {value!r})")
    return [operator.index(one) for one in values]


def extended_indices(size: int, before: int, after: int, mode: str) -> _Indices:
    """Indices that stand for those from ``-before`` to ``size + after - 1``; -1 for cval.

    However far out: the extension is periodic.
    """
    index = np.arange(-before, size + after, dtype=np.int64)
    if mode == "nearest":
        return np.clip(index, 0, size - 1)
    if mode == "constant":
        return np.where((index >= 0) & (index < size), index, -1)
    if mode == "wrap":
        return index % size
    if mode == "reflect":
        index %= 2 * size
        return np.minimum(index, 2 * size - 1 - index)
    if size == 1:
        return np.zeros_like(index)
    index %= 2 * size - 2
    return np.minimum(index, 2 * size - 2 - index)


def plan_filter(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    itemsize: int,
    footprint: npt.NDArray[np.bool_],
    origins: Sequence[int],
    modes: Sequence[str],
) -> Plan:
    """Plan to filter an image of at least one axis and one element; footprint, origins and modes cover all axes."""
    elements = [axis - size // 2 - o for axis, size, o in zip(np.nonzero(footprint), footprint.shape, origins)]
    # Trailing axes that windows do not extend along, as that of colours, are taken together with x.
    x_axis, group = len(shape) - 1, 1
    while (
        x_axis > 0
        and not elements[x_axis].any()
        and group * shape[x_axis] <= _LARGEST_GROUP
        and strides[x_axis] == itemsize * group
    ):
        group *= shape[x_axis]
        x_axis -= 1
    before = [max(0, -int(offsets.min(initial=0))) for offsets in elements]
    after = [max(0, int(offsets.max(initial=0))) for offsets in elements]
    tables = [extended_indices(*axis) for axis in zip(shape, before, after, modes)]
    n_outer = max(0, x_axis - 1)
    longest = max((len(table) for table in tables[:n_outer]), default=0)
    outer_table = np.full((n_outer, 1 + longest), NOWHERE, np.int64)
    for axis in range(n_outer):
        outer_table[axis, 0] = before[axis]
        outer_table[axis, 1 : 1 + len(tables[axis])] = _distances(tables[axis], strides[axis])
    if x_axis > 0:
        y_table = _distances(tables[x_axis - 1], strides[x_axis - 1])
        y_span = before[x_axis - 1] + after[x_axis - 1] + 1
        element_y = elements[x_axis - 1] + before[x_axis - 1]
    else:
        y_table, y_span, element_y = np.zeros(1, np.int64), 1, np.zeros_like(elements[0])
    n_elements = len(elements[0])
    positions = np.stack(elements[:n_outer], axis=1) if n_outer else np.zeros((n_elements, 0), np.int64)
    outer_offsets, element_outer = _distinct(positions)
    tile = min(shape[x_axis], max(_TILE // group, 8 * (before[x_axis] + after[x_axis])))
    extent = (tile + before[x_axis] + after[x_axis]) * group
    return Plan(
        np.array(shape[:n_outer], np.int64),
        outer_table,
        outer_offsets,
        y_table,
        y_span,
        tables[x_axis],
        (shape[x_axis], group, strides[x_axis], itemsize, tile),
        element_outer,
        element_y,
        elements[x_axis] + before[x_axis],
        (len(outer_offsets), y_span, extent),
    )


def _distances(indices: _Indices, stride: int) -> _Indices:
    return np.where(indices >= 0, indices * stride, NOWHERE)


def _distinct(positions: _Indices) -> tuple[_Indices, _Indices]:
    """Distinct rows, and which of them each is."""
    if positions.shape[1] == 0:
        return np.zeros((1, 0), np.int64), np.zeros(len(positions), np.int64)
    distinct, which = np.unique(positions, axis=0, return_inverse=True)
    return np.ascontiguousarray(distinct, np.int64), which.reshape(-1).astype(np.int64)
