"""The Gaussian pyramid: how large its images are, where they lie in memory, and how their rows are made.

`detection.py` decides which rows are made when. Memory is one array of float32; nothing is checked here.
"""

from __future__ import annotations

import math
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from parimg.kernels.sift.arithmetic import compiled
from parimg.kernels.sift.arithmetic import exp2 as _compiled_exp2
from parimg.kernels.sift.weighted_lines import PADDING, add_lines

Floats: TypeAlias = NDArray[np.float32]
Integers: TypeAlias = NDArray[np.int64]

_CAMERA_SIGMA = 0.5  # blur that an image is taken to have
_LEAST_BLUR = 0.1
_RADIUS_IN_SIGMAS = 4
BORDER = 5  # pixels at the edge of every image in which no keypoint is sought

STRIP = 16  # rows of an image that are made at once
REACH = 8  # rows that a candidate may wander from where it was found
_TILE = 128  # columns of the vertical pass: with STRIP and the widest blur's rows they fit into 32 KB

# Columns of a plan, one row an octave; then the places of its images, then how many rows each keeps, less 1.
HEIGHT, WIDTH, STRIDE, FIRST_IMAGE = 0, 1, 2, 3


_exp2 = _compiled_exp2.py_func  # for a few numbers, without compiling


class Pyramid(NamedTuple):
    """Sizes and places of the images of all octaves, and the blurs between them.

    Attributes
    ----------
    n_layers : int
        Layers of an octave in which keypoints are sought. Images 0 to `n_layers` + 1 are made; the next one is
        asked for at few places and made only there. In its stead, the first octave has the doubled image.
    plan : ndarray of int64, shape (octaves, 3 + 2 (n_layers + 3))
        Height, width, floats from row to row, where each image starts in memory, and the bits of a row's number
        that say which of the image's rows in memory it is.
    radii : ndarray of int64, shape (n_layers + 3,)
        Of the blur that makes an image from the one before it; the first makes the base from the doubled image.
    weights : ndarray of float32, shape (n_layers + 3, largest radius + 1)
        Of the centre and of the pixels at distance 1, 2, ...
    lines : int
        Place of STRIP rows with a margin on both sides.
    margin : int
        Floats of a margin.
    floats : int
        Memory wanted.
    """

    n_layers: int
    plan: Integers
    radii: Integers
    weights: Floats
    lines: int
    margin: int
    floats: int


