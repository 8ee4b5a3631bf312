"""Kernels by name: what `Convolve` and its command line take instead of numbers.

All are for convolution: an image that grows to the right, or downwards, has a positive derivative.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from parimg.errors import TaskError

if TYPE_CHECKING:
    import numpy.typing as npt

    Kernels = tuple[npt.NDArray[np.float64], ...]

_WIDEST = 4096  # taps a side
_CALL = re.compile(r"\s*([a-z_]+)\s*(?:\(([^()]*)\))?\s*")


def named_kernels(text: str) -> Kernels:
    """Kernels of a name such as ``"laplacian"``, ``"gaussian(2.5)"`` or ``"box(9)"``.

    Parameters
    ----------
    text : str

    Returns
    -------
    tuple of ndarray of float64
        One kernel, or two whose results are the components of a gradient, to the right and downwards.

    Raises
    ------
    TaskError
        If there is no kernel of that name, or its numbers are missing or out of range.

    Examples
    --------
    >>> named_kernels("box(2)")
    (array([[0.25, 0.25],
           [0.25, 0.25]]),)
    """
    found = _CALL.fullmatch(text)
    if found is None or found[1] not in _NAMES:
        raise TaskError(
            f"kernel must be an array, a .npy file, or one of {', '.join(kernel_names())} (got {text!r})"
        )
    name, given = found.groups()
    make, wanted = _NAMES[name]
    numbers = [] if given is None or not given.strip() else given.split(",")
    try:
        values = [float(number) for number in numbers]
    except ValueError:
        raise TaskError(f"kernel {_shown(name)} takes a number (got {text!r})") from None
    if len(values) != len(wanted):
        raise TaskError(f"kernel {_shown(name)} takes {len(wanted)} numbers (got {text!r})")
    return make(*values)


def kernel_names() -> list[str]:
    """All names, with their numbers."""
    return [_shown(name) for name in _NAMES]


def _shown(name: str) -> str:
    wanted = _NAMES[name][1]
    return f"{name}({', '.join(wanted)})" if wanted else name


def _fixed(*rows: tuple[float, ...]) -> tuple[Callable[..., Kernels], tuple[str, ...]]:
    return lambda: (np.array(rows, np.float64),), ()


def _gradient(*sides: float, part: str = "") -> tuple[Callable[..., Kernels], tuple[str, ...]]:
    across = np.outer(sides, (1.0, 0.0, -1.0))  # turned round when it is convolved
    kernels = {"": (across, across.T), "_x": (across,), "_y": (across.T,)}
    return lambda: kernels[part], ()


def _gaussian(sigma: float) -> Kernels:
    if not 0 < sigma <= _WIDEST / 8:
        raise TaskError(f"kernel gaussian(sigma) needs 0 < sigma <= {_WIDEST // 8} pixels (got {sigma:g})")
    radius = math.ceil(4 * sigma)
    x = np.arange(-radius, radius + 1) / sigma
    line = np.exp(-(x**2) / 2)
    line /= line.sum()
    return (np.outer(line, line),)


def _laplacian_of_gaussian(sigma: float) -> Kernels:
    if not 0.3 <= sigma <= _WIDEST / 8:
        raise TaskError(f"kernel log(sigma) needs 0.3 <= sigma <= {_WIDEST // 8} pixels (got {sigma:g})")
    radius = math.ceil(4 * sigma)
    x = np.arange(-radius, radius + 1) / sigma
    squared = x[:, None] ** 2 + x**2
    kernel = (squared - 2) * np.exp(-squared / 2) / (2 * math.pi * sigma**4)
    return (kernel - kernel.mean(),)  # nothing of what is even


def _box(size: float) -> Kernels:
    if size != int(size) or not 1 <= size <= _WIDEST:
        raise TaskError(f"kernel box(size) needs a whole number from 1 to {_WIDEST} (got {size:g})")
    side = int(size)
    return (np.full((side, side), 1 / side**2),)


_SOBEL, _SCHARR, _PREWITT = (1, 2, 1), (3, 10, 3), (1, 1, 1)
_NAMES: dict[str, tuple[Callable[..., Kernels], tuple[str, ...]]] = {
    "sobel": _gradient(*_SOBEL),
    "sobel_x": _gradient(*_SOBEL, part="_x"),
    "sobel_y": _gradient(*_SOBEL, part="_y"),
    "scharr": _gradient(*_SCHARR),
    "scharr_x": _gradient(*_SCHARR, part="_x"),
    "scharr_y": _gradient(*_SCHARR, part="_y"),
    "prewitt": _gradient(*_PREWITT),
    "prewitt_x": _gradient(*_PREWITT, part="_x"),
    "prewitt_y": _gradient(*_PREWITT, part="_y"),
    "laplacian": _fixed((0, 1, 0), (1, -4, 1), (0, 1, 0)),
    "log": (_laplacian_of_gaussian, ("sigma",)),
    "gaussian": (_gaussian, ("sigma",)),
    "box": (_box, ("size",)),
    "sharpen": _fixed((0, -1, 0), (-1, 5, -1), (0, -1, 0)),
    "emboss": _fixed((2, 1, 0), (1, 1, -1), (0, -1, -2)),
    "identity": _fixed((1,)),
}
