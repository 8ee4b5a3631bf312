"""Commands on the tests' own cluster, or on none; photographs with names that mean something to others."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import noise_pictures
import pytest
from odd_names import ODD_NAMES

import parimg


def _open_instead(patch: pytest.MonkeyPatch, opened: object) -> None:
    for name in ("running", "jobs", "retrieval", "clusters", "demonstration"):
        patch.setattr(sys.modules[f"parimg.cli.{name}"], "open_controller", opened)


@pytest.fixture
def on_cluster(controller: parimg.Controller, monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands run on the cluster that all tests share, in place of one of their own."""
    _open_instead(monkeypatch, lambda *_: contextlib.nullcontext(controller))


@pytest.fixture
def no_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command that would start a cluster fails."""

    def refuse(*_: object) -> None:
        raise AssertionError("a cluster was to be started")

    _open_instead(monkeypatch, refuse)


@pytest.fixture(autouse=True)
def jobs_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Where jobs of the test lie; the test runs in the folder beside it."""
    folder = tmp_path / "jobs"
    (tmp_path / "here").mkdir()
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(folder))
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setattr(sys, "path", sys.path[:])
    loaded = set(sys.modules)
    yield folder
    for name in set(sys.modules) - loaded:
        if str(getattr(sys.modules[name], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[name]  # files of functions, which have the same name in every test


@pytest.fixture
def photos(jobs_folder: Path) -> Path:
    """Three noise pictures, one file that is none, and a text beside them."""
    folder = noise_pictures.write_pictures(Path("photos"), range(3))
    (folder / "damaged.png").write_bytes(b"no image")
    (folder / "notes.txt").write_text("not an image")
    return folder


@pytest.fixture
def odd(jobs_folder: Path) -> Path:
    """Pictures with `ODD_NAMES`, in a folder whose name closes a markup that was never opened."""
    folder = Path("x[", "new]")
    folder.mkdir(parents=True)
    for number, name in enumerate(ODD_NAMES):
        cv2.imwrite(str(folder / "plain.png"), noise_pictures.picture(number))
        (folder / "plain.png").rename(folder / name)
    return folder
