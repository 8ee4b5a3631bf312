"""The ways to do a convolution, and which is taken when.

`convolve.py` is the only caller.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from parimg.kernels.convolution import byte_passes, tile
from parimg.kernels.convolution.across_lines import (
    Plan,
    Weights,
    correlate_across,
    lines_of_block,
    plan_blocks,
    time_across,
)
from parimg.kernels.convolution.boxes import Rounding, correlate_box, exact_rounding, plan_boxes
from parimg.kernels.convolution.direct import PreparedLines, address_of, correlate_lines, prepare_lines
from parimg.kernels.convolution.fft import (
    correlate_blocks,
    correlate_planes,
    transformed_elements,
)
from parimg.kernels.convolution.line_loops import ROUND, TRUNCATE
from parimg.kernels.convolution.line_plan import LONGEST_MERGED
from parimg.kernels.convolution.magnitudes import (
    PEAK_FOR_DIRECT,
    PEAK_FOR_FLOAT64,
    PEAK_IN_COLUMN,
    allows_outside,
    casts_fractions,
    holds_less,
    is_peaked,
    is_whole,
    largest,
    largest_exact,
    rounds_to_exact,
)
from parimg.kernels.convolution.short_loops import LONGEST
from parimg.kernels.convolution.weights import Factors

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from parimg.kernels.convolution.arguments import Placement, Within
    from parimg.kernels.convolution.weights import Kernel

# In multiplications of the direct sum by a processor that does as many multiply-adds a cycle as AVX2 can; one that
# does twice as many has passed twice as many when a transform is done. Measured on a Zen 4 EPYC with AVX2, images
# of 40 to 500 pixels a side, kernels of 9 to 31; its AVX-512 came within 15 %, and SSE4 was 0.47 times as fast.
# Times of a Zen 5, which is twice as fast, agree.
CROSSOVERS = {
    "separable": 2.5,  # a multiplication of a pass, on any processor
    "short passes": 1.8,  # the same where passes are written out
    "fft float32": 215.0,  # an element of a block of two axes that is transformed and back
    "fft float64": 190.0,
    "fft other axes": 1.6,  # times these
    "fft call float32": 1.6e6,
    "fft call float64": 6e5,
}
_SMALLEST_FACTORED = 25  # taps
# Taps, by dtype of the running sums, measured at 1024 x 1024; below, the direct sum and passes are faster. More
# are wanted where integers are made of what is no whole number: these would show a change of the last bit.
_SMALLEST_BOX = {"float32": 25, "float64": 64}
_SMALLEST_BOX_CAST = {"float32": 121, "float64": 1225}
_MOST_CHANNELS = 32
_MEANS_ARE_EXACT = (np.uint8, np.uint16)
_NO_TAPS = np.empty((0, 0))
_LARGEST_FACTORED = 2**14  # taps; a decomposition of 128 x 128 takes 4 ms


class How(NamedTuple):
    """What a caller asked for."""

    placed: Placement
    method: str
    precision: str | None
    casting: int
    is_convolution: bool
    within: Within | None = None
    """Where it lies, if it is a part that is to be as in the whole; the shape of this decides, then."""

    def deciding(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape by which the way is chosen, of an array of that shape."""
        return shape if self.within is None else self.within.shape


