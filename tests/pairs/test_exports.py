"""What is written of matched pairs, read by those it is written for."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import plane_views
import pyarrow.parquet as pq
import pytest
from command_line import parimg as parimg_cli

import parimg
from parimg.errors import ImageMissingError, JobError, TaskError
from parimg.pairs.feature_files import path_of

pytestmark = pytest.mark.cluster

READ_BY_PYCOLMAP = """
import json, sys
import numpy as np
pycolmap = __import__("pycolmap")
database = pycolmap.Database.open(sys.argv[1])
images = database.read_all_images()
found = {"images": {}, "cameras": {}, "pairs": []}
for image in images:
    camera = database.read_camera(image.camera_id)
    found["cameras"][image.name] = [image.camera_id, camera.model.name, camera.width, *camera.params.tolist()]
    found["images"][image.name] = [
        image.image_id, len(database.read_keypoints(image.image_id)), image.frame_id,
        len(getattr(database.read_descriptors(image.image_id), "data", database.read_descriptors(image.image_id))),
    ]
for pair, geometry in zip(*database.read_two_view_geometries()):
    first, second = pycolmap.pair_id_to_image_pair(pair)
    found["pairs"].append([
        first, second, geometry.config, len(geometry.inlier_matches), np.array(geometry.H).tolist(),
        len(database.read_matches(first, second)),
    ])
json.dump(found, open(sys.argv[2], "w"), default=int)
"""


def ask_pycolmap(program: str, *arguments: object) -> None:
    # In a process of its own: beside cv2 it crashes in libpng.
    command = [sys.executable, "-c", program, *map(str, arguments)]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert ended.returncode == 0, ended.stderr[-2000:]


def test_pycolmap_reads_the_database(matched: parimg.PairJob, tmp_path: Path) -> None:
    pytest.importorskip("importlib.metadata").version("pycolmap")
    matched.to_colmap(tmp_path / "matches.db")
    ask_pycolmap(READ_BY_PYCOLMAP, tmp_path / "matches.db", tmp_path / "answer.json")
    found = json.loads((tmp_path / "answer.json").read_text())
    assert set(found["images"]) == set(matched.names())
    for name, (number, n_points, frame, n_descriptors) in found["images"].items():
        n_features = len(matched.features_of(name).points)
        assert (number, n_points, frame, n_descriptors) == (
            matched.number(name) + 1,
            n_features,
            number,
            n_features,
        )
    assert found["cameras"]["camera/camera0.png"][1:] == ["SIMPLE_RADIAL", 320, 384.0, 160.0, 160.0, 0.0]
    assert len({camera[0] for camera in found["cameras"].values()}) == 8
    wanted = {(pair.first + 1, pair.second + 1): pair for pair in matched.matches()}
    assert len(found["pairs"]) == 9
    for first, second, configuration, n_inliers, homography, n_matches in found["pairs"]:
        pair = wanted[first, second]
        assert (configuration, n_inliers, n_matches) == (6, pair.inliers.sum(), len(pair.matches))
        # Their first pixel's centre lies at 0.5, ours at 0: both homographies take the same point to the same.
        ours, theirs = (
            matrix @ np.array([100 + shift, 120 + shift, 1])
            for matrix, shift in ((pair.homography, 0.0), (np.array(homography), 0.5))
        )
        assert np.allclose(ours[:2] / ours[2] + 0.5, theirs[:2] / theirs[2])


def test_keypoints_are_those_of_colmap_at_the_same_places(
    photos: Path, matched: parimg.PairJob, tmp_path: Path
) -> None:
    matched.to_colmap(tmp_path / "ours.db")
    program = """
