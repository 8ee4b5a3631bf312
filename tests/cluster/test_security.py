"""Who can reach a cluster: interfaces, connection files, CurveZMQ."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

import parimg
from parimg.cluster.security import find_security


def test_an_own_cluster_can_be_reached_from_this_machine_only_and_its_files_are_private(
    controller: parimg.Controller,
) -> None:
    security = controller.security
    assert security.interfaces == ("tcp://127.0.0.1",)
    assert (security.is_local, security.is_private, security.curve, security.warning) == (True, True, False, "")
    folder = Path(security.connection_file).parent
    files = list(folder.glob("ipcontroller-*.json"))
    assert len(files) == 2
    for path in files:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert stat.S_IMODE(Path(controller._cluster._folder).stat().st_mode) == 0o700


@pytest.mark.cluster
def test_curve_encrypts_an_own_cluster() -> None:
    with parimg.start(n=1, curve=True) as controller:
        assert controller.security.curve
        assert str(controller.security).endswith("(this machine only); CurveZMQ is on")
        assert controller.map(np.max, {"one": np.ones(1)}).get(60)[0]["value"] == 1
        found = json.loads(Path(controller.security.connection_file).read_text())
        assert found["curve_serverkey"]
        # Who has the signature key alone, and not the server's public key, gets no answer.
        del found["curve_serverkey"]
        bare = Path(controller._cluster._folder) / "bare.json"
        bare.write_text(json.dumps(found))
        code = f"import ipyparallel; ipyparallel.Client({str(bare)!r}, timeout=2)"
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert "Hub connection request timed out" in result.stderr


@pytest.mark.parametrize(
    ("client_side", "engine_side", "curve", "warned"),
    [
        ("tcp://127.0.0.1", "tcp://127.0.0.1", False, False),
        ("tcp://*", "tcp://*", False, True),
        ("tcp://127.0.0.1", "tcp://0.0.0.0", False, True),
        ("tcp://10.1.2.3", "tcp://10.1.2.3", True, False),
        ("ipc:///run/x", "ipc:///run/x", False, False),
    ],
)
def test_a_controller_that_other_machines_reach_without_curve_is_warned_of(
    tmp_path: Path, client_side: str, engine_side: str, curve: bool, warned: bool
) -> None:
    for side, interface in (("client", client_side), ("engine", engine_side)):
        path = tmp_path / f"ipcontroller-{side}.json"
        path.write_text(json.dumps({"interface": interface}))
        path.chmod(0o600)
    client = SimpleNamespace(curve_serverkey=b"key" if curve else b"")
    security = find_security(str(tmp_path / "ipcontroller-client.json"), client)
    assert ("without CurveZMQ" in security.warning) is warned
    os.chmod(tmp_path / "ipcontroller-client.json", 0o644)
    again = find_security(str(tmp_path / "ipcontroller-client.json"), client)
    assert "others can read" in again.warning


@pytest.mark.cluster
def test_doctor_tells_how_a_cluster_is_secured() -> None:
    command = [sys.executable, "-m", "parimg.cli", "doctor", "-n", "1"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=90, check=False)
    assert "the controller listens on tcp://127.0.0.1 (this machine only); CurveZMQ is off" in result.stdout
