"""Files named after images: inside their folder, one ending, and different for different images."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from parimg.errors import TaskError
from parimg.files.naming import OutputNames, make_folder, write_file

texts = st.text(st.characters(codec=None), max_size=30)
names = st.text(st.sampled_from("a_~/.%"), max_size=6).flatmap(
    lambda stem: st.sampled_from(["", ".jpg", ".png"]).map(lambda ending: stem + ending)
)


def paths(keys: list[str], root: str | None = None) -> list[str]:
    known = OutputNames.of(keys, root)
    return [known.file_of("out", key, ".png").removeprefix("out/") for key in keys]


def test_files_lie_as_images_lie_in_the_folder_that_all_share_and_have_one_ending() -> None:
    assert paths(["/data/photos/22.jpg", "/data/photos/day 1/23.jpg"]) == ["22.png", "day 1/23.png"]
    assert paths(["photos/22.jpg"]) == ["22.png"]
    assert paths(["s3://bucket/a/1.tif", "s3://bucket/b/2.tif"]) == ["a/1.png", "b/2.png"]
    assert paths(["first", "second"]) == ["first.png", "second.png"]


def test_a_folder_that_is_the_source_is_what_files_are_relative_to() -> None:
    assert paths(["photos/day/1.jpg", "photos/day/2.jpg"], "photos/") == ["day/1.png", "day/2.png"]


def test_images_that_differ_by_their_ending_are_told_apart_and_others_lose_it() -> None:
    keys = ["a.jpg", "a.png", "b.jpg", "c.png", "d"]
    assert paths(keys) == ["a~jpg.png", "a~png.png", "b.png", "c.png", "d.png"]


def test_images_that_come_later_take_no_other_image_s_file() -> None:
    known = OutputNames.of(["photos/a.jpg", "photos/b.jpg"])
    later = ["photos/a.png", "photos/c.jpg", "other/a.jpg", "/a.jpg"]
    assert [known.file_of("out", key, ".png") for key in later] == [
        "out/a~png.png",
        "out/c.png",
        "out/__/other/a.png",
        "out/__/_/a.png",
    ]
    mixed = OutputNames.of(["a.jpg", "b.png"])
    assert [mixed.file_of("out", key, ".png") for key in ("a.jpg", "a.png")] == ["out/a.png", "out/a~png.png"]


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("a.png", "a~png.npy"),
        ("views/day 1/Ä.jpg", "views/day 1/Ä~jpg.npy"),
        ("/data/a", "_/data/a.npy"),
        ("../../etc/passwd", "%2E%2E/%2E%2E/etc/passwd.npy"),
        ("a/../b", "a/%2E%2E/b.npy"),
        ("..", "%2E%2E.npy"),
        (".", "%2E.npy"),
        ("", "_.npy"),
        ("_", "%5F.npy"),
        ("a/", "a/_.npy"),
        ("s3://bucket/a", "s3%3A/_/bucket/a.npy"),
        ("C:\\a", "C%3A%5Ca.npy"),
        ("50%", "50%25.npy"),
        ("%2E%2E", "%252E%252E.npy"),
        ("a\0b\n", "a%00b%0A.npy"),
        (".hidden", ".hidden.npy"),
        ("sigma 0.5", "sigma 0.5.npy"),
        ("a~png", "a~png~.npy"),
    ],
)
def test_a_file_is_named_after_its_image_below_the_folder(key: str, path: str) -> None:
    assert OutputNames().file_of("maps", key, ".npy") == f"maps/{path}"


@given(texts, texts)
def test_no_key_leaves_the_folder_and_different_keys_have_different_files(first: str, second: str) -> None:
    found = [OutputNames().file_of("/maps", key, ".npy") for key in (first, second)]
    for path in found:
        path.encode()
        assert os.path.normpath(path) == path
        assert path.startswith("/maps/")
    assert (found[0] == found[1]) == (first == second)


@given(st.lists(names, min_size=1, unique=True), st.lists(names, unique=True), st.booleans())
def test_names_of_all_images_are_different_also_of_those_that_come_later(
    keys: list[str], later: list[str], are_all: bool
) -> None:
    known = OutputNames.of(keys, are_all=are_all)
    wanted = {*keys, *later}
    assert len({known.file_of("out", key, ".png") for key in wanted}) == len(wanted)


def test_long_names_are_shortened_and_stay_different() -> None:
    found = {OutputNames().file_of("out", "ä" * 300 + end, ".npy") for end in ("1.png", "2.png")}
    assert len(found) == 2
    assert all(len(os.path.basename(path).encode()) <= 255 for path in found)


# -- writing -------------------------------------------------------------------------------------------------


def write(folder: Path, name: str, data: bytes = b"new") -> str:
    return write_file(str(folder), f"{folder}/{name}", lambda file: file.write(data))


def test_a_folder_that_is_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    outside, folder = tmp_path / "outside", tmp_path / "maps"
    outside.mkdir()
    folder.mkdir()
    (folder / "views").symlink_to(outside)
    with pytest.raises(TaskError, match=r"views' is a symbolic link, which is not followed; .*views/a.npy'"):
        write(folder, "views/a.npy")
    assert list(outside.iterdir()) == []


def test_a_file_that_is_a_symbolic_link_is_replaced_and_its_target_kept(tmp_path: Path) -> None:
    target, folder = tmp_path / "target", tmp_path / "maps"
    target.write_text("precious")
    folder.mkdir()
    (folder / "a.npy").symlink_to(target)
    write(folder, "a.npy")
    assert target.read_text() == "precious"
    assert (folder / "a.npy").read_bytes() == b"new"


def test_the_folder_itself_may_be_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "maps").symlink_to(tmp_path / "real")
    write(tmp_path / "maps", "views/a.npy")
    assert (tmp_path / "real" / "views" / "a.npy").is_file()


def test_a_file_in_the_place_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "views").write_text("")
    with pytest.raises(TaskError, match="views' is a file; wanted a folder"):
        write(tmp_path, "views/a.npy")
    with pytest.raises(TaskError, match="output folder cannot be made"):
        make_folder(f"{tmp_path}/views/maps")


def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    path = write(tmp_path, "a.npy", b"old")

    def fails(file: object) -> None:
        file.write(b"half")
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        write_file(str(tmp_path), path, fails)
    assert os.listdir(tmp_path) == ["a.npy"]
    assert Path(path).read_bytes() == b"old"