import sys
pycolmap = __import__("pycolmap")
pycolmap.extract_features(sys.argv[1], sys.argv[2], image_names=["camera/camera1.png"])
"""
    ask_pycolmap(program, tmp_path / "theirs.db", photos)
    points = []
    for name in ("ours", "theirs"):
        with sqlite3.connect(tmp_path / f"{name}.db") as connection:
            query = "SELECT rows, cols, data FROM keypoints JOIN images USING (image_id) WHERE name = ?"
            rows, columns, data = connection.execute(query, ("camera/camera1.png",)).fetchone()
        points.append(np.frombuffer(data, np.float32).reshape(rows, columns))
    ours, theirs = points
    nearest = np.linalg.norm(ours[:, None, :2] - theirs[None, :, :2], axis=2)
    near = nearest.min(axis=1) < 0.5
    assert near.mean() > 0.6  # two detectors
    assert np.abs(np.median((ours[:, :2] - theirs[nearest.argmin(axis=1), :2])[near], axis=0)).max() < 0.1
    scale, other = (np.hypot(side[:, 2], side[:, 4]) for side in (ours, theirs[nearest.argmin(axis=1)]))
    assert np.median((scale / other)[near]) == pytest.approx(1, abs=0.1)


def test_a_turned_photograph_lies_in_the_database_as_colmap_reads_it(
    controller: parimg.Controller, tmp_path: Path
) -> None:
    from PIL import Image
    from skimage.data import coffee

    (tmp_path / "photos").mkdir()
    for number, turn in enumerate((1, 6, 3)):
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x0110] = turn, "Maker", "Model"
        exif.get_ifd(0x8769).update({0x920A: 35.0, 0xA405: 50})
        Image.fromarray(coffee()).save(tmp_path / "photos" / f"{number}.jpg", exif=exif, quality=95)
    job = controller.match_pairs(tmp_path / "photos", job_dir=tmp_path / "pairs")
    job.wait()
    job.to_colmap(tmp_path / "ours.db")
    program = "import sys; __import__('pycolmap').extract_features(sys.argv[1], sys.argv[2])"
    ask_pycolmap(program, tmp_path / "theirs.db", tmp_path / "photos")
    sizes, points = [], []
    for name in ("ours", "theirs"):
        with sqlite3.connect(tmp_path / f"{name}.db") as connection:
            query = (
                "SELECT name, width, height, params, prior_focal_length, k.rows, k.cols, k.data FROM images "
                "JOIN cameras USING (camera_id) JOIN keypoints k USING (image_id) ORDER BY name"
            )
            rows = connection.execute(query).fetchall()
        sizes.append([row[:5] for row in rows])
        points.append([np.frombuffer(row[7], np.float32).reshape(row[5], row[6])[:, :2] for row in rows])
    assert sizes[0] == sizes[1]
    for ours, theirs in zip(*points, strict=True):
        nearest = np.linalg.norm(ours[:, None] - theirs[None], axis=2).min(axis=1)
        assert (nearest < 0.5).mean() > 0.6  # at another place nearly none would be
    with sqlite3.connect(tmp_path / "ours.db") as connection:
        assert connection.execute("SELECT count(*) FROM cameras").fetchone() == (1,)


@pytest.mark.slow
def test_a_reconstruction_takes_the_database_as_it_is(
    controller: parimg.Controller, temple_ring: list[str], tmp_path: Path
) -> None:
    if "templeRing" not in temple_ring[0]:
        pytest.skip("the demonstration's views are flat; set PARIMG_DATA to a folder with templeRing")
    job = controller.match_pairs(temple_ring, job_dir=tmp_path / "pairs")
    job.wait()
    job.to_colmap(tmp_path / "matches.db")
    program = """
import json, sys
pycolmap = __import__("pycolmap")
pycolmap.set_random_seed(0)
models = pycolmap.incremental_mapping(sys.argv[1], sys.argv[2], sys.argv[3])
best = max(models.values(), key=lambda model: model.num_reg_images())
json.dump([best.num_reg_images(), best.compute_mean_reprojection_error()], open(sys.argv[4], "w"))
"""
    (tmp_path / "model").mkdir()
    images = os.path.dirname(temple_ring[0])
    ask_pycolmap(program, tmp_path / "matches.db", images, tmp_path / "model", tmp_path / "answer.json")
    registered, error = json.loads((tmp_path / "answer.json").read_text())
    assert registered == 47
    assert error <= 0.35


@pytest.mark.slow
def test_a_walk_straight_ahead_is_reconstructed_whole_by_the_global_mapper(
    controller: parimg.Controller, data_folder: Path, tmp_path: Path
) -> None:
    job = controller.match_pairs(data_folder / "lund", job_dir=tmp_path / "pairs")
    job.wait()
    job.to_colmap(tmp_path / "matches.db", cameras="one")
    program = """
