"""Folders and globs: which files are found, in which order, and how often the disk is asked."""

from __future__ import annotations

import glob
import os
import shutil
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_lists import keys

from parimg.errors import EmptySourceError, SourceError
from parimg.images.decode import read_image
from parimg.sources.as_source import as_source
from parimg.sources.folders import walk as walk_noting


def walk(root: str, patterns: list[str], note=None):
    return walk_noting(root, patterns, note or (lambda path, error: pytest.fail(f"{path}: {error}")))


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files at three depths, hidden ones, and names whose order a plain sort of paths would mix up."""
    for name in (
        *("b.png", "a.png", "c.txt", ".hidden.png"),
        *("a/z.png", "a/y/x.png", "a-b/w.png", "d/y/v.png", "d/y/y/u.png"),
        *(".git/t.png", "d/.cache/s.png"),
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def below(root: Path, paths) -> list[str]:
    return [os.path.relpath(path, root) for path in paths]


def test_a_tree_is_walked_folder_by_folder_in_sorted_order(tree):
    assert below(tree, walk(str(tree), ["**"])) == [
        *("a/y/x.png", "a/z.png", "a-b/w.png", "a.png", "b.png", "c.txt"),
        *("d/y/v.png", "d/y/y/u.png"),
    ]


@pytest.mark.parametrize(
    "pattern",
    [
        *(
            "*",
            "*.png",
            "?.png",
            "[ab].png",
            "[!a].*",
            "a*",
            "*/*.png",
            "**",
            "**/*.png",
            "*/**/*.png",
            "a/**",
        ),
        *("**/y/*.png", "**/y/**", "d/**/y/*.png", "**/**/*.png", "nothing*", ".*.png", ".*/*.png", "d/.*/*"),
    ],
)
def test_a_pattern_matches_the_files_that_glob_matches(tree, pattern):
    expected = {name for name in glob.glob(pattern, root_dir=tree, recursive=True) if (tree / name).is_file()}
    found = below(tree, walk(str(tree), pattern.split("/")))
    assert found == sorted(expected, key=lambda name: name.split("/"))


@settings(deadline=None)
@given(st.lists(st.sampled_from(["**", "*", "a", "y", "*.png", "?", "d"]), min_size=1, max_size=5))
def test_every_pattern_gives_each_file_once(tmp_path_factory, patterns):
    root = tmp_path_factory.mktemp("tree")
    for name in ("a/y/x.png", "a/a/a/a", "d/y/y/y.png", "y"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    expected = {
        name
        for name in glob.glob("/".join(patterns), root_dir=root, recursive=True)
        if (root / name).is_file() and not name.endswith("/")
    }
    found = below(root, walk(str(root), patterns))
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_link_to_a_folder_is_followed_but_not_in_circles(tree):
    (tree / "a" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "a" / "self").symlink_to(tree / "a", target_is_directory=True)
    (tree / "linked").symlink_to(tree / "d" / "y", target_is_directory=True)
    found = below(tree, walk(str(tree), ["**", "*.png"]))
    assert [name for name in found if name.startswith("linked")] == ["linked/v.png", "linked/y/u.png"]
    assert not [name for name in found if name.startswith(("a/up", "a/self"))]


def test_folders_that_cannot_match_are_not_opened(tree):
    (tree / "closed").mkdir(mode=0)
    assert below(tree, walk(str(tree), ["d", "*", "*.png"])) == ["d/y/v.png"]


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="this user may read everything")
def test_a_folder_that_may_not_be_opened_is_told(tree):
    (tree / "d" / "closed").mkdir(mode=0)
    noted = []
    found = walk(str(tree), ["d", "**"], lambda path, error: noted.append((path, type(error))))
    assert below(tree, found) == ["d/y/v.png", "d/y/y/u.png"]
    assert noted == [(str(tree / "d" / "closed"), PermissionError)]
    with pytest.raises(SourceError, match=r"closed' cannot be listed: Permission denied"):
        list(walk(str(tree / "d" / "closed"), ["**"]))


def test_below_what_is_no_folder_there_is_nothing(tree):
    assert list(walk(str(tree / "a.png"), ["**"])) == []
    assert list(walk(str(tree / "none"), ["**"])) == []


@pytest.mark.parametrize("given", [".", "", "./", "left/.."])
def test_a_folder_gives_its_images_in_sorted_order_without_hidden_ones(views, given):
    source = as_source(given or str(views))
    assert keys(source) == ["a.JPG", "b.png", "left/10.tif", "left/2.tif", "left/deep/1.png"]
    assert keys(source) == keys(source)
    assert source.count() == 5


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["b.png"]),
        ("./*.png", ["b.png"]),
        ("left/?.tif", ["left/2.tif"]),
        ("left/[0-9]*.tif", ["left/10.tif", "left/2.tif"]),
        ("**/*.png", ["b.png", "left/deep/1.png"]),
        ("l*/**/*.*", ["left/10.tif", "left/2.tif", "left/deep/1.png"]),
        ("notes.*", []),
        ("n*.md", ["notes.md"]),
        ("*", ["a.JPG", "b.png"]),
        ("**", ["a.JPG", "b.png", "left/10.tif", "left/2.tif", "left/deep/1.png"]),
        (".*.png", [".hidden.png"]),
    ],
)
def test_a_glob_gives_what_it_names_and_images_only_where_it_leaves_the_extension_open(views, pattern, expected):
    if not expected:
        with pytest.raises(EmptySourceError, match=r"matches no file with an image extension"):
            as_source(pattern)
        return
    source = as_source(pattern)
    assert keys(source) == expected
    assert source.count() == len(expected)
    assert keys(as_source(views / pattern)) == expected


def test_what_exists_is_never_a_glob(views):
    (views / "a[1].png").touch()
    (views / "a1.png").touch()
    (views / "set[2]").mkdir()
    (views / "set[2]" / "c.png").touch()
    assert keys(as_source("a[1].png")) == ["a[1].png"]
    assert keys(as_source("set[2]")) == ["set[2]/c.png"]
    assert keys(as_source(["a[1].png", "a[!x].png"])) == ["a[1].png", "a1.png"]


def test_folders_above_a_glob_may_have_names_that_look_like_one(views, monkeypatch):
    folder = views / "set[2]" / "*"
    folder.mkdir(parents=True)
    (folder / "c.png").touch()
    (views / "set2" / "x").mkdir(parents=True)
    (views / "set2" / "x" / "wrong.png").touch()
    assert keys(as_source("set[2]/*/*.png")) == ["set[2]/*/c.png"]
    monkeypatch.chdir(folder)
    assert keys(as_source("*.png")) == ["c.png"]
    assert keys(as_source("**/?.png")) == ["c.png"]
    with pytest.raises(EmptySourceError, match=r"set\[2\]/missing.png' matches no file"):
        as_source(f"{views}/set[2]/missing.png")


def test_real_images_are_found_by_folder_and_by_glob(data_folder):
    by_folder = as_source(data_folder / "templeRing")
    assert by_folder.count() == 47
    assert list(by_folder) == list(as_source(f"{data_folder}/templeRing/*.png"))
    assert read_image(next(iter(by_folder)).uri).shape == (480, 640)


def test_a_second_listing_of_a_folder_sees_what_came_since_the_first(views):
    source = as_source("left/*.tif")
    assert keys(source) == ["left/10.tif", "left/2.tif"]
    (views / "left" / "3.tif").touch()
    assert source.count() == 2
    assert keys(source) == ["left/10.tif", "left/2.tif", "left/3.tif"]
    assert source.count() == 3


@pytest.mark.parametrize("images", [".", "**/*", ["left", "b.png", "."]])
@pytest.mark.parametrize("first", ["list", "count", "both at once"])
def test_each_folder_is_opened_once_for_a_check_a_listing_and_a_count(views, monkeypatch, images, first):
    opened = []
    scandir = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: opened.append(path) or scandir(path))
    source = as_source(images)
    if first == "count":
        n = source.count()
        found = keys(source)
    elif first == "list":
        found = keys(source)
        n = source.count()
    else:
        listing = iter(source)
        found = [next(listing).key]
        n = source.count()
        found += [image.key for image in listing]
    n_times = 2 if isinstance(images, list) else 1  # `left` is named, and below `.`
    assert opened.count(str(views / "left")) == opened.count(str(views / "left" / "deep")) == n_times
    assert opened.count(str(views)) == 1
    assert n == len(found) == len(set(found)) + 3 * (n_times - 1) + (n_times - 1)


def test_a_list_and_a_count_in_two_threads_share_the_paths_out_once(tmp_path):
    for number in range(5000):
        (tmp_path / f"{number:04}.png").touch()
    source = as_source(tmp_path)
    listing = iter(source)
    counts = []
    counting = threading.Thread(target=lambda: counts.append(source.count()))
    counting.start()
    found = [os.path.basename(image.key) for image in listing]
    counting.join()
    assert found == [f"{number:04}.png" for number in range(5000)]
    assert counts == [5000]


def test_paths_that_are_counted_but_not_listed_yet_take_little_memory(tmp_path):
    folder = tmp_path / "a folder with a name of some length"
    folder.mkdir()
    for number in range(20_000):
        (folder / f"view of the temple {number:07}.png").touch()
    source = as_source(folder)
    tracemalloc.start()
    try:
        assert source.count() == 20_000
        kept = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept < 20_000 * 20  # a path has some 130 characters
    assert len(set(keys(source))) == 20_000


def test_a_link_to_itself_costs_only_itself_and_is_told(views, caplog):
    (views / "left" / "latest").symlink_to("latest")
    (views / "left" / "loop.png").symlink_to("loop.png")
    source = as_source("left")
    # What is called like an image becomes a record that tells what is wrong with it.
    assert keys(source) == ["left/10.tif", "left/2.tif", "left/deep/1.png", "left/loop.png"]
    assert source.left_out() == {"cannot be opened": 1}
    assert f"1 of the entries below {str(views / 'left')!r} cannot be opened and are left out" in caplog.text
    assert "latest': Too many levels of symbolic links" in caplog.text


def test_a_folder_that_vanishes_while_it_is_listed_costs_only_itself(views, caplog):
    (views / "middle").mkdir()
    (views / "middle" / "x.png").touch()
    listing = iter(as_source("."))
    assert next(listing).key == "a.JPG"
    shutil.rmtree(views / "middle")
    assert [image.key for image in listing] == ["b.png", "left/10.tif", "left/2.tif", "left/deep/1.png"]
    assert "middle': No such file or directory" in caplog.text


def test_files_that_are_no_images_are_counted(views):
    source = as_source(["left", "."])
    assert source.count() == 8
    assert source.left_out() == {"no image extension": 3}  # notes.md, noextension, empty/readme.md


def test_volumes_and_maps_of_numpy_are_listed(views):
    (views / "left" / "volume.npy").touch()
    assert keys(as_source("left/*")) == ["left/10.tif", "left/2.tif", "left/volume.npy"]


def test_a_circle_of_links_ends(views):
    (views / "left" / "up").symlink_to(views, target_is_directory=True)
    assert as_source(".").count() == 5
