"""The wheel holds what users need, and the pins name no registry."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import parimg

# The gate runs the tests where there are no sources, and says where those are.
ROOT = Path(os.environ.get("PARIMG_SOURCE", Path(__file__).parent.parent))


def test_the_wheel_ships_the_cluster_profiles_and_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    # The build writes the version into the tree, which engines of other tests may be about to load.
    environment = {**os.environ, "SETUPTOOLS_SCM_PRETEND_VERSION_FOR_PARIMG": parimg.__version__}
    subprocess.run([*command, "--wheel-dir", str(tmp_path), str(ROOT)], check=True, timeout=120, env=environment)
    [wheel] = tmp_path.glob("parimg-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    listed = subprocess.run(
        [sys.executable, "-c", "import parimg.cluster.profiles as p; print(p.__file__, *p.available())"],
        cwd=tmp_path / "site",
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    assert listed.startswith(str(tmp_path / "site"))
    shipped = sorted(path.name for path in (ROOT / "cluster_profiles").iterdir() if path.is_dir())
    assert listed.split()[1:] == shipped
    entry_points = next((tmp_path / "site").glob("*.dist-info/entry_points.txt")).read_text()
    assert "parimg = parimg.cli:main" in entry_points
    for launcher in ("srun = ", "parimg-slurm = ", "parimg-ssh = "):
        assert launcher in entry_points.partition("[ipyparallel.engine_launchers]")[2]


def test_the_pins_are_names_and_versions_only() -> None:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    assert len(lines) > 50
    assert [line for line in lines if not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.+_-]+", line)] == []
