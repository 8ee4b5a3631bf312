"""Arithmetic that gives the same bits on every processor: powers, sine and cosine, and rounding.

Functions of a C library differ in the last bit from one library to the next. These are additions, products and
quotients only, which IEEE 754 defines to the bit. The other modules of SIFT call.
"""

from __future__ import annotations

import math
from typing import Any

import numba
import numpy as np

_LN2 = math.log(2.0)
_ROUNDING = 1.5 * 2.0**52  # to add it leaves no room for digits after the point
# Coefficients of Taylor series, highest first; on [-1/2, 1/2] and [-pi/4, pi/4] the rest is below 1e-16.
_EXP2 = tuple(_LN2**k / math.factorial(k) for k in range(13, -1, -1))
_SIN = tuple((-1) ** k / math.factorial(2 * k + 1) for k in range(8, -1, -1))
_COS = tuple((-1) ** k / math.factorial(2 * k) for k in range(8, -1, -1))

compiled = numba.njit(nogil=True, error_model="numpy")


@compiled
def exp2(x: float) -> float:
    """2 to the power of x, float64, for |x| < 1000; smaller ones give 0."""
    if x <= -1000.0:
        return 0.0
    whole = (x + _ROUNDING) - _ROUNDING
    rest = x - whole
    power = 0.0
    for coefficient in _EXP2:
        power = power * rest + coefficient
    factor = 2.0 if whole > 0 else 0.5
    for _ in range(int(abs(whole))):  # exact
        power *= factor
    return power


@compiled
def exp(x: float) -> float:
    """E to the power of x, float64, for x of -690 to 690."""
    return exp2(x / _LN2)


@compiled
def sine_and_cosine(degrees: float) -> tuple[float, float]:
    """Sine and cosine of an angle of 0 to 360 degrees, float64."""
    quarters = (degrees / 90.0 + _ROUNDING) - _ROUNDING
    rest = (degrees - 90.0 * quarters) * (math.pi / 180.0)
    square = rest * rest
    sine = cosine = 0.0
    for coefficient in _SIN:
        sine = sine * square + coefficient
    for coefficient in _COS:
        cosine = cosine * square + coefficient
    sine *= rest
    quarter = int(quarters) % 4
    if quarter == 1:
        return cosine, -sine
    if quarter == 2:
        return -sine, -cosine
    if quarter == 3:
        return -cosine, sine
    return sine, cosine


@compiled
def rounded(x: Any) -> int:
    """The nearest integer, the even one of two."""
    return int((np.float64(x) + _ROUNDING) - _ROUNDING)