def run(
    source: NDArray[Any],
    kernel: Kernel,
    out: NDArray[Any],
    cval: float,
    how: How,
    dtype: str,
    method: str | None = None,
) -> None:
    """Convolve a real array into another that shares no memory with it.

    `method` is what `choose` said of these arguments, if it was asked before.

    Raises
    ------
    ValueError
        If passes are asked for and the kernel is no product, and of two axes no short sum of products.
    """
    method = choose(source, kernel, out, how, dtype) if method is None else method
    target, precise, across = out, dtype, None
    is_exact = is_whole(source, kernel, out) and (
        method == "fft" or (method == "separable" and kernel.vectors is None)
    )
    if method == "fft":
        precise = "float64" if is_exact else precise
        across = _plan_across(source, kernel, out, how, precise, is_exact=is_exact)
        is_local = is_exact or (across is not None and across.is_local)
        if not is_local and is_peaked(source, PEAK_FOR_FLOAT64):
            if how.method == "auto" and is_peaked(source, PEAK_FOR_DIRECT):
                method = "direct"
            precise = "float64"
            across = _plan_across(source, kernel, out, how, precise, is_exact=is_exact)
    if is_exact:
        if not rounds_to_exact(source, kernel, cval, how.placed, across):
            method = "direct"
        elif across is None:
            target, precise = np.empty(out.shape), "float64"
    if method == "boxes":
        is_done = _run_by_running_sums(source, kernel, out, cval, how)
    elif method == "bytes":
        is_done = _run_over_bytes(source, kernel, out, cval, how)
    elif method == "separable" and len(kernel.axes) > 1:
        is_done = _run_in_passes(source, kernel, target, cval, how, precise)
    elif method == "fft" and across is not None:
        is_done = _run_across_lines(source, kernel, out, cval, how, across, precise)
    elif method == "fft" and kernel.axes:
        is_done = _run_by_transforms(source, kernel, target, cval, how, precise)
    else:
        is_done = _run_directly(source, kernel, target, cval, how, dtype, skip_zeros=False)
    if not is_done:
        _run_directly(source, kernel, out, cval, how, dtype, skip_zeros=kernel.has_zeros)
    elif target is not out:
        _cast(np.rint(target, out=target), out, how)


def choose(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str) -> str:
    """The method asked for, or the fastest, by shapes and dtypes alone: no element is looked at."""
    if how.method != "auto":
        return how.method
    if how.precision != "float64" and _is_for_boxes(source, kernel, out, how):
        return "boxes"
    if is_for_bytes(source.shape, source.dtype, kernel, out.dtype, how):
        return "bytes" if byte_passes.fits(source.shape) else "direct"
    is_exact = is_whole(source, kernel, out)
    is_cast = casts_fractions(source, kernel, out)
    return choose_for_shape(how.deciding(source.shape), kernel, how, dtype, is_exact=is_exact, is_cast=is_cast)


def choose_for_shape(
    shape: tuple[int, ...],
    kernel: Kernel,
    how: How,
    dtype: str,
    *,
    is_exact: bool,
    is_cast: bool,
) -> str:
    """The fastest method for an array of that shape, running sums of boxes apart.

    With `is_exact`, sums are to be exact; for `is_cast`, see `casts_fractions`.
    """
    size = kernel.weights.size
    if how.precision == "float64" or size < _SMALLEST_FACTORED:
        return "direct"
    if len(kernel.axes) == 2 and size <= _LARGEST_FACTORED:
        factors = kernel.factors(dtype)
        is_short = kernel.vectors is not None and max(kernel.weights.shape) <= LONGEST and not is_cast
        each = CROSSOVERS["short passes" if is_short else "separable"]
        is_worth_it = (factors.across.size + factors.along.size) * each < size
        if is_worth_it and (kernel.vectors is not None or not is_exact):
            return "separable"
    elif len(kernel.axes) > 1 and kernel.vectors is not None:
        return "separable"
    direct = float(math.prod(shape[axis] for axis in kernel.axes) * size)
    if is_exact:  # transforms of whole numbers are taken in float64
        direct, dtype = direct * (0.5 if dtype == "float32" else 1.0), "float64"
    across = math.inf if is_cast else _time_across(shape, kernel, how, dtype)
    return "fft" if min(across, _time_of_blocks(shape, kernel, dtype)) < direct else "direct"


def _time_of_blocks(shape: tuple[int, ...], kernel: Kernel, dtype: str) -> float:
    """Of transforms along all axes, in multiplications of the direct sum."""
    sides = tuple(shape[axis] for axis in kernel.axes)
    elements = transformed_elements(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes))
    each = CROSSOVERS[f"fft {dtype}"] * (1 if len(sides) == 2 else CROSSOVERS["fft other axes"])
    return (CROSSOVERS[f"fft call {dtype}"] + elements * each) * tile.RELATIVE_SPEED


def lines_together(shape: tuple[int, ...], kernel: Kernel, how: How, dtype: str) -> int:
    """Lines of an image that are summed by one block, if it is transformed across lines; else 0."""
    if _time_across(shape, kernel, how, dtype) >= _time_of_blocks(shape, kernel, dtype):
        return 0
    sides, taps = zip(*((shape[axis], kernel.weights.shape[axis]) for axis in kernel.axes), strict=True)
    return lines_of_block(sides, taps, dtype)


