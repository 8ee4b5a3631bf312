"""The root of the command line: help, version, exit codes, completion, what is loaded."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from command_line import parimg
from made_journals import make_journal, row

from parimg import __version__
from parimg.cli.app import app

PANELS = {
    "Jobs": {"diff", "export", "jobs", "report", "repro", "resume", "status"},
    "Clusters": {"demo", "doctor"},
}


def test_version_is_told() -> None:
    assert parimg("--version").out == f"parimg {__version__}\n"


def test_the_help_names_the_exit_codes() -> None:
    told = " ".join(parimg("--help").out.split())
    assert "2, something was typed wrong; 3, the job is done, but some images failed; 130, Ctrl-C." in told


def test_every_command_is_in_a_panel_of_the_help_and_has_an_example() -> None:
    found = defaultdict(set)
    for command in app.registered_commands:
        panel = command.rich_help_panel if isinstance(command.rich_help_panel, str) else None
        found[panel].add(command.name or command.callback.__name__)
    of_tasks = found.pop(None)
    assert found.keys() == PANELS.keys()
    assert all(found[panel] >= names for panel, names in PANELS.items())
    assert of_tasks >= {"convolve", "filter", "index", "match", "run", "search", "skeleton"}
    told = parimg("--help").out
    assert told.index("─ Commands ─") < told.index("─ Jobs ─") < told.index("─ Clusters ─")
    for name in of_tasks.union(*found.values()):
        assert f"Example: parimg {name} " in parimg(name, "--help").out


def test_the_help_loads_nothing_heavy() -> None:
    code = (
        "import sys, parimg.cli\nsys.argv = ['parimg', '--help']\n"
        "try: parimg.cli.main()\nexcept SystemExit: pass\n"
        "heavy = {'numpy', 'cv2', 'ipyparallel', 'pandas', 'pyarrow', 'numba', 'scipy'}\n"
        "print('loaded', heavy & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("loaded set()\n"), done.stdout + done.stderr


def test_the_shell_completes_commands_and_names_of_jobs(jobs_folder: Path) -> None:
    (jobs_folder / "20261122-093015-MatchSIFT").mkdir(parents=True)
    (jobs_folder / "ipython" / "profile_big-cluster").mkdir(parents=True)
    rows = [row(0, key="good.png"), row(1, key="gone.png", status="failed")]
    directory = make_journal(jobs_folder / "made", rows).directory
    for typed, completed in (
        ("parimg sta", "status"),
        ("parimg status 2026", "20261122-093015-MatchSIFT"),
        (f"parimg repro {directory} go", "gone.png"),
        (f"parimg repro {directory} good", "good.png"),
        ("parimg doctor --profile big", "big-cluster"),
        ("parimg profiles install slu", "slurm"),
    ):
        environment = os.environ | {
            "IPYTHONDIR": str(jobs_folder / "ipython"),
            "_PARIMG_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" ")),
        }  # fmt: skip
        code = "import sys, parimg.cli\nsys.argv = ['parimg']\nparimg.cli.main()"
        done = subprocess.run(
            [sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60
        )
        assert done.stdout.split() == [completed], done.stderr


def test_ctrl_c_while_commands_are_being_loaded_leaves_no_traceback() -> None:
    code = (
        "import builtins, sys\nload = builtins.__import__\n"
        "def interrupted(name, *rest):\n"
        "    if name == 'typer': raise KeyboardInterrupt\n"
        "    return load(name, *rest)\n"
        "builtins.__import__ = interrupted\nimport parimg.cli"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (130, "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", ">&- 2>&-"])
def test_commands_run_where_nobody_hears_them(closed: str, photos: Path) -> None:
    command = f"exec {sys.executable} -m parimg.cli list {photos}/00.png {closed}"
    assert subprocess.run(["sh", "-c", command], capture_output=True, timeout=60).returncode == 0


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_in_another_encoding_shows_every_name(encoding: str, photos: Path) -> None:
    (photos / "日本.png").touch()
    environment = os.environ | {"PYTHONIOENCODING": encoding}
    command = [sys.executable, "-m", "parimg.cli", "run", "numpy:mean", str(photos / "日本.png"), "--dry-run"]
    done = subprocess.run(command, env=environment, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert rb"photos/\u65e5\u672c.png" in done.stdout


def test_profiles_are_listed_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert parimg("profiles", "list").out.startswith("local ")
    assert parimg("profiles", "install", "local").code == 0
    assert (tmp_path / "profile_local" / "ipcluster_config.py").is_file()


def test_every_command_of_a_group_has_an_example_and_names_in_capitals() -> None:
    for group in ("profiles", "cluster"):
        for name in ("list", "install", "check") if group == "profiles" else ("start", "status", "stop"):
            told = parimg(group, name, "--help").out
            assert f"Example: parimg {group} {name}" in told
            usage = next(line for line in told.splitlines() if "Usage:" in line)
            assert re.findall(r"[{<]?[a-z]+[}>]?", usage.partition("[OPTIONS]")[2]) == []
    for command in app.registered_commands:
        name = command.name or command.callback.__name__
        usage = next(line for line in parimg(name, "--help").out.splitlines() if "Usage:" in line)
        assert re.findall("[a-z]+", usage.partition("[OPTIONS]")[2]) == [], usage


def test_scripts_get_json_of_profiles_and_clusters(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    profiles = json.loads(parimg("profiles", "list", "--json").out)
    assert {"local", "slurm", "ssh"} <= set(profiles)
    assert parimg("profiles", "install", "local").code == 0
    state = json.loads(parimg("cluster", "status", "--profile", "local", "--json").out)
    assert state["is_started"] is False
    assert state["engines"] is None


@pytest.mark.usefixtures("on_cluster")
def test_scripts_get_json_of_engines_and_disks(tmp_path: Path) -> None:
    found = json.loads(parimg("doctor", "--json").out)
    assert len(found["engines"]) == 2
    assert {one["parimg"] for one in found["engines"]} == {__version__}
    assert found["silent"] == []
    assert found["security"]["is_local"] is True
    assert all(seconds > 0 for seconds in found["round_trip"].values())
    assert found["ok"] is True
    disk = json.loads(parimg("doctor", tmp_path, "--json").out)
    assert (disk["ok"], set(disk["checks"].values())) == (True, {"ok"})