import json, sys
pycolmap = __import__("pycolmap")
pycolmap.set_random_seed(0)
options = pycolmap.GlobalPipelineOptions()
options.random_seed = 0
models = pycolmap.global_mapping(*sys.argv[1:4], options=options)
json.dump([model.num_reg_images() for model in models.values()], open(sys.argv[4], "w"))
"""
    (tmp_path / "model").mkdir()
    arguments = (tmp_path / "matches.db", data_folder / "lund", tmp_path / "model", tmp_path / "answer.json")
    ask_pycolmap(program, *arguments)
    assert json.loads((tmp_path / "answer.json").read_text()) == [29]


def test_cameras_are_shared_as_asked(matched: parimg.PairJob, tmp_path: Path) -> None:
    for cameras, n_cameras in (("one", 2), ("image", 8)):
        matched.to_colmap(tmp_path / f"{cameras}.db", cameras=cameras)
        with sqlite3.connect(tmp_path / f"{cameras}.db") as connection:
            assert connection.execute("SELECT count(*) FROM cameras").fetchone() == (n_cameras,)
    with pytest.raises(TaskError, match="cameras must be"):
        matched.to_colmap(tmp_path / "none.db", cameras="none")


def test_only_a_database_of_the_same_pairs_is_replaced(matched: parimg.PairJob, tmp_path: Path) -> None:
    path = tmp_path / "matches.db"
    matched.to_colmap(path)
    matched.to_colmap(path)
    path.write_text("mine")
    with pytest.raises(
        JobError, match="exists, and was not made of these pairs; give another name, or --overwrite"
    ):
        matched.to_colmap(path)
    assert path.read_text() == "mine"
    matched.to_colmap(path, overwrite=True)
    assert path.read_bytes().startswith(b"SQLite format 3")
    with pytest.raises(JobError, match="there is no folder"):
        matched.to_colmap(tmp_path / "none" / "matches.db")


@pytest.mark.parametrize(
    ("kind", "name", "bytes_free"),
    [
        ("colmap", "my matches.db", 200_000),
        # HDF5 crashed the process where a file ended within its own tables, or between them.
        *(("hloc", "my matches", bytes_free) for bytes_free in (2_000, 30_000)),
        ("parquet", "my matches.parquet", 500),
    ],
)
def test_a_full_disk_leaves_the_pairs_and_tells_how_to_export_them(
    kind: str, name: str, bytes_free: int, matched: parimg.PairJob, tmp_path: Path
) -> None:
    program = f"""
