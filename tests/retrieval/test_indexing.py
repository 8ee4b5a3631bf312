"""Making indexes on two engines, and adding to them: what is the same image, the same index, the same model."""

from __future__ import annotations

import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from noise_pictures import TINY, picture, write_model, write_pictures

import parimg
from parimg.errors import JobError
from parimg.retrieval.image_index import ImageIndex


@pytest.fixture
def model(tmp_path: Path) -> str:
    return write_model(tmp_path / "model.onnx")


@pytest.fixture
def index(controller: parimg.Controller, model: str, tmp_path: Path) -> ImageIndex:
    """Of three pictures, by the tiny network."""
    images = write_pictures(tmp_path / "pictures", range(3))
    parimg.index_images(controller, images, tmp_path / "index", model=model, **TINY).get(60)
    return ImageIndex(tmp_path / "index")


def test_an_index_is_added_to_by_indexing_again(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = write_pictures(tmp_path / "pictures", range(3, 6))
    job = parimg.index_images(controller, images, index.directory, model=model, **TINY)
    assert job.wait(60)
    assert len(ImageIndex(index.directory)) == 6
    assert os.path.basename(ImageIndex(index.directory).search(picture(5), expand=0)[0].key) == "05.png"


def test_a_moved_index_can_be_searched_but_not_be_added_to(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    moved = shutil.move(index.directory, tmp_path / "elsewhere")
    assert os.path.basename(ImageIndex(moved).search(picture(2), expand=0)[0].key) == "02.png"
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


def test_images_have_absolute_keys(
    controller: parimg.Controller, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number, name in enumerate(("one", "two")):
        photos = write_pictures(tmp_path / name / "photos", range(number, number + 1))
        (photos / f"{number:02d}.png").rename(photos / "a.png")
        monkeypatch.chdir(tmp_path / name)
        parimg.index_images(controller, "photos", tmp_path / "index", model=model, **TINY).get(60)
    monkeypatch.chdir(tmp_path)
    job = parimg.index_images(controller, ["one/photos/a.png"], "index", model=model, **TINY)
    assert job.wait(60)
    index = ImageIndex("index")
    assert sorted(index.keys) == [str(tmp_path / name / "photos" / "a.png") for name in ("one", "two")]
    assert index.keys == index.uris
    for number, name in enumerate(("one", "two")):
        hit = index.search(picture(number), top_k=1, expand=0)[0]
        assert hit.key == str(tmp_path / name / "photos" / "a.png")
        assert hit.distance == pytest.approx(0, abs=0.2)


def test_an_adding_that_was_cut_short_goes_on_from_the_directory(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = write_pictures(tmp_path / "more", range(10, 50))
    monkeypatch.chdir(tmp_path)
    job = parimg.index_images(controller, "more", index.directory, model=model, **TINY)
    job.abort()
    assert job.wait(60)
    assert len(ImageIndex(index.directory)) < 43
    monkeypatch.chdir("/")
    assert controller.resume(os.path.join(index.directory, "job")).wait(60)
    assert sorted(ImageIndex(index.directory).keys[3:]) == sorted(map(str, more.iterdir()))


def test_another_model_is_refused_and_the_same_one_under_another_name_is_not(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    other = write_model(tmp_path / "other.onnx", seed=5)
    with pytest.raises(JobError, match=r"made with another model, .*model\.onnx.* digest \w{16}; .*other\.onnx"):
        parimg.index_images(controller, tmp_path / "pictures", index.directory, model=other, **TINY)
    copied = shutil.copy(model, tmp_path / "copy.onnx")
    images = write_pictures(tmp_path / "pictures", range(3, 4))
    assert parimg.index_images(controller, images, index.directory, model=copied, **TINY).wait(60)
    assert len(ImageIndex(index.directory)) == 4


def test_failed_images_are_tried_again(controller: parimg.Controller, model: str, tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "pictures", range(2))
    whole = (images / "01.png").read_bytes()
    (images / "01.png").write_bytes(whole[:60])
    first = parimg.index_images(controller, images, tmp_path / "index", model=model, **TINY)
    assert [record.ok for record in first.get(60)] == [True, False]
    (images / "01.png").write_bytes(whole)
    again = parimg.index_images(controller, images, tmp_path / "index", model=model, **TINY)
    assert [record.ok for record in again.get(60)] == [True, True]
    assert len(ImageIndex(tmp_path / "index")) == 2


def test_options_that_an_index_cannot_change_are_refused(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    images = tmp_path / "pictures"
    with pytest.raises(JobError, match=r"chunk_size must be left out .* it exists, .*got chunk_size=5"):
        parimg.index_images(controller, images, index.directory, model=model, chunk_size=5, **TINY)
    for options in ({"chunksize": 5}, {"job_dir": tmp_path}, {"retry": "failed"}):
        for folder in (index.directory, tmp_path / "new"):
            with pytest.raises(TypeError, match="unexpected keyword argument"):
                parimg.index_images(controller, images, folder, model=model, **options, **TINY)
    assert not (tmp_path / "new").exists()
    heard: list[object] = []
    job = parimg.index_images(controller, images, index.directory, model=model, listeners=[heard.append], **TINY)
    assert job.wait(60)
    assert heard
    new = parimg.index_images(controller, images, tmp_path / "new", model=model, chunk_size=2, retries=0, **TINY)
    assert len(new.get(60)) == 3


def test_a_table_s_column_names_the_images(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    write_pictures(tmp_path / "pictures", range(3, 5))
    (tmp_path / "table.csv").write_text("left,right\nabsent.png,pictures/03.png\nabsent.png,pictures/04.png\n")
    job = parimg.index_images(
        controller, tmp_path / "table.csv", index.directory, model=model, column="right", **TINY
    )
    assert job.counts["failed"] == 0
    assert job.wait(60)
    assert [os.path.basename(key) for key in ImageIndex(index.directory).keys[3:]] == ["03.png", "04.png"]


def test_a_link_to_an_index_is_that_index(
    index: ImageIndex, controller: parimg.Controller, model: str, tmp_path: Path
) -> None:
    (tmp_path / "link").symlink_to(index.directory)
    images = write_pictures(tmp_path / "pictures", range(3, 4))
    assert parimg.index_images(controller, images, tmp_path / "link", model=model, **TINY).wait(60)
    moved = shutil.move(index.directory, tmp_path / "elsewhere")
    os.symlink(moved, index.directory)
    images = write_pictures(tmp_path / "pictures", range(4, 5))
    assert parimg.index_images(controller, images, tmp_path / "elsewhere", model=model, **TINY).wait(60)
    for place in (tmp_path / "link", index.directory, moved):
        assert [hit.distance for hit in ImageIndex(place).search(picture(4))] != [None] * 5


def test_a_job_of_another_task_is_no_index(controller: parimg.Controller, model: str, tmp_path: Path) -> None:
    images = write_pictures(tmp_path / "pictures", range(1))
    controller.map(np.max, images, job_dir=tmp_path / "other" / "job").get(60)
    task = parimg.FeatureMap(model, output=tmp_path / "maps", **TINY)
    controller.submit(task, images, job_dir=tmp_path / "maps" / "job").get(60)
    for name in ("other", "maps"):
        with pytest.raises(JobError, match=rf"{name}' has no index\.json: it is no index"):
            ImageIndex(tmp_path / name)
        with pytest.raises(JobError, match=rf"{name}' has no index\.json: it is no index"):
            parimg.index_images(controller, images, tmp_path / name, model=model, **TINY)


def test_what_an_index_was_made_with_is_plain_json(index: ImageIndex, model: str) -> None:
    about = json.loads((Path(index.directory) / "index.json").read_text())
    assert about["layer"] == "act"
    assert about["model"] == model
    assert about["pooling"] == "max"
    assert about["regions"] == os.path.join(index.directory, "regions")
    assert sorted(os.listdir(index.directory)) == ["descriptors.arrow", "index.json", "job", "regions"]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "has no index.json: it is no index, or one that an older parimg made"),
        ('{"format": 1}', "has format 1, this parimg reads 2"),
        ('{"format": 2}', "has a damaged index.json"),
        ("[]", "has a damaged index.json"),
        ("{", "has a damaged index.json"),
    ],
)
def test_an_index_of_another_format_is_refused_with_the_way_out(
    index: ImageIndex, controller: parimg.Controller, model: str, content: str | None, problem: str
) -> None:
    about = Path(index.directory) / "index.json"
    if content is None:
        about.unlink()
    else:
        about.write_text(content)
    for use in (
        lambda: ImageIndex(index.directory),
        lambda: parimg.index_images(controller, "pictures", index.directory, model=model, **TINY),
    ):
        with pytest.raises(JobError, match=re.escape(problem)) as told:
            use()
        assert "`parimg index IMAGES --model M -o DIR` makes one, in a new folder" in str(told.value)
