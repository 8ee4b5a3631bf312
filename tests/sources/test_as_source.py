"""Where images come from: what may be given, which keys come of it, and what is told at once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tracemalloc
from collections import OrderedDict
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path, PurePosixPath

import fsspec
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.errors import EmptySourceError, MissingColumnError, SourceError
from parimg.images.decode import read_image
from parimg.sources.as_source import Image, as_source, join_specs, source_from_spec

ARRAY = np.arange(12, dtype=np.uint8).reshape(3, 4)


@pytest.fixture
def views(tmp_path, monkeypatch):
    """A current directory with images at two depths, other files, and lists of images."""
    folder = tmp_path / "project"
    for name in (
        *("b.png", "a.JPG", "notes.md", ".hidden.png", "noextension"),
        *("left/2.tif", "left/10.tif", "left/deep/1.png", ".cache/c.png", "empty/readme.md"),
    ):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "outside.png").touch()
    monkeypatch.chdir(folder)
    return folder


def keys(source):
    return [image.key for image in source]


# -- paths and keys ------------------------------------------------------------------------------------------


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


def test_a_name_that_is_no_utf_8_has_a_key_that_can_be_stored(views):
    name = os.fsdecode(b"caf\xe9.png")
    (image,) = as_source([name])
    assert image.key.encode() == b"caf\\udce9.png"
    assert image.uri == str(views / name)


@settings(deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0:*?["), min_size=1))
def test_the_key_of_a_key_is_itself(name):
    (image,) = as_source([f"{name}/x.png"])
    (again,) = as_source([image.key])
    assert again.key == image.key
    assert os.path.isabs(image.uri)
    if not PurePosixPath(image.key).is_absolute():
        assert ".." not in PurePosixPath(image.key).parts


@pytest.mark.parametrize("make", [str, Path, np.str_, type("Text", (str,), {})])
def test_every_kind_of_path_is_taken_and_becomes_a_plain_str(views, make):
    for images in (make("b.png"), [make("b.png")], (make(path) for path in ["b.png"]), [make("noextension")]):
        (image,) = as_source(images)
        assert type(image.key) is str
        assert type(image.uri) is str


# -- folders and globs ---------------------------------------------------------------------------------------


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


def test_a_folder_is_listed_anew_each_time(views):
    source = as_source("left/*.tif")
    (views / "left" / "3.tif").touch()
    assert keys(source) == ["left/10.tif", "left/2.tif", "left/3.tif"]


def test_a_circle_of_links_ends(views):
    (views / "left" / "up").symlink_to(views, target_is_directory=True)
    assert as_source(".").count() == 5


# -- lists and generators ------------------------------------------------------------------------------------


def test_a_list_may_mix_everything(views):
    (views / "list.txt").write_text("b.png\n")
    given = ["left", "*.png", Path("a.JPG"), ("named", ARRAY), "file:///x/y.png", "list.txt", "missing.png"]
    source = as_source(given)
    expected = [
        *("left/10.tif", "left/2.tif", "left/deep/1.png", "b.png", "a.JPG", "named"),
        *("file:///x/y.png", "b.png", "missing.png"),
    ]
    assert keys(source) == expected
    assert source.count() == len(expected)
    assert keys(as_source(iter(given))) == expected


def test_an_image_of_a_list_need_not_exist_since_the_disk_is_not_asked(views):
    paths = [f"missing/{number}.png" for number in range(1000)]
    source = as_source(paths)
    assert source.count() == 1000
    assert keys(source) == paths


def test_a_list_that_is_changed_later_is_the_one_that_was_given():
    paths = ["a.png"]
    source = as_source(paths)
    paths.append("b.png")
    assert keys(source) == ["a.png"]


def test_a_set_is_sorted(views):
    assert keys(as_source({"c.png", "a.png", "b.png"})) == ["a.png", "b.png", "c.png"]


@pytest.mark.parametrize(
    "make", [tuple, np.array, pd.Series, pd.Index, lambda paths: np.array(paths, object), dict.fromkeys, iter]
)
def test_other_collections_of_paths_are_taken(make):
    given = make(["a.png", "b.png"])
    if isinstance(given, dict):
        given = given.keys()
    assert keys(as_source(given)) == ["a.png", "b.png"]


def test_a_generator_is_run_through_only_as_far_as_needed(views):
    asked = []

    def paths():
        for number in range(1000):
            asked.append(number)
            yield f"{number}.png"

    source = as_source(paths())
    assert asked == [0]
    assert [image.key for image in islice(source, 3)] == ["0.png", "1.png", "2.png"]
    assert asked == [0, 1, 2]
    assert source.count() is None
    assert not source.restartable


def test_a_generator_that_is_used_up_is_told():
    source = as_source(path for path in ["a.png", "b.png"])
    assert keys(source) == ["a.png", "b.png"]
    with pytest.raises(SourceError, match=r"can be run through only once"):
        list(source)


def test_a_generator_is_not_held_in_memory():
    source = as_source((f"key {number}", np.zeros(1000, np.uint8)) for number in range(20_000))
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 20_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1e6


def test_a_wrong_element_late_in_a_generator_is_told_with_its_index():
    source = as_source(element for element in ["a.png", "b.png", 3.5])
    images = iter(source)
    assert [next(images).key, next(images).key] == ["a.png", "b.png"]
    with pytest.raises(SourceError, match=r"element 2 of images must be a path.*got 3.5 that is a float"):
        next(images)


# -- arrays --------------------------------------------------------------------------------------------------


def test_arrays_with_names_keep_them():
    (image,) = as_source([("black", ARRAY)])
    assert image.key == "black"
    assert image.uri == ""
    assert image.array is ARRAY


@pytest.mark.parametrize(
    "images",
    [
        {"a": ARRAY, "b": ARRAY},
        OrderedDict(a=ARRAY, b=ARRAY),
        [("a", ARRAY), ("b", ARRAY)],
        (("a", ARRAY), ("b", ARRAY)),
        zip("ab", [ARRAY, ARRAY], strict=True),
        {"a": ARRAY, "b": ARRAY}.items(),
    ],
)
def test_arrays_with_names_come_in_many_ways(images):
    source = as_source(images)
    assert keys(source) == ["a", "b"]
    assert not source.restartable


def test_one_pair_is_one_image():
    assert keys(as_source(("a.png", ARRAY))) == ["a.png"]


def test_the_number_of_arrays_is_known_unless_they_are_generated():
    assert as_source({"a": ARRAY, "b": ARRAY}).count() == 2
    assert as_source({"a": ARRAY, "b": ARRAY}.items()).count() == 2
    assert as_source(iter([("a", ARRAY)])).count() is None


def test_a_file_of_arrays_is_read_one_by_one(tmp_path):
    np.savez(tmp_path / "arrays.npz", first=ARRAY, second=ARRAY[::-1])
    with np.load(tmp_path / "arrays.npz") as arrays:
        source = as_source(arrays)
        for _ in range(2):
            first, second = source
            assert (first.key, second.key) == ("first", "second")
            np.testing.assert_array_equal(second.array, ARRAY[::-1])


def test_integers_become_names():
    assert keys(as_source(enumerate([ARRAY, ARRAY]))) == ["0", "1"]
    assert keys(as_source([(np.int64(7), ARRAY)])) == ["7"]


@pytest.mark.parametrize("name", [None, 1.5, True, b"a", ("a",)])
def test_other_names_of_arrays_are_refused(name):
    with pytest.raises(SourceError, match=r"element 0 of images: the name of an array must be a str"):
        as_source([(name, ARRAY)])


def test_arrays_without_names_are_refused_with_the_way_out():
    with pytest.raises(SourceError, match=r"images is an array of shape \(3, 4\).*enumerate\(arrays\)"):
        as_source(ARRAY)
    with pytest.raises(
        SourceError, match=r"element 1 of images is an array without a name: .*enumerate\(arrays\)"
    ):
        as_source([("a", ARRAY), ARRAY])
    with pytest.raises(SourceError, match=r"element 0 of images is an array without a name"):
        as_source(array for array in [ARRAY])


# -- lists in files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["list.txt", "list.LST"])
def test_a_text_file_names_images_relative_to_its_own_folder(views, name):
    (views / "left" / name).write_text(
        "# the good ones\n10.tif\n\n../b.png\n/abs/c.png\nhttps://h/d.png\n[1]*.png\n"
    )
    source = as_source(f"left/{name}")
    assert list(source)[:2] == [
        Image("left/10.tif", str(views / "left" / "10.tif")),
        Image("b.png", str(views / "left" / ".." / "b.png")),
    ]
    assert keys(source)[2:] == ["/abs/c.png", "https://h/d.png", "left/[1]*.png"]
    assert source.count() == 5


@pytest.mark.parametrize("kind", ["csv", "tsv", "parquet"])
def test_a_table_names_images_relative_to_its_own_folder(views, kind):
    table = pd.DataFrame({"angle": [0, 7, 14], "file": ["10.tif", "deep/1.png", "s3://bucket/x.png"]})
    path = views / "left" / f"table.{kind}"
    if kind == "parquet":
        table.to_parquet(path)
    else:
        table.to_csv(path, sep="\t" if kind == "tsv" else ",", index=False)
    for source in (as_source(path), as_source(f"left/table.{kind}", column="file"), as_source([str(path)])):
        assert keys(source) == ["left/10.tif", "left/deep/1.png", "s3://bucket/x.png"]
        assert source.count() == 3


def test_a_column_is_chosen_by_name(views):
    (views / "pairs.csv").write_text("left,right\na.png,b.png\n")
    assert keys(as_source("pairs.csv", column="right")) == ["b.png"]
    assert keys(as_source(["pairs.csv"], column="left")) == ["a.png"]
    with pytest.raises(MissingColumnError, match=r"no column 'middle'.*\['left', 'right'\]"):
        as_source("pairs.csv", column="middle")
    with pytest.raises(MissingColumnError, match=r"element 1 of images: .*\['left', 'right'\]"):
        as_source(["a.png", "pairs.csv"])


def test_a_column_of_what_is_no_table_is_refused(views):
    with pytest.raises(SourceError, match=r"column='path' was given, but 'left' is no table"):
        as_source("left", column="path")


@pytest.mark.slow
def test_a_long_table_takes_no_memory(tmp_path):
    path = tmp_path / "long.parquet"
    pq.write_table(pa.table({"path": [f"{number:08}.png" for number in range(200_000)]}), path)
    source = as_source(path)
    next(iter(source))
    tracemalloc.start()
    try:
        assert sum(1 for _ in source) == 200_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 3e6


# -- URLs ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def web(tmp_path_factory):
    """A web server on this machine with two images, another file and a folder."""
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    folder = tmp_path_factory.mktemp("web")
    for name in ("b.png", "a.png", "c.txt", "deep/d.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_a_url_is_its_own_key_and_is_not_asked_for():
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    url = "https://nosuch.invalid/view?name=3&size=[large]"
    for images in (url, [url], iter([url])):
        assert list(as_source(images)) == [Image(url, url)]
    assert as_source([url, url]).count() == 2


def test_images_of_a_web_server_are_listed(web):
    assert keys(as_source(f"{web}/*.png")) == [f"{web}/a.png", f"{web}/b.png"]
    assert keys(as_source(f"{web}/")) == [f"{web}/a.png", f"{web}/b.png", f"{web}/deep/d.png"]
    assert as_source([f"{web}/*.png", "x.png"]).count() == 3


def test_a_folder_and_a_glob_in_a_store_are_listed():
    store = fsspec.filesystem("memory")
    store.pipe({f"/test_sources/{name}": b"x" for name in ("b.png", "a.JPG", "n.md", "deep/c.png", ".d/e.png")})
    start = "memory:///test_sources"
    assert keys(as_source("memory://test_sources/")) == [f"{start}/{n}" for n in ("a.JPG", "b.png", "deep/c.png")]
    assert keys(as_source("memory://test_sources/*")) == [f"{start}/a.JPG", f"{start}/b.png"]
    assert keys(as_source("memory://test_sources/*.md")) == [f"{start}/n.md"]
    assert keys(as_source("memory://test_sources/b.png")) == ["memory://test_sources/b.png"]
    with pytest.raises(EmptySourceError, match=r"'memory://test_sources/\*.tif' has no image"):
        as_source("memory://test_sources/*.tif")


def test_files_behind_file_urls_are_listed(views):
    assert keys(as_source(f"file://{views}/left/*.tif")) == [
        f"file://{views}/left/10.tif",
        f"file://{views}/left/2.tif",
    ]


@pytest.mark.parametrize("images", ["nosuch://a.png", ["a.png", "nosuch://a.png"], iter(["nosuch://a.png"])])
def test_a_protocol_that_cannot_be_read_is_told_at_once(images):
    with pytest.raises(SourceError, match=r"'nosuch://a.png' cannot be read: Protocol not known: nosuch"):
        as_source(images)


def test_a_table_behind_a_url_is_refused():
    with pytest.raises(SourceError, match=r"is read from a local file: download it"):
        as_source("memory://bucket/table.csv")


# -- what is told at once ------------------------------------------------------------------------------------


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


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("list.txt", "# nothing\n\n", r"'list.txt' names no image"),
        ("table.csv", "path\n", r"'table.csv' names no image"),
        ("table.csv", "", r"has 0 columns that could hold the paths"),
    ],
)
def test_a_list_in_a_file_that_names_nothing_is_told_at_once(views, name, content, message):
    (views / name).write_text(content)
    with pytest.raises(SourceError, match=message):
        as_source(name)


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
