"""How clusters of ours are called, and where they are listed."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from parimg.cluster.listed import cluster_file, new_cluster_id


@pytest.mark.parametrize(
    ("program", "name"),
    [
        ("/some/where/tr ain.py", "train.py"),
        ("/x/ipykernel_launcher.py", "notebook"),
        ("", "python"),
        ("-c", "python"),
        ("../..", "python"),
        ("x" * 99, "x" * 24),
    ],
)
def test_an_id_names_the_program_and_its_process(program: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [program])
    assert new_cluster_id().startswith(f"parimg-{name}-{os.getpid()}-")
    assert new_cluster_id() != new_cluster_id()


def test_a_cluster_is_listed_among_the_users_profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    security = tmp_path / "profile_default" / "security"
    assert cluster_file("id") == str(security / "cluster-id.json")
    assert security.stat().st_mode & 0o077 == 0


def test_where_the_profile_cannot_be_written_it_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "profile_default").write_text("a file where a folder should be")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert cluster_file("id") == ""
