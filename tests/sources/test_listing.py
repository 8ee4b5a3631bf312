"""Folder trees, text files, tables and stores, as lists of names."""

from __future__ import annotations

import glob
import os
import tracemalloc
from itertools import islice
from typing import TYPE_CHECKING

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from parimg.errors import MissingColumnError, SourceError
from parimg.sources.listing import (
    check_protocol,
    column_values,
    count_rows,
    has_wildcard,
    list_url,
    path_column,
    text_lines,
    walk,
)

if TYPE_CHECKING:
    from pathlib import Path


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
    (tree / "closed").mkdir(mode=0)
    with pytest.raises(SourceError, match=r"closed' cannot be listed: Permission denied"):
        list(walk(str(tree), ["**"]))


def test_below_what_is_no_folder_there_is_nothing(tree):
    assert list(walk(str(tree / "a.png"), ["**"])) == []
    assert list(walk(str(tree / "none"), ["**"])) == []


def test_text_lines_leave_out_blanks_comments_and_the_byte_order_mark(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes("\ufeffa.png\r\n\r\n  # comment\r\n b c.png \n#x\nd#e.png".encode())
    assert list(text_lines(str(path))) == ["a.png", "b c.png", "d#e.png"]


def test_text_in_another_encoding_is_told(tmp_path):
    path = tmp_path / "list.txt"
    path.write_bytes(b"caf\xe9.png\n")
    with pytest.raises(SourceError, match=r"list.txt' cannot be read as a text file in UTF-8"):
        list(text_lines(str(path)))


def write_table(folder: Path, kind: str, columns: dict[str, list]) -> str:
    path = folder / f"table.{kind}"
    if kind in ("parquet", "pq"):
        pq.write_table(pa.table(columns), path)
    else:
        separator = "\t" if kind == "tsv" else ","
        rows = [list(columns), *zip(*columns.values(), strict=True)]
        path.write_text("\n".join(separator.join(map(str, row)) for row in rows) + "\n", encoding="utf-8")
    return str(path)


TABLES = pytest.mark.parametrize("kind", ["csv", "tsv", "parquet", "pq"])


@TABLES
def test_a_table_gives_one_column_and_its_number_of_rows(tmp_path, kind):
    table = write_table(tmp_path, kind, {"angle": [0, 7, 14], "Path": ["b.png", "a.png", "c d.png"]})
    assert path_column(table, None) == "Path"
    assert list(column_values(table, "Path")) == ["b.png", "a.png", "c d.png"]
    assert count_rows(table) == 3


@TABLES
def test_a_column_that_is_not_there_is_told_with_those_that_are(tmp_path, kind):
    table = write_table(tmp_path, kind, {"left": ["a.png"], "right": ["b.png"]})
    with pytest.raises(MissingColumnError, match=r"has no column 'middle'; name one of .* \['left', 'right'\]"):
        path_column(table, "middle")
    with pytest.raises(MissingColumnError, match=r"has 0 columns that could hold the paths .*\['left', 'right'\]"):
        path_column(table, None)
    assert path_column(table, "right") == "right"


@TABLES
def test_of_two_columns_that_could_hold_paths_none_is_guessed(tmp_path, kind):
    table = write_table(tmp_path, kind, {"image": ["a.png"], "url": ["b.png"]})
    with pytest.raises(MissingColumnError, match=r"has 2 columns that could hold the paths"):
        path_column(table, None)


@TABLES
def test_a_row_without_a_path_is_told_with_its_number(tmp_path, kind):
    table = write_table(tmp_path, kind, {"path": ["a.png", "", "c.png"], "angle": [0, 7, 14]})
    values = column_values(table, "path")
    assert next(values) == "a.png"
    with pytest.raises(SourceError, match=rf"row 2 of '.*table.{kind}' has no path in column 'path' \(got ''\)"):
        next(values)


def test_a_column_of_numbers_holds_no_paths(tmp_path):
    table = write_table(tmp_path, "parquet", {"path": [1, 2]})
    with pytest.raises(SourceError, match=r"row 1 .* \(got 1\)"):
        next(column_values(table, "path"))


def test_csv_may_quote_use_semicolons_and_have_short_and_blank_rows(tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes('\ufeffangle;path\r\n0;"a;\r\nb.png"\r\n\r\n7;b.png\r\n14\r\n'.encode())
    values = column_values(str(table), "path")
    assert list(islice(values, 2)) == ["a;\r\nb.png", "b.png"]
    assert count_rows(str(table)) == 3
    with pytest.raises(SourceError, match=r"row 3 .* \(got None\)"):
        next(values)


def test_a_parquet_column_may_be_a_dictionary(tmp_path):
    table = str(tmp_path / "table.parquet")
    pq.write_table(pa.table({"path": pa.array(["a.png", "b.png", "a.png"]).dictionary_encode()}), table)
    assert list(column_values(table, "path")) == ["a.png", "b.png", "a.png"]


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_damaged_table_is_told(tmp_path, kind):
    table = tmp_path / f"table.{kind}"
    table.write_bytes(b"\xff\xfe\x00 no table")
    with pytest.raises(SourceError, match=rf"table.{kind}' cannot be read as a"):
        path_column(str(table), None)


def test_a_parquet_file_damaged_in_its_middle_is_told(tmp_path):
    table = tmp_path / "table.parquet"
    pq.write_table(pa.table({"path": [f"{number}.png" for number in range(5000)]}), table, compression="zstd")
    data = bytearray(table.read_bytes())
    data[50:500] = bytes(450)
    table.write_bytes(data)
    with pytest.raises(SourceError, match=r"table.parquet' cannot be read to its end"):
        list(column_values(str(table), "path"))


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_rows_are_not_held_in_memory(tmp_path, kind):
    table = write_table(tmp_path, kind, {"path": [f"views/{number:07}.png" for number in range(200_000)]})
    list(islice(column_values(table, "path"), 10))
    tracemalloc.start()
    try:
        assert sum(1 for _ in column_values(table, "path")) == 200_000
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # 200 000 strings of 17 characters are 13 MB.
    assert peak < 3e6


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a.png", False),
        ("a*.png", True),
        ("a?.png", True),
        ("[ab].png", True),
        ("s3://bucket/**/a.png", True),
        ("s3://bucket/a?.png", True),
        ("https://host/a.png?size=3&name=x", False),
        ("https://host/*.png", True),
        ("https://host/a.png?only=[red]&like=*", False),
    ],
)
def test_wildcards_are_seen_by_the_text_alone(path, expected):
    assert has_wildcard(path) is expected


