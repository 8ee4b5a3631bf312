"""`detect_sift`: SIFT keypoints and descriptors of a gray image.

Arrays in, arrays out: no I/O, no cluster, one thread, and the GIL is free while pixels are read. Tasks and users
call this.
"""

from __future__ import annotations

import math
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from parimg.kernels.sift.description import describe
from parimg.kernels.sift.detection import ANGLE, RESPONSE, SIZE, X, Y, find_keypoints
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
    image: npt.NDArray[np.uint8],
    n_features: int = 0,
    n_octave_layers: int = 3,
    contrast_threshold: float = 0.04,
    edge_threshold: float = 10.0,
    sigma: float = 1.6,
    mask: npt.NDArray[np.bool_] | npt.NDArray[np.integer[Any]] | None = None,
) -> SIFTFeatures:
    """Find SIFT keypoints of a gray image and describe them.

    Parameters
    ----------
    image : ndarray of uint8, shape (height, width)
        Of any size and memory layout; it is only read.
    n_features : int, default 0
        How many of the strongest to keep, and those whose response equals the last one's; 0 keeps all.
    n_octave_layers : int, default 3
        Layers of each octave in which keypoints are sought, 1 to 255.
    contrast_threshold : float, default 0.04
        Least contrast of a keypoint times `n_octave_layers`; larger gives fewer.
    edge_threshold : float, default 10.0
        Largest ratio of the two curvatures at a keypoint; larger gives more.
    sigma : float, default 1.6
        Blur of the first image of the first octave, pixels of the doubled image.
    mask : ndarray of bool or of integers, shape (height, width), optional
        Nonzero where keypoints are kept. It is applied after `n_features`, as OpenCV does.

    Returns
    -------
    SIFTFeatures
        Ordered by x, y, size and angle; where `n_features` leaves some out, in the order that OpenCV's cut leaves.

    Raises
    ------
    TypeError
        When the image is no array of uint8, the mask none of bool or integers, or a number is no number.
    ValueError
        When the image is not two-dimensional, the mask has another shape, or a number is out of its range.

    Notes
    -----
    Keypoints and descriptors are those of ``cv2.SIFT_create(...).detectAndCompute(image, mask)`` up to rounding in
    float32; of OpenCV's keypoints on photographs, 99.9 % have one of these within 0.05 pixels, 1 % of size and 0.5
    degrees, and conversely. Unlike OpenCV's, they are the same to the bit on every processor.

    References
    ----------
    D. G. Lowe, "Distinctive image features from scale-invariant keypoints", IJCV 60(2), 2004.

    Examples
    --------
    >>> from skimage.data import camera
    >>> features = detect_sift(camera(), n_features=200)
    >>> features.points.shape, features.descriptors.shape
    ((200, 2), (200, 128))
    """
    pixels = _checked_image(image)
    wanted = _checked_mask(mask, pixels.shape)
    n_features = _whole("n_features", n_features, 0, None)
    n_octave_layers = _whole("n_octave_layers", n_octave_layers, 1, 255)
    contrast_threshold = _real("contrast_threshold", contrast_threshold, least=0.0)
    edge_threshold = _real("edge_threshold", edge_threshold, above=0.0)
    sigma = _real("sigma", sigma, above=0.0)
    height, width = pixels.shape
    pyramid = plan_pyramid(height, width, n_octave_layers, sigma)
    memory = _memory(pyramid.floats)
    keypoints, octaves = find_keypoints(pixels, memory, pyramid, contrast_threshold, edge_threshold, sigma)
    chosen = in_order(keypoints, octaves)
    if 0 < n_features < len(chosen):
        chosen = chosen[strongest(keypoints[chosen, RESPONSE], n_features)]
    points = keypoints[:, [X, Y]] * np.float32(0.5)
    if wanted is not None:
        column, row = (points[chosen] + np.float32(0.5)).astype(np.intp).T
        chosen = chosen[wanted[row, column] != 0]
    kept, octaves = keypoints[chosen], octaves[chosen]
    return SIFTFeatures(
        points=points[chosen],
        size=kept[:, SIZE] * np.float32(0.5),
        angle=kept[:, ANGLE].copy(),
        response=kept[:, RESPONSE].copy(),
        octave=(octaves & ~255) | ((octaves - 1) & 255),
        descriptors=describe(memory, pyramid.plan, kept, octaves),
    )


def _memory(floats: int) -> npt.NDArray[np.float32]:
    """Memory of this thread, which grows and stays: fresh pages for every image would cost a third of the time."""
    memory: npt.NDArray[np.float32] | None = getattr(_kept, "memory", None)
    if memory is None or len(memory) < floats:
        _kept.memory = None  # given back before more is taken
        _kept.memory = memory = np.zeros(floats, np.float32)
    return memory


def _checked_image(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """The image, read-only and C-contiguous: one type, for which one machine code is compiled."""
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = f"{image.dtype}" if isinstance(image, np.ndarray) else f"a {type(image).__name__}"
        raise TypeError(f"image must be an array of uint8 (got {kind}); scale it to 0 to 255 and convert it first")
    if image.ndim != 2:
        raise ValueError(
            f"image must be gray, of shape (height, width) (got {image.shape}); convert colour with cv2.cvtColor"
        )
    view = np.ascontiguousarray(image).view(np.ndarray)
    view.flags.writeable = False
    return view


def _checked_mask(mask: object, shape: tuple[int, ...]) -> npt.NDArray[Any] | None:
    if mask is None:
        return None
    if not isinstance(mask, np.ndarray) or mask.dtype.kind not in "bui":
        kind = f"{mask.dtype}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
        raise TypeError(f"mask must be an array of bool or integers (got {kind})")
    if mask.shape != shape:
        raise ValueError(f"mask has shape {mask.shape}, the image {shape}; they must agree")
    return mask


def _whole(name: str, value: object, least: int, most: int | None) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer):
        raise TypeError(f"{name} must be an integer (got {value!r}, a {type(value).__name__})")
    if value < least or (most is not None and value > most):
        limits = f"at least {least}" if most is None else f"{least} to {most}"
        raise ValueError(f"{name} must be {limits} (got {value})")
    return int(value)


def _real(name: str, value: object, *, least: float = -math.inf, above: float = -math.inf) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        raise TypeError(f"{name} must be a number (got {value!r}, a {type(value).__name__})")
    if not (math.isfinite(value) and value >= least and value > above):
        limits = f"at least {least:g}" if above == -math.inf else f"larger than {above:g}"
        raise ValueError(f"{name} must be finite and {limits} (got {value})")
    return float(value)
