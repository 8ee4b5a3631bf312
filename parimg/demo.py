"""The demonstration: views of known photographs, matched on an embedded cluster, and checked.

`make_views` warps photographs that scikit-image ships by known homographies; `confirmed_share` tells how many of
a record's matches such a homography agrees with.
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