def test_protocols_that_cannot_be_read_are_told():
    check_protocol("file:///a.png")
    check_protocol("simplecache::memory://a.png")
    with pytest.raises(SourceError, match=r"Protocol not known: nosuch"):
        check_protocol("simplecache::nosuch://a.png")


def test_a_protocol_whose_package_is_missing_is_told_with_its_name():
    missing = [name for name, package in (("s3", "s3fs"), ("gs", "gcsfs"), ("abfs", "adlfs")) if not find(package)]
    if not missing:
        pytest.skip("s3fs, gcsfs and adlfs are all installed")
    with pytest.raises(SourceError, match=r"(?i)install"):
        check_protocol(f"{missing[0]}://bucket/a.png")


def find(package: str) -> bool:
    from importlib.util import find_spec

    return find_spec(package) is not None


def test_a_store_is_listed_in_sorted_order_without_hidden_files():
    store = fsspec.filesystem("memory")
    store.pipe({f"/test_listing/{name}": b"x" for name in ("b.png", "a.txt", "c/a.png", ".d/e.png", ".f.png")})
    assert list_url("memory://test_listing/") == [
        f"memory:///test_listing/{name}" for name in ("a.txt", "b.png", "c/a.png")
    ]
    assert list_url("memory://test_listing/**/*.png") == [
        f"memory:///test_listing/{name}" for name in ("b.png", "c/a.png")
    ]


def test_a_store_that_cannot_be_listed_is_told():
    pytest.importorskip("aiohttp", reason="http needs aiohttp")
    # Nobody listens on the discard port.
    with pytest.raises(SourceError, match=r"'http://127.0.0.1:9/\*.png' cannot be listed"):
        list_url("http://127.0.0.1:9/*.png")
    with pytest.raises(SourceError, match=r"is a chain of URLs"):
        list_url("simplecache::memory://*.png")
