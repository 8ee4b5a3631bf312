"""Convolution by lines: a few extended lines of the input are kept, and tiles of the output are summed over them.

A `Plan` says once how arrays of a shape are walked, `correlate_lines` walks. Nothing is checked here;
`convolve.py` checks and calls.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any, NamedTuple

import numba
import numpy as np

from parimg.kernels.borders import OUTSIDE
from parimg.kernels.convolution import line_loops, tile
from parimg.kernels.convolution.line_loops import call, call_for_float, prefetch
from parimg.kernels.convolution.line_plan import NO_PLANE, Plan, plan_lines
from parimg.kernels.convolution.long_lines import READS_BEYOND

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from parimg.kernels.convolution.arguments import Placement

# Strategy: an array of any dimension is walked as planes of lines. A line of the input is copied, converted to the
# dtype of the sums and extended by its border into one of a ring of line buffers, which stay in the cache, and is
# read from there by every tile that needs it. So the tile knows of no border, dtype or stride, and every border
# mode costs the same. Where the lines of a kernel would not fit into the cache, an image is cut into strips.

_NO_WEIGHTS = {np.dtype(dtype): np.empty((0, 0), dtype) for dtype in (np.float32, np.float64)}
_IN_CACHE = 2**18  # bytes of an image whose lines need not be asked for in advance
_REMEMBERED_LINES = 2**16  # plans of more are large, and not remembered


@numba.njit(cache=True, nogil=True)
def _choose_slots(wanted: NDArray[np.int64], held: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
    """For every wanted plane the slot that holds it, or one that holds none of them."""
    is_free = np.ones(len(held), np.bool_)
    for p in range(len(slots)):
        slots[p] = -1
        for slot in range(len(held)):
            if held[slot] == wanted[p]:
                slots[p] = slot
                is_free[slot] = False
    for p in range(len(slots)):
        if slots[p] < 0:
            for before in range(p):  # planes beyond a border may be the same
                if wanted[before] == wanted[p]:
                    slots[p] = slots[before]
            for slot in range(len(held)):
                if slots[p] < 0 and is_free[slot]:
                    slots[p] = slot
                    is_free[slot] = False


@numba.njit(cache=True, nogil=True)
def _walk(
    source: int,
    out: int,
    numbers: NDArray[np.int64],
    planes: NDArray[np.int64],
    lines: NDArray[np.int64],
    strips: NDArray[np.int64],
    runs: NDArray[np.int64],
    weights: NDArray[Any],
    line_weights: NDArray[Any],
    outside: float,
) -> float:
    """Correlate from one address to another; NaN if something in between is not finite, else 0.

    With `line_weights`, a row for each plane, every line is first correlated with these, and then across lines
    with `weights`; all planes are of the same source plane.
    """
    fill, add_tile, add_line, store, casting, rows = numbers[:6]
    n_planes, height, width, step, line_size, window = numbers[6:12]
    source_bytes, source_line, source_column, out_bytes, out_line, out_column = numbers[12:]
    item_bytes = weights.itemsize
    line_bytes = line_size * item_bytes
    n_lines = len(lines) - height + 1
    holds_planes = window == len(lines) and n_planes > 1 and not add_line
    buffer = np.empty(n_planes * window * line_size + 64, weights.dtype)
    begin = (-np.intp(buffer.ctypes.data) % 64) // item_bytes
    first = np.intp(buffer.ctypes.data) + begin * item_bytes
    is_blank = np.empty(n_planes * window, np.bool_)
    blank = np.full(n_planes, outside, weights.dtype)
    whole_line = np.empty(line_size + READS_BEYOND if add_line else 0, weights.dtype)
    whole_address = np.array([np.intp(whole_line.ctypes.data)])
    for p in range(len(line_weights)):
        blank[p] = outside * line_weights[p].sum()
    sums = np.empty(rows * line_size if store else 0, weights.dtype)
    held = np.empty(n_planes, np.int64)
    slots = np.arange(n_planes)
    addresses = np.empty((n_planes, 2 * window), np.int64)  # of the lines of each plane, twice in a row
    for p in range(n_planes):
        for i in range(2 * window):
            addresses[p, i] = first + (p * window + i % window) * line_bytes
    seen = outside - outside
    for strip in range(len(strips)):
        column, columns, first_run, end_run = strips[strip]
        for slot in range(n_planes * window):
            buffer[begin + slot * line_size : begin + (slot + 1) * line_size] = blank[slot // window]
        whole_line[:] = outside
        is_blank[:] = True
        held[:] = NO_PLANE + 1  # none
        for plane in range(len(planes)):
            filled = next_slot = line = first_slot = 0
            if holds_planes:
                _choose_slots(planes[plane], held, slots)
                for p in range(n_planes):
                    for i in range(window):
                        addresses[p, i] = first + (slots[p] * window + i) * line_bytes
            while line < n_lines:
                if line > n_lines - rows:  # the last tile does lines again
                    line = n_lines - rows
                    first_slot = line % window
                for extended in range(filled, line + window if line == 0 or not holds_planes else 0):
                    for p in range(n_planes):
                        if holds_planes and held[slots[p]] == planes[plane, p]:
                            continue
                        slot = slots[p] * window + next_slot
                        if planes[plane, p] == NO_PLANE or lines[extended] == OUTSIDE:
                            if not is_blank[slot]:
                                buffer[begin + slot * line_size : begin + (slot + 1) * line_size] = blank[p]
                                is_blank[slot] = True
                            continue
                        is_blank[slot] = False
                        slot_address = first + slot * line_bytes
                        filled_address = whole_address[0] if add_line else slot_address
                        start = source + (planes[plane, p] + lines[extended] * source_line) * source_bytes
                        for run in range(first_run, end_run if p == 0 or not add_line else first_run):
                            to = filled_address + runs[run, 0] * item_bytes
                            origin = start + runs[run, 2] * source_column * source_bytes
                            seen += call_for_float(fill, (origin, runs[run, 3] * source_column, to, runs[run, 1]))
                        if add_line:
                            one_line = (np.intp(whole_address.ctypes.data), 1)
                            taps = (np.intp(line_weights[p].ctypes.data), 1, 1, line_weights.shape[1], step)
                            call(add_line, (slot_address, 0, *one_line, *taps, columns, 0))
                    next_slot = next_slot + 1 if next_slot + 1 < window else 0
                filled = line + window
                if holds_planes:
                    for p in range(n_planes):
                        held[slots[p]] = planes[plane, p]
                place = out + (planes[plane, n_planes] + line * out_line + column * out_column) * out_bytes
                target, target_step = (np.intp(sums.ctypes.data), line_size) if store else (place, out_line)
                kernel = (np.intp(weights.ctypes.data), n_planes, height, width, step)
                table = np.intp(addresses.ctypes.data) + first_slot * 8
                if source_column == 1 and not holds_planes and n_lines * columns * source_bytes > _IN_CACHE:
                    for extended in range(filled, min(filled + rows, len(lines))):
                        for p in range(n_planes if not add_line else 1):
                            if planes[plane, p] != NO_PLANE and lines[extended] != OUTSIDE:
                                start = planes[plane, p] + lines[extended] * source_line + column
                                for at in range(0, columns * source_bytes, 64):
                                    prefetch(source + start * source_bytes + at)
                call(add_tile, (target, target_step, table, 2 * window, *kernel, columns, 0))
                if store:
                    for row in range(rows):
                        to = place + row * out_line * out_bytes
                        call(store, (target + row * line_bytes, to, out_column, columns, casting))
                line += rows
                first_slot = first_slot + rows if first_slot + rows < window else first_slot + rows - window
    return seen


def address_of(array: NDArray[Any]) -> int:
    """Of the first element, of which there is one."""
    if array.flags.carray:  # as a buffer, if it is one: 0.4 us in place of 1.1
        return ctypes.addressof(ctypes.c_char.from_buffer(array.data))
    return int(array.__array_interface__["data"][0])


def correlate_lines(
    source: NDArray[Any],
    weights: NDArray[Any],
    out: NDArray[Any],
    taps: tuple[int, ...],
    modes: tuple[str, ...],
    before: tuple[int, ...],
    outside: float,
    *,
    casting: int = line_loops.TRUNCATE,
    fused: bool = True,
    skip_zeros: bool = False,
    line_weights: NDArray[Any] | None = None,
) -> bool:
    """Correlate a real array directly, or along its last axis with two and more taps and then across.

    Parameters
    ----------
    source : ndarray, any integer dtype, float32 or float64, in native byte order, of at least one element
    weights : ndarray of float32 or float64, C-contiguous
        Their dtype is that of the sums.
    out : ndarray of the same dtypes as `source`, of its shape
        Shares no memory with it.
    taps, modes, before : tuple, one entry an axis
        Shape of the kernel, border modes, and how many taps lie before the one on the output's own place.
    outside : float
        Value beyond borders of mode "constant".
    casting : int
        How sums become integers.
    fused : bool
        Whether a multiplication and addition round once.
    skip_zeros : bool
        Whether NaN and infinity must not pass a weight of 0, which takes longer.
    line_weights : ndarray of the dtype of `weights`, shape (terms, taps), optional
        What lines are correlated with first, for a kernel that is a sum of products; `weights` then is of shape
        (terms, taps), what is correlated across lines. Other axes have one tap.

    Returns
    -------
    bool
        Whether all values and `outside` are finite.
    """
    if any(stride % source.itemsize for stride in source.strides):
        source = source.copy()
    lines = source.size // source.shape[-1] if source.ndim else 1
    plan = (plan_lines if lines <= _REMEMBERED_LINES else plan_lines.__wrapped__)(
        source.shape,
        source.strides,
        out.strides,
        taps,
        modes,
        before,
        source.dtype,
        weights.dtype,
        out.dtype,
        casting,
        fused,
        skip_zeros,
        0 if line_weights is None else len(line_weights),
        tile.taps_of(weights),
    )
    by_line = _NO_WEIGHTS[weights.dtype] if line_weights is None else line_weights
    return PreparedLines(plan, weights.ravel(), by_line).run(source, out, outside)


class PreparedLines(NamedTuple):
    """All that a direct sum needs but the arrays, which must be of the shape, strides and dtypes prepared for."""

    plan: Plan
    weights: NDArray[Any]
    line_weights: NDArray[Any]

    def run(self, source: NDArray[Any], out: NDArray[Any], outside: float) -> bool:
        """Correlate; see `correlate_lines`."""
        numbers, planes, lines, strips, runs = self.plan
        found = _walk(
            address_of(source),
            address_of(out),
            numbers,
            planes,
            lines,
            strips,
            runs,
            self.weights,
            self.line_weights,
            outside,
        )
        return bool(found == 0)


def prepare_lines(
    source: NDArray[Any],
    weights: NDArray[Any],
    out: NDArray[Any],
    placed: Placement,
    *,
    casting: int,
    fused: bool,
    line_weights: NDArray[Any] | None = None,
) -> PreparedLines:
    """What `correlate_lines` would do with such arrays, for many calls; strides are whole elements."""
    dtypes = (source.dtype, weights.dtype, out.dtype)
    terms = 0 if line_weights is None else len(line_weights)
    layout = (source.shape, source.strides, out.strides)
    plan = plan_lines(*layout, *placed, *dtypes, casting, fused, False, terms, tile.taps_of(weights))
    by_line = _NO_WEIGHTS[weights.dtype] if line_weights is None else line_weights
    return PreparedLines(plan, weights.ravel(), by_line)
