"""`geometric_transform`: SciPy's, with the user's mapping compiled."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numba import types
from scipy import LowLevelCallable, ndimage

from parimg.kernels.filters.loops import map_positions
from parimg.kernels.filters.user_functions import UserFunction, as_user_function, run_loop
from parimg.kernels.filters.windows import check_place

if TYPE_CHECKING:
    import numpy.typing as npt

_BLOCK = 2**15  # positions that are mapped, then interpolated: 0.5 MB of coordinates in two dimensions
_PADDING = 12  # elements; SciPy's, where the spline's border has no exact solution
_TransformMode = Literal[
    "constant", "grid-constant", "nearest", "reflect", "grid-mirror", "mirror", "wrap", "grid-wrap"
]


def geometric_transform(
    input: npt.ArrayLike,  # noqa: A002 - SciPy's name
    mapping: Callable[..., object],
    output_shape: Sequence[int] | None = None,
    output: npt.NDArray[Any] | npt.DTypeLike | None = None,
    order: int = 3,
    mode: _TransformMode = "constant",
    cval: complex = 0.0,
    prefilter: bool = True,
    extra_arguments: Iterable[Any] = (),
    extra_keywords: Mapping[str, Any] | None = None,
    *,
    python: bool = False,
) -> npt.NDArray[Any]:
    """Transform an array by a mapping of positions, which is compiled; SciPy's splines give the values.

    Parameters
    ----------
    input : array_like
        Real or complex numbers.
    mapping : callable
        Called with a position of the output, a tuple of integers, and the extra arguments; returns the position in
        the input as a tuple of numbers. See `generic_filter` for what may be given.
    output_shape : sequence of int, optional
        The input's by default.
    output : ndarray or dtype, optional
        Where to put the result, or its dtype; the input's by default.
    order : int
        Of the spline, 0 to 5.
    mode : str
        What lies outside, as in SciPy.
    cval : number
        What lies outside if `mode` is ``"constant"`` or ``"grid-constant"``.
    prefilter : bool
        Whether the input is turned into coefficients of the spline first, for orders above 1.
    extra_arguments : sequence
        Further arguments of `mapping`. Other values compile nothing anew, other types do.
    extra_keywords : mapping, optional
        The same by name.
    python : bool
        Call `mapping` as plain Python, through SciPy.

    Returns
    -------
    ndarray
        Of the output's shape.

    Raises
    ------
    TypeError
        If numba cannot compile `mapping`, or it returns something else than a tuple of as many numbers as the
        input has axes.
    RuntimeError
        If the order is out of its range, there is no axis, the mode is unknown, or `output` has another shape or
        no numeric dtype; as in SciPy.

    Notes
    -----
    Positions are mapped in blocks, and `scipy.ndimage.map_coordinates` interpolates them, so that values are
    SciPy's to the last bit.

    Examples
    --------
    >>> def shifted(position, shift):
    ...     return (position[0] - shift,)
    >>> geometric_transform([1, 2, 4, 8], shifted, order=1, mode="nearest", extra_arguments=(1.5,))
    array([1, 1, 2, 3])
    """
    image = np.asarray(input)
    if python or isinstance(mapping, LowLevelCallable):
        found: npt.NDArray[Any] = ndimage.geometric_transform(
            image, mapping, output_shape, output, order, mode, cval, prefilter, tuple(extra_arguments),
            dict(extra_keywords or {}),
        )  # fmt: skip
        return found
    if not 0 <= order <= 5:
        raise RuntimeError(f"order must be an integer from 0 to 5 (got {order!r})")
    shape = image.shape if output_shape is None else tuple(operator.index(side) for side in output_shape)
    if image.ndim < 1 or len(shape) < 1:
        raise RuntimeError(f"input and output must have at least one axis (got shapes {image.shape} and {shape})")
    user = as_user_function(mapping, 1, extra_arguments, extra_keywords)
    given = output if isinstance(output, np.ndarray) else None
    if given is not None and given.shape != shape:
        raise RuntimeError(f"output must have shape {shape} (got {given.shape})")
    complex_input = image.dtype.kind == "c"
    default = np.promote_types(image.dtype, np.complex64) if complex_input else image.dtype.newbyteorder("=")
    result = np.zeros(shape, default if output is None else given.dtype if given is not None else output)
    if complex_input and result.dtype.kind != "c":
        raise RuntimeError(f"output must have a complex dtype for complex input (got {result.dtype})")
    if complex_input:
        _transform(image.real, user, result.real, order, mode, np.real(cval), prefilter)
        _transform(image.imag, user, result.imag, order, mode, np.imag(cval), prefilter)
    else:
        _transform(image, user, result, order, mode, np.real(cval), prefilter)
    if given is not None:
        given[...] = result
        return given
    return result


def _transform(
    image: npt.NDArray[Any],
    user: UserFunction,
    output: npt.NDArray[Any],
    order: int,
    mode: str,
    cval: float,
    prefilter: bool,
) -> None:
    padding = 0
    if prefilter and order > 1:
        if mode in {"nearest", "grid-constant"}:
            padding = _PADDING
            options = {"mode": "edge"} if mode == "nearest" else {"mode": "constant", "constant_values": cval}
            image = np.pad(image, padding, **options)
        image = ndimage.spline_filter(image, order, output=np.float64, mode=mode)
    position = types.UniTuple(types.intp, output.ndim)
    n_axes = image.ndim
    rows = max(1, _BLOCK // max(1, math.prod(output.shape[1:])))
    for first in range(0, len(output) if output.size else 1, rows):
        part = output[first : first + rows]
        places = np.empty((n_axes, part.size))
        given = part.shape, first, image.shape, places, padding
        run_loop(map_positions, user, given, (position,), lambda kind: check_place(kind, n_axes))
        if part.size:
            places = places.reshape(n_axes, *part.shape)
            ndimage.map_coordinates(image, places, part, order, mode, cval, prefilter=False)
