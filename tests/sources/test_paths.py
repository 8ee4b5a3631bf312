"""One path: which key an image has, and what kinds of text are taken."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from source_lists import keys

from parimg.sources.as_source import Image, as_source


def test_one_path_is_one_image(views):
    source = as_source("b.png")
    assert list(source) == [Image("b.png", str(views / "b.png"), None)]
    assert source.count() == 1
    assert source.restartable


def test_a_file_without_an_extension_may_be_an_image(views):
    assert keys(as_source("noextension")) == ["noextension"]
    assert keys(as_source(["noextension", "b.png"])) == ["noextension", "b.png"]


def test_a_file_has_one_key_however_it_is_written(views):
    written = [
        "b.png",
        "./b.png",
        "left/../b.png",
        ".//b.png",
        str(views / "b.png"),
        f"/{views}/b.png",
        Path("b.png"),
    ]
    for path in written:
        assert keys(as_source(path)) == ["b.png"]
    assert keys(as_source(written)) == ["b.png"] * len(written)


def test_the_key_of_a_file_outside_the_current_directory_is_its_absolute_path(views):
    outside = str(views.parent / "outside.png")
    assert keys(as_source("../outside.png")) == [outside]
    assert keys(as_source([outside, f"{views}-2/a.png"])) == [outside, f"{views}-2/a.png"]


def test_everything_is_below_the_root_directory(monkeypatch):
    monkeypatch.chdir("/")
    assert list(as_source(["/a/b.png", "c.png"])) == [Image("a/b.png", "/a/b.png"), Image("c.png", "/c.png")]


def test_links_stay_what_they_are(views):
    (views / "link").symlink_to(views.parent, target_is_directory=True)
    assert keys(as_source(["link/outside.png"])) == ["link/outside.png"]
    # Behind the link `..` is another folder than in the text: the engine must open the one that was meant.
    (image,) = as_source(["link/../outside.png"])
    assert os.path.realpath(image.uri) == os.path.realpath(views.parent.parent / "outside.png")


@pytest.mark.parametrize("make", [str, Path, np.str_, type("Text", (str,), {})])
def test_every_kind_of_path_is_taken_and_becomes_a_plain_str(views, make):
    for images in (make("b.png"), [make("b.png")], (make(path) for path in ["b.png"]), [make("noextension")]):
        (image,) = as_source(images)
        assert type(image.key) is str
        assert type(image.uri) is str
