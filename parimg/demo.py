"""What the demonstration and the guides are tried with, so that nothing has to be downloaded.

`make_views` warps photographs that scikit-image ships by known homographies; `confirmed_share` tells how many of
a record's matches such a homography agrees with. `make_network` writes a network without training.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

REFERENCE = "astronaut"
_OTHERS = ("coffee", "chelsea", "camera", "brick", "grass", "rocket")
_N_VIEWS = 48
_N_OTHERS = 8
TRUNCATED = 20  # the view whose file is cut
_TOLERANCE = 3.0  # px between where a match lies and where the homography puts it
_SEED = 20161

_N_ORIENTATIONS = 8
_WIDTHS = (1.5, 3.0)  # px, of edges and blobs
_RADIUS = 5  # px, of the first filters
_COLOURS = ((1, -1, 0), (-1, 1, 0), (0.5, 0.5, -1), (-0.5, -0.5, 1), (1, 1, 1), (-1, -1, -1))  # r, g, b
_N_CHANNELS = 256
_N_INPUTS = 6  # first filters that a second one looks at, in the mean


@dataclass(frozen=True)
class View:
    """One warped photograph.

    Attributes
    ----------
    path : str
    photograph : str
        Name in `skimage.data`.
    homography : ndarray of float64, shape (3, 3)
        From the photograph's pixels to the view's.
    """

    path: str
    photograph: str
    homography: npt.NDArray[np.float64]


def make_views(folder: str) -> tuple[str, list[View]]:
    """Write the reference photograph and 48 views into `folder`.

    40 views show the reference from ever further away, 8 show other photographs; the file of one is cut off in
    the middle, as after a full disk.

    Parameters
    ----------
    folder : str
        Made if it does not exist; views of an earlier call are replaced.

    Returns
    -------
    reference : str
        Path of the reference photograph.
    views : list of View
    """
    import cv2
    import numpy as np

    os.makedirs(os.path.join(folder, "views"), exist_ok=True)
    rng = np.random.default_rng(_SEED)
    reference = os.path.join(folder, f"{REFERENCE}.png")
    cv2.imwrite(reference, _photograph(REFERENCE))
    views = []
    for number in range(_N_VIEWS):
        is_other = number % (_N_VIEWS // _N_OTHERS) == _N_VIEWS // _N_OTHERS - 1
        name = _OTHERS[number // _N_OTHERS % len(_OTHERS)] if is_other else REFERENCE
        photograph = _photograph(name)
        height, width = photograph.shape[:2]
        homography = _homography(rng, width, height, strength=number / _N_VIEWS)
        warped = cv2.warpPerspective(photograph, homography, (width, height), borderMode=cv2.BORDER_REFLECT)
        path = os.path.join(folder, "views", f"view{number:02d}.png")
        cv2.imwrite(path, warped)
        views.append(View(path, name, homography))
    os.truncate(views[TRUNCATED].path, os.path.getsize(views[TRUNCATED].path) // 2)
    return reference, views


def confirmed_share(
    pairs: npt.NDArray[np.int32],
    reference_keypoints: npt.NDArray[np.float32],
    keypoints: npt.NDArray[np.float32],
    homography: npt.NDArray[np.float64],
) -> float:
    """Share of the matches that a homography confirms to 3 pixels, 0 if there are none.

    Parameters
    ----------
    pairs : ndarray of int32, shape (m, 2)
        Indices into `reference_keypoints` and `keypoints`.
    reference_keypoints, keypoints : ndarray, shape (n, 4)
        x and y in pixels come first.
    homography : ndarray of float64, shape (3, 3)
        From the reference's pixels to the image's.

    Examples
    --------
    >>> import numpy as np
    >>> points = np.array([[0, 0, 1, 0], [10, 0, 1, 0]], np.float32)
    >>> shifted = points + np.array([[5, 0, 0, 0], [50, 0, 0, 0]], np.float32)
    >>> shift = np.array([[1, 0, 5], [0, 1, 0], [0, 0, 1]], float)
    >>> confirmed_share(np.array([[0, 0], [1, 1]]), points, shifted, shift)
    0.5
    """
    import numpy as np

    if not len(pairs):
        return 0.0
    points = np.column_stack([reference_keypoints[pairs[:, 0], :2], np.ones(len(pairs))]) @ homography.T
    offset = points[:, :2] / points[:, 2:] - keypoints[pairs[:, 1], :2]
    return float(np.mean(np.hypot(*offset.T) <= _TOLERANCE))


def make_network(path: str) -> str:
    """Write a small convolutional network as an ONNX file, for a try without one that was trained.

    Filters for edges and colours, then sums of their results with random weights, of one seed. Its 256 channels
    tell textures and outlines apart, so that parts of photographs are found again; of what things are it knows
    nothing.

    Parameters
    ----------
    path : str
        A file there is replaced.

    Returns
    -------
    str
        `path`. Cells of the map are 32 pixels wide, as in most networks.
    """
    import numpy as np

    from parimg.tasks._onnx_graph import Field, encode_fields, message_field

    def numbers(field: int, values: tuple[int, ...]) -> list[Field]:
        return [Field(field, 0, value) for value in values]

    def node(kind: str, inputs: str, output: str, size: int = 0, stride: int = 1, pad: int = 0) -> Field:
        fields = [message_field(1, name.encode()) for name in inputs.split()]
        fields += [message_field(number, text.encode()) for number, text in ((2, output), (3, output), (4, kind))]
        attributes = {"kernel_shape": (size,) * 2, "strides": (stride,) * 2, "pads": (pad,) * 4} if size else {}
        for name, values in attributes.items():
            attribute = [message_field(1, name.encode()), *numbers(8, values), Field(20, 0, 7)]  # 7: whole numbers
            fields.append(message_field(5, encode_fields(attribute)))
        return message_field(1, encode_fields(fields))

    def weights(name: str, values: npt.NDArray[np.float32]) -> Field:
        kind, content = Field(2, 0, 1), message_field(9, values.astype("<f4").tobytes())  # 1: float32
        fields = [*numbers(1, values.shape), kind, message_field(8, name.encode()), content]
        return message_field(5, encode_fields(fields))

    def declared(field: int, name: str, n_channels: int) -> Field:
        sides = [b"", encode_fields(numbers(1, (n_channels,))), b"", b""]
        shape = encode_fields([message_field(1, side) for side in sides])
        tensor = encode_fields([Field(1, 0, 1), message_field(2, shape)])
        kind = encode_fields([message_field(1, tensor)])
        return message_field(field, encode_fields([message_field(1, name.encode()), message_field(2, kind)]))

    first = _edges_and_colours()
    rng = np.random.default_rng(_SEED)
    second = rng.normal(size=(_N_CHANNELS, len(first), 3, 3))
    second *= rng.random((_N_CHANNELS, len(first), 1, 1)) < _N_INPUTS / len(first)
    # What is the same all around says little: without this, precision is 0.70 where it is 0.78.
    second -= second.mean((2, 3), keepdims=True)
    second /= np.maximum(np.sqrt((second**2).sum((1, 2, 3), keepdims=True)), 1e-9)
    graph = [
        node("Conv", "image first", "edges", size=2 * _RADIUS + 1, stride=2, pad=_RADIUS),
        node("Relu", "edges", "edges_above_0"),
        node("MaxPool", "edges_above_0", "largest_edges", size=4, stride=4),
        node("Conv", "largest_edges second", "sums", size=3, pad=1),
        node("Relu", "sums", "sums_above_0"),
        node("MaxPool", "sums_above_0", "features", size=4, stride=4),
        message_field(2, b"demonstration"),
        weights("first", first),
        weights("second", second.astype(np.float32)),
        declared(11, "image", 3),
        declared(12, "features", _N_CHANNELS),
    ]
    opset = encode_fields([message_field(1, b""), Field(2, 0, 13)])
    model = [Field(1, 0, 8), message_field(8, opset), message_field(7, encode_fields(graph))]
    with open(path, "wb") as file:
        file.write(encode_fields(model))
    return path


def _edges_and_colours() -> npt.NDArray[np.float32]:
    """Filters of shape (n, 3, side, side): Gabor's, of both phases and signs, and blobs of opposed colours."""
    import numpy as np

    y, x = np.mgrid[-_RADIUS : _RADIUS + 1, -_RADIUS : _RADIUS + 1]
    filters = []
    for width in _WIDTHS:
        for angle in np.pi * np.arange(_N_ORIENTATIONS) / _N_ORIENTATIONS:
            across, along = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
            for phase in (0, np.pi / 2):
                wave = np.exp(-(across**2 + along**2 / 2) / (2 * width**2)) * np.cos(
                    np.pi * across / (2 * width) + phase
                )
                wave -= wave.mean()
                wave /= 3 * np.abs(wave).sum()
                filters += [np.stack([sign * wave] * 3) for sign in (1, -1)]
    for width in _WIDTHS:
        blob = np.exp(-(x**2 + y**2) / (2 * (1.5 * width) ** 2))
        blob /= 4 * blob.sum()
        filters += [np.multiply.outer(colour, blob) for colour in _COLOURS]
    return np.array(filters, np.float32)


def _photograph(name: str) -> npt.NDArray[np.uint8]:
    """One of scikit-image's photographs in OpenCV's channel order."""
    import cv2
    import numpy as np
    from skimage import data

    image = getattr(data, name)()
    return np.asarray(image if image.ndim == 2 else cv2.cvtColor(image, cv2.COLOR_RGB2BGR), np.uint8)


def _homography(rng: np.random.Generator, width: int, height: int, strength: float) -> npt.NDArray[np.float64]:
    """A turn, a change of scale and a tilt about the centre, the stronger the larger `strength` (0 to 1)."""
    import numpy as np

    angle = np.radians(60 * strength) * rng.uniform(-1, 1)
    scale = 1 + 0.5 * strength * rng.uniform(-1, 0.6)
    tilt = 6e-4 * strength * rng.uniform(-1, 1, 2)
    centre = np.array([[1, 0, -width / 2], [0, 1, -height / 2], [0, 0, 1]])
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    middle = np.block([[turn, np.zeros((2, 1))], [tilt, np.ones((1, 1))]])
    homography: npt.NDArray[np.float64] = np.linalg.inv(centre) @ middle @ centre
    return homography
