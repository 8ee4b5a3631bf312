"""`generic_filter1d`: SciPy's, with the user's function of whole lines compiled into the loop."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types
from scipy import LowLevelCallable, ndimage

from parimg.kernels.borders import checked_axes, checked_modes, source_index
from parimg.kernels.filters.dtypes import address_of, can_be_written, compiled_dtype, output_dtype, readable
from parimg.kernels.filters.loops import filter_each_line
from parimg.kernels.filters.user_functions import as_user_function, run_loop
from parimg.kernels.filters.windows import Specification

if TYPE_CHECKING:
    import numpy.typing as npt

    from parimg.kernels.borders import Mode


def generic_filter1d(
    input: npt.ArrayLike,  # noqa: A002 - SciPy's name
    function: Callable[..., object],
    filter_size: int,
    axis: int = -1,
    output: npt.NDArray[Any] | npt.DTypeLike | None = None,
    mode: Mode = "reflect",
    cval: float = 0.0,
    origin: int = 0,
    extra_arguments: Iterable[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    python: bool = False,
) -> npt.NDArray[Any]:
    """Filter an array line by line with a function of each, compiled into the loop.

    Parameters
    ----------
    input : array_like
        Real numbers of any dtype and any number of axes. It is never copied as a whole.
    function : callable
        Called with a line, extended at both ends to ``length + filter_size - 1`` elements, with the line for its
        results, zeros that it writes, both arrays of float64, and with the extra arguments. What it returns is not
        looked at. See `generic_filter` for what may be given.
    filter_size : int
        How many elements of the line a result depends on.
    axis : int
        The axis of lines.
    output : ndarray or dtype, optional
        Where to put the result, or its dtype; the input's by default. It may be the input.
    mode : {"reflect", "mirror", "nearest", "wrap", "constant"}
        How lines are extended, as in SciPy.
    cval : float
        What lies outside if `mode` is ``"constant"``.
    origin : int
        Moves the filter, as in `generic_filter`.
    extra_arguments : sequence
        Further arguments of `function`. Other values compile nothing anew, other types do.
    extra_keywords : mapping, optional
        The same by name.
    python : bool
        Call `function` as plain Python, through SciPy.

    Returns
    -------
    ndarray
        Of the input's shape.

    Raises
    ------
    TypeError
        If the input is complex or no number, or numba cannot compile `function`.
    ValueError
        If the axis or origin is out of its range.
    RuntimeError
        If the filter's size is below 1, the mode is unknown, or `output` has another shape; as in SciPy.

    Examples
    --------
    >>> def moving_sum(line, result):
    ...     for i in range(len(result)):
    ...         result[i] = line[i] + line[i + 1]
    >>> generic_filter1d([1, 2, 4, 8], moving_sum, filter_size=2)
    array([ 2,  3,  6, 12])
    """
    image = np.asarray(input)
    if python or isinstance(function, LowLevelCallable):
        found: npt.NDArray[Any] = ndimage.generic_filter1d(
            image, function, filter_size, axis, output, mode, cval, origin, tuple(extra_arguments),
            dict(extra_keywords or {}),
        )  # fmt: skip
        return found
    if image.dtype.kind not in "biuf":
        raise TypeError(f"input must hold real numbers (got dtype {image.dtype})")
    size = operator.index(filter_size)
    if size < 1:
        raise RuntimeError(f"filter_size must be at least 1 (got {size})")
    axis = checked_axes(axis, image.ndim)[0]
    left = size // 2 + operator.index(origin)
    if not 0 <= left < size:
        raise ValueError(f"origin must keep the filter over its element (got {origin} for size {size})")
    modes = checked_modes(mode, 1)
    user = as_user_function(function, 2, extra_arguments, extra_keywords)
    given = output if isinstance(output, np.ndarray) else None
    if given is not None and given.shape != image.shape:
        raise RuntimeError(f"output must have shape {image.shape} (got {given.shape})")
    wanted = output_dtype(output, image.dtype)
    compiled = compiled_dtype(wanted)
    source = np.moveaxis(readable(image), axis, -1)
    direct = (
        given is not None and axis == image.ndim - 1 and can_be_written(given, compiled, [image, *user.arguments])
    )
    result = given if given is not None and direct else np.empty(source.shape, compiled)
    double = np.dtype(np.float64)
    n = source.shape[-1]
    if source.size:
        table = source_index(modes[0], n, left, size - 1 - left)
        given_to_loop = (
            Specification(double, double, compiled),
            Specification(source.dtype, double, double),
            address_of(source),
            address_of(result),
            np.array(source.shape[:-1], np.int64),
            np.array(source.strides[:-1], np.int64),
            table,
            (source.strides[-1], left),
            np.empty(len(table)),
            np.empty(n),
            (compiled.itemsize,),
            np.float64(cval),
        )
        line = types.Array(types.float64, 1, "C")
        run_loop(filter_each_line, user, given_to_loop, (line, line), lambda _: None)
    result = np.moveaxis(result, -1, axis)
    if given is not None and direct:
        return given
    if given is not None:
        np.copyto(given, result, casting="unsafe")
        return given
    return np.ascontiguousarray(result, wanted)
