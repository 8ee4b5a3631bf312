"""A process that ends with the one that started it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MODULES = {
    "tells_arguments": """
        import sys
        print(__name__, sys.argv[1:])
    """,
    "sleeps": """
        import time
        print("up", flush=True)
        time.sleep(60)
    """,
    "heeds_no_signal": """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        print("up", flush=True)
        time.sleep(60)
    """,
    "starts_family": """
        import multiprocessing, sys, time

        def sleep(generations):
            if generations:
                child = multiprocessing.get_context(sys.argv[1]).Process(target=sleep, args=(generations - 1,))
                child.start()
            else:
                print("up", flush=True)
            time.sleep(60)

        if __name__ == "__main__":
            sleep(2)
    """,
}

POLLER = [sys.executable, "-m", "parimg.cluster.parent_poller"]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Variables with which the modules above can be run by name."""
    for name, source in MODULES.items():
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source), encoding="utf-8")
    return {**os.environ, "PYTHONPATH": str(tmp_path)}


@contextlib.contextmanager
def parent_of(command: list[str], environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A process that starts `command`, and waits.

    The command's word PARENT stands for the process's id. The standard output of both is one pipe: it ends when
    both have ended, whoever cleans up after them.
    """
    script = (
        "import os, subprocess, time\n"
        f"subprocess.Popen([part.replace('PARENT', str(os.getpid())) for part in {command!r}])\n"
        "time.sleep(60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment)
    with parent:
        yield parent
        parent.kill()


def poller(module: str, look_seconds: float) -> list[str]:
    """Command of a process that looks after its parent so often."""
    script = (
        f"import sys; from parimg.cluster import parent_poller; parent_poller._LOOK_SECONDS = {look_seconds}; "
        f"sys.argv = ['', 'PARENT', {module!r}]; parent_poller.main()"
    )
    return [sys.executable, "-c", script]


def test_a_module_runs_as_main_with_its_own_arguments(environment: dict[str, str]) -> None:
    command = [*POLLER, str(os.getpid()), "tells_arguments", "--n", "4"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=30)
    assert done.stdout == "__main__ ['--n', '4']\n"
    assert done.stderr == ""
    assert done.returncode == 0


def test_it_ends_within_seconds_after_its_parent_was_killed(environment: dict[str, str]) -> None:
    with parent_of([*POLLER, "PARENT", "sleeps"], environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.communicate(timeout=10) == ("", None)


def test_it_ends_even_if_it_heeds_no_signal(environment: dict[str, str]) -> None:
    with parent_of(poller("heeds_no_signal", 0.05), environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        parent.send_signal(signal.SIGKILL)
        assert parent.communicate(timeout=10) == ("", None)


def test_it_runs_on_while_its_parent_lives(environment: dict[str, str]) -> None:
    with parent_of(poller("sleeps", 0.01), environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        with pytest.raises(subprocess.TimeoutExpired):
            parent.communicate(timeout=0.5)
        parent.kill()
        assert parent.communicate(timeout=10)[0] == ""


def test_it_ends_if_its_parent_died_before_it_was_up(environment: dict[str, str]) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    command = [*POLLER, str(gone.pid), "sleeps"]
    done = subprocess.run(command, stdout=subprocess.DEVNULL, env=environment, timeout=30)
    assert done.returncode == -signal.SIGTERM


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_children_and_grandchildren_end_with_it_however_they_were_started(
    environment: dict[str, str], method: str
) -> None:
    with parent_of([*POLLER, "PARENT", "starts_family", method], environment) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "up\n"
        [grandparent] = psutil.Process(parent.pid).children()
        family = [grandparent, *grandparent.children(recursive=True)]
        assert len(family) >= 3
        grandparent.kill()  # before its children, who are nobody's then
        parent.send_signal(signal.SIGKILL)
        assert parent.communicate(timeout=15) == ("", None)
        _, alive = psutil.wait_procs(family, timeout=5)
        assert alive == []


@pytest.mark.cluster
@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_no_process_of_an_embedded_cluster_outlives_a_client_and_a_controller_that_were_killed_together(
    tmp_path: Path, method: str
) -> None:
    set_method = f"import multiprocessing\nmultiprocessing.set_start_method({method!r})\n"
    (tmp_path / "sitecustomize.py").write_text(set_method)
    script = (
        "import parimg, time; ctl = parimg.start(n=2); print(ctl._cluster._cluster.controller.process.pid,"
        " flush=True); time.sleep(60)"
    )
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{os.getcwd()}"}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, env=environment) as client:
        assert client.stdout is not None
        hub = psutil.Process(int(client.stdout.readline()))
        family = psutil.Process(client.pid).children(recursive=True)
        schedulers = [process for process in family if process.ppid() == hub.pid]
        assert len(schedulers) >= (2 if method == "forkserver" else 5)  # the forkserver has them
        assert len(family) >= 10
        hub.kill()
        client.kill()
        _, alive = psutil.wait_procs(family, timeout=30)
        assert alive == []
