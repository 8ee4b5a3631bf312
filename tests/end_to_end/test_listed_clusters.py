"""Clusters of `parimg.start` where ipyparallel lists clusters."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import parimg

HELD = "import parimg, sys; ctl = parimg.start(1); print('started', flush=True); sys.stdin.read()"


def listed(ipython_dir: Path) -> list[dict[str, object]]:
    command = [sys.executable, "-m", "ipyparallel.cluster", "list", "-o", "json"]
    environment = {**os.environ, "IPYTHONDIR": str(ipython_dir)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, env=environment)
    return list(json.loads(done.stdout))


def files(ipython_dir: Path) -> list[Path]:
    return list(ipython_dir.glob("profile_*/security/cluster-*.json"))


def test_a_cluster_is_listed_under_its_programs_name_until_it_is_closed(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    monkeypatch.setattr(sys, "argv", ["/some/where/tr ain.py"])
    with parimg.start(1):
        [found] = listed(tmp_path)
        assert str(found["cluster"]["cluster_id"]).startswith(f"parimg-train.py-{os.getpid()}-")  # type: ignore[index]
        assert found["controller"]["state"]["pid"] > 0  # type: ignore[index]
    assert listed(tmp_path) == []
    assert files(tmp_path) == []


def test_the_cluster_of_a_killed_program_is_listed_no_more(tmp_path: Path) -> None:
    environment = {**os.environ, "IPYTHONDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", HELD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment
    ) as program:
        assert program.stdout is not None
        assert program.stdout.readline() == b"started\n"
        assert len(files(tmp_path)) == 1
        program.kill()
    deadline = time.monotonic() + 60
    while files(tmp_path) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert files(tmp_path) == []
