"""A folder of images for tests of sources."""

from __future__ import annotations

import pytest


@pytest.fixture
def views(tmp_path, monkeypatch):
    """A current directory with images at two depths, other files, and lists of images."""
    folder = tmp_path / "project"
    for name in (
        *("b.png", "a.JPG", "notes.md", ".hidden.png", "noextension"),
        *("left/2.tif", "left/10.tif", "left/deep/1.png", ".cache/c.png", "empty/readme.md"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside.png").touch()
    monkeypatch.chdir(folder)
    return folder
