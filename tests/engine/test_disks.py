from __future__ import annotations

from pathlib import Path

import pytest

from parimg.engine.disks import look_at_disks
from parimg.protocol.disk_sharing import ALL_SEEN, NONE_SEEN, DiskQuestion, SeenDisks

TOKEN = "0123abcd"


@pytest.fixture
def question(tmp_path: Path) -> DiskQuestion:
    for name, text in {"job": TOKEN, "a b.png": "seven b", "output": TOKEN}.items():
        (tmp_path / name).write_text(text)
    return DiskQuestion(TOKEN, str(tmp_path / "job"), str(tmp_path / "a b.png"), 7, str(tmp_path / "output"))


def changed(question: DiskQuestion, **fields: object) -> DiskQuestion:
    known = {name: getattr(question, name) for name in DiskQuestion.__slots__}
    return DiskQuestion(**{**known, **fields})


def test_a_host_that_sees_all_says_so_and_answers_in_the_output_folder(question: DiskQuestion) -> None:
    assert look_at_disks(question) == ALL_SEEN
    assert Path(question.output).read_text() == question.answer == "dcba3210"


def test_files_of_the_same_name_with_something_else_in_them_are_not_the_clients(question: DiskQuestion) -> None:
    for path in (question.job, question.output):
        Path(path).write_text("ffffffff")
    assert look_at_disks(changed(question, image_size=8)) == NONE_SEEN
    assert Path(question.output).read_text() == "ffffffff"


def test_nothing_is_made_where_nothing_is_seen(question: DiskQuestion, tmp_path: Path) -> None:
    there = tmp_path / "there"
    moved = {name: str(there / name) for name in ("job", "image", "output")}
    assert look_at_disks(changed(question, **moved)) == NONE_SEEN
    assert not there.exists()


def test_what_is_not_asked_is_not_seen(question: DiskQuestion) -> None:
    assert look_at_disks(changed(question, image="", output="")) == SeenDisks(True, False, False)


@pytest.mark.parametrize("quoted", [False, True])
def test_images_are_found_by_their_urls_on_the_disk(question: DiskQuestion, quoted: bool) -> None:
    url = Path(question.image).as_uri() if quoted else f"file://{question.image}"
    assert look_at_disks(changed(question, image=url)).images
    assert look_at_disks(changed(question, image=f"parquet://{question.image}?image#3")).images
