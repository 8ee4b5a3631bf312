"""An IPython shell with the extension, beside the tests' own cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import noise_pictures
import pytest
from IPython.core.interactiveshell import InteractiveShell

import parimg

Run = Callable[[str], object]


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[InteractiveShell]:
    """A shell of its own in an empty folder."""
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path / "jobs"))
    monkeypatch.setenv("IPP_NONINTERACTIVE", "1")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    InteractiveShell.clear_instance()
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "parimg")
    yield shell
    InteractiveShell.clear_instance()


@pytest.fixture
def run(shell: InteractiveShell) -> Run:
    """Runs a cell as if it were typed, and gives its result."""
    return lambda cell: shell.run_cell(cell).result


@pytest.fixture
def on_cluster(shell: InteractiveShell, controller: parimg.Controller) -> parimg.Controller:
    """The tests' own cluster as `ctl`."""
    shell.user_ns["ctl"] = controller
    return controller


@pytest.fixture
def photos(shell: InteractiveShell) -> Path:
    """Three noise pictures, and one file that is none."""
    folder = noise_pictures.write_pictures(Path("photos"), range(3))
    (folder / "damaged.png").write_bytes(b"no image")
    return folder
