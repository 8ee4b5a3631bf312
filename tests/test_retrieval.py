"""Retrieval on two engines: a small network on made-up images, and the real one on known photographs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

import parimg
from parimg.errors import ImageError, JobError, TaskError
from parimg.retrieval import Hit, ImageIndex, write_hits

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "benchmarks"))
from retrieval_set import judge, make_set  # noqa: E402
from tiny_model import TinyModel  # noqa: E402

TINY = {"layer": "act", "size": None, "mean": 0.0, "scale": 1.0}


def picture(number: int) -> np.ndarray:
    """Coarse noise, another one for each number."""
    rough = np.random.default_rng(number).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    return cv2.resize(rough, (128, 96), interpolation=cv2.INTER_CUBIC)


def write_pictures(folder: Path, numbers: range) -> Path:
    folder.mkdir(exist_ok=True)
    for number in numbers:
        cv2.imwrite(str(folder / f"{number:02d}.png"), picture(number)[:, :, ::-1])
    return folder


@pytest.fixture
def model(tmp_path: Path) -> str:
    """The tiny network with enough channels to tell one noise from another."""
    rng = np.random.default_rng(4)
    stem = rng.normal(size=(64, 3, 3, 3)).astype(np.float32)
    bias = rng.normal(-600, 300, size=64).astype(np.float32)
    path = tmp_path / "model.onnx"
    path.write_bytes(TinyModel(stem, bias, np.ones((2, 64, 1, 1), np.float32)).encode())
    return str(path)


@pytest.fixture
def index(controller: parimg.Controller, model: str, tmp_path: Path) -> ImageIndex:
    """Of twelve pictures, by the tiny network."""
    images = write_pictures(tmp_path / "pictures", range(12))
    parimg.index_images(controller, images, tmp_path / "index", model=model, **TINY).get(60)
    return ImageIndex(tmp_path / "index")


def test_an_indexed_image_is_its_own_best_answer(index: ImageIndex) -> None:
    assert len(index) == 12
    hits = index.search(picture(7), top_k=3, expand=0)
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert os.path.basename(hits[0].key) == "07.png"
    assert hits[0].similarity == pytest.approx(1, abs=1e-5)
    assert hits[0].score == pytest.approx(hits[0].similarity + 1 - hits[0].distance ** 2 / 2)
    assert hits[0].score > hits[1].score >= hits[2].score


def test_a_part_of_an_image_is_found_where_it_is(index: ImageIndex) -> None:
    [hit] = index.search(picture(4), (32, 48, 72, 96), top_k=1, expand=0)
    assert os.path.basename(hit.key) == "04.png"
    assert np.abs(np.subtract(hit.image_box, (32, 48, 72, 96))).max() <= 16


def test_without_re_ranking_there_are_no_regions(index: ImageIndex) -> None:
    hits = index.search(index.uris[3], top_k=20, rerank=0, expand=0)
    assert len(hits) == 12
    assert all(hit.box is hit.image_box is hit.distance is None for hit in hits)
    assert [hit.score for hit in hits] == sorted((hit.similarity for hit in hits), reverse=True)


def test_images_beyond_the_re_ranked_ones_follow_them(index: ImageIndex) -> None:
    hits = index.search(picture(2), top_k=12, rerank=5, expand=0)
    assert [hit.distance is None for hit in hits] == [False] * 5 + [True] * 7
    least = min(hit.similarity for hit in hits[:5])
    assert all(hit.similarity <= least for hit in hits[5:])


def test_engines_give_the_same_answer_as_this_process(index: ImageIndex, controller: parimg.Controller) -> None:
    query = index.describe(picture(9), (10, 20, 60, 90))
    for options in ({}, {"expand": 0}, {"rerank": 7, "top_k": 12}):
        assert index.search(query, controller=controller, **options) == index.search(query, **options)


def test_query_expansion_brings_images_near_that_are_like_the_best_answers(index: ImageIndex) -> None:
    plain = index.search(picture(5), rerank=0, expand=0)
    expanded = index.search(picture(5), rerank=0, expand=3)
    best = [hit.key for hit in plain[:3]]
    assert {hit.key for hit in expanded[:3]} == set(best)
    before, after = ({hit.key: hit.score for hit in hits} for hits in (plain, expanded))
    assert sum(after[key] for key in best) > sum(before[key] for key in best)


def test_an_index_is_added_to_by_indexing_again(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(12, 15))
    job = parimg.index_images(controller, images, index.directory, model=model, **TINY)
    assert job.wait(60)
    assert len(ImageIndex(index.directory)) == 15
    assert os.path.basename(ImageIndex(index.directory).search(picture(13), expand=0)[0].key) == "13.png"


def test_a_moved_index_can_be_searched_but_not_be_added_to(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    moved = shutil.move(index.directory, tmp_path / "elsewhere")
    assert os.path.basename(ImageIndex(moved).search(picture(7), expand=0)[0].key) == "07.png"
    with pytest.raises(JobError, match="was moved"):
        parimg.index_images(controller, tmp_path / "pictures", moved, model=model, **TINY)


def test_another_index_in_the_same_place_is_refused(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = tmp_path / "pictures"
    with pytest.raises(JobError, match=r"was made with layer='act', not 'stem'"):
        parimg.index_images(controller, images, index.directory, model=model, **{**TINY, "layer": "stem"})
    with pytest.raises(JobError, match=r"is no index: it holds '00\.png'"):
        parimg.index_images(controller, images, images, model=model, **TINY)


def test_images_that_cannot_be_read_are_failed_records_and_not_in_the_index(
    controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(3))
    (images / "01.png").write_bytes(b"no image")
    job = parimg.index_images(controller, images, tmp_path / "index", model=model, **TINY)
    assert [record.key[-6:] for record in job if not record.ok] == ["01.png"]
    assert [key[-6:] for key in ImageIndex(tmp_path / "index").keys] == ["00.png", "02.png"]


def test_a_layer_with_negative_values_fails_with_a_reason(
    controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(1))
    [record] = parimg.index_images(
        controller, images, tmp_path / "index", model=model, **{**TINY, "layer": "stem"}
    ).get(60)
    assert record.error == "TaskError"
    assert "must not be negative for pooling='max'" in record.message
    with pytest.raises(JobError, match="holds no image yet"):
        ImageIndex(tmp_path / "index")


def test_what_was_asked_wrong_is_told(index: ImageIndex, tmp_path: Path) -> None:
    with pytest.raises(JobError, match="is no index"):
        ImageIndex(tmp_path)
    for options, message in (({"top_k": 0}, "top_k"), ({"rerank": -1}, "rerank"), ({"expand": 1.5}, "expand")):
        with pytest.raises(TaskError, match=f"{message} must be an integer"):
            index.search(picture(0), **options)
    for box in ((0, 0, 97, 5), (5, 5, 5, 9), (1, 2, 3), (0, 0, 1.5, 4)):
        with pytest.raises(TaskError, match="box must be"):
            index.search(picture(0), box)
    with pytest.raises(ImageError, match=r"absent\.png"):
        index.search("absent.png")
    os.unlink(index._region_file(0))
    with pytest.raises(ImageError, match="does not exist"):
        index.search(picture(0))


def test_a_ranking_is_written_as_a_table_and_drawn(index: ImageIndex, tmp_path: Path) -> None:
    hits = index.search(picture(6), (0, 0, 48, 64), top_k=4)
    write_hits(hits, tmp_path / "hits.parquet")
    table = pd.read_parquet(tmp_path / "hits.parquet")
    assert list(table.columns) == list(Hit._fields)
    assert table["rank"].tolist() == [1, 2, 3, 4]
    assert tuple(table["image_box"][0]) == hits[0].image_box
    write_hits(hits, tmp_path / "hits.csv")
    assert (tmp_path / "hits.csv").read_text().count("\n") == 5
    drawn = parimg.draw_hits(hits, query=picture(6), box=(0, 0, 48, 64), columns=3, tile=100)
    assert drawn.shape == (240, 300, 3)
    assert ((drawn == (255, 60, 0)).all(axis=2)).sum() > 500
    gone = parimg.draw_hits([hits[0]._replace(uri="absent.png")], tile=100)
    assert (gone[50, 50] == 128).all()


# -- the command line ----------------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


def test_index_and_search_from_the_command_line(model: str, tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "pictures", range(4))
    options = ("--layer", "act", "--size", "128", "--mean", "0", "--scale", "1,1,1")
    made = run("index", images, "-m", model, "-o", tmp_path / "index", *options, "-n", "1")
    assert made.returncode == 0, made.stderr
    assert "FeatureMap, finished: 4 of 4 images, 0 failed" in made.stdout
    files = ("-o", tmp_path / "hits.csv", "--picture", tmp_path / "hits.png")
    found = run("search", f"{images / '02.png'}:0,0,60,80", tmp_path / "index", "-k", "2", "--expand", "0", *files)
    assert found.returncode == 0, found.stderr
    assert "02.png" in found.stdout.split("rank")[1].split("│ 2 ")[0]
    assert "2 of 4 images" in found.stdout
    assert (tmp_path / "hits.csv").exists()
    assert cv2.imread(str(tmp_path / "hits.png")).shape == (260, 720, 3)
    assert run("search", images / "02.png", tmp_path / "index", "-n", "1").returncode == 0
    for arguments, message in (
        ((f"{images / '02.png'}:0,0,600,80", tmp_path / "index"), "box must be"),
        ((images / "absent.png", tmp_path / "index"), "absent.png"),
        ((images / "02.png", images), "is no index"),
        ((images / "02.png", tmp_path / "index", "--picture", "a.gif"), "--picture must end in"),
    ):
        wrong = run("search", *arguments)
        assert wrong.returncode == 2
        assert message in " ".join(wrong.stderr.replace("│", "").split())
    wrong = run("index", images, "-m", model, "-o", tmp_path / "index2", "--mean", "1,2")
    assert wrong.returncode == 2
    assert "--mean must be a number, or three" in " ".join(wrong.stderr.replace("│", "").split())


# -- the real network on photographs --------------------------------------------------------------------------


def test_each_stage_finds_parts_of_photographs_no_worse_than_the_one_before(
    controller: parimg.Controller, data_folder: Path, tmp_path: Path
) -> None:
    variants, parts = make_set(tmp_path, data_folder)
    assert (len(variants), len(parts)) == (104, 52)
    model = data_folder / "models" / "efficientnet_lite0_features.onnx"
    assert parimg.index_images(controller, tmp_path / "images", tmp_path / "index", model=model).wait(240)
    precision, mean_overlap = judge(ImageIndex(tmp_path / "index"), variants, parts)
    assert list(precision) == ["MAC", "R-MAC", "+ regions", "+ expansion"]
    values = list(precision.values())
    assert values == sorted(values), precision
    assert values[-1] > 0.9
    assert mean_overlap > 0.45
