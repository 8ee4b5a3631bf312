"""The table of descriptors: names and rows belong together whoever else writes it, whatever lies there already."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.record import Placement, Row, encode_values, failed_row
from parimg.retrieval.descriptor_table import DESCRIPTORS_FILE, DescriptorTable, descriptor_table

NOWHERE = Placement(None, None, None)


def row(number: int) -> Row:
    """Of an image whose descriptor tells its name."""
    columns, arrays = encode_values(
        {"rmac": np.full(3, number, np.float32), "path": f"/index/regions/{number}.npy"}
    )
    timing = (100.0 + number, 0.25, 0.5)
    return Row(number, f"{number}.png", f"/images/{number}.png", "ok", *[None] * 4, *timing, columns, arrays)


def add(writer: JournalWriter, numbers: range) -> None:
    writer.append([(row(number), 1) for number in numbers], NOWHERE)


def check(found: DescriptorTable, numbers: range) -> None:
    assert found.keys == [f"{number}.png" for number in numbers]
    assert found.files == [f"{number}.npy" for number in numbers]
    assert found.uris == [f"/images/{number}.png" for number in numbers]
    assert found.descriptors.tolist() == [[number] * 3 for number in numbers]


def table_of(journal: Journal, directory: Path) -> DescriptorTable:
    return descriptor_table(journal, str(directory), "/index/regions")


def files(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name != "job")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    folder = str(tmp_path / "job")
    journal = JournalWriter.create(JobDirectory(folder), JobDirectory(folder).reserve(), {"task": {}})
    add(journal, range(4))
    yield journal
    journal.close()


def test_names_and_descriptors_are_copied_once_into_one_arrow_file(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append([(failed_row(9, "9.png", "/images/9.png", "decode", "ImageEmptyError", "0 bytes"), 1)], NOWHERE)
    check(table_of(writer, tmp_path), range(4))
    monkeypatch.setattr(Journal, "in_order", None)
    again = table_of(writer, tmp_path)
    check(again, range(4))
    assert not again.descriptors.flags.writeable
    assert files(tmp_path) == ["descriptors.arrow"]
    table = pa.ipc.open_file(tmp_path / "descriptors.arrow").read_all()
    assert table.schema.names == ["key", "uri", "file", "descriptor"]
    assert table["descriptor"].to_pylist()[2] == [2.0, 2.0, 2.0]


def test_a_table_of_before_the_index_grew_is_replaced_and_stays_readable(
    writer: JournalWriter, tmp_path: Path
) -> None:
    before = table_of(writer, tmp_path)
    add(writer, range(4, 7))
    check(table_of(writer, tmp_path), range(7))
    check(before, range(4))
    assert files(tmp_path) == ["descriptors.arrow"]


def test_two_that_write_at_once_each_have_names_and_descriptors_that_belong_together(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace = os.replace
    later: list[DescriptorTable] = []

    def replace_after_another(source: str, target: str) -> None:
        monkeypatch.setattr(os, "replace", replace)
        add(writer, range(4, 6))
        later.append(table_of(writer, tmp_path))
        replace(source, target)

    monkeypatch.setattr(os, "replace", replace_after_another)
    check(table_of(writer, tmp_path), range(4))
    check(later[0], range(6))
    check(table_of(writer, tmp_path), range(6))
    assert files(tmp_path) == ["descriptors.arrow"]


def test_readers_never_see_a_mixture_while_the_index_grows(writer: JournalWriter, tmp_path: Path) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = table_of(Journal(str(tmp_path / "job")), tmp_path)
            if [f"{int(descriptor[0])}.png" for descriptor in found.descriptors] != found.keys:
                wrong.append(found.keys)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(4, 40, 2):
        add(writer, range(number, number + 2))
        table_of(writer, tmp_path)
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    check(table_of(writer, tmp_path), range(40))


@pytest.mark.parametrize("content", [b"", b"ARROW1\0\0", None])
def test_a_damaged_file_is_made_anew(writer: JournalWriter, tmp_path: Path, content: bytes | None) -> None:
    table_of(writer, tmp_path)
    damaged = tmp_path / DESCRIPTORS_FILE
    damaged.write_bytes(damaged.read_bytes()[:-4] if content is None else content)
    check(table_of(writer, tmp_path), range(4))
    assert pa.ipc.open_file(damaged).read_all().num_rows == 4


def test_a_file_of_another_table_is_made_anew(writer: JournalWriter, tmp_path: Path) -> None:
    table = pa.table({"key": ["other.png"]})
    with pa.ipc.new_file(tmp_path / DESCRIPTORS_FILE, table.schema) as file:
        file.write_table(table)
    check(table_of(writer, tmp_path), range(4))


def test_an_index_that_cannot_be_written_has_its_table_elsewhere(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    # A file where the folder should be: nothing can be made below it, not even by root.
    (tmp_path / "index").write_bytes(b"")
    check(table_of(writer, tmp_path / "index"), range(4))
    assert os.listdir(temporary) == []
