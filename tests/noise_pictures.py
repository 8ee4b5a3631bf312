"""Pictures that a tiny network tells apart, for tests of indexes and retrieval."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from tiny_model import TinyModel

TINY = {"layer": "act", "size": None, "mean": 0.0, "scale": 1.0}
"""How that network is used."""


def picture(number: int) -> np.ndarray:
    """Coarse noise, another one for each number."""
    rough = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(rough, (128, 96), interpolation=cv2.INTER_CUBIC)


def write_pictures(folder: Path, numbers: range) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number)[:, :, ::-1])
    return folder


def write_model(path: Path, seed: int = 4) -> str:
    """The tiny network with enough channels to tell one noise from another."""
    rng = np.random.default_rng(seed)
    stem = rng.normal(size=(64, 3, 3, 3)).astype(np.float32)
    bias = rng.normal(-600, 300, size=64).astype(np.float32)
    path.write_bytes(TinyModel(stem, bias, np.ones((2, 64, 1, 1), np.float32)).encode())
    return str(path)
