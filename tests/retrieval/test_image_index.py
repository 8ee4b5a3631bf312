"""Retrieval on two engines: a small network on made-up images, and the real one on known photographs."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import typer
from noise_pictures import TINY, picture, write_model, write_pictures

import parimg
from parimg.cli.retrieval import _parse_query
from parimg.cli.retrieval import index as index_command
from parimg.cli.showing import shown_key
from parimg.errors import ImageError, JobError, TaskError
from parimg.retrieval.hits import Hit, write_hits
from parimg.retrieval.image_index import ImageIndex
from parimg.retrieval.ranking import Query

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "benchmarks"))
from retrieval_set import judge, make_set  # noqa: E402


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_model(tmp_path / "model.onnx")


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


def test_counts_may_be_any_integers_but_no_truth_values(index: ImageIndex) -> None:
    assert len(index.search(picture(0), top_k=np.int64(2), rerank=np.int16(3), expand=np.uint8(1))) == 2
    for name in ("top_k", "rerank", "expand"):
        with pytest.raises(TaskError, match=f"{name} must be an integer of at least . .got True"):
            index.search(picture(0), **{name: True})


def test_what_is_no_query_is_told(index: ImageIndex) -> None:
    query = index.describe(picture(0))
    with pytest.raises(TaskError, match=r"box must be given to describe\(\)"):
        index.search(query, (0, 0, 20, 20))
    for wrong in (None, [picture(0)], (query.rmac, query.region, 1.0), 5):
        with pytest.raises(TaskError, match=f"the query must be a path, .*got a {type(wrong).__name__}"):
            index.search(wrong)
    for other in (query._replace(rmac=np.ones(65, np.float32)), query._replace(region=np.ones(63, np.float32))):
        with pytest.raises(TaskError, match=r"must have descriptors of shape \(64,\), as the index \(got"):
            index.search(other)
    with pytest.raises(TaskError, match=r"shape \(h, w, 3\), RGB"):
        index.search(np.zeros((20, 20, 4), np.uint8))


@pytest.mark.parametrize("rerank", [0, 2, 5])
@pytest.mark.parametrize("expand", [0, 3])
def test_fewer_answers_are_the_first_of_more(index: ImageIndex, rerank: int, expand: int) -> None:
    query = index.describe(picture(8), (10, 10, 70, 90))
    everything = index.search(query, top_k=100, rerank=rerank, expand=expand)
    assert sorted(hit.key for hit in everything) == sorted(index.keys)
    assert [hit.rank for hit in everything] == list(range(1, 13))
    assert [hit.box is not None for hit in everything] == [True] * rerank + [False] * (12 - rerank)
    for top_k in (1, 2, 4, 11):
        assert index.search(query, top_k=top_k, rerank=rerank, expand=expand) == everything[:top_k]


def test_an_index_of_sums_is_searched_by_the_query_s_sum(
    controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(5))
    parimg.index_images(controller, images, tmp_path / "index", model=model, pooling="sum", **TINY).get(60)
    index = ImageIndex(tmp_path / "index")
    whole = index.task.feature_map(picture(3))
    box = (24, 30, 72, 86)
    query = index.describe(picture(3), box)
    np.testing.assert_allclose(query.region, whole[:, 12:36, 15:43].sum((1, 2)), rtol=1e-5)
    [hit] = index.search(query, top_k=1, rerank=5, expand=0)
    assert os.path.basename(hit.key) == "03.png"
    assert np.abs(np.subtract(hit.image_box, box)).max() <= 4
    assert hit.distance < 0.02


def test_aspect_ratios_are_those_of_pixels_where_cells_are_no_squares(
    controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(4))
    options = {**TINY, "size": (192, 128)}  # images of 96 x 128 pixels become 96 x 64 cells
    parimg.index_images(controller, images, tmp_path / "index", model=model, **options).get(60)
    index = ImageIndex(tmp_path / "index")
    hits = index.search(picture(2), (20, 30, 60, 90), expand=0)
    assert os.path.basename(hits[0].key) == "02.png"
    for hit in hits:
        y1, x1, y2, x2 = hit.image_box
        assert (y2 - y1) / (x2 - x1) == pytest.approx(40 / 60, rel=0.13)
        y1, x1, y2, x2 = hit.box
        assert (y2 - y1) / (x2 - x1) == pytest.approx(80 / 60, rel=0.13)


@pytest.mark.parametrize("on_engines", [False, True])
def test_images_whose_region_files_are_lost_or_damaged_are_ranked_without_a_region(
    index: ImageIndex, controller: parimg.Controller, on_engines: bool
) -> None:
    lost, damaged = (index._region_file(place) for place in (3, 5))
    os.unlink(lost)
    with open(damaged, "rb+") as file:
        file.truncate(5000)
    query = index.describe(picture(5))
    with pytest.warns(RuntimeWarning) as warned:
        hits = index.search(query, expand=2, controller=controller if on_engines else None)
    assert len(warned) == 1
    message = str(warned[0].message)
    assert "2 of 12 region indexes cannot be searched" in message
    assert "is cut off" in message
    assert warned[0].filename == __file__
    assert sorted(os.path.basename(hit.key) for hit in hits if hit.box is None) == ["03.png", "05.png"]
    assert len(hits) == 12
    os.truncate(damaged, 0)
    with pytest.warns(RuntimeWarning, match="1 of 1 region indexes"):
        [hit] = index.search(query, top_k=1, rerank=1, expand=3)
    assert (os.path.basename(hit.key), hit.distance) == ("05.png", None)


def test_a_table_has_the_same_types_whatever_was_found(index: ImageIndex, tmp_path: Path) -> None:
    for name, hits in (
        ("regions", index.search(picture(6), top_k=2)),
        ("none", index.search(picture(6), top_k=2, rerank=0)),
        ("empty", []),
    ):
        write_hits(hits, tmp_path / f"{name}.parquet")
    schemas = [pq.read_schema(tmp_path / f"{name}.parquet") for name in ("regions", "none", "empty")]
    assert schemas[0] == schemas[1] == schemas[2]
    assert [str(kind) for kind in schemas[0].types] == [
        *(
            "int64",
            "string",
            "double",
            "double",
            "double",
            "list<element: int64>",
            "list<element: int64>",
            "string",
        )
    ]


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
    assert drawn.shape[1] == 300
    # Three tiles of 4:3 beside each other are 73 high, the next two no higher.
    assert drawn.shape[0] == 2 * (73 + 20)
    assert (drawn[:73, 97:101] == 255).all()
    assert (drawn[0, :97] == (20, 90, 200)).all()
    assert (drawn[75, :90] == (20, 90, 200)).all()
    assert not (drawn[:73, 101:] == (20, 90, 200)).all(axis=2).any()
    assert ((drawn == (255, 60, 0)).all(axis=2)).sum() > 500
    gone = parimg.draw_hits([hits[0]._replace(uri="absent.png")], tile=100)
    assert (gone[50, 50] == 128).all()


def test_queries_are_drawn_in_any_colours(index: ImageIndex) -> None:
    hits = index.search(picture(6), top_k=1, expand=0)
    rgb = parimg.draw_hits(hits, query=picture(6), tile=100)
    opaque = np.full((96, 128, 1), 255, np.uint8)
    np.testing.assert_array_equal(parimg.draw_hits(hits, query=np.dstack([picture(6), opaque]), tile=100), rgb)
    gray = parimg.draw_hits(hits, query=picture(6)[:, :, 0], tile=100)
    assert (gray[6:66, 6:90, 0] == gray[6:66, 6:90, 2]).all()
    np.testing.assert_array_equal(gray[:, 101:], rgb[:, 101:])


@pytest.mark.parametrize(
    "shapes", [[(10, 400), (400, 10)], [(1, 1)], [(50, 20)] * 3, [(7, 3000)] * 4, [(30, 40)] * 7]
)
def test_pictures_of_any_shape_fill_rows_of_one_width(shapes: list[tuple[int, int]], tmp_path: Path) -> None:
    hits = []
    for rank, shape in enumerate(shapes, 1):
        path = str(tmp_path / f"{rank}.png")
        cv2.imwrite(path, np.full(shape, 90, np.uint8))
        hits.append(Hit(rank, path, 0.5, 0.5, None, None, None, path))
    drawn = parimg.draw_hits(hits, columns=3, tile=80)
    assert drawn.shape[1] == 80 * min(len(shapes), 3)
    assert drawn.shape[0] <= (120 + 20) * -(-len(shapes) // 3)
    assert ((drawn == 90).all(axis=2)).any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"columns": 0}, r"columns must be an integer of at least 1 \(got 0\)"),
        ({"columns": 1.5}, "columns must be an integer"),
        ({"tile": 3}, "tile must be an integer of at least 16"),
        ({"box": (1, 2, 3)}, "box must be"),
        ({"query": np.zeros((5, 5, 2), np.uint8)}, r"must have shape .*got \(5, 5, 2\)"),
        ({"query": np.zeros((5, 5, 3))}, "uint8 array, .*got a float64 array"),
        ({"query": Query(np.ones(3), np.ones(3), 1.0)}, "got a Query"),
    ],
)
def test_what_cannot_be_drawn_is_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(TaskError, match=message):
        parimg.draw_hits([], **{"query": picture(0), **options})


# -- the command line ----------------------------------------------------------------------------------------


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "parimg.cli", *map(str, arguments)]
    environment = os.environ | {"COLUMNS": "200", "NO_COLOR": "1"}
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env=environment)


@pytest.mark.parametrize(
    ("text", "name", "box"),
    [
        ("q.jpg", "q.jpg", None),
        ("q.jpg:1,2,30,40", "q.jpg", (1, 2, 30, 40)),
        ("q.jpg: 1, 2, 30, 40 ", "q.jpg", (1, 2, 30, 40)),
        ("http://host:80/q.jpg", "http://host:80/q.jpg", None),
        ("http://host:80/q.jpg:1,2,3,4", "http://host:80/q.jpg", (1, 2, 3, 4)),
        ("there:1,2,3,4", "there:1,2,3,4", None),
    ],
)
def test_a_query_s_box_stands_behind_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, name: str, box: tuple[int, ...] | None
) -> None:
    (tmp_path / "there:1,2,3,4").touch()
    monkeypatch.chdir(tmp_path)
    assert _parse_query(text) == (name, box)


@pytest.mark.parametrize("box", ["100,100,400", "1,2,3,4,5", "1;2;3;4", "-1,0,5,5", "1.5,2,3,4", "1 2 3 4", "5"])
def test_a_box_that_is_none_is_told_with_its_syntax(box: str) -> None:
    with pytest.raises(typer.BadParameter, match=f":y1,x1,y2,x2, in pixels .got '{box}'"):
        _parse_query(f"q.jpg:{box}")


def test_keys_are_shown_relative_to_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert shown_key(str(tmp_path / "here" / "views" / "..a.png")) == "views/..a.png"
    outside = str(tmp_path / "a.png")
    assert [shown_key(key) for key in (outside, "a.png", "https://x/a.png")] == [
        outside,
        "a.png",
        "https://x/a.png",
    ]


def test_the_command_line_has_the_defaults_of_index_images() -> None:
    of_function, of_command = (inspect.signature(each).parameters for each in (parimg.index_images, index_command))
    names = ("layer", "size", "mean", "scale", "pooling")
    defaults = [of_command[name].default for name in names]
    assert [
        float(value) if name in {"mean", "scale"} else value for name, value in zip(names, defaults, strict=True)
    ] == [of_function[name].default for name in names]


@pytest.mark.cluster
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
    assert cv2.imread(str(tmp_path / "hits.png")).shape == (198, 720, 3)
    assert run("search", images / "02.png", tmp_path / "index", "-n", "1").returncode == 0
    for arguments, message in (
        ((f"{images / '02.png'}:0,0,600,80", tmp_path / "index"), "box must be"),
        ((images / "absent.png", tmp_path / "index"), "absent.png"),
        ((images / "02.png", images), "is no index"),
        ((images / "02.png", tmp_path / "index", "--picture", "a.gif"), "--picture must end in"),
        ((images / "02.png", tmp_path / "index", "--picture", "absent/a.png"), "there is no folder"),
        ((f"{images / '02.png'}:100,100,400", tmp_path / "index"), "four whole numbers, :y1,x1,y2,x2, in pixels"),
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
    judgements = judge(ImageIndex(tmp_path / "index"), variants, parts)
    for judgement, least, least_overlap in zip(judgements, (0.9, 0.85), (0.45, 0.35), strict=True):
        assert list(judgement.precision) == ["MAC", "R-MAC", "+ regions", "+ expansion"]
        values = list(judgement.precision.values())
        assert values == sorted(values), judgement
        assert values[-1] > least, judgement
        assert judgement.mean_overlap > least_overlap, judgement
