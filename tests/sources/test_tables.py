"""Text files and tables that name images, or hold them."""

from __future__ import annotations

import tracemalloc
from itertools import islice
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from source_lists import keys

from parimg.errors import ImageMissingError, MissingColumnError, SourceError
from parimg.images.read import read_bytes
from parimg.sources.as_source import Image, as_source, source_from_spec
from parimg.sources.tables import column_values, count_rows, path_column, text_lines


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
def test_a_row_without_a_path_costs_only_its_own_record(views, kind):
    write_table(views, kind, {"path": ["a.png", "", "c.png"], "angle": [0, 7, 14]})
    source = as_source(f"table.{kind}")
    assert keys(source) == ["a.png", f"table.{kind}, row 2", "c.png"]
    assert source.count() == 3
    with pytest.raises(ImageMissingError, match="there is no path of it"):
        read_bytes(list(source)[1].uri)


def test_a_column_of_numbers_holds_no_paths(tmp_path):
    table = write_table(tmp_path, "parquet", {"path": [1, 2]})
    with pytest.raises(SourceError, match=r"row 1 .* \(got 1\)"):
        next(column_values(table, "path"))


def test_csv_may_quote_use_semicolons_and_have_short_and_blank_rows(tmp_path):
    table = tmp_path / "table.csv"
    table.write_bytes('\ufeffangle;path\r\n0;"a;\r\nb.png"\r\n\r\n7;b.png\r\n14\r\n'.encode())
    assert list(column_values(str(table), "path")) == ["a;\r\nb.png", "b.png", ""]
    assert count_rows(str(table)) == 3


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


# -- images inside a table -------------------------------------------------------------------------------------


def hub(folder, values, name="hub.parquet", column="image"):
    """A table as data sets are published: {bytes, path}."""
    pq.write_table(pa.table({column: values, "label": list(range(len(values)))}), folder / name, row_group_size=2)


def test_a_column_of_encoded_images_names_them_by_their_paths(views, monkeypatch):
    hub(views, [{"bytes": bytes([number] * 9), "path": f"{number}.png"} for number in range(1, 6)])
    source = as_source("hub.parquet")
    assert keys(source) == ["1.png", "2.png", "3.png", "4.png", "5.png"]
    assert source.count() == 5
    assert [read_bytes(image.uri) for image in source] == [bytes([number] * 9) for number in range(1, 6)]
    again = source_from_spec(source.spec())
    monkeypatch.chdir("/")
    assert list(again) == list(source)
    assert keys(as_source([image.uri for image in source][:1])) == [next(iter(source)).uri]


@pytest.mark.parametrize(
    "values",
    [
        [{"bytes": b"1", "path": "a.png"}, {"bytes": b"2", "path": "a.png"}],
        [{"bytes": b"1", "path": None}, {"bytes": b"2", "path": "b.png"}],
        [{"bytes": b"1"}, {"bytes": b"2"}],
        [b"1", b"2"],
    ],
    ids=["the same path", "a path is missing", "no paths", "bytes alone"],
)
def test_images_that_their_paths_do_not_tell_apart_are_named_by_their_rows(views, values):
    hub(views / "left", values)
    source = as_source("left/hub.parquet")
    assert keys(source) == ["left/hub.parquet#0", "left/hub.parquet#1"]
    assert [read_bytes(image.uri) for image in source] == [b"1", b"2"]


def test_paths_without_bytes_lead_to_files(views):
    values = pa.array(
        [{"bytes": None, "path": "10.tif"}, {"bytes": None, "path": "2.tif"}],
        pa.struct({"bytes": pa.binary(), "path": pa.string()}),
    )
    hub(views / "left", values)
    assert list(as_source("left/hub.parquet")) == [
        Image("left/10.tif", str(views / "left" / "10.tif")),
        Image("left/2.tif", str(views / "left" / "2.tif")),
    ]


def test_the_column_of_images_may_be_named(views):
    hub(views, [{"bytes": b"1", "path": "a.png"}], column="scan")
    with pytest.raises(MissingColumnError, match=r"name one of its columns \['scan', 'label'\]"):
        as_source("hub.parquet")
    assert keys(as_source("hub.parquet", column="scan")) == ["a.png"]


@pytest.mark.parametrize("value", [[b"x" * 400_000], {"a": "x" * 400_000}, ["x" * 400_000] * 3])
def test_what_a_message_quotes_of_a_table_is_cut(views, value):
    hub(views, [value])
    with pytest.raises(SourceError, match=r"row 1 of .* has no path in column 'image'") as raised:
        as_source("hub.parquet")
    assert len(str(raised.value)) < 500


def test_a_table_of_very_many_columns_is_told_in_short(views):
    pq.write_table(pa.table({f"column {number}": [1] for number in range(5000)}), views / "wide.parquet")
    with pytest.raises(MissingColumnError) as raised:
        as_source("wide.parquet")
    assert len(str(raised.value)) < 1000


@pytest.mark.parametrize(
    "text",
    [
        'path,"angle; in degrees; or so"\nb.png,7\n',
        'path;"a, b, c"\nb.png;7\n',
        "sep=;\npath;angle, in degrees, or so\nb.png;7\n",
        "sep=|\npath|angle\nb.png|7\n",
        "path|angle\nb.png|7\n",
    ],
)
def test_the_delimiter_is_found_whatever_a_header_quotes(views, text):
    (views / "table.csv").write_text(text)
    source = as_source("table.csv")
    assert keys(source) == ["b.png"]
    assert source.count() == 1
