"""Where images come from: what is told at once, absolute keys, and what is kept to list them again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from source_lists import ARRAY, keys

from parimg.errors import EmptySourceError, SourceError
from parimg.sources.as_source import as_source, join_specs, source_from_spec


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        ("missing.png", SourceError, r"'missing.png' does not exist \(looked for '.*project/missing.png'\)"),
        (Path("missing"), SourceError, r"'missing' does not exist"),
        ("~/a.png", SourceError, r"use pathlib.Path\(...\).expanduser\(\)"),
        ("", SourceError, r"a path must be a str that is not empty \(got ''\)"),
        ("empty", EmptySourceError, r"'empty' has no file with an image extension"),
        ("*.tif", EmptySourceError, r"'\*.tif' matches no file \(looked in '.*project'\)"),
        ("missing/*.png", EmptySourceError, r"'missing/\*.png' matches no file"),
        ([], EmptySourceError, r"the list of images is empty"),
        ((), EmptySourceError, r"the list of images is empty"),
        ({}, EmptySourceError, r"the list of images is empty"),
        pytest.param(iter([]), EmptySourceError, r"that gives nothing", id="an iterator"),
        (["a.png", "*.tif"], EmptySourceError, r"element 1 of images: '\*.tif' matches no file"),
        (["a.png", "missing"], SourceError, r"element 1 of images: 'missing' does not exist"),
        (["a.png", ""], SourceError, r"element 1 of images: a path must be a str that is not empty"),
        (["a.png", 3], SourceError, r"element 1 of images must be .* \(got 3 that is a int\)"),
        (["a.png", None], SourceError, r"got None that is a NoneType"),
        (["a.png", ["b.png"]], SourceError, r"got \['b.png'\] that is a list"),
        ([b"a.png"], SourceError, r"got b'a.png' that is a bytes"),
        ([("a", "b", "c")], SourceError, r"that is a tuple"),
        (
            {"a": "a.png"},
            SourceError,
            r"element 0 of images must be .* \(got \('a', 'a.png'\) that is a tuple\)",
        ),
        (None, SourceError, r"images must be a path.* \(got None that is a NoneType\)"),
        (7, SourceError, r"\(got 7 that is a int\)"),
        (b"a.png", SourceError, r"\(got b'a.png' that is a bytes\)"),
        (pd.DataFrame({"path": ["a.png"]}), SourceError, r"images is a DataFrame: pass its column of paths"),
        (pa.table({"path": ["a.png"]}), SourceError, r"images is a Table: pass its column of paths"),
    ],
    ids=repr,
)
def test_what_was_typed_wrong_is_told_at_once(views, images, error, message):
    with pytest.raises(error, match=message):
        as_source(images)


# -- absolute keys -------------------------------------------------------------------------------------------


def test_absolute_keys_are_the_same_from_any_directory(views, monkeypatch):
    (views / "list.txt").write_text("b.png\nleft/2.tif\nhttps://x/y.png\n")
    images = ["b.png", "left", "*.JPG", "list.txt", "file:///x/y.png", ("named", ARRAY)]
    found = keys(as_source(images, absolute_keys=True))
    below = [str(views / name) for name in ("b.png", "left/10.tif", "left/2.tif", "left/deep/1.png", "a.JPG")]
    listed = [str(views / name) for name in ("b.png", "left/2.tif")]
    assert found == [*below, *listed, "https://x/y.png", "file:///x/y.png", "named"]
    monkeypatch.chdir(views / "left")
    assert keys(as_source(["2.tif", "../b.png"], absolute_keys=True)) == listed[::-1]


@pytest.mark.parametrize("images", ["b.png", "left", "*.png", "list.txt", ["b.png", "left"]])
def test_a_spec_keeps_absolute_keys(views, monkeypatch, images):
    (views / "list.txt").write_text("b.png\n")
    source = as_source(images, absolute_keys=True)
    monkeypatch.chdir("/")
    again = source_from_spec(json.loads(json.dumps(source.spec())))
    assert list(again) == list(source)
    assert all(key.startswith(str(views)) for key in keys(again))


# -- specs ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "images",
    [
        *("b.png", "left", ".", "*.png", "left/**/*.*", "table.csv", "list.txt", "file:///x/y.png"),
        *("file://{views}/left/*.tif", "{views}/b.png", "../outside.png"),
        *(["b.png", "left", "{views}/a.JPG", "*.png", "list.txt"], ["missing.png"]),
    ],
    ids=repr,
)
def test_a_spec_gives_the_same_images_in_another_directory(views, monkeypatch, images):
    (views / "table.csv").write_text("path,other\nb.png,x\nleft/2.tif,y\n")
    (views / "list.txt").write_text("b.png\nleft/2.tif\n")
    if isinstance(images, str):
        images = images.format(views=views)
    else:
        images = [image.format(views=views) for image in images]
    source = as_source(images)
    spec = json.loads(json.dumps(source.spec()))
    monkeypatch.chdir("/")
    again = source_from_spec(spec)
    assert list(again) == list(source)
    assert again.restartable
    assert again.spec() == spec


def test_a_spec_keeps_the_column(views):
    (views / "pairs.csv").write_text("left,right\na.png,b.png\n")
    spec = as_source("pairs.csv", column="right").spec()
    assert keys(source_from_spec(spec)) == ["b.png"]


def test_a_spec_of_paths_and_sets_is_made_of_strings(views):
    for images in ([Path("b.png"), np.str_("a.JPG")], {Path("b.png"), "a.JPG"}):
        spec = as_source(images).spec()
        assert {type(path) for path in spec["images"]} == {str}
        assert json.loads(json.dumps(spec)) == spec


@pytest.mark.parametrize(
    "make",
    [
        lambda: (path for path in ["a.png"]),
        lambda: [("a", ARRAY)],
        lambda: {"a": ARRAY},
        lambda: ["a.png", ("b", ARRAY)],
        lambda: iter([("a", ARRAY)]),
    ],
)
def test_what_only_this_process_has_cannot_be_made_again(make):
    source = as_source(make())
    assert not source.restartable
    spec = json.loads(json.dumps(source.spec()))
    with pytest.raises(SourceError, match=r"pass the same images again"):
        source_from_spec(spec)


def test_several_sources_are_one_after_the_other(views, monkeypatch):
    specs = [as_source(images).spec() for images in ("left", "b.png", ["a.JPG", "b.png"])]
    joined = join_specs(join_specs(specs[0], specs[1]), specs[2])
    assert join_specs(joined, specs[1]) == join_specs(joined, joined) == joined
    assert join_specs(specs[0], specs[0]) == specs[0]
    monkeypatch.chdir("/")
    source = source_from_spec(json.loads(json.dumps(joined)))
    assert keys(source) == ["left/10.tif", "left/2.tif", "left/deep/1.png", "b.png", "a.JPG", "b.png"]
    assert source.count() == 6
    assert source.restartable
    assert source.spec() == joined


def test_what_cannot_be_listed_again_is_not_joined(views):
    files, arrays = as_source("left").spec(), as_source({"a": ARRAY}).spec()
    assert join_specs(files, arrays) == files
    assert join_specs(arrays, files) == arrays


def test_a_spec_whose_images_are_gone_is_told(views):
    spec = as_source("b.png").spec()
    (views / "b.png").unlink()
    with pytest.raises(SourceError, match=r"'b.png' does not exist"):
        source_from_spec(spec)


# -- the module ----------------------------------------------------------------------------------------------


def test_a_source_is_a_source():
    source = as_source(["a.png"])
    assert as_source(source) is source


def test_importing_loads_no_heavy_library():
    code = (
        "import sys, parimg.sources.as_source\n"
        "print(sorted({'numpy', 'fsspec', 'pyarrow', 'pandas', 'cv2'} & set(sys.modules)))"
    )
    # `parimg` itself may load more; only what the module and its floor load is looked at.
    prelude = (
        "import types, sys; package = types.ModuleType('parimg'); package.__path__ = [sys.argv[1]]\n"
        "sys.modules['parimg'] = package\n"
    )
    package = os.path.dirname(os.path.dirname(sys.modules[as_source.__module__].__file__))
    result = subprocess.run(
        [sys.executable, "-c", prelude + code, package], capture_output=True, text=True, check=True
    )
    assert result.stdout == "[]\n"
