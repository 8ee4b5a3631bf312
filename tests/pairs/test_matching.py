"""All pairs on a real cluster: what is matched, what is matched again, and what is wrong with images."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import plane_views
import pytest
from command_line import parimg as parimg_cli

import parimg
import parimg.kernels as pk
from parimg.errors import JobError, SourceError, TaskError
from parimg.pairs.feature_files import path_of
from parimg.pairs.matching import resume_pairs
from parimg.pairs.pair_job import open_pairs
from parimg.pairs.selection import Index, check_selection, read_selection, write_selection

pytestmark = pytest.mark.cluster


def test_views_of_one_photograph_are_verified_and_of_two_are_not(matched: parimg.PairJob) -> None:
    pairs = list(matched)
    assert len(pairs) == 8 * 7 // 2
    for pair in pairs:
        one, other = (os.path.dirname(name) for name in (pair.first, pair.second))
        if one == other and one:
            assert pair.model == "homography"
            assert pair.inliers >= 15
            assert pair.ratio == pair.inliers / pair.matches
        else:
            assert (pair.model, pair.inliers) == (None, 0)


def test_images_without_features_and_unreadable_ones_are_told(matched: parimg.PairJob) -> None:
    assert matched.counts == {
        "images": 9, "unreadable": 1, "featureless": 1, "not_indexed": 0,
        "pairs": 28, "matched": 28, "verified": 9, "skipped": 8,
    }  # fmt: skip
    assert [os.path.basename(key) for key in matched.images().without_features()] == ["black.png"]
    [failed] = matched.features.failures
    assert (os.path.basename(failed.key), failed.error) == ("broken.png", "ImageFormatError")
    assert {pair.matches for pair in matched if "black.png" in pair[:2]} == {0}
    assert "28/28 pairs, 9 verified" in repr(matched)


def test_matches_are_those_of_the_kernels(matched: parimg.PairJob) -> None:
    [found] = [pair for pair in matched.matches() if (pair.first, pair.second) == numbers(matched, 0, 2)]
    views = [matched.features_of(number) for number in (found.first, found.second)]
    wanted = pk.match_descriptors(views[0].descriptors, views[1].descriptors, "mutual", 0.8)
    assert np.array_equal(found.matches, np.column_stack([wanted.query, wanted.train]))
    again = matched.match(found.first, found.second)
    assert np.array_equal(again.inliers, found.inliers)
    assert np.array_equal(again.homography, found.homography)


def numbers(job: parimg.PairJob, one: int, other: int) -> tuple[int, int]:
    found = sorted(job.number(f"camera/camera{number}.png") for number in (one, other))
    return found[0], found[1]


def test_the_geometry_is_that_of_the_views(matched: parimg.PairJob) -> None:
    found = matched.match("camera/camera0.png", "camera/camera2.png")
    wanted = plane_views.homography(2) @ np.linalg.inv(plane_views.homography(0))
    corners = np.array([[[60, 60], [260, 60], [260, 260], [60, 260]]], float)
    moved, right = (cv2.perspectiveTransform(corners, matrix) for matrix in (found.homography, wanted))
    assert np.abs(moved - right).max() < 1.0


def test_added_images_are_matched_with_all_and_nothing_else_is(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "camera", folder)
    first = controller.match_pairs(folder, job_dir=tmp_path / "pairs")
    first.wait()
    assert first.counts["matched"] == 6
    before = {record.key: record.started for record in first.blocks}
    nothing = controller.match_pairs(folder, job_dir=tmp_path / "pairs")
    nothing.wait()
    assert {record.key: record.started for record in nothing.blocks} == before
    plane_views.write_views(folder, "camera", range(4, 6))
    second = controller.match_pairs(folder, job_dir=tmp_path / "pairs")
    second.wait()
    pairs = [(pair.first, pair.second) for pair in second]
    assert len(pairs) == len(set(pairs)) == 15
    after = {record.key: record.started for record in second.blocks}
    assert {key: after[key] for key in before} == before
    whole = controller.match_pairs(folder, job_dir=tmp_path / "other")
    whole.wait()
    assert {frozenset(pair[:2]): pair[2:] for pair in whole} == {frozenset(pair[:2]): pair[2:] for pair in second}


def test_a_directory_is_made_among_the_jobs_and_found_again_by_name(
    controller: parimg.Controller, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path / "jobs"))
    with pytest.raises(SourceError):
        controller.match_pairs(photos / "camera", [("camera0.png", "camera9.png")])
    assert not (tmp_path / "jobs").exists()
    job = controller.match_pairs(photos / "camera")
    job.wait()
    assert os.path.dirname(job.directory) == str(tmp_path / "jobs")
    name = os.path.basename(job.directory)
    again = parimg.match_pairs(controller, photos / "camera", job_dir=name)
    again.wait()
    assert again.directory == job.directory == open_pairs(name).directory
    assert again.counts["matched"] == 6
    assert f"{name}" in parimg_cli("jobs").out
    assert "MatchPairs" in parimg_cli("jobs").out
    assert parimg_cli("jobs", name, "--remove").code == 0
    assert os.listdir(tmp_path / "jobs") == []


def no_index(directory: str) -> Index:
    raise AssertionError(f"{directory} is not wanted")


def test_a_resume_runs_what_is_missing_of_both_jobs(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "photos"
    shutil.copytree(photos / "camera", folder)
    job = controller.match_pairs(folder, [("camera0.png", "camera1.png")], job_dir=tmp_path / "pairs")
    job.wait()
    for left in (job.place.blocks, job.place.plan, job.place.images):  # as where the first job was stopped
        shutil.rmtree(left) if os.path.isdir(left) else os.remove(left)
    (folder / "camera2.png").unlink()
    resumed = resume_pairs(controller, tmp_path / "pairs", no_index)
    resumed.wait()
    assert resumed.state == "finished"
    assert [pair[:2] for pair in resumed] == [("camera0.png", "camera1.png")]
    os.remove(job.place.wanted)
    with pytest.raises(JobError, match="give the same images and pairs again"):
        resume_pairs(controller, tmp_path / "pairs", no_index)


def test_sequences_with_an_index_are_resumed_with_it(tmp_path: Path) -> None:
    class Opened:
        directory = "/photos/index"
        uris: ClassVar[list[str]] = []
        descriptors = np.zeros((0, 2), np.float32)

    opened = Opened()
    selection = check_selection("sequential", overlap=3, neighbours=7, index=opened)
    write_selection(selection, str(tmp_path / "wanted.json"))
    asked = []

    def open_index(directory: str) -> Index:
        asked.append(directory)
        return opened

    assert read_selection(str(tmp_path / "wanted.json"), open_index) == selection
    assert asked == ["/photos/index"]


def test_lists_and_sequences_are_matched_and_then_all_others(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    folder, directory = photos / "camera", tmp_path / "pairs"
    job = controller.match_pairs(folder, job_dir=directory, pairs=[("camera0.png", "camera3.png")])
    job.wait()
    assert [pair[:2] for pair in job] == [("camera0.png", "camera3.png")]
    job = controller.match_pairs(folder, job_dir=directory, pairs="sequential", overlap=1)
    job.wait()
    assert job.counts["matched"] == 4
    job = controller.match_pairs(folder, job_dir=directory)
    job.wait()
    pairs = [pair[:2] for pair in job]
    assert len(pairs) == len(set(pairs)) == 6


def test_an_unknown_name_in_a_list_is_refused_before_anything_is_made(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    with pytest.raises(SourceError, match=r"is 'camera9\.png'; similar: camera"):
        controller.match_pairs(photos / "camera", [("camera0.png", "camera9.png")], job_dir=tmp_path / "pairs")
    assert not (tmp_path / "pairs").exists()


def test_an_unreadable_image_in_a_list_costs_only_its_pairs(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    pairs = [("camera/camera0.png", "broken.png"), ("camera/camera0.png", "camera/camera1.png")]
    job = controller.match_pairs(photos, job_dir=tmp_path / "pairs", pairs=pairs)
    job.wait()
    assert [pair[:2] for pair in job] == [("camera/camera0.png", "camera/camera1.png")]
    assert job.counts["skipped"] == 1


def test_damaged_feature_files_are_made_anew_and_lost_matches_matched_again(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    folder, directory = photos / "camera", tmp_path / "pairs"
    job = controller.match_pairs(folder, job_dir=directory, pairs=[("camera0.png", "camera1.png")])
    job.wait()
    wanted = [(pair.matches.tolist(), pair.inliers.tolist()) for pair in job.matches()]
    images = job.images().take([0, 1, 2, 3])
    paths = [Path(path_of(str(directory / "feature_files"), image.file)) for image in images]
    paths[0].write_bytes(b"foreign")
    paths[2].unlink()
    job = controller.match_pairs(folder, job_dir=directory)
    job.wait()
    assert job.counts["verified"] == 6
    for file in (directory / "match_files").rglob("*.npz"):
        file.write_bytes(file.read_bytes()[:100])
    again = [pair for pair in open_pairs(directory).matches() if (pair.first, pair.second) == (0, 1)]
    assert [(pair.matches.tolist(), pair.inliers.tolist()) for pair in again] == wanted


def test_a_block_whose_image_is_gone_with_its_features_fails_alone_and_is_matched_later(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    folder, directory = tmp_path / "photos", tmp_path / "pairs"
    shutil.copytree(photos / "camera", folder)
    job = controller.match_pairs(folder, job_dir=directory, pairs=[("camera0.png", "camera1.png")])
    job.wait()
    Path(path_of(str(directory / "feature_files"), job.images()[3].file)).unlink()
    (folder / "camera3.png").rename(tmp_path / "away.png")
    job = controller.match_pairs(folder, job_dir=directory, pairs=[("camera0.png", str(folder / "camera3.png"))])
    job.wait()
    [failed] = job.blocks.failures
    assert failed.error == "ImageMissingError"
    assert "camera3.png' are lost or damaged, and cannot be found anew" in failed.message
    (tmp_path / "away.png").rename(folder / "camera3.png")
    job = controller.match_pairs(folder, job_dir=directory, pairs=[("camera0.png", "camera3.png")])
    job.wait()
    assert job.counts["verified"] == 2


def test_arrays_are_matched_too(controller: parimg.Controller, photos: Path, tmp_path: Path) -> None:
    images = {f"view {n}": cv2.imread(str(photos / "camera" / f"camera{n}.png"), 0) for n in range(2)}
    job = controller.match_pairs(images, job_dir=tmp_path / "pairs", verify="homography")
    job.wait()
    [pair] = job
    assert (pair.first, pair.second, pair.model) == ("view 0", "view 1", "homography")


def test_one_image_makes_no_pair(controller: parimg.Controller, photos: Path, tmp_path: Path) -> None:
    job = controller.match_pairs(photos / "black.png", job_dir=tmp_path / "pairs")
    job.wait()
    assert (job.state, job.blocks, list(job)) == ("finished", None, [])


def test_without_verification_all_matches_are_kept(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    job = controller.match_pairs(photos / "camera", job_dir=tmp_path / "pairs", verify=None)
    job.wait()
    kept = list(job.matches())
    assert len(kept) == 6
    assert {pair.model for pair in job} == {None}
    assert sum(len(pair.matches) for pair in kept) == sum(pair.matches for pair in job)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"verify": "affine"}, TaskError, "verify must be 'fundamental', 'homography' or None"),
        ({"max_ratio": 1.2}, TaskError, r"max_ratio must lie in \(0, 1\]"),
        ({"min_inliers": 3}, TaskError, "min_inliers must be an integer of at least 8"),
        ({"verify_threshold": 0}, TaskError, "verify_threshold must be a positive number"),
        ({"overlap": 0}, TaskError, "overlap must be an integer of at least 1"),
        ({"pairs": "retrieval"}, TaskError, "needs index="),
        ({"pairs": "most"}, TaskError, "pairs must be 'all', 'sequential', 'retrieval'"),
        ({"n_features": -1}, TaskError, "n_features must be an integer"),
    ],
)
def test_what_was_typed_wrong_is_told_before_anything_is_made(
    options: dict[str, object],
    error: type[Exception],
    message: str,
    controller: parimg.Controller,
    photos: Path,
    tmp_path: Path,
) -> None:
    with pytest.raises(error, match=message):
        controller.match_pairs(photos, job_dir=tmp_path / "pairs", **options)
    assert not (tmp_path / "pairs").exists()


def test_other_options_want_another_directory(
    controller: parimg.Controller, photos: Path, matched: parimg.PairJob, tmp_path: Path
) -> None:
    with pytest.raises(JobError, match=r"matched with max_ratio=0\.8, not 0\.7; give another directory"):
        controller.match_pairs(photos, job_dir=matched.directory, max_ratio=0.7)
    (tmp_path / "mine.txt").write_text("text")
    with pytest.raises(JobError, match=r"holds 'mine\.txt'; the directory of pairs must be new or empty"):
        controller.match_pairs(photos, job_dir=tmp_path)
    with pytest.raises(JobError, match="holds no pairs of images; `parimg match-pairs"):
        open_pairs(tmp_path)


def test_a_name_that_no_image_has_is_told_with_similar_ones(matched: parimg.PairJob) -> None:
    with pytest.raises(JobError, match=r"no image 'camera/camra0\.png' .* similar: camera/camera0\.png"):
        matched.match("camera/camra0.png", 0)
    with pytest.raises(JobError, match="numbered from 0 to 7"):
        matched.number(8)
