"""Gathering descriptors: names and rows belong together whoever else gathers, whatever lies there already."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from parimg.job.directory import JobDirectory
from parimg.job.journal import Journal
from parimg.job.journal_writer import JournalWriter
from parimg.record import Placement, Row, encode_values, failed_row
from parimg.retrieval import descriptor_table
from parimg.retrieval.descriptor_table import Gathered, gather

NOWHERE = Placement(None, None, None)


def row(number: int) -> Row:
    """Of an image whose descriptor tells its name."""
    columns, arrays = encode_values({"rmac": np.full(3, number, np.float32)})
    timing = (100.0 + number, 0.25, 0.5)
    return Row(number, f"{number}.png", f"/images/{number}.png", "ok", *[None] * 4, *timing, columns, arrays)


def add(writer: JournalWriter, numbers: range) -> None:
    writer.append([(row(number), 1) for number in numbers], NOWHERE)


def check(found: Gathered, numbers: range) -> None:
    assert found.keys == [f"{number}.png" for number in numbers]
    assert found.uris == [f"/images/{number}.png" for number in numbers]
    assert found.descriptors.tolist() == [[number] * 3 for number in numbers]


def folders(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name != "job")


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[JournalWriter]:
    folder = str(tmp_path / "job")
    journal = JournalWriter.create(JobDirectory(folder), JobDirectory(folder).reserve(), {"task": {}})
    add(journal, range(4))
    yield journal
    journal.close()


def test_names_and_descriptors_are_gathered_once(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer.append([(failed_row(9, "9.png", "/images/9.png", "decode", "ImageEmptyError", "0 bytes"), 1)], NOWHERE)
    check(gather(writer, str(tmp_path)), range(4))
    monkeypatch.setattr(Journal, "in_order", None)
    again = gather(writer, str(tmp_path))
    check(again, range(4))
    assert not again.descriptors.flags.writeable
    [folder] = folders(tmp_path)
    assert sorted(os.listdir(tmp_path / folder)) == ["descriptors.npy", "images.parquet"]


def test_what_was_gathered_before_the_index_grew_is_replaced(writer: JournalWriter, tmp_path: Path) -> None:
    before = gather(writer, str(tmp_path))
    old = folders(tmp_path)
    add(writer, range(4, 7))
    check(gather(writer, str(tmp_path)), range(7))
    check(before, range(4))
    [folder] = folders(tmp_path)
    assert [folder] != old


def test_two_that_gather_at_once_each_have_names_and_descriptors_that_belong_together(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename
    later: list[Gathered] = []

    def rename_after_another(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        add(writer, range(4, 6))
        later.append(gather(writer, str(tmp_path)))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_another)
    check(gather(writer, str(tmp_path)), range(4))
    check(later[0], range(6))
    check(gather(writer, str(tmp_path)), range(6))
    assert len(folders(tmp_path)) == 1


def test_who_comes_second_with_the_same_drops_its_own(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = os.rename

    def rename_after_another(source: str, target: str) -> None:
        monkeypatch.setattr(os, "rename", rename)
        check(gather(writer, str(tmp_path)), range(4))
        rename(source, target)

    monkeypatch.setattr(os, "rename", rename_after_another)
    check(gather(writer, str(tmp_path)), range(4))
    assert len(folders(tmp_path)) == 1


def test_readers_never_see_a_mixture_while_the_index_grows(writer: JournalWriter, tmp_path: Path) -> None:
    wrong: list[object] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            found = gather(Journal(str(tmp_path / "job")), str(tmp_path))
            if [f"{int(descriptor[0])}.png" for descriptor in found.descriptors] != found.keys:
                wrong.append(found.keys)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(4, 40, 2):
        add(writer, range(number, number + 2))
        gather(writer, str(tmp_path))
    stop.set()
    for reader in readers:
        reader.join()
    assert not wrong
    check(gather(writer, str(tmp_path)), range(40))


@pytest.mark.parametrize("name", ["images.parquet", "descriptors.npy"])
@pytest.mark.parametrize("content", [b"", b"\x93NUMPY\x01\x00\x04\x00{((", None])
def test_damaged_files_are_made_anew(
    writer: JournalWriter, tmp_path: Path, name: str, content: bytes | None
) -> None:
    gather(writer, str(tmp_path))
    [folder] = folders(tmp_path)
    damaged = tmp_path / folder / name
    damaged.write_bytes(damaged.read_bytes()[:-4] if content is None else content)
    check(gather(writer, str(tmp_path)), range(4))
    assert folders(tmp_path) == [folder]
    assert len(np.load(tmp_path / folder / "descriptors.npy")) == 4


def test_descriptors_of_another_number_than_names_are_made_anew(writer: JournalWriter, tmp_path: Path) -> None:
    gather(writer, str(tmp_path))
    [folder] = folders(tmp_path)
    np.save(tmp_path / folder / "descriptors.npy", np.zeros((5, 3), np.float32))
    check(gather(writer, str(tmp_path)), range(4))


def test_a_file_in_the_place_of_the_folder_gives_way(writer: JournalWriter, tmp_path: Path) -> None:
    gather(writer, str(tmp_path))
    [folder] = folders(tmp_path)
    descriptor_table._remove(str(tmp_path / folder))
    (tmp_path / folder).write_bytes(b"")
    check(gather(writer, str(tmp_path)), range(4))
    assert os.path.isdir(tmp_path / folder)
    assert folders(tmp_path) == [folder]


def test_an_index_that_cannot_be_written_is_gathered_elsewhere(
    writer: JournalWriter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    # A file where the folder should be: nothing can be made below it, not even by root.
    (tmp_path / "index").write_bytes(b"")
    check(gather(writer, str(tmp_path / "index")), range(4))
    assert os.listdir(temporary) == []


def test_unfinished_folders_of_killed_processes_are_removed_once_they_are_old(
    writer: JournalWriter, tmp_path: Path
) -> None:
    for name, age in (("gathered-0.old.part", 7200), ("gathered-0.new.part", 60)):
        (tmp_path / name).mkdir()
        then = (tmp_path / name).stat().st_mtime - age
        os.utime(tmp_path / name, (then, then))
    gather(writer, str(tmp_path))
    assert [name for name in folders(tmp_path) if name.endswith(".part")] == ["gathered-0.new.part"]
