"""Lengths and directions of gradients, one row of samples at a time.

`orientation.py` and `description.py` call.
"""

from __future__ import annotations

import numpy as np

from parimg.kernels.sift.arithmetic import compiled

# The arc tangent of 0 to 1 in degrees: the odd polynomial of four terms whose largest relative error, 0.00021, is
# least (Remez' algorithm). OpenCV's is the same to seven digits, so samples at the edge of a bin fall as its do.
_T1, _T3, _T5, _T7 = (np.float32(c) for c in (57.28362407, -18.667449, 8.91400596, -2.53972789))
_ALMOST_0 = np.float32(2**-52)
_FLOAT_ROUNDING = np.float32(1.5 * 2**23)


@compiled
def degrees(dy, dx):
    """Direction of a gradient, 0 to 360 degrees, float32."""
    ax, ay = abs(dx), abs(dy)
    less, more = (ax, ay) if ax < ay else (ay, ax)
    c = less / (more + _ALMOST_0)
    cc = c * c
    angle = (((_T7 * cc + _T5) * cc + _T3) * cc + _T1) * c
    angle = np.float32(90) - angle if ay > ax else angle
    angle = np.float32(180) - angle if dx < 0 else angle
    return np.float32(360) - angle if dy < 0 else angle


@compiled
def nearest(value):
    """The nearest integer of a float32 below 2**22, the even one of two, without leaving the vector unit."""
    return np.int32((value + _FLOAT_ROUNDING) - _FLOAT_ROUNDING)


@compiled
def floor(value):
    """The integer below a float32, as float32."""
    cut = np.float32(np.int32(value))
    return cut - np.float32(1) if cut > value else cut
