"""How arrays of one shape are walked with a kernel: planes, lines, strips and runs, as numbers.

`direct.py` makes a plan once and walks by it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.borders import OUTSIDE, axis_runs, source_index
from parimg.kernels.convolution import line_loops, short_loops, tile

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CACHED_BYTES = 2**18  # of line buffers; a quarter of the second-level cache
_NARROWEST_STRIP = 512
_HELD_BYTES = 2**19  # of whole planes, held from one plane of the output to the next where they fit
LONGEST_MERGED = 32  # axes that are not correlated and at most so long join the line before them
NO_PLANE = -(2**62)


class _Axis(NamedTuple):
    """One axis of the arrays and of the kernel; strides in elements, `before` taps before the output's place."""

    length: int
    stride: int
    out_stride: int
    taps: int
    before: int
    mode: str


POINT = _Axis(1, 1, 1, 1, 0, "nearest")


class Plan(NamedTuple):
    """How arrays of one shape are walked, in elements."""

    numbers: NDArray[np.int64]
    """What `_walk` unpacks first."""
    planes: NDArray[np.int64]
    """Offset of the source plane, by output plane and kernel plane, or `NO_PLANE`; last, of the output plane."""
    lines: NDArray[np.int64]
    """Source line of every extended line, or `OUTSIDE`."""
    strips: NDArray[np.int64]
    """First column, columns, first run and end of runs, by strip."""
    runs: NDArray[np.int64]
    """Place, length, source and step of the runs that fill an extended line."""