def _time_across(shape: tuple[int, ...], kernel: Kernel, how: How, dtype: str) -> float:
    """The same of transforms across lines."""
    # Of many channels, planes are what lies behind each other along an axis of the image: these are no blocks.
    if how.within is not None and math.prod(shape[kernel.axes[-1] + 1 :]) > LONGEST_MERGED:
        return math.inf
    sides = tuple(shape[axis] for axis in kernel.axes)
    return time_across(sides, tuple(kernel.weights.shape[axis] for axis in kernel.axes), dtype)


def is_for_bytes(
    shape: tuple[int, ...], source: np.dtype[Any], kernel: Kernel, out: np.dtype[Any], how: How
) -> bool:
    """Whether passes that give what the direct sum gives are worth it, or this where they do not fit."""
    if how.precision == "float64" or kernel.weights.size < _SMALLEST_FACTORED:
        return False
    is_worth_it = sum(kernel.weights.shape) * CROSSOVERS["short passes"] < kernel.weights.size
    return is_worth_it and byte_passes.serves(source, kernel, out, how.casting, shape)


def _is_for_boxes(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How) -> bool:
    """Whether running sums are exact, or float64 for float32, and worth it."""
    if not kernel.is_box or kernel.axes != (0, 1) or source.ndim > 3:
        return False
    if source.dtype != np.float32 and (source.dtype.kind == "f" or source.dtype.itemsize > 4):
        return False
    if source.ndim == 3 and source.shape[2] > _MOST_CHANNELS:
        return False
    sums, rounding = _box_sums(source.dtype, kernel, out.dtype, how, 0.0)
    smallest = _SMALLEST_BOX_CAST if casts_fractions(source, kernel, out) else _SMALLEST_BOX
    return rounding is not None or kernel.weights.size >= smallest[sums]


def _box_sums(
    source: np.dtype[Any], kernel: Kernel, out: np.dtype[Any], how: How, cval: float
) -> tuple[str, Rounding | None]:
    """Dtype of the sums over a box, and how whole numbers are rounded to means: exactly, where that can be.

    Else sums are float32 where that holds all of them, or float64, and multiplied by the weight.
    """
    if source.kind == "f" or how.precision == "float64" or not float(cval).is_integer():
        return "float64", None
    limits = np.iinfo(source)
    if source == out and source in _MEANS_ARE_EXACT and how.casting != TRUNCATE and 0 <= cval <= limits.max:
        largest, weight = limits.max * kernel.weights.size, float(kernel.weights.flat[0])
        for bits in (16, 32):
            rounding = exact_rounding(weight, largest, bits)
            if rounding is not None and largest * weight < limits.max + 0.5:
                return f"uint{bits}", rounding
    bound = max(limits.max, -limits.min, abs(cval)) * max(kernel.absolute_sum, kernel.weights.size)
    return "float32" if bound < 2**24 else "float64", None


def _has_whole_lines(array: NDArray[Any]) -> bool:
    """Whether the elements of each line lie beside each other."""
    beside = array.itemsize
    for size, stride in zip(array.shape[:0:-1], array.strides[:0:-1], strict=True):
        if stride != beside:
            return False
        beside *= size
    return array.strides[0] % array.itemsize == 0


