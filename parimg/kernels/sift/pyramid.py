"""The Gaussian pyramid: how large its images are, where they lie in memory, and how their rows are made.

`detection.py` decides which rows are made when. Memory is one array of float32; nothing is checked here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from parimg.kernels.sift.arithmetic import compiled, exp, exp2
from parimg.kernels.sift.weighted_lines import PADDING, add_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

_CAMERA_SIGMA = 0.5  # blur that an image is taken to have
_LEAST_BLUR = 0.1
_RADIUS_IN_SIGMAS = 4
BORDER = 5  # pixels at the edge of every image in which no keypoint is sought

# Columns of a plan, one row an octave; the places of its images follow.
HEIGHT, WIDTH, STRIDE, FIRST_IMAGE = 0, 1, 2, 3


class Pyramid(NamedTuple):
    """Sizes and places of the images of all octaves, and the blurs between them.

    Attributes
    ----------
    plan : ndarray of int64, shape (octaves, 3 + n_octave_layers + 3)
        Height, width, floats from row to row, and where each image starts in memory.
    radii : ndarray of int64, shape (n_octave_layers + 3,)
        Of the blur that makes an image from the one before it; the first makes the base from the doubled image.
    weights : ndarray of float32, shape (n_octave_layers + 3, largest radius + 1)
        Of the centre and of the pixels at distance 1, 2, ...
    line : int
        Place of one row with a margin on both sides.
    floats : int
        Memory wanted.
    """

    plan: NDArray[np.int64]
    radii: NDArray[np.int64]
    weights: NDArray[np.float32]
    line: int
    floats: int


def plan_pyramid(height: int, width: int, n_octave_layers: int, sigma: float) -> Pyramid:
    """Lay out the pyramid of an image of that size.

    Octaves too small for a keypoint are left out. Images 1 to `n_octave_layers` of each octave stay, as
    descriptors are made from them; the others of all octaves share their places.
    """
    blurs = _blurs(n_octave_layers, sigma)
    radii = np.array([(round(2 * _RADIUS_IN_SIGMAS * blur + 1) | 1) // 2 for blur in blurs], np.int64)
    weights = np.zeros((len(blurs), radii.max() + 1), np.float32)
    for row, blur, radius in zip(weights, blurs, radii, strict=True):
        row[: radius + 1] = _weights(blur, radius)
    margin = _padded(int(radii.max()))
    sizes = list(_sizes(2 * height, 2 * width))
    places = margin  # nothing is read before the first float
    plan = np.zeros((len(sizes), FIRST_IMAGE + len(blurs)), np.int64)
    shared: dict[int, int] = {}
    for octave, (rows, columns) in enumerate(sizes):
        stride = _padded(columns)
        plan[octave, :FIRST_IMAGE] = rows, columns, stride
        for image in range(len(blurs)):
            if 1 <= image <= n_octave_layers or image not in shared:
                place = places
                places += rows * stride
                shared[image] = place
            plan[octave, FIRST_IMAGE + image] = shared[image]
    line = places + margin
    widest = _padded(2 * width)
    return Pyramid(plan, radii, weights, line, line + widest + margin + PADDING)


def _blurs(n_octave_layers: int, sigma: float) -> list[float]:
    """Sigma of the blur that makes each image from the one before it."""
    first = math.sqrt(max(sigma**2 - (2 * _CAMERA_SIGMA) ** 2, _LEAST_BLUR**2))
    ratio = exp2(1 / n_octave_layers)
    blurs = [first]
    for image in range(1, n_octave_layers + 3):
        before = sigma * exp2((image - 1) / n_octave_layers)
        blurs.append(before * math.sqrt(ratio * ratio - 1))
    return blurs


def _weights(sigma: float, radius: int) -> NDArray[np.float32]:
    half = [exp(-(distance**2) / (2 * sigma**2)) for distance in range(radius + 1)]
    total = half[0] + 2 * math.fsum(half[1:])
    return np.array([weight / total for weight in half], np.float32)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    n_octaves = max(0, round(math.log2(min(height, width)) - 2) + 1)
    sizes = []
    for _ in range(n_octaves):
        if min(height, width) <= 2 * BORDER:
            break
        sizes.append((height, width))
        height, width = height // 2, width // 2
    return sizes


def _padded(count: int) -> int:
    return -(-count // PADDING) * PADDING


@compiled
def _reflected(place, size):
    """The place in a line of that size, mirrored about its outer pixels as often as it takes."""
    if size == 1:
        return 0
    while place < 0 or place >= size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


@compiled
def blur_rows(memory, source, target, height, width, stride, first, last, weights, radius, line, table):
    """Make rows `first` to `last` of an image by a blur of another; `table` has room for 4 radii and 2."""
    lines = table[: 2 * radius + 1]
    shifts = table[2 * radius + 1 : 4 * radius + 2]
    shifts[0] = line
    for k in range(1, radius + 1):
        shifts[2 * k - 1] = line - k
        shifts[2 * k] = line + k
    for y in range(first, last):
        lines[0] = source + y * stride
        for k in range(1, radius + 1):
            lines[2 * k - 1] = source + _reflected(y - k, height) * stride
            lines[2 * k] = source + _reflected(y + k, height) * stride
        add_lines(memory, line, lines, weights, radius, stride)
        for k in range(1, radius + 1):
            memory[line - k] = memory[line + _reflected(-k, width)]
            memory[line + width - 1 + k] = memory[line + _reflected(width - 1 + k, width)]
        add_lines(memory, target + y * stride, shifts, weights, radius, stride)


@compiled
def double_rows(image, memory, target, stride, first, last, line):
    """Make rows of the doubled image: linear between pixel centres. Every number is exact in float32."""
    height, width = image.shape
    between = memory[line : line + width]
    for y in range(first, last):
        near = image[y // 2]
        far = image[max(y // 2 - 1, 0) if y % 2 == 0 else min(y // 2 + 1, height - 1)]
        for x in range(width):
            between[x] = np.float32(3 * np.int32(near[x]) + np.int32(far[x])) * np.float32(0.0625)
        row = memory[target + y * stride : target + y * stride + 2 * width]
        row[0] = between[0] * np.float32(4)
        row[2 * width - 1] = between[width - 1] * np.float32(4)
        for x in range(width - 1):
            left, right = between[x], between[x + 1]
            row[2 * x + 1] = np.float32(3) * left + right
            row[2 * x + 2] = np.float32(3) * right + left


@compiled
def halve(memory, source, stride, height, width, target, target_stride, target_height, target_width):
    """Take every second pixel, as OpenCV's resize to the nearest does: rarely the next one in odd sizes."""
    step_y = 1 / (target_height / height)
    step_x = 1 / (target_width / width)
    for y in range(target_height):
        row = source + min(int(y * step_y), height - 1) * stride
        for x in range(target_width):
            memory[target + y * target_stride + x] = memory[row + min(int(x * step_x), width - 1)]