import resource, signal
from parimg.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({bytes_free}, resource.RLIM_INFINITY))
main()
"""
    path = tmp_path / name
    arguments = ["export", matched.directory, "--to", kind, "-o", str(path)]
    command = [sys.executable, "-c", program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 2, ended.stderr
    again = shlex.join(["parimg", *arguments])
    assert f"the pairs in {matched.directory!r} stay; once there is room" in ended.stderr
    assert f"another name: {again}\n" in ended.stderr
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
    assert parimg_cli(*arguments).code == 0


def test_lost_features_of_an_image_that_is_gone_are_told_at_an_export(
    controller: parimg.Controller, photos: Path, tmp_path: Path
) -> None:
    shutil.copytree(photos / "camera", tmp_path / "photos")
    job = controller.match_pairs(tmp_path / "photos", job_dir=tmp_path / "pairs", pairs="sequential")
    job.wait()
    Path(path_of(str(tmp_path / "pairs" / "feature_files"), job.images()[0].file)).unlink()
    job.to_colmap(tmp_path / "matches.db")
    Path(path_of(str(tmp_path / "pairs" / "feature_files"), job.images()[0].file)).unlink()
    (tmp_path / "photos" / "camera0.png").unlink()
    with pytest.raises(ImageMissingError, match=r"features of .*camera0\.png' are lost .* cannot be found anew"):
        job.to_colmap(tmp_path / "matches.db")


def test_the_table_of_pairs_has_a_row_a_pair(matched: parimg.PairJob, tmp_path: Path) -> None:
    matched.to_parquet(tmp_path / "pairs.parquet")
    table = pq.read_table(tmp_path / "pairs.parquet")
    assert table.column_names == ["first", "second", "matches", "inliers", "ratio", "model"]
    assert table.to_pylist() == [pair._asdict() for pair in matched]
    assert matched.to_pandas()["inliers"].tolist() == table["inliers"].to_pylist()


def test_hloc_finds_its_features_and_matches(matched: parimg.PairJob, tmp_path: Path) -> None:
    matched.to_hloc(tmp_path / "hloc")
    listed = [tuple(line.split()) for line in (tmp_path / "hloc" / "pairs.txt").read_text().splitlines()]
    with (
        h5py.File(tmp_path / "hloc" / "features.h5") as features,
        h5py.File(tmp_path / "hloc" / "matches.h5") as file,
    ):
        for pair, (first, second) in zip(matched.matches(), listed, strict=True):
            group = file[first.replace("/", "-")][second.replace("/", "-")]
            found = group["matches0"][:]
            assert len(found) == len(features[first]["keypoints"])
            rows = np.flatnonzero(found >= 0)
            assert np.array_equal(np.column_stack([rows, found[rows]]), pair.matches)
            assert (group["matching_scores0"][:] > 0).sum() == pair.inliers.sum()
        group = features["camera/camera0.png"]
        assert group["descriptors"].shape == (128, len(group["scores"]))
        assert group["image_size"][:].tolist() == [plane_views.SIDE] * 2
    with pytest.raises(JobError, match=r"features\.h5' exists; give another folder, or --overwrite"):
        matched.to_hloc(tmp_path / "hloc")
    matched.to_hloc(tmp_path / "hloc", overwrite=True)


def test_a_pair_is_drawn_with_its_lines(matched: parimg.PairJob) -> None:
    axes = parimg.plot_pair(matched, "camera/camera0.png", "camera/camera1.png")
    (shown,) = axes.get_images()
    assert shown.get_array().shape == (plane_views.SIDE, 2 * plane_views.SIDE, 3)
    again = parimg.plot_pair(matched.directory, "camera/camera0.png", "camera/camera1.png", max_matches=0, ax=axes)
    assert again is axes
    plain = axes.get_images()[-1].get_array()
    assert (plain == plain[..., :1]).all()
    assert (shown.get_array() != plain).any()
    assert axes.get_title().startswith("camera/camera0.png and camera/camera1.png\n")


@pytest.mark.parametrize("by", ["inliers", "matches"])
def test_the_graph_has_the_numbers_of_all_pairs(by: str, matched: parimg.PairJob) -> None:
    (shown,) = parimg.plot_match_graph(matched, by=by).get_images()
    matrix = np.full((8, 8), -1)
    for pair in matched:
        first, second = matched.number(pair.first), matched.number(pair.second)
        matrix[first, second] = matrix[second, first] = getattr(pair, by)
    drawn = shown.get_array()
    assert np.array_equal(drawn.filled(-1), matrix)
    assert list(np.flatnonzero(drawn.mask)) == list(range(0, 64, 9))
    assert shown.get_extent() == [-0.5, 7.5, 7.5, -0.5]


def test_many_images_share_cells_of_the_graph(matched: parimg.PairJob) -> None:
    (shown,) = parimg.plot_match_graph(matched, most=4).get_images()
    assert shown.get_array().shape == (4, 4)
    assert shown.get_array().max() == max(pair.inliers for pair in matched)


@pytest.mark.parametrize("options", [{"by": "color"}, {"most": 0}])
def test_a_graph_of_nothing_is_refused(options: dict[str, object], matched: parimg.PairJob) -> None:
    with pytest.raises(TaskError, match=f"{next(iter(options))} must be"):
        parimg.plot_match_graph(matched, **options)