def _in_whole_lines(source: NDArray[Any], out: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
    """The same arrays where they have whole lines, else a copy and an empty one."""
    given = source if _has_whole_lines(source) else np.ascontiguousarray(source)
    return given, out if _has_whole_lines(out) else np.empty(out.shape, out.dtype)


def _run_over_bytes(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How) -> bool:
    """Two passes that give what the direct sum gives; False if what lies outside must not pass weights of 0."""
    given, target = _in_whole_lines(source, out)
    prepared = byte_passes.prepare_bytes(given, kernel, target, how.placed, how.casting, cval)
    is_finite = prepared.run(given, target, cval)
    if target is not out:
        out[...] = target
    return is_finite or not kernel.has_zeros


def _run_by_running_sums(source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How) -> bool:
    """False if something is not finite, or so large that its rounding would show beside it."""
    dtype, rounding = _box_sums(source.dtype, kernel, out.dtype, how, cval)
    given, target = _in_whole_lines(source, out)
    height, width = kernel.axes
    taps, modes, before = ((each[height], each[width]) for each in how.placed)
    plan = plan_boxes(
        given.shape,
        given.strides[0],
        target.strides[0],
        taps,
        modes,
        before,
        given.dtype,
        dtype,
        out.dtype,
        how.casting,
        rounding,
    )
    weight = float(kernel.in_dtype(dtype).flat[0])
    greatest = correlate_box(plan, address_of(given), address_of(target), weight, cval)
    if math.isnan(greatest) or (source.dtype.kind == "f" and is_peaked(source, PEAK_FOR_DIRECT, greatest)):
        return False
    if target is not out:
        out[...] = target
    return True


class PreparedBlocks(NamedTuple):
    """All that transforms across lines need but the elements, which they look at before."""

    plan: Plan
    weights: Weights
    peak: float
    """How many times the typical value the largest may be, where all is decided at once."""
    below: float
    """What absolute values must be below."""

    def run(self, source: NDArray[Any], out: NDArray[Any], outside: float) -> bool:
        """Correlate; False if another way is to be taken."""
        if self.peak < math.inf and is_peaked(source, self.peak):
            return False
        if self.below < math.inf and not largest(source) < self.below:
            return False
        return correlate_across(self.plan, address_of(source), address_of(out), self.weights, outside)


Prepared = PreparedLines | PreparedBlocks | byte_passes.PreparedBytes


def prepare(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str, method: str, cval: float
) -> Prepared | None:
    """All that a direct sum, two passes or transforms across lines need but the elements; None for other ways.

    Passes and transforms are wrong where something is not finite, and the direct sum if weights of 0 are among the
    others.
    """
    placed, across, along = how.placed, kernel.in_dtype(dtype), None
    if method == "bytes" and _has_whole_lines(source):
        return byte_passes.prepare_bytes(source, kernel, out, how.placed, how.casting, cval)
    if method == "fft":
        return _prepare_blocks(source, kernel, out, how, dtype, cval)
    if method == "separable" and len(kernel.axes) == 2:
        if kernel.vectors is None and (how.method != "auto" or is_whole(source, kernel, out)):
            return None
        factors = kernel.factors(dtype)
        across, along = factors.across.astype(dtype), factors.along.astype(dtype)
        placed = _along(placed, kernel.axes)
    elif method != "direct":
        return None
    fused = how.precision != "float64" or along is not None
    return prepare_lines(source, across, out, placed, casting=how.casting, fused=fused, line_weights=along)


def _prepare_blocks(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str, cval: float
) -> PreparedBlocks | None:
    is_exact = is_whole(source, kernel, out)
    dtype = "float64" if is_exact else dtype
    plan = _plan_across(source, kernel, out, how, dtype, is_exact=is_exact)
    if plan is None:
        return None
    weights = _weights_across(source, kernel, how, plan, dtype, is_exact=is_exact)
    if not is_exact:
        return PreparedBlocks(plan, weights, math.inf if plan.is_local else weights.limit, math.inf)
    allowed = largest_exact(source, kernel, plan)
    if not allows_outside(cval, how.placed, allowed):
        return None
    return PreparedBlocks(plan, weights, math.inf, math.inf if holds_less(source.dtype, allowed) else allowed)


def _run_directly(
    source: NDArray[Any],
    kernel: Kernel,
    out: NDArray[Any],
    cval: float,
    how: How,
    dtype: str,
    *,
    skip_zeros: bool,
) -> bool:
    """Sum over all taps; False if something is not finite and must not pass weights of 0."""
    is_finite = correlate_lines(
        source,
        kernel.in_dtype(dtype),
        out,
        *how.placed,
        cval,
        casting=how.casting,
        fused=how.precision != "float64",
        skip_zeros=skip_zeros,
    )
    return is_finite or not kernel.has_zeros


def _run_in_passes(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str
) -> bool:
    """One pass along each axis, the last two together; False if something is not finite."""
    shape = how.placed.shape
    if len(kernel.axes) == 2:
        factors = kernel.factors(dtype)
        if factors.across.size + factors.along.size > kernel.weights.size:
            raise ValueError(
                f"method='separable' wants weights that are a product or a short sum of products (got "
                f"{len(factors.across)} terms for shape {shape}); take 'direct' or 'fft'"
            )
    elif kernel.vectors is None:
        raise ValueError(
            f"method='separable' wants weights that are a product of vectors along {len(kernel.axes)} axes (got "
            f"others, of shape {shape}); take 'direct' or 'fft'"
        )
    else:
        factors = Factors(kernel.vectors[-2][None], kernel.vectors[-1][None])
        for axis, vector in zip(kernel.axes[:-2], kernel.vectors[:-2], strict=True):
            passed = np.empty(source.shape, dtype)
            if not correlate_lines(source, vector.astype(dtype), passed, *_along(how.placed, (axis,)), cval):
                return False
            source, cval = passed, cval * float(vector.sum())
    across, along = factors.across.astype(dtype), factors.along.astype(dtype)
    placed = _along(how.placed, kernel.axes[-2:])
    return correlate_lines(source, across, out, *placed, cval, casting=how.casting, line_weights=along)


def _along(placed: Placement, axes: tuple[int, ...]) -> Placement:
    """The same for a kernel along these axes only."""
    shape = tuple(size if axis in axes else 1 for axis, size in enumerate(placed.shape))
    before = tuple(taps if axis in axes else 0 for axis, taps in enumerate(placed.before))
    return placed._replace(shape=shape, before=before)


def _plan_across(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], how: How, dtype: str, *, is_exact: bool
) -> Plan | None:
    """How transforms are taken across lines, or None where those along all axes are faster."""
    whole = how.deciding(source.shape)
    if _time_across(whole, kernel, how, dtype) >= _time_of_blocks(whole, kernel, dtype):
        return None
    if any(stride % source.itemsize for stride in source.strides):
        return None
    casting = ROUND if is_exact and how.casting == TRUNCATE else how.casting
    layout = (source.shape, source.strides, out.strides, how.placed)
    sides = tuple(whole[axis] for axis in kernel.axes)
    return plan_blocks(*layout, source.dtype, np.dtype(dtype), out.dtype, casting, sides, how.within)


