"""The command line, run as users run it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from parimg import __version__


def parimg(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *arguments]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory, temple_ring: list[str]) -> Path:
    """A folder of four views, a text file beside them, and one view cut in half."""
    folder = tmp_path_factory.mktemp("photos")
    for path in temple_ring[:4]:
        shutil.copy(path, folder)
    (folder / "notes.txt").write_text("not an image")
    damaged = Path(shutil.copy(temple_ring[4], folder))
    os.truncate(damaged, damaged.stat().st_size // 2)
    return folder


def test_match_exports_a_table_names_failures_and_exits_with_3(photos: Path, tmp_path: Path) -> None:
    result = parimg(
        "match", str(photos / "templeR0001.png"), str(photos), "-n", "1", "--job", str(tmp_path / "job"),
        "-o", "matches.csv", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    assert "MatchSIFT, finished: 5 of 5 images, 1 failed" in result.stdout
    assert re.search(r"templeR0005\.png: ImageTruncatedError: ", result.stdout)
    assert "left out: 1 (no image extension)" in result.stdout
    assert (tmp_path / "matches.csv").read_text().count("\n") == 6

    status = parimg("status", str(tmp_path / "job"))
    assert status.returncode == 3
    assert "MatchSIFT, finished: 5 of 5 images, 1 failed" in status.stdout


def test_match_without_failures_exits_with_0_and_is_listed_among_the_jobs(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path))
    good = [str(photos / f"templeR000{number}.png") for number in (1, 2)]
    result = parimg("match", good[0], *good, "-n", "1", "--cross-check", "one-way", "--max-ratio", "0.8")
    assert result.returncode == 0, result.stderr
    listed = parimg("jobs")
    assert re.search(r"MatchSIFT +│ +finished +│ +2/2 ", listed.stdout)


def test_match_stops_when_too_many_images_fail_and_resume_may_allow_more(photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    for number in range(6):
        (folder / f"damaged{number}.png").write_bytes(b"no image")
    reference, job = str(folder / "templeR0001.png"), str(tmp_path / "job")
    stopped = parimg("match", reference, str(folder), "-n", "1", "--job", job, "--max-failures", "2")
    assert stopped.returncode == 1
    assert "images failed, more than max_failures=2" in stopped.stderr
    assert f"to go on: parimg resume {job}" in stopped.stdout
    resumed = parimg("resume", job, "-n", "1", "--max-failures", "99%")
    assert resumed.returncode == 3
    assert "MatchSIFT, finished: 11 of 11 images, 7 failed" in resumed.stdout


def test_convolve_writes_images_and_a_table(photos: Path, tmp_path: Path) -> None:
    result = parimg(
        "convolve", str(photos), "--kernel", "gaussian(1.5)", "-o", "blurred", "--color", "gray", "-n", "1",
        "--job", "job", "--table", "blurred.csv", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    assert "Convolve, finished: 5 of 5 images, 1 failed" in result.stdout
    assert re.search(r"templeR0005\.png: ImageTruncatedError: ", result.stdout)
    assert "left out: 1 (no image extension)" in result.stdout
    assert (tmp_path / "blurred.csv").read_text().count("\n") == 6
    written = [name for _, _, names in os.walk(tmp_path / "blurred") for name in names]
    assert sorted(written) == [f"templeR000{number}.png" for number in (1, 2, 3, 4)]


def test_filter_writes_images_and_a_table_and_names_failures(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def lifted(values, by):\n    return values.min() + by\n")
    result = parimg(
        "filter", str(photos), "mine.py:lifted", "--size", "3,1", "-a", "2", "-o", "out", "--table", "t.csv",
        "-n", "2", "--job", str(tmp_path / "job"), cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    assert "NeighbourhoodFilter, finished: 5 of 5 images, 1 failed" in result.stdout
    assert (tmp_path / "t.csv").read_text().count("\n") == 6
    written = sorted((tmp_path / "out").rglob("*.png"))
    assert [path.name for path in written] == [f"templeR000{number}.png" for number in (1, 2, 3, 4)]
    image = cv2.imread(str(photos / "templeR0001.png"), cv2.IMREAD_GRAYSCALE)
    expected = cv2.erode(image, np.ones((3, 1), np.uint8), borderType=cv2.BORDER_REFLECT) + 2
    np.testing.assert_array_equal(cv2.imread(str(written[0]), cv2.IMREAD_UNCHANGED), expected)


def test_jobs_says_when_there_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path / "none"))
    assert parimg("jobs").stdout == f"no jobs in {tmp_path / 'none'}\n"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("match", "{ref}", "{dir}/*.jpeg"), "*.jpeg"),
        (("match", "{dir}/none.png", "{dir}"), "the reference cannot be read"),
        (("match", "{ref}", "{dir}", "-o", "table.xlsx"), "-o must end in .parquet or .csv"),
        (("match", "{ref}", "{dir}", "-o", "no/such/folder/t.csv"), "there is no folder"),
        (("match", "{ref}", "{dir}", "--max-ratio", "2"), "max_ratio must lie in"),
        (("match", "{ref}", "{dir}", "--max-failures", "many"), "--max-failures must be like 25, 0.1 or 10%"),
        (("match", "{ref}", "{dir}", "--cross-check", "both"), "both"),
        (("match", "{ref}", "{dir}", "-n", "2", "--profile", "local"), "give one"),
        (("match", "{ref}", "{dir}", "--profile", "slrum"), "no IPython profile 'slrum'"),
        (
            ("convolve", "{dir}", "-k", "gauss", "-o", "{dir}/out"),
            "kernel must be an array, a .npy file, or one of",
        ),
        (("convolve", "{dir}", "-k", "sobel"), "Missing option"),
        (("convolve", "{dir}", "-k", "sobel", "-o", "{dir}/out", "--table", "a.xlsx"), "--table must end in"),
        (("convolve", "{dir}", "-k", "box(3)", "-o", "{dir}/out", "--dtype", "int"), "dtype must be one of"),
        (("filter", "{dir}", "spread"), "name a function as module:function"),
        (("filter", "{dir}", "no/such.py:spread"), "no file 'no/such.py'"),
        (("filter", "{dir}", "math:gcd"), "cannot be compiled"),
        (("filter", "{dir}", "math:fsum", "--size", "big"), "--size must be a number"),
        (("filter", "{dir}", "numpy:ptp", "-o", "out", "--format", "gif"), "gif"),
        (("resume", "{dir}"), "is not a job"),
        (("status", "{dir}"), "is not a job"),
        (("profiles", "install", "nonsense"), "no cluster profile 'nonsense'"),
        (("mtach",), "No such command 'mtach'"),
    ],
)
def test_what_was_typed_wrong_is_told_with_exit_code_2(
    photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    filled = [part.format(ref=photos / "templeR0001.png", dir=photos) for part in arguments]
    result = parimg(*filled)
    assert result.returncode == 2, result.stdout
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_doctor_lists_engines_and_the_parts_of_a_round_trip() -> None:
    result = parimg("doctor", "-n", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 of 2 engines answer" in result.stdout
    assert "through the load-balancing scheduler" in result.stdout
    assert "opencv 1" in result.stdout


def test_profiles_are_listed_and_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path))
    assert parimg("profiles", "list").stdout.startswith("local ")
    result = parimg("profiles", "install", "local")
    assert result.returncode == 0
    assert (tmp_path / "profile_local" / "ipcluster_config.py").is_file()


def test_version_is_told() -> None:
    assert parimg("--version").stdout == f"parimg {__version__}\n"


def test_the_demo_confirms_matches_by_the_known_homographies(tmp_path: Path) -> None:
    result = parimg("demo", str(tmp_path / "demo"), "-n", "2", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    rows = re.findall(
        r"^│ (view\d\d\.png) +│ (\w+) +│ +(\d*) +│ +(\d*) +│ +([\d.]*)%? +│ (.*?) +│$", result.stdout, re.MULTILINE
    )
    assert len(rows) == 48
    [damaged] = [row for row in rows if row[5]]
    assert "ImageTruncatedError" in damaged[5]
    shares = [float(row[4]) for row in rows if row[4]]
    assert len(shares) == 39
    assert shares[0] == 100.0
    assert min(shares) > 50
    assert sorted(shares)[len(shares) // 2] > 85
    assert re.search(r"parimg resume \S+ --retry-failed", result.stdout)
