"""What the tests share: real images, private folders, one embedded cluster of two engines, a tiny network."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tiny_model import TinyModel

import parimg
from parimg.demo import TRUNCATED, make_views

ROOT = Path(__file__).parent.parent

# A shell that starts the tests in the background has them, and the programs that they start, ignore Ctrl-C.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that take a cluster or servers, for `make quick` and `make test` to leave out."""
    for item in items:
        takes_cluster = "controller" in getattr(item, "fixturenames", ())
        if takes_cluster or "end_to_end" in item.path.parts or item.path.name == "test_notebooks.py":
            item.add_marker(pytest.mark.cluster)
        if item.path.parent.name == "clusters":
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.daemons)


def _data_folder() -> Path:
    return Path(os.environ.get("PARIMG_DATA", ROOT / ".." / "shared" / "data")).resolve()


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Folder of real images, named by PARIMG_DATA."""
    folder = _data_folder()
    if not folder.is_dir():
        pytest.skip(f"no templeRing, Lund photographs and network in {folder}; set PARIMG_DATA to their folder")
    return folder


@pytest.fixture(scope="session")
def temple_ring(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Paths of 47 views of one thing, in order: templeRing where its folder lies, else the demonstration's."""
    paths = sorted(str(path) for path in (_data_folder() / "templeRing").glob("*.png"))
    if not paths:
        _, views = make_views(str(tmp_path_factory.mktemp("demonstration")))
        paths = [view.path for number, view in enumerate(views) if number != TRUNCATED]
    assert len(paths) == 47
    return paths


@pytest.fixture(scope="session", autouse=True)
def private_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep jobs, IPython profiles and received objects of the tests out of the user's folders."""
    folder = tmp_path_factory.mktemp("user")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PARIMG_JOBS_DIR", str(folder / "jobs"))
        patch.setenv("PARIMG_SHARED_DIR", str(folder / "shared"))
        patch.setenv("IPYTHONDIR", str(folder / "ipython"))
        patch.setenv("PARIMG_SCRATCH", str(folder / "scratch"))
        yield


@pytest.fixture(scope="session")
def controller(private_folders: None) -> Iterator[parimg.Controller]:
    """An embedded cluster of two engines, for tests that leave it as they found it."""
    with parimg.start(n=2) as started:
        yield started


@pytest.fixture
def tiny() -> TinyModel:
    return TinyModel()


@pytest.fixture
def tiny_path(tiny: TinyModel, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., str]:
    """Writes the tiny model with the given options, and gives its path."""
    folder = tmp_path_factory.mktemp("model")

    def write(**options: object) -> str:
        path = folder / "tiny.onnx"
        path.write_bytes(tiny.encode(**options))
        return str(path)

    return write
