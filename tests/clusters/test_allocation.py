"""parimg.start() inside an allocation of a real Slurm of two nodes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from slurm_daemons import wait_for_empty_queue

pytestmark = pytest.mark.usefixtures("slurm")

DOCS = Path(__file__).parent.parent.parent / "docs" / "clusters.md"
SBATCH = DOCS.read_text(encoding="utf-8").partition("```sh\n")[2].partition("```")[0]  # what users copy

PROGRAM = """\
import json, os
import numpy as np
import parimg

with parimg.start() as ctl:
    engines = len(ctl)
    nodes = ctl.client[:].apply_sync(os.getenv, "SLURMD_NODENAME")
    job = ctl.map(np.mean, {f"image {n}": np.zeros(1) for n in range(40)}, chunk_size=1)
    job.get()
    found = {"engines": engines, "nodes": sorted(set(nodes)), "counts": job.counts}
    found["threads"] = ctl.client[:].apply_sync(os.getenv, "OMP_NUM_THREADS")
    found["curve"] = ctl.security.curve
with open("found.json", "w") as file:
    json.dump(found, file)
"""


def submit(folder: Path, script: str, program: str) -> str:
    """Run a batch script to its end; its output."""
    (folder / "program.py").write_text(program)
    (folder / "script").write_text(script.replace("python program.py", f"{sys.executable} program.py"))
    subprocess.run(["sbatch", "script"], cwd=folder, check=True, stdout=subprocess.DEVNULL, timeout=30)
    wait_for_empty_queue(90)  # sbatch --wait asks only every half minute
    return (folder / "log.txt").read_text()


def test_start_uses_every_node_of_a_batch_job(tmp_path: Path) -> None:
    submit(tmp_path, SBATCH, PROGRAM)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["engines"] == 4
    assert found["nodes"] == ["n1", "n2"]
    assert found["counts"]["ok"] == 40
    assert found["threads"] == ["1"] * 4
    assert found["curve"] is True


def test_every_node_is_used_where_no_home_is_shared(
    slurm: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(slurm / "ipython"))
    submit(tmp_path, SBATCH, PROGRAM)
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["engines"] == 4
    assert found["nodes"] == ["n1", "n2"]
    assert not list((slurm / "ipython").glob("parimg-cluster-*"))


def test_nodes_local_uses_the_batch_host_only_and_no_more_than_its_share(tmp_path: Path) -> None:
    program = """\
import os
import parimg

with parimg.start(nodes="local") as ctl:
    print("engines", len(ctl), set(ctl.client[:].apply_sync(os.getenv, "SLURM_STEP_ID")))
"""
    script = SBATCH.replace("--cpus-per-task=2", "--cpus-per-task=1")
    assert "engines 1 {None}" in submit(tmp_path, script, program)


def test_more_engines_than_the_allocation_has_processors_are_refused(tmp_path: Path) -> None:
    program = """\
import parimg

try:
    parimg.start(5)
except parimg.errors.ClusterError as error:
    print(error)
"""
    log = submit(tmp_path, SBATCH, program.replace("import parimg\n", "import parimg, parimg.errors\n", 1))
    assert "has 4 processors, so not 5 engines" in log


def test_salloc_is_an_allocation_too(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    command = ["salloc", "--quiet", "--ntasks=3", "--time=5", sys.executable, "program.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["engines"] == 3
    assert found["nodes"] == ["n1", "n2"]