def plan_pyramid(height: int, width: int, n_octave_layers: int, sigma: float) -> Pyramid:
    """Lay out the pyramid of an image of that size.

    Octaves too small for a keypoint are left out. Images 1 to `n_octave_layers` of each octave stay, as
    descriptors are made from them; of the others only the last rows do, as many as are still asked for.
    """
    blurs = _blurs(n_octave_layers, sigma)
    radii = np.array([(round(2 * _RADIUS_IN_SIGMAS * blur + 1) | 1) // 2 for blur in blurs], np.int64)
    weights = np.zeros((len(blurs), radii.max() + 1), np.float32)
    for row, blur, radius in zip(weights, blurs, radii, strict=True):
        row[: radius + 1] = _weights(blur, radius)
    kept_rows = 1 << int(radii.sum() + radii[-1] + 2 * STRIP + 2 * REACH).bit_length()
    sizes = list(_sizes(2 * height, 2 * width))
    n_images = len(blurs)
    plan = np.zeros((len(sizes), FIRST_IMAGE + 2 * n_images), np.int64)
    floats = 0
    shared: dict[int, int] = {}
    for octave, (rows, columns) in enumerate(sizes):
        stride = _row_stride(columns)
        plan[octave, :FIRST_IMAGE] = rows, columns, stride
        for image in range(n_images):
            stays = 1 <= image <= n_octave_layers
            if stays or image not in shared:
                shared[image] = floats
                floats += (rows if stays else min(rows, kept_rows)) * stride
            plan[octave, FIRST_IMAGE + image] = shared[image]
            plan[octave, FIRST_IMAGE + n_images + image] = -1 if stays else kept_rows - 1
    margin = -(-int(radii.max()) // PADDING) * PADDING
    longest = _row_stride(2 * width) + 2 * margin
    return Pyramid(n_octave_layers, plan, radii, weights, floats, margin, floats + STRIP * longest + PADDING)


def _row_stride(columns: int) -> int:
    """Floats from row to row: an odd number of cache lines, so that rows one above the other share no set."""
    return (columns + PADDING - 1) // PADDING * PADDING + (PADDING if (columns - 1) // PADDING % 2 else 0)


@compiled
def row_place(octave: Integers, image: int, y: int) -> int:
    """Where row y of an image starts in memory."""
    at = FIRST_IMAGE + image
    kept = octave[at + (len(octave) - FIRST_IMAGE) // 2]
    return int(octave[at] + (y & kept) * octave[STRIDE])


def _blurs(n_octave_layers: int, sigma: float) -> list[float]:
    """Sigma of the blur that makes each image from the one before it."""
    first = math.sqrt(max(sigma**2 - (2 * _CAMERA_SIGMA) ** 2, _LEAST_BLUR**2))
    ratio = _exp2(1 / n_octave_layers)
    blurs = [first]
    for image in range(1, n_octave_layers + 3):
        before = sigma * _exp2((image - 1) / n_octave_layers)
        blurs.append(before * math.sqrt(ratio * ratio - 1))
    return blurs


def _weights(sigma: float, radius: int) -> Floats:
    half = [_exp2(-(distance**2) / (2 * sigma**2 * math.log(2))) for distance in range(radius + 1)]
    total = half[0] + 2 * math.fsum(half[1:])
    return np.array([weight / total for weight in half], np.float32)


def _sizes(height: int, width: int) -> list[tuple[int, int]]:
    n_octaves = round(math.log2(min(height, width)) - 2) + 1 if height and width else 0
    sizes = []
    for _ in range(n_octaves):
        if min(height, width) <= 2 * BORDER:
            break
        sizes.append((height, width))
        height, width = height // 2, width // 2
    return sizes


@compiled
def _reflected(place: int, size: int) -> int:
    """The place in a line of that size, mirrored about its outer pixels as often as it takes."""
    if size == 1:
        return 0
    while place < 0 or place >= size:
        place = -place if place < 0 else 2 * (size - 1) - place
    return place


@compiled
def blur_rows(
    memory: Floats,
    pyramid: Pyramid,
    octave: Integers,
    source: int,
    target: int,
    first: int,
    last: int,
    table: Integers,
) -> None:
    """Make rows `first` to `last`, at most STRIP, of image `target` by a blur of another.

    `table` has room for `table_size(pyramid)`.
    """
    height, width, stride = octave[HEIGHT], octave[WIDTH], octave[STRIDE]
    weights, radius = pyramid.weights[target], pyramid.radii[target]
    n_rows = last - first
    rows = table[: n_rows + 2 * radius]
    shifts = table[n_rows + 2 * radius : n_rows + 4 * radius + 1]
    for k in range(len(rows)):
        rows[k] = row_place(octave, source, _reflected(first - radius + k, height))
    for k in range(len(shifts)):
        shifts[k] = k - radius
    begin, length = pyramid.lines + pyramid.margin, stride + 2 * pyramid.margin
    for left in range(0, stride, _TILE):
        count = min(_TILE, stride - left)
        for k in range(n_rows):
            add_lines(memory, begin + k * length + left, rows[k:], left, weights, radius, count)
    for k in range(n_rows):
        line = begin + k * length
        for d in range(1, radius + 1):
            memory[line - d] = memory[line + _reflected(-d, width)]
            memory[line + width - 1 + d] = memory[line + _reflected(width - 1 + d, width)]
        add_lines(memory, row_place(octave, target, first + k), shifts, line, weights, radius, stride)


@compiled
def table_size(pyramid: Pyramid) -> int:
    return STRIP + 4 * int(pyramid.radii.max()) + 1


@compiled
def last_difference(
    memory: Floats, pyramid: Pyramid, octave: Integers, y: int, x: int, table: Integers, out: Floats
) -> None:
    """The image that is not made less the one before it, at the 3 x 3 pixels around (y, x)."""
    height, width = octave[HEIGHT], octave[WIDTH]
    source = pyramid.n_layers + 1
    weights, radius = pyramid.weights[source + 1], pyramid.radii[source + 1]
    rows, shifts = table[: 2 * radius + 1], table[2 * radius + 1 : 4 * radius + 2]
    for k in range(len(shifts)):
        shifts[k] = k - radius
    left, n = x - 1 - radius, 2 * radius + 3
    first, last = max(left, 0), min(left + n, width)
    line = pyramid.lines
    blurred = line + (n + 2 * PADDING) // PADDING * PADDING
    for i in range(3):
        for k in range(len(rows)):
            rows[k] = row_place(octave, source, _reflected(y - 1 + i - radius + k, height))
        count = (last - first + PADDING - 1) // PADDING * PADDING
        add_lines(memory, line + first - left, rows, first, weights, radius, count)
        for k in range(first - left):
            memory[line + k] = memory[line + _reflected(left + k, width) - left]
        for k in range(last - left, n):
            memory[line + k] = memory[line + _reflected(left + k, width) - left]
        add_lines(memory, blurred, shifts, line + radius, weights, radius, PADDING)
        place = row_place(octave, source, y - 1 + i) + x - 1
        for k in range(3):
            out[i, k] = memory[blurred + k] - memory[place + k]


@compiled
def double_rows(
    image: NDArray[np.uint8], memory: Floats, octave: Integers, target: int, first: int, last: int, line: int
) -> None:
    """Make rows of the doubled image: linear between pixel centres. Every number is exact in float32."""
    height, width = image.shape
    between = memory[line : line + width]
    for y in range(first, last):
        near = image[y // 2]
        far = image[max(y // 2 - 1, 0) if y % 2 == 0 else min(y // 2 + 1, height - 1)]
        for x in range(width):
            between[x] = np.float32(3 * np.int32(near[x]) + np.int32(far[x])) * np.float32(0.0625)
        place = row_place(octave, target, y)
        row = memory[place : place + 2 * width]
        row[0] = between[0] * np.float32(4)
        row[2 * width - 1] = between[width - 1] * np.float32(4)
        for x in range(width - 1):
            left, right = between[x], between[x + 1]
            row[2 * x + 1] = np.float32(3) * left + right
            row[2 * x + 2] = np.float32(3) * right + left


@compiled
def halve_rows(memory: Floats, larger: Integers, source: int, octave: Integers, first: int, last: int) -> None:
    """Take every second pixel, as OpenCV's resize to the nearest does: in odd sizes, rarely, the next one."""
    step_y = 1 / (octave[HEIGHT] / larger[HEIGHT])
    step_x = 1 / (octave[WIDTH] / larger[WIDTH])
    for y in range(first, last):
        row = row_place(larger, source, min(int(y * step_y), larger[HEIGHT] - 1))
        place = row_place(octave, 0, y)
        for x in range(octave[WIDTH]):
            memory[place + x] = memory[row + min(int(x * step_x), larger[WIDTH] - 1)]
