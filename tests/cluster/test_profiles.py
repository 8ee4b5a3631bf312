"""The cluster profiles that come with parimg, and their installation."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from traitlets.config import PyFileConfigLoader

from parimg.cluster import profiles
from parimg.errors import ClusterError, ProfileNotFoundError


@pytest.fixture(autouse=True)
def ipython_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """IPython's directory, new for each test and not made yet."""
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    return tmp_path / "ipython"


def test_each_profile_has_a_line_of_description() -> None:
    found = profiles.available()
    assert "local" in found
    assert found["local"] == 'Engines on this machine, found by connect(profile="local")'
    assert list(found) == sorted(found)
    for description in found.values():
        assert len(description) > 20
        assert not description.startswith(("#", '"'))
        assert not description.endswith((".", '"""'))


@pytest.mark.parametrize("name", sorted(profiles.available()))
def test_a_profile_is_installed_where_ipcluster_finds_it(name: str, ipython_folder: Path) -> None:
    folder = profiles.install(name)
    assert folder == str(ipython_folder / f"profile_{name}")
    installed = sorted(path.name for path in Path(folder).glob("*.py"))
    assert "ipcluster_config.py" in installed
    for file in installed:
        assert PyFileConfigLoader(file, path=folder).load_config()  # runs it, and says so if that fails
    assert (Path(folder) / "security").is_dir()
    assert os.stat(Path(folder) / "security").st_mode & 0o077 == 0
    assert (Path(folder) / "log").is_dir()


def test_a_profile_may_be_installed_again_unchanged() -> None:
    folder = profiles.install("local")
    before = {path.name: path.read_bytes() for path in Path(folder).glob("*.py")}
    assert profiles.install("local") == folder
    assert {path.name: path.read_bytes() for path in Path(folder).glob("*.py")} == before


def test_a_profile_that_ipython_made_before_is_filled(ipython_folder: Path) -> None:
    (ipython_folder / "profile_local").mkdir(parents=True)
    (ipython_folder / "profile_local" / "ipython_config.py").write_text("c = get_config()\n")
    profiles.install("local")
    assert sorted(path.name for path in (ipython_folder / "profile_local").glob("*.py")) == [
        "ipcluster_config.py",
        "ipcontroller_config.py",
        "ipython_config.py",
    ]


@pytest.mark.parametrize("name", ["ipcluster_config.py", "ipcontroller_config.py"])
def test_a_changed_file_is_not_replaced_unasked_and_nothing_else_either(name: str) -> None:
    folder = Path(profiles.install("local"))
    for path in folder.glob("*.py"):
        path.unlink()
    (folder / name).write_text("c = get_config()  # of the user\n")
    with pytest.raises(ClusterError, match=rf"{name}' exists and differs.*--overwrite"):
        profiles.install("local")
    assert [path.name for path in folder.glob("*.py")] == [name]
    assert (folder / name).read_text() == "c = get_config()  # of the user\n"


def test_a_changed_file_is_replaced_if_asked() -> None:
    folder = Path(profiles.install("local"))
    original = (folder / "ipcluster_config.py").read_bytes()
    (folder / "ipcluster_config.py").write_text("c = get_config()  # of the user\n")
    assert profiles.install("local", overwrite=True) == str(folder)
    assert (folder / "ipcluster_config.py").read_bytes() == original


@pytest.mark.parametrize("name", ["lcoal", "", "..", "local/../local", "/local"])
def test_an_unknown_profile_is_refused_with_the_names_there_are(name: str, ipython_folder: Path) -> None:
    with pytest.raises(ProfileNotFoundError, match=r"parimg has no cluster profile .*it has .*local") as caught:
        profiles.install(name)
    assert repr(name) in str(caught.value)
    assert not ipython_folder.exists()
