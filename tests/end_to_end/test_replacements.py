"""Where the engines come from that replace lost ones of a cluster that others started."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import wait_until

import parimg
from parimg.cluster import profiles

QUIET = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
IPCLUSTER = [sys.executable, "-m", "ipyparallel.cluster"]
SETTINGS = """
c.LocalEngineSetLauncher.environment = {**c.LocalEngineSetLauncher.environment, "SETTING": "of this profile"}
"""


@pytest.fixture
def profile(private_folders: None) -> Iterator[str]:
    """A profile with settings of its own, under which three engines run."""
    profiles.install("local")
    home = Path(os.environ["IPYTHONDIR"])
    shutil.copytree(home / "profile_local", home / "profile_special", ignore=shutil.ignore_patterns("*.json"))
    with open(home / "profile_special" / "ipcluster_config.py", "a", encoding="utf-8") as file:
        file.write(SETTINGS)
    subprocess.run(
        [*IPCLUSTER, "start", "--profile=special", "-n", "3", "--daemonize"], check=True, timeout=90, **QUIET
    )
    yield "special"
    for process in psutil.process_iter(["environ"]):
        if (process.info["environ"] or {}).get("SETTING") == "of this profile":
            process.kill()
    subprocess.run([*IPCLUSTER, "stop", "--profile=special"], timeout=90, **QUIET)
    shutil.rmtree(home / "profile_special")


def test_two_engines_lost_at_once_are_one_request_by_the_settings_of_the_profile(
    profile: str, capfd: pytest.CaptureFixture[str]
) -> None:
    def setting(image: np.ndarray) -> dict[str, object]:
        time.sleep(0.05)
        return {"setting": os.environ.get("SETTING"), "process": os.getpid()}

    file = Path(os.environ["IPYTHONDIR"]) / f"profile_{profile}" / "security" / "cluster-.json"
    [first] = json.loads(file.read_text())["engines"]["sets"]
    with parimg.connect(profile=profile) as controller:
        wait_until(lambda: len(controller) == 3)
        images = {f"{number:03d}": np.zeros(1) for number in range(400)}
        job = controller.map(setting, images, chunk_size=5)
        next(iter(job))
        old = {controller._supervisor.engines.process(engine)[1] for engine in controller.engines}
        for pid in sorted(old)[:2]:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: len(controller) == 1)
        wait_until(lambda: len(controller) == 3)
        assert job.wait(90)
        assert {record["setting"] for record in job} == {"of this profile"}
        assert {record["process"] for record in job} - old
    sets = json.loads(file.read_text())["engines"]["sets"]
    assert len(sets) == 2
    assert first in sets
    said = capfd.readouterr().err
    assert said.count("its cluster was asked for 2 others") == 2

    engines = [one for one in psutil.process_iter(["environ"]) if (one.info["environ"] or {}).get("SETTING")]
    assert len(engines) >= 3
    subprocess.run([*IPCLUSTER, "stop", f"--profile={profile}"], check=True, timeout=90, **QUIET)
    _, alive = psutil.wait_procs(engines, timeout=30)
    assert alive == []
