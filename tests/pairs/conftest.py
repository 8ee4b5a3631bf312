"""One directory of matched pairs, which tests leave as they found it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import plane_views
import pytest
from PIL import Image

import parimg


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four views of the camera man, three of the coffee, a black picture, and a text that is called a picture."""
    folder = tmp_path_factory.mktemp("photos")
    plane_views.write_views(folder / "camera", "camera", range(4))
    plane_views.write_views(folder / "coffee", "coffee", range(3))
    Image.fromarray(np.zeros((100, 120), np.uint8)).save(folder / "black.png")
    (folder / "broken.png").write_text("no picture")
    return folder


@pytest.fixture(scope="session")
def matched(
    controller: parimg.Controller, photos: Path, tmp_path_factory: pytest.TempPathFactory
) -> parimg.PairJob:
    """All pairs of them."""
    job = controller.match_pairs(str(photos), job_dir=tmp_path_factory.mktemp("pairs") / "photos.pairs")
    assert job.wait(100)
    return job
