"""The command line, run as users run it: programs with clusters of their own."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import noise_pictures
import numpy as np
import pytest

from parimg.job.job import open_job
from parimg.kernels import detect_sift


def parimg(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *arguments]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd, env=environment
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four pictures, a text file beside them, and one picture cut in half."""
    folder = noise_pictures.write_pictures(tmp_path_factory.mktemp("photos"), range(5))
    (folder / "notes.txt").write_text("not an image")
    damaged = folder / "04.png"
    os.truncate(damaged, damaged.stat().st_size // 2)
    return folder


def test_match_exports_a_table_names_failures_and_exits_with_3(photos: Path, tmp_path: Path) -> None:
    result = parimg(
        "match", str(photos / "00.png"), str(photos), "-n", "1", "--job", str(tmp_path / "job"),
        "-o", "matches.csv", cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 3, result.stderr
    assert "MatchSIFT, finished: 5 of 5 images, 1 failed" in result.stdout
    assert re.search(r"04\.png: ImageTruncatedError: ", result.stdout)
    assert (tmp_path / "matches.csv").read_text().count("\n") == 6

    status = parimg("status", str(tmp_path / "job"))
    assert status.returncode == 3
    assert "MatchSIFT, finished: 5 of 5 images, 1 failed" in status.stdout


def test_match_without_failures_exits_with_0_and_is_listed_among_the_jobs(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path))
    good = [str(photos / f"0{number}.png") for number in range(2)]
    result = parimg("match", good[0], *good, "-n", "1", "--cross-check", "one-way", "--max-ratio", "0.8")
    assert result.returncode == 0, result.stderr
    listed = parimg("jobs")
    assert re.search(r"MatchSIFT\(.* +│ +finished +│ +2/2 ", listed.stdout)


def test_match_stops_when_too_many_images_fail_and_resume_may_allow_more(photos: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(photos, tmp_path / "photos")
    for number in range(6):
        (folder / f"damaged{number}.png").write_bytes(b"no image")
    reference, job = str(folder / "00.png"), str(tmp_path / "job")
    stopped = parimg("match", reference, str(folder), "-n", "1", "--job", job, "--max-failures", "2")
    assert stopped.returncode == 1
    assert "images failed, more than max_failures=2" in stopped.stderr
    assert f"to go on: parimg resume {job} -n 1\n" in stopped.stdout
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
    assert re.search(r"04\.png: ImageTruncatedError: ", result.stdout)
    assert (tmp_path / "blurred.csv").read_text().count("\n") == 6
    written = [name for _, _, names in os.walk(tmp_path / "blurred") for name in names]
    assert sorted(written) == [f"0{number}.png" for number in range(4)]


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
    assert [path.name for path in written] == [f"0{number}.png" for number in range(4)]
    image = cv2.imread(str(photos / "00.png"), cv2.IMREAD_GRAYSCALE)
    expected = cv2.erode(image, np.ones((3, 1), np.uint8), borderType=cv2.BORDER_REFLECT) + 2
    np.testing.assert_array_equal(cv2.imread(str(written[0]), cv2.IMREAD_UNCHANGED), expected)


def test_ctrl_c_leaves_a_table_and_a_command_that_finishes_it(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("from beside import pause\ndef slow(image):\n    return pause(0.5)\n")
    (tmp_path / "beside.py").write_text("import time\ndef pause(s):\n    time.sleep(s)\n    return s\n")
    job = tmp_path / "job"
    for number in range(10):
        shutil.copy(photos / "00.png", tmp_path / f"{number}.png")
    command = [sys.executable, "-m", "parimg.cli", "run", "mine.py:slow", ".", "-n", "1", "-o", "t.csv"]
    process = subprocess.Popen(
        [*command, "--job", str(job)], cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 60
    while not (job / "journal.sqlite").exists() or not open_job(job).progress:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"to go on: parimg resume {job} -n 1 -o t.csv\n" in error
    assert "Traceback" not in error
    recorded = open_job(job).progress
    assert 1 <= recorded < 10
    assert (tmp_path / "t.csv").read_text().count("\n") == recorded + 1
    resumed = parimg("resume", str(job), "-n", "1", "-o", "t.csv", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / "t.csv").read_text().count("\n") == 11


def test_doctor_lists_engines_and_the_parts_of_a_round_trip() -> None:
    result = parimg("doctor", "-n", "2")
    assert result.returncode == 0, result.stdout + result.stderr
    assert "2 of 2 engines answer" in result.stdout
    assert "through the load-balancing scheduler" in result.stdout
    assert "opencv 1" in result.stdout


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


@pytest.mark.parametrize("detector", ["parimg", "opencv"])
def test_the_detector_that_is_asked_for_is_the_one_whose_matches_are_counted(
    photos: Path, tmp_path: Path, detector: str
) -> None:
    names = ["00.png", "01.png"]
    shifted = np.roll(cv2.imread(str(photos / "00.png"), cv2.IMREAD_GRAYSCALE), 7, axis=1)
    cv2.imwrite(str(tmp_path / "shifted.png"), shifted)
    result = parimg(
        "match", str(photos / "00.png"), str(tmp_path / "shifted.png"), *(str(photos / name) for name in names),
        "--detector", detector, "-n", "1", "-o", "matches.csv", "--job", str(tmp_path / "job"), cwd=tmp_path,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    with open(tmp_path / "matches.csv", newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    found = {Path(row["key"]).name: (int(row["features"]), int(row["matches"])) for row in rows}
    assert set(found) == {"shifted.png", *names}
    described = json.loads(parimg("status", str(tmp_path / "job"), "--json").stdout)["parameters"]
    assert described["detector"] == repr(detector)
    sift = cv2.SIFT_create(nfeatures=5000)
    for name, (features, matches) in found.items():
        images = [photos / "00.png", tmp_path / name if name == "shifted.png" else photos / name]
        grays = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in images]
        if detector == "opencv":
            descriptors = [sift.detectAndCompute(gray, None)[1] for gray in grays]
        else:
            descriptors = [detect_sift(gray, 5000).descriptors.astype(np.float32) for gray in grays]
        wanted = cv2.BFMatcher(cv2.NORM_L2, crossCheck=True).match(*descriptors)
        assert (features, matches) == (len(descriptors[1]), len(wanted))
