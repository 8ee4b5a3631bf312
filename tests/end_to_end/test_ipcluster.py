"""Clusters that `ipcluster start` brought up, with the profile that parimg installs."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

import parimg
from parimg import events
from parimg.cluster import profiles
from parimg.errors import ClusterError, EngineVersionError, ProfileNotFoundError


def ipcluster(*arguments: str) -> None:
    command = [sys.executable, "-m", "ipyparallel.cluster", *arguments]
    subprocess.run(command, check=True, timeout=90, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def start_engine(cluster_id: str, environment: dict[str, str], cwd: Path | None = None) -> subprocess.Popen[bytes]:
    """One more engine for a running cluster, as a user's own script would start it."""
    return subprocess.Popen(
        [sys.executable, "-m", "ipyparallel.engine", "--profile=local", f"--cluster-id={cluster_id}"],
        env=os.environ | environment,
        cwd=cwd,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.fixture(scope="module")
def cluster_id(private_folders: None) -> Iterator[str]:
    """A daemonized cluster of one engine under the installed profile `local`."""
    profiles.install("local")
    ipcluster("start", "--profile=local", "--cluster-id=mine", "-n", "1", "--daemonize")
    yield "mine"
    ipcluster("stop", "--profile=local", "--cluster-id=mine")


def threads_of(controller: parimg.Controller) -> set[int]:
    """Threads of OpenCV, numba and every BLAS and OpenMP, over all engines."""
    count = (
        "[__import__('cv2').getNumThreads(), __import__('numba').get_num_threads(), "
        "*(pool['num_threads'] for pool in __import__('threadpoolctl').threadpool_info())]"
    )
    return {threads for engine in controller.client[:].apply_sync(eval, count) for threads in engine}


def test_a_job_runs_on_a_cluster_that_ipcluster_started(cluster_id: str, temple_ring: list[str]) -> None:
    with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
        assert repr(controller) == "<Controller of a cluster: 1 engines, 0 jobs running>"
        task = parimg.MatchSIFT(temple_ring[0])
        job = controller.submit(task, temple_ring[:5])
        expected = [task(cv2.imread(path, cv2.IMREAD_GRAYSCALE)) for path in temple_ring[:5]]
        assert [record.columns for record in job.get(60)] == expected


def test_closing_a_controller_leaves_a_foreign_cluster_running(cluster_id: str) -> None:
    for _ in range(2):
        with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
            assert len(controller) == 1


def test_every_engine_has_one_thread_also_one_that_joins_later(cluster_id: str) -> None:
    with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
        assert threads_of(controller) == {1}
        # This one is started with nothing that limits its threads.
        late = start_engine(cluster_id, {"OMP_NUM_THREADS": "2", "NUMBA_NUM_THREADS": "2"})
        try:
            controller.client.wait_for_engines(2, timeout=60)
            assert controller.map(lambda image: 1, {"one": np.zeros(1), "two": np.ones(1)}).wait(60)
            assert threads_of(controller) == {1}
        finally:
            late.kill()
            late.wait()
        wait_for_engines(controller, 1)


def wait_for_engines(controller: parimg.Controller, n: int) -> None:
    deadline = time.monotonic() + 60
    while len(controller) != n:
        assert time.monotonic() < deadline, f"{len(controller)} engines, not {n}, after 60 s"
        time.sleep(0.05)


def test_a_shared_object_leaves_the_client_once_for_each_engine_that_cannot_see_the_job(
    cluster_id: str, tmp_path: Path, temple_ring: list[str]
) -> None:
    # Two engines that see neither the job's directory nor each other's cache, as on two hosts: the directory is
    # moved away for them by a private cache folder and a job directory that they cannot open.
    hosts = [tmp_path / "host1", tmp_path / "host2"]
    blind = (
        "import builtins\n"
        "def install(hidden):\n"
        "    opened = builtins.open\n"
        "    def open_unless_hidden(path, *args, **kwargs):\n"
        "        if str(path).startswith(hidden):\n"
        "            raise FileNotFoundError(path)\n"
        "        return opened(path, *args, **kwargs)\n"
        "    builtins.open = open_unless_hidden\n"
    )
    engines = [start_engine(cluster_id, {"PARIMG_SHARED_DIR": str(host)}) for host in hosts]
    try:
        with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
            wait_for_engines(controller, 3)
            controller.client[:].execute(f"{blind}\ninstall({str(tmp_path / 'job')!r})", block=True)
            sent: list[events.SharedObjectSent] = []

            def listen(event: events.Event) -> None:
                if isinstance(event, events.SharedObjectSent):
                    sent.append(event)

            task = parimg.MatchSIFT(temple_ring[0])
            job = controller.submit(
                task, temple_ring, job_dir=tmp_path / "job" / "here", chunk_size=1, listeners=[listen]
            )
            assert job.wait(120)
            assert job.counts["ok"] == 47
            computing = {record.engine for record in job}
            descriptors = task.reference_features.descriptors.nbytes
            for engine in computing:
                objects = [event for event in sent if event.engine == engine]
                assert len(objects) == len({event.digest for event in objects})
                assert sum(event.nbytes for event in objects) < 2 * descriptors
            assert len(computing) == 3
    finally:
        for engine in engines:
            engine.kill()
            engine.wait()


def test_an_engine_with_another_parimg_is_refused_and_both_versions_are_named(
    cluster_id: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    shutil.copytree(Path(parimg.__file__).parent, other / "parimg", ignore=shutil.ignore_patterns("__pycache__"))
    (other / "parimg" / "_version.py").write_text('__version__ = "99.1"\n')
    engine = start_engine(cluster_id, {"PYTHONPATH": str(other)}, cwd=other)
    try:
        with parimg.connect(profile="local", cluster_id=cluster_id) as controller:
            wait_for_engines(controller, 2)
        with pytest.raises(
            EngineVersionError, match=rf"parimg 99\.1.*this client has .*parimg {re.escape(parimg.__version__)}"
        ):
            parimg.connect(profile="local", cluster_id=cluster_id)
    finally:
        engine.kill()
        engine.wait()


def test_an_unknown_profile_is_refused_and_makes_no_folder(private_folders: None) -> None:
    with pytest.raises(ProfileNotFoundError, match="no IPython profile 'slrum'"):
        parimg.connect(profile="slrum")
    assert not (Path(os.environ["IPYTHONDIR"]) / "profile_slrum").exists()


def test_a_profile_without_a_cluster_says_how_to_start_one(cluster_id: str) -> None:
    with pytest.raises(ClusterError, match="ipcluster start -n 4 --profile=local --cluster-id=other"):
        parimg.connect(profile="local", cluster_id="other")


def test_the_connection_file_of_a_dead_cluster_is_told(cluster_id: str) -> None:
    security = Path(os.environ["IPYTHONDIR"]) / "profile_local" / "security"
    info = json.loads((security / "ipcontroller-mine-client.json").read_text())
    info["registration"] = 9  # nobody answers there
    (security / "ipcontroller-dead-client.json").write_text(json.dumps(info))
    with pytest.raises(ClusterError, match="does not answer"):
        parimg.connect(profile="local", cluster_id="dead", timeout=1)


def test_the_command_line_uses_a_running_cluster(cluster_id: str, temple_ring: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "parimg.cli", "match", temple_ring[0], *temple_ring[:3]]
    options = ["--profile", "local", "--cluster-id", cluster_id, "--job", str(tmp_path / "job")]
    result = subprocess.run([*command, *options], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stderr
    assert "MatchSIFT, finished: 3 of 3 images, 0 failed" in result.stdout
