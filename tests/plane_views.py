"""Views of photographs of scikit-image by known homographies, as files."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import skimage.data

SIDE = 320  # px of a view


def write_views(folder: Path, photograph: str, numbers: range) -> list[Path]:
    """Write views of a photograph that overlap by far more than half."""
    folder.mkdir(parents=True, exist_ok=True)
    picture = np.asarray(getattr(skimage.data, photograph)())
    if picture.ndim == 3:
        picture = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    return [write_view(folder / f"{photograph}{number}.png", picture, number) for number in numbers]


def write_view(path: Path, picture: np.ndarray, number: int) -> Path:
    cv2.imwrite(str(path), cv2.warpPerspective(picture, homography(number), (SIDE, SIDE)))
    return path


def homography(number: int) -> np.ndarray:
    """From the photograph to the view of a number."""
    angle, shift = 0.06 * number, 6.0 * number
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine, -60 + shift], [sine, cosine, -70 - shift / 2], [2e-5 * number, 0, 1]])
