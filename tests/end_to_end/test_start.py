"""What a user sees while a cluster starts, and what is left of one whose start was interrupted."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

START = "import parimg\nparimg.start(n=2)\n"

COMPILE = """
import time
from dataclasses import dataclass
import numpy as np
import parimg

@dataclass(frozen=True)
class Slow(parimg.Task):
    def prepare(self):
        time.sleep(2)

    def __call__(self, image):
        return {"sum": int(image.sum())}

with parimg.start(n=1) as ctl:
    for _ in range(2):
        print(ctl.submit(Slow(), [("one", np.ones(3))]).get(60)[0]["sum"])
"""


def run(code: str, **environment: str) -> tuple[str, str]:
    """What a script writes to standard output and standard error."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, done.stderr


def test_a_start_and_a_first_compilation_are_reported_once_each(tmp_path: Path) -> None:
    folder = str(tmp_path / "host")
    assert run(COMPILE, PARIMG_SHARED_DIR=folder) == (
        "3\n3\n",
        "starting 1 engine ...\ncompiling for the first time on this host, about 20 s ...\n",
    )
    assert run(COMPILE, PARIMG_SHARED_DIR=folder) == ("3\n3\n", "starting 1 engine ...\n")


def test_nothing_is_reported_where_ipyparallel_shall_show_no_progress_either(tmp_path: Path) -> None:
    assert run(COMPILE, PARIMG_SHARED_DIR=str(tmp_path), IPP_NONINTERACTIVE="1") == ("3\n3\n", "")


def test_a_controller_whose_name_is_gone_before_the_exit_as_in_ipython_ends_its_cluster_in_order() -> None:
    drop_names = "import atexit, parimg\nctl = parimg.start(n=1)\natexit.register(globals().pop, 'ctl')\n"
    assert run(drop_names, IPP_NONINTERACTIVE="1") == ("", "")


@pytest.mark.parametrize("processes", [1, 3, 8, 12])
def test_ctrl_c_at_any_time_of_a_start_ends_everything_without_further_ado(processes: int) -> None:
    with subprocess.Popen([sys.executable, "-c", START], stderr=subprocess.PIPE, text=True) as client:
        deadline = time.monotonic() + 60
        while len(family := psutil.Process(client.pid).children(recursive=True)) < processes:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        client.send_signal(signal.SIGINT)
        _, said = client.communicate(timeout=60)
        assert said.splitlines()[-1] == "KeyboardInterrupt"
        assert said.count("Traceback") == 1
        assert "Task was destroyed" not in said
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
