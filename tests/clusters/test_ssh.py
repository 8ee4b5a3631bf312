"""Clusters whose engines are started by a real SSH server, on two names of this machine."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import pytest
from waiting import wait_until

import parimg
from parimg.cluster import profiles
from parimg.errors import ClusterError


@pytest.fixture(scope="module")
def profile(ssh_config: Path, private_folders: None) -> str:
    settings = {"hosts": "host1:1,host2:2", "ssh_options": f"-F,{ssh_config}"}
    profiles.install("ssh", settings=settings, overwrite=True)
    return "ssh"


def where(_: np.ndarray) -> dict[str, object]:
    time.sleep(0.05)
    return {"host": os.environ["PARIMG_TEST_HOST"], "pid": os.getpid()}


def hosts_of(controller: parimg.Controller) -> Counter[str]:
    return Counter(controller.client[:].apply_sync(os.getenv, "PARIMG_TEST_HOST"))


def kill_during_a_job(controller: parimg.Controller, pid: int) -> None:
    """Kill one of three engines: another comes in its place, and every image has its record."""
    job = controller.map(where, {f"image {n}": np.zeros(1) for n in range(300)}, chunk_size=2)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: len(controller) == 2, 20)
    wait_until(lambda: len(controller) == 3, 40)
    assert hosts_of(controller) == {"host1": 1, "host2": 2}
    assert job.wait(60)
    assert job.counts["ok"] == 300


def test_the_key_of_the_cluster_is_on_no_command_line(profile: str) -> None:
    with parimg.start(1, profile=profile, timeout=60) as controller:
        key = controller.client.curve_serverkey.decode()
        assert len(key) == 40
        lines = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
        assert any("parimg.cluster.launchers.ssh_host" in line for line in lines)
        assert not [line for line in lines if key in line]


def test_a_killed_engine_is_replaced_on_the_host_that_lacks_it(profile: str) -> None:
    with parimg.start(3, profile=profile, timeout=60) as controller:
        engines = controller.client[:]
        hosts, pids = engines.apply_sync(os.getenv, "PARIMG_TEST_HOST"), engines.apply_sync(os.getpid)
        kill_during_a_job(controller, pids[hosts.index("host2")])


def test_forked_engines_of_hosts_run_a_job_and_are_replaced_on_their_host_when_killed(
    ssh_config: Path, temple_ring: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    settings = {"hosts": "host1:1,host2:2", "ssh_options": f"-F,{ssh_config}", "fork": "true"}
    profiles.install("ssh", as_name="ssh-forked", settings=settings, overwrite=True)
    with parimg.start(3, profile="ssh-forked", timeout=60) as controller:
        assert hosts_of(controller) == {"host1": 1, "host2": 2}
        engines = controller.client[:]
        hosts, pids = engines.apply_sync(os.getenv, "PARIMG_TEST_HOST"), engines.apply_sync(os.getpid)
        warm = dict(zip(hosts, engines.apply_sync(os.getppid), strict=True))
        assert len(set(pids)) == 3
        assert len(set(warm.values())) == 2  # a process a host, from which its engines are forked
        assert all("forked_engines" in " ".join(psutil.Process(pid).cmdline()) for pid in warm.values())
        matched = controller.submit(parimg.MatchSIFT(temple_ring[0]), temple_ring[:6], chunk_size=1)
        assert matched.wait(60)
        assert matched.counts["ok"] == 6

        kill_during_a_job(controller, pids[hosts.index("host2")])
        assert "if it died, its host starts another" in capfd.readouterr().err
        now = set(controller.client[:].apply_sync(os.getpid))
        assert len(now - set(pids)) == 1
        parents = controller.client[:].apply_sync(os.getppid)
        assert set(parents) == set(warm.values())  # the same processes
    wait_until(lambda: not any(map(psutil.pid_exists, now | set(parents))), 20)


def test_engines_end_with_their_connection_and_others_come_for_the_next_job(
    profile: str, ssh_config: Path
) -> None:
    with parimg.start(1, profile=profile, timeout=60) as controller:
        (pid,) = controller.client[:].apply_sync(os.getpid)
        connections = [
            process
            for process in psutil.process_iter(["name", "cmdline"])
            if process.info["name"] == "ssh" and str(ssh_config) in process.info["cmdline"]
        ]
        assert len(connections) == 1
        connections[0].kill()
        wait_until(lambda: not psutil.pid_exists(pid), 20)
        wait_until(lambda: len(controller) == 0, 20)
        job = controller.map(where, {"one": np.zeros(1)})
        assert job.wait(60)
        assert job.counts["ok"] == 1


def test_a_daemonized_cluster_outlives_ipcluster_and_stop_ends_it(profile: str) -> None:
    def ipcluster(*arguments: str) -> None:
        command = [sys.executable, "-m", "ipyparallel.cluster", *arguments, "--profile=ssh", "--cluster-id=mine"]
        subprocess.run(command, check=True, timeout=60, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    ipcluster("start", "-n", "2", "--daemonize")
    try:
        with parimg.connect(profile=profile, cluster_id="mine") as controller:
            wait_until(lambda: len(controller) == 2, 20)
            pids = controller.client[:].apply_sync(os.getpid)
    finally:
        ipcluster("stop")
    wait_until(lambda: not any(map(psutil.pid_exists, pids)), 10)


def test_the_command_line_starts_shows_and_stops_a_cluster(profile: str) -> None:
    def cluster(*arguments: str) -> str:
        command = [sys.executable, "-m", "parimg.cli", "cluster", *arguments, "--profile=ssh", "--cluster-id=line"]
        done = subprocess.run(command, timeout=60, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        return f"{done.returncode} {done.stdout}"

    assert cluster("status").startswith("0 no cluster runs")
    assert cluster("stop").startswith("1 parimg: no cluster was started here")
    assert cluster("start", "-n", "2").startswith("0 the controller answers")
    try:
        with parimg.connect(profile=profile, cluster_id="line") as controller:
            wait_until(lambda: len(controller) == 2, 20)
        assert cluster("status") == "0 the controller answers, 2 engines are registered\n"
        assert cluster("start", "-n", "2").startswith("1 parimg: a cluster runs already")
    finally:
        assert cluster("stop") == "0 the cluster is stopped\n"
    assert cluster("status").startswith("0 no cluster runs")


def test_the_command_line_tells_a_wrong_remote_python_and_leaves_nothing(ssh_config: Path) -> None:
    settings = {"hosts": "host1:1", "ssh_options": f"-F,{ssh_config}", "python": "/no/such/python"}
    profiles.install("ssh", as_name="wrong-too", settings=settings)
    command = [sys.executable, "-m", "parimg.cli", "cluster", "start", "-n", "1", "--profile=wrong-too"]
    done = subprocess.run(command, timeout=60, capture_output=True, text=True)
    assert done.returncode == 1
    assert "host 'host1' has no engine" in done.stderr
    assert "/no/such/python" in done.stderr
    assert not list(Path(os.environ["IPYTHONDIR"], "profile_wrong-too", "security").glob("cluster-*"))


def test_a_wrong_remote_python_is_told_with_its_cause(ssh_config: Path) -> None:
    settings = {"hosts": "host1:1", "ssh_options": f"-F,{ssh_config}", "python": "/no/such/python"}
    profiles.install("ssh", as_name="wrong", settings=settings)
    with pytest.raises(ClusterError, match=r"host 'host1' has no engine: .* ended: .*/no/such/python"):
        parimg.start(1, profile="wrong")


@pytest.mark.parametrize("fork", ["true", "false"])
def test_engines_that_end_at_once_are_told_with_what_they_said(fork: str, ssh_config: Path) -> None:
    settings = {"hosts": "host1:1", "ssh_options": f"-F,{ssh_config}", "fork": fork}
    folder = profiles.install("ssh", as_name=f"ends-{fork}", settings=settings, overwrite=True)
    with open(Path(folder, "ipcluster_config.py"), "a", encoding="utf-8") as file:
        file.write("launcher.engine_args = ['--IPEngine.timeout=5', '--IPEngine.timeout=6']\n")
    with pytest.raises(ClusterError, match=r"no engine, all have ended: .*timeout only accepts one value"):
        parimg.start(1, profile=f"ends-{fork}", timeout=300)


def test_a_host_that_cannot_be_reached_is_told(ssh_config: Path) -> None:
    settings = {"hosts": "host1:1,no-such-host.invalid:1", "ssh_options": f"-F,{ssh_config}"}
    profiles.install("ssh", as_name="unreachable", settings=settings)
    with pytest.raises(ClusterError, match=r"host 'no-such-host\.invalid' has no engine: .*resolve"):
        parimg.start(2, profile="unreachable")


def test_more_engines_than_the_hosts_take_are_refused(profile: str) -> None:
    with pytest.raises(ClusterError, match=r"the hosts take 3 engines .*so not 4 more"):
        parimg.start(4, profile=profile)


@pytest.mark.parametrize("system", ["PBS", "LSF", "Grid Engine"])
def test_inside_an_allocation_all_its_hosts_are_used(
    system: str, ssh_config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = tmp_path / "hosts"
    if system == "PBS":
        listed.write_text("host1\nhost2\n")
        monkeypatch.setenv("PBS_NODEFILE", str(listed))
    elif system == "LSF":
        monkeypatch.setenv("LSB_MCPU_HOSTS", "host1 1 host2 1")
    else:
        listed.write_text("host1 1 all.q@host1 UNDEFINED\nhost2 1 all.q@host2 UNDEFINED\n")
        monkeypatch.setenv("PE_HOSTFILE", str(listed))
    # The user's ~/.ssh/config is where these names are known, as on a cluster.
    shim = tmp_path / "bin"
    shim.mkdir()
    (shim / "ssh").write_text(f'#!/bin/sh\nexec /usr/bin/ssh -F {ssh_config} "$@"\n')
    (shim / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{shim}:{os.environ['PATH']}")
    with pytest.raises(ClusterError, match=rf"{system} job  has 2 processors, so not 3 engines"):
        parimg.start(3)
    if system == "PBS":  # all three are the same from here on
        with parimg.start() as controller:
            assert hosts_of(controller) == {"host1": 1, "host2": 1}
        with parimg.start(1, nodes="local") as controller:
            assert controller.client[:].apply_sync(os.getenv, "PARIMG_TEST_HOST") == [None]