@lru_cache(maxsize=256)
def plan_lines(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    taps: tuple[int, ...],
    modes: tuple[str, ...],
    before: tuple[int, ...],
    source_dtype: np.dtype[Any],
    dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
    casting: int,
    fused: bool,
    skip_zeros: bool,
    terms: int,
    taps_of_3x3: int,
) -> Plan:
    source_bytes, out_bytes = source_dtype.itemsize, out_dtype.itemsize
    axes, inner = joined_axes(shape, strides, out_strides, (taps, modes, before), source_dtype, out_dtype)
    if terms:
        if inner is not None and axes[-1].taps == 1:
            axes, inner = [*axes, inner], None
        axes.sort(key=lambda axis: axis.taps > 1)
    if len(axes) == 1:
        axes.insert(0, POINT)
    *outer, lines, columns = axes
    planes = planes_of(outer)
    n_planes = planes.shape[1] - 1
    step = 1 if inner is None else inner.length
    width = 1 if terms else columns.taps
    if terms:
        planes = np.column_stack([np.repeat(planes[:, :1], terms, 1), planes[:, 1:]])
        n_planes = terms
    is_3x3 = n_planes == 1 and step == 1 and lines.taps == width == 3
    chosen = tile.choose(lines.length, lines.taps, taps_of_3x3 if is_3x3 else 0)
    add_tile = tile.tile_address(dtype.name, *chosen, fused=fused)
    if skip_zeros:
        chosen, add_tile = tile.Tile(1, 1, 0), line_loops.taps_address(dtype.name)
    elif terms == 1 and lines.taps <= short_loops.LONGEST and chosen.rows > 1:
        add_tile = short_loops.across_address(dtype.name, chosen.rows, lines.taps)
    tile_columns = max(chosen.vectors, tile.ONE_LINE.vectors) * tile.lanes(dtype.name)
    beside = (columns.taps - 1) * step
    per_column = n_planes * (lines.taps + chosen.rows - 1) * dtype.itemsize
    widest = max(_CACHED_BYTES // per_column - beside, _NARROWEST_STRIP)
    strips, runs = cut_into_strips(columns, step, beside, widest)
    line_size = -(-int(strips[:, 1].max()) // tile_columns) * tile_columns + -(-beside // 16) * 16 + 16
    window = lines.taps + chosen.rows - 1
    extended_lines = lines.length + lines.taps - 1
    if n_planes > 1 and not terms and n_planes * extended_lines * line_size * dtype.itemsize <= _HELD_BYTES:
        window = extended_lines
    is_direct = out_dtype == dtype and (inner or columns).out_stride == 1
    numbers = (
        line_loops.fill_address(source_dtype.name, dtype.name),
        add_tile,
        short_loops.line_address(dtype.name, columns.taps, step) if terms else 0,
        0 if is_direct else line_loops.store_address(dtype.name, out_dtype.name),
        casting if out_dtype.kind in "iu" else line_loops.TRUNCATE,  # which leaves floats as they are
        chosen.rows,
        *(n_planes, lines.taps, width, step, line_size, window),
        *(source_bytes, lines.stride, (inner or columns).stride),
        *(out_bytes, lines.out_stride, (inner or columns).out_stride),
    )
    return Plan(
        np.array(numbers, np.int64),
        planes,
        source_index(lines.mode, lines.length, lines.before, lines.taps - 1 - lines.before).astype(np.int64),
        strips,
        runs,
    )


def joined_axes(
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    out_strides: tuple[int, ...],
    placed: tuple[tuple[int, ...], tuple[str, ...], tuple[int, ...]],
    source_dtype: np.dtype[Any],
    out_dtype: np.dtype[Any],
) -> tuple[list[_Axis], _Axis | None]:
    """The axes that are walked, and the short last ones that are not correlated, as colour, as one or None."""
    taps, modes, before = placed
    in_elements = [stride // source_dtype.itemsize for stride in strides]
    out_elements = [stride // out_dtype.itemsize for stride in out_strides]
    every = [_Axis(*axis) for axis in zip(shape, in_elements, out_elements, taps, before, modes, strict=True)]
    return _joined([axis for axis in every if axis.length > 1 or axis.taps > 1] or [POINT])


def _joined(axes: list[_Axis]) -> tuple[list[_Axis], _Axis | None]:
    """Axes without the short last ones that are not correlated, such as colour, and these as one or None."""
    inner = None
    while len(axes) > 1:
        *before, line, last = axes
        size = 1 if inner is None else inner.length
        if last.taps > 1 or last.length * size > LONGEST_MERGED:
            break
        stride, out_stride = (last.stride, last.out_stride) if inner is None else (inner.stride, inner.out_stride)
        joined = _Axis(last.length * size, stride, out_stride, 1, 0, last.mode)
        if (line.stride, line.out_stride) != (joined.length * stride, joined.length * out_stride):
            break
        axes, inner = [*before, line], joined
    return axes, inner


def planes_of(axes: list[_Axis]) -> NDArray[np.int64]:
    """Offsets of the source planes and of the output plane, see `Plan`."""
    sources, outs = np.zeros((1, 1), np.int64), np.zeros(1, np.int64)
    for axis in axes:
        extended = source_index(axis.mode, axis.length, axis.before, axis.taps - 1 - axis.before)
        here = extended[np.arange(axis.length)[:, None] + np.arange(axis.taps)]
        offsets = np.where(here == OUTSIDE, NO_PLANE, here * axis.stride)
        both = sources[:, None, :, None] + offsets[None, :, None, :]
        is_outside = (sources == NO_PLANE)[:, None, :, None] | (offsets == NO_PLANE)[None, :, None, :]
        n_out, n_in = sources.shape
        sources = np.where(is_outside, NO_PLANE, both).reshape(n_out * axis.length, n_in * axis.taps)
        outs = (outs[:, None] + np.arange(axis.length) * axis.out_stride).ravel()
    return np.column_stack([sources, outs])


def column_runs(mode: str, length: int, before: int, after: int, step: int) -> NDArray[np.int64]:
    """Place, length, source and step of the runs of an extended line of pixels of `step` elements, in elements.

    The source is `OUTSIDE` beyond a border of mode "constant".
    """
    found: list[tuple[int, int, int, int]] = []
    for place, count, source, run_step in axis_runs(mode, length, before, after):
        if source == OUTSIDE:
            found.append((place * step, count * step, OUTSIDE, 0))
        elif step == 1 or run_step == 1:
            found.append((place * step, count * step, source * step, run_step))
        else:
            one_by_one = ((place + i, source + i * run_step) for i in range(count))
            found.extend((to * step, step, origin * step, 1) for to, origin in one_by_one)
    return np.array(found, np.int64).reshape(-1, 4)


def cut_into_strips(
    columns: _Axis, step: int, beside: int, widest: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Cut a line into strips, and tell what fills the extended line of each, see `Plan`."""
    after = columns.taps - 1 - columns.before
    every = column_runs(columns.mode, columns.length, columns.before, after, step).tolist()
    elements = [run for run in every if run[2] != OUTSIDE]
    size = columns.length * step
    width = -(-size // -(-size // widest))
    width = min(-(-width // 64) * 64, size)
    strips: list[tuple[int, int, int, int]] = []
    runs: list[tuple[int, int, int, int]] = []
    for first in range(0, size, width):
        count = min(width, size - first)
        before = len(runs)
        for place, length, source, run_step in elements:
            begin, end = max(place, first), min(place + length, first + count + beside)
            if begin < end:
                runs.append((begin - first, end - begin, source + (begin - place) * run_step, run_step))
        strips.append((first, count, before, len(runs)))
    return np.array(strips, np.int64), np.array(runs, np.int64).reshape(-1, 4)
