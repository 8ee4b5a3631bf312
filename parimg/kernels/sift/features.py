"""`detect_sift`: SIFT keypoints and descriptors of a gray image.

Arrays in, arrays out: no I/O, no cluster, one thread, and the GIL is free while pixels are read. Tasks and users
call this.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import numpy.typing as npt

from parimg.kernels.sift.description import describe
from parimg.kernels.sift.detection import ANGLE, RESPONSE, SIZE, find_keypoints
from parimg.kernels.sift.pyramid import plan_pyramid
from parimg.kernels.sift.selection import in_order, strongest

if TYPE_CHECKING:
    import cv2

_kept = threading.local()


class SIFTFeatures(NamedTuple):
    """Keypoints and descriptors of one image, row by row.

    Attributes
    ----------
    points : ndarray of float32, shape (n, 2)
        x and y, pixels; pixel centres have whole coordinates.
    size : ndarray of float32, shape (n,)
        Diameter, pixels.
    angle : ndarray of float32, shape (n,)
        Direction, 0 to 360 degrees, clockwise on the screen.
    response : ndarray of float32, shape (n,)
        Contrast; larger is stronger.
    octave : ndarray of int32, shape (n,)
        Octave in bits 0 to 7 (255 is the doubled image, 0 the image itself), layer in bits 8 to 15, and the place
        between layers from bit 16 on, as in ``cv2.KeyPoint.octave``.
    descriptors : ndarray of uint8, shape (n, 128)
    """

    points: npt.NDArray[np.float32]
    size: npt.NDArray[np.float32]
    angle: npt.NDArray[np.float32]
    response: npt.NDArray[np.float32]
    octave: npt.NDArray[np.int32]
    descriptors: npt.NDArray[np.uint8]

    def to_opencv(self) -> list[cv2.KeyPoint]:
        """The keypoints as OpenCV's."""
        import cv2

        columns = (column.tolist() for column in (self.points, self.size, self.angle, self.response, self.octave))
        return [
            cv2.KeyPoint(x, y, size, angle, response, octave)
            for (x, y), size, angle, response, octave in zip(*columns, strict=True)
        ]


def detect_sift(
    image: npt.ArrayLike,
    n_features: int = 0,
    n_octave_layers: int = 3,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    sigma: float = 1.6,
    mask: npt.ArrayLike | None = None,
) -> SIFTFeatures:
    image, mask = _checked_image(image), None if mask is None else np.asarray(mask)
    pyramid = plan_pyramid(*image.shape, n_octave_layers, sigma)
    memory = _memory(pyramid.floats)
    keypoints, octaves = find_keypoints(
        image,
        memory,
        pyramid.plan,
        pyramid.radii,
        pyramid.weights,
        pyramid.line,
        n_octave_layers,
        float(contrast_threshold),
        float(edge_threshold),
        float(sigma),
    )
    chosen = in_order(keypoints, octaves)
    if 0 < n_features < len(chosen):
        chosen = chosen[strongest(keypoints[chosen, RESPONSE], n_features)]
    if mask is not None:
        nearest = (keypoints[chosen, :2] * np.float32(0.5) + np.float32(0.5)).astype(np.intp)
        chosen = chosen[mask[nearest[:, 1], nearest[:, 0]] != 0]
    keypoints, octaves = keypoints[chosen], octaves[chosen]
    descriptors = describe(memory, pyramid.plan, keypoints, octaves)
    return SIFTFeatures(
        points=keypoints[:, :2] * np.float32(0.5),
        size=keypoints[:, SIZE] * np.float32(0.5),
        angle=keypoints[:, ANGLE].copy(),
        response=keypoints[:, RESPONSE].copy(),
        octave=(octaves & ~255) | ((octaves - 1) & 255),
        descriptors=descriptors,
    )


def _checked_image(image):
    image = np.ascontiguousarray(image)
    view = image.view()
    view.flags.writeable = False
    return view


def _memory(floats):
    memory = getattr(_kept, "memory", None)
    if memory is None or len(memory) < floats:
        _kept.memory = memory = np.zeros(floats, np.float32)
    return memory
