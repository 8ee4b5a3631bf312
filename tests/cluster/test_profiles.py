"""The cluster profiles that come with parimg, and their installation."""

from __future__ import annotations

import ipaddress
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


def read(folder: str) -> str:
    return "".join(path.read_text(encoding="utf-8") for path in sorted(Path(folder).glob("ip*_config.py")))


def test_settings_are_written_into_a_copy_of_another_name() -> None:
    settings = {"partition": 'ma"in', "time": "4:00:00", "engines_per_job": "16", "options": "--mem=4G,--nice"}
    folder = profiles.install("slurm", as_name="big", settings=settings)
    assert Path(folder).name == "profile_big"
    text = read(folder)
    assert "\npartition = 'ma\"in'  # empty" in text
    assert "\ntime = '4:00:00'  # wall time" in text
    assert "\nengines_per_job = 16  # 0: one" in text
    assert "\noptions = ['--mem=4G', '--nice']  # more" in text
    assert '\naccount = ""\n' in text


def test_hosts_are_set_with_their_engines_and_an_address_in_the_controllers_file() -> None:
    settings = {"hosts": "a:4,me@b.example:8", "python": "/opt/python", "address": "10.0.0.1"}
    text = read(profiles.install("ssh", settings=settings))
    assert "\nhosts = {'a': 4, 'me@b.example': 8}  # engines" in text
    assert "\npython = '/opt/python'  # on the hosts" in text
    assert "\naddress = '10.0.0.1'\n" in text


def test_a_copy_with_other_settings_does_not_replace_one_unasked() -> None:
    profiles.install("slurm", settings={"partition": "main"})
    with pytest.raises(ClusterError, match="exists and differs"):
        profiles.install("slurm", settings={"partition": "other"})
    profiles.install("slurm", settings={"partition": "main"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"partitoin": "main"}, r"has no setting 'partitoin'; it has account, address, .*partition.*time"),
        ({"c": "1"}, "has no setting 'c'"),
        ({"engines_per_job": "many"}, r"'engines_per_job' is a number \(got 'many'\)"),
    ],
)
def test_a_wrong_setting_is_told_and_nothing_is_installed(
    settings: dict[str, str], message: str, ipython_folder: Path
) -> None:
    with pytest.raises(ClusterError, match=message):
        profiles.install("slurm", settings=settings)
    assert not ipython_folder.exists()


@pytest.mark.parametrize("hosts", ["a", "a:", ":4", "a:four", "a:4,b"])
def test_wrong_hosts_are_told(hosts: str) -> None:
    with pytest.raises(ClusterError, match="'hosts' is like a:4,b:8"):
        profiles.install("ssh", settings={"hosts": hosts})


@pytest.mark.parametrize("name", ["../up", ".hidden", "a b", "a/b"])
def test_a_copys_name_stays_in_ipythons_folder(name: str) -> None:
    with pytest.raises(ClusterError, match="a profile's name is"):
        profiles.install("local", as_name=name)


@pytest.mark.parametrize("name", sorted(set(profiles.available()) - {"local"}))
def test_beyond_this_machine_messages_are_encrypted_and_engines_find_an_address(name: str) -> None:
    folder = profiles.install(name)
    controller = PyFileConfigLoader("ipcontroller_config.py", folder).load_config()
    assert controller.IPController.enable_curve is True
    assert ipaddress.ip_address(controller.IPController.location)
    settings = PyFileConfigLoader("ipcluster_config.py", folder).load_config()
    launchers = [settings[section] for section in settings if section.endswith("Launcher")]
    assert [launcher.environment["OMP_NUM_THREADS"] for launcher in launchers] == ["1"]
