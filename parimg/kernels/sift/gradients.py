"""Lengths and directions of gradients, a vector of samples at a time.

`orientation.py` and `description.py` call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from parimg.kernels.sift.vectors import INDEX, Vector, load

if TYPE_CHECKING:
    from llvmlite import ir

# 8 also where vectors are wider: a row has 15 to 40 samples, and what hangs over its end is computed in vain.
LANES = 8

# The arc tangent of 0 to 1 in degrees: the odd polynomial of four terms whose largest relative error, 0.00021, is
# least (Remez' algorithm). OpenCV's is the same to seven digits, so samples at the edge of a bin fall as its do.
_T1, _T3, _T5, _T7 = 57.28362407, -18.667449, 8.91400596, -2.53972789
_ALMOST_0 = 2.0**-52
_ROUNDING = 1.5 * 2.0**23  # to add it leaves no room for digits after the point


def gradients(b: ir.IRBuilder, floats: ir.Value, place: ir.Value, stride: ir.Value) -> tuple[Vector, Vector]:
    """Length and direction, 0 to 360 degrees, at LANES pixels from `place` of an image with that stride."""

    def pixels(at: ir.Value) -> Vector:
        return load(b, b.gep(floats, [at]), LANES)

    dx = pixels(b.add(place, INDEX(1))) - pixels(b.sub(place, INDEX(1)))
    dy = pixels(b.sub(place, stride)) - pixels(b.add(place, stride))
    width, height = dx.absolute(), dy.absolute()
    c = width.smaller(height) / (width.larger(height) + _ALMOST_0)
    cc = c * c
    angle = (((cc * _T7 + _T5) * cc + _T3) * cc + _T1) * c
    angle = (height > width).where(90.0 - angle, angle)
    angle = (dx < 0.0).where(180.0 - angle, angle)
    angle = (dy < 0.0).where(360.0 - angle, angle)
    return (dx * dx + dy * dy).root(), angle


def nearest(number: Vector) -> Vector:
    """The nearest integer of float32 below 2**22, the even one of two."""
    return ((number + _ROUNDING) - _ROUNDING).cut()