def _weights_across(
    source: NDArray[Any], kernel: Kernel, how: How, plan: Plan, dtype: str, *, is_exact: bool
) -> Weights:
    may_be_summed = plan.is_local or how.method == "auto"
    narrow = PEAK_IN_COLUMN if plan.is_local else PEAK_FOR_FLOAT64
    limit = narrow if dtype == "float32" else PEAK_FOR_DIRECT if may_be_summed else math.inf
    if is_exact or (source.dtype.kind in "iu" and holds_less(source.dtype, limit)):
        limit = math.inf
    taps = kernel.taps if plan.is_local else _NO_TAPS
    largest = float(np.finfo(dtype).max) / (8 * plan.size * max(kernel.absolute_sum, 1.0))
    return Weights(kernel.products(dtype, plan.axis, plan.size), taps, limit, largest)


def _run_across_lines(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, plan: Plan, dtype: str
) -> bool:
    """Transform blocks of lines; False if something is not finite, unless its sums were taken tap by tap."""
    weights = _weights_across(source, kernel, how, plan, dtype, is_exact=is_whole(source, kernel, out))
    return correlate_across(plan, address_of(source), address_of(out), weights, cval)


def _run_by_transforms(
    source: NDArray[Any], kernel: Kernel, out: NDArray[Any], cval: float, how: How, dtype: str
) -> bool:
    """Transform blocks of all axes with several taps; False if something is not finite."""
    axes = kernel.axes
    shape, modes, before = how.placed
    taps, starts = tuple(shape[axis] for axis in axes), tuple(before[axis] for axis in axes)
    borders = tuple(modes[axis] for axis in axes)
    transform = partial(kernel.spectrum, dtype)
    is_converted = out.dtype.kind in "iu"
    sums = np.empty(out.shape, dtype) if is_converted else out
    correlate: Callable[..., bool] = correlate_planes if len(axes) == 2 else correlate_blocks
    if len(axes) == source.ndim:
        parts = [(source, sums)]
    else:
        stack, sums_stack = (np.moveaxis(array, axes, range(-len(axes), 0)) for array in (source, sums))
        parts = [(stack[at], sums_stack[at]) for at in np.ndindex(stack.shape[: -len(axes)])]
    for part, sums_part in parts:
        if not correlate(part, transform, taps, sums_part, borders, starts, cval, dtype):
            return False
    if is_converted:
        _cast(sums, out, how)
    return True


def _cast(sums: NDArray[Any], out: NDArray[Any], how: How) -> None:
    """Write sums as integers."""
    one, none = (1,) * out.ndim, (0,) * out.ndim
    correlate_lines(sums, np.ones(one, sums.dtype), out, one, how.placed.modes, none, 0.0, casting=how.casting)
