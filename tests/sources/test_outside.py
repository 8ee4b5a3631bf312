"""A source without what lies in the folder that its job writes to, and what its keys have in common."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parimg.errors import EmptySourceError, SourceError
from parimg.sources.as_source import as_source, source_from_spec
from parimg.sources.outside import OutsideFolder, output_folder


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of two photographs, with what a run wrote in the middle of it, seen from the folder above."""
    folder = tmp_path / "photos"
    for name in ("a.jpg", "out/a.png", "out/day/b.png", "outer/c.jpg"):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    return folder


def keys(source: OutsideFolder) -> list[str]:
    return [image.key for image in source]


@pytest.mark.parametrize(
    "images", ["photos", "photos/**/*", ["photos"], ["photos/a.jpg", "photos/out/a.png", "photos/outer/c.jpg"]]
)
def test_what_lies_in_the_output_folder_is_left_out_now_and_when_the_job_is_resumed(
    photos: Path, images: str | list[str]
) -> None:
    source = OutsideFolder(as_source(images), str(photos / "out"))
    assert keys(source) == ["photos/a.jpg", "photos/outer/c.jpg"]
    assert source.count() == 2
    again = source_from_spec(json.loads(json.dumps(source.spec())))
    assert keys(again) == ["photos/a.jpg", "photos/outer/c.jpg"]
    assert again.spec() == source.spec()
    assert output_folder(source.spec()) == str(photos / "out")


def test_the_output_folder_is_known_through_a_link(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos / "out")
    assert keys(OutsideFolder(as_source("photos"), str(tmp_path / "link"))) == [
        "photos/a.jpg",
        "photos/outer/c.jpg",
    ]


def test_what_is_known_before_a_job_begins(photos: Path) -> None:
    seen = OutsideFolder(as_source("photos"), str(photos / "out")).look()
    assert seen == (["photos/a.jpg", "photos/outer/c.jpg"], "photos/", True, 2)
    assert OutsideFolder(as_source(str(photos)), None).look().root == "photos/"
    assert OutsideFolder(as_source("photos", absolute_keys=True), None).look().root == f"{photos}/"
    assert OutsideFolder(as_source("."), None).look().root == ""
    os.chdir("/")
    assert OutsideFolder(as_source(str(photos)), None).look().root == f"{photos}/".removeprefix("/")


def test_of_a_glob_too_long_to_be_looked_at_the_root_is_what_has_no_wildcard(
    photos: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert OutsideFolder(as_source("photos/out*/*"), None).look().root is None
    monkeypatch.setattr("parimg.sources.outside._MOST", 2)
    assert OutsideFolder(as_source("photos/out*/*"), None).look() == (
        ["photos/out/a.png", "photos/outer/c.jpg"], "photos/", False, 0
    )  # fmt: skip


def test_of_a_generator_one_image_is_looked_at_and_none_is_lost() -> None:
    given: list[str] = []

    def paths() -> Iterator[str]:
        for name in ("a.jpg", "b.jpg", "c.jpg"):
            given.append(name)
            yield name

    source = OutsideFolder(as_source(paths()), "/out")
    assert source.look().keys == ["a.jpg"]
    assert len(given) <= 2
    assert keys(source) == ["a.jpg", "b.jpg", "c.jpg"]
    with pytest.raises(SourceError, match="only once"):
        list(source)


def test_arrays_lie_in_no_folder() -> None:
    source = OutsideFolder(as_source({"a": np.zeros((2, 2)), "b": np.zeros((2, 2))}), "/")
    assert source.look().keys == ["a", "b"]
    assert keys(source) == ["a", "b"]
    assert source.count() == 2


def test_a_source_with_nothing_outside_the_output_folder_is_refused(photos: Path) -> None:
    with pytest.raises(EmptySourceError, match=r"all 2 images lie in the output folder .*out'; choose one"):
        OutsideFolder(as_source("photos/out"), str(photos / "out")).look()
