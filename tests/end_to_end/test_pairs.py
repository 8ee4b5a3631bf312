"""``parimg match-pairs`` as users run it, also when it is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import plane_views
import pytest
from command_line import parimg

from parimg.pairs.pair_job import open_pairs


def run(*arguments: object, cwd: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=170, check=False, cwd=cwd, env=environment
    )


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    plane_views.write_views(folder, "camera", range(3))
    return folder


def test_a_database_is_written_and_grows_with_the_folder(photos: Path, tmp_path: Path) -> None:
    first = run("match-pairs", photos, "--pairs", "all", "-o", "matches.db", "-n", "1", cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert "3 images, 3 of 3 pairs matched, 3 verified (finished)" in first.stdout
    plane_views.write_views(photos, "camera", range(3, 4))
    (photos / "broken.png").write_text("no picture")
    second = run("match-pairs", photos, "-o", "matches.db", "-n", "1", cwd=tmp_path)
    assert second.returncode == 3, second.stderr
    assert "5 images, 6 of 6 pairs matched, 6 verified" in second.stdout
    assert "1 images cannot be read; 4 pairs with them are left out" in second.stdout
    assert "broken.png: ImageFormatError" in second.stdout
    with sqlite3.connect(tmp_path / "matches.db") as connection:
        assert connection.execute("SELECT count(*) FROM two_view_geometries").fetchone() == (6,)
    status = run("status", "matches.pairs", cwd=tmp_path)
    assert "6 of 6 pairs matched" in status.stdout
    about = json.loads(run("status", "matches.pairs", "--json", cwd=tmp_path).stdout)
    assert (about["task"], about["state"], about["total"]) == ("MatchPairs", "finished", 5)
    assert (about["pairs"]["matched"], about["pairs"]["unreadable"]) == (6, 1)
    for kind, file in (("colmap", "matches.db"), ("parquet", "matches.parquet"), ("hloc", "matches.hloc")):
        exported = run("export", "matches.pairs", "--to", kind, cwd=tmp_path)
        assert exported.returncode == 0, exported.stderr
        assert (tmp_path / file).exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give -o FILE.db, or --job DIRECTORY"),
        (["-o", "matches.txt"], "-o must end in .db or .parquet"),
        (["-o", "none/matches.db"], "there is no folder"),
        (["-o", "matches.db", "--pairs", "some"], "pairs must be 'all', 'sequential', 'retrieval'"),
        (["-o", "matches.db", "--pairs", "retrieval"], "needs index="),
        (["-o", "matches.db", "--min-inliers", "2"], "min_inliers must be an integer of at least 8"),
        (["-o", "mine.db"], "exists, and was not made of these pairs"),
    ],
)
def test_what_was_typed_wrong_is_told_at_once(
    arguments: list[str], message: str, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.db").write_text("mine")
    ended = parimg("match-pairs", photos, *arguments)
    assert ended.code == 2
    assert message in ended.message
    assert os.listdir(tmp_path) == ["mine.db"]


def test_a_dry_run_makes_nothing(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ended = parimg("match-pairs", photos, "-o", "matches.db", "--dry-run")
    assert ended.code == 0
    assert "nothing was run (--dry-run)" in ended.out
    assert os.listdir(tmp_path) == []


def test_a_killed_client_goes_on_and_no_block_runs_twice(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("camera", "coffee", "astronaut", "brick"):
        plane_views.write_views(folder, name, range(12))
    command = [sys.executable, "-m", "parimg.cli", "match-pairs", str(folder), "-o", "matches.db", "-n", "1"]
    client = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and client.poll() is None:
        blocks = tmp_path / "matches.pairs" / "blocks"
        if (blocks / "journal.sqlite").exists() and open_pairs(blocks.parent).counts["matched"] > 100:
            break
        time.sleep(0.05)
    client.send_signal(signal.SIGKILL)
    client.wait()
    before = {record.key: record.started for record in open_pairs(tmp_path / "matches.pairs").blocks.in_order()}
    assert not (tmp_path / "matches.db").exists()
    time.sleep(1)  # until its engines have noticed, and ended
    again = run("match-pairs", folder, "-o", "matches.db", "-n", "1", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    job = open_pairs(tmp_path / "matches.pairs")
    after = {record.key: record.started for record in job.blocks}
    assert {key: after[key] for key in before} == before
    assert len(before) < len(after)
    pairs = [pair[:2] for pair in job]
    assert len(pairs) == len(set(pairs)) == 48 * 47 // 2


def test_features_that_stopped_half_way_are_resumed_and_all_pairs_matched(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    for name in ("camera", "coffee"):
        plane_views.write_views(folder, name, range(20))
    command = [sys.executable, "-m", "parimg.cli", "match-pairs", str(folder), "-o", "matches.db", "-n", "1"]
    client = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    place = tmp_path / "matches.pairs"
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and client.poll() is None and not list(place.glob("feature_files/*/*")):
        time.sleep(0.01)
    client.send_signal(signal.SIGINT)
    _, told = client.communicate(timeout=60)
    assert f"to go on with all pairs: parimg resume {place}" in told
    assert not (place / "blocks").exists()
    # The command that the first job prints by itself leads to the whole, too.
    resumed = run("resume", place / "features", "-n", "1", "-o", "matches.db", cwd=tmp_path)
    assert resumed.returncode == 0, resumed.stderr
    assert "40 images, 780 of 780 pairs matched" in resumed.stdout
    assert (tmp_path / "matches.db").exists()
