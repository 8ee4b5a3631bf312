"""Folders that are made for a trial only."""

from __future__ import annotations

from pathlib import Path

import pytest

from parimg.files.trial import without_new_folders


def test_folders_that_the_body_made_are_removed_if_they_are_empty(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    for path in (tmp_path / "there", tmp_path / "a" / "b" / "c", tmp_path / "there" / "d"):
        with without_new_folders(path):
            path.mkdir(parents=True, exist_ok=True)
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    assert list((tmp_path / "there").iterdir()) == []


def test_what_holds_something_stays_and_an_error_comes_through(tmp_path: Path) -> None:
    def begin_and_fail() -> None:
        with without_new_folders(tmp_path / "a" / "b"):
            (tmp_path / "a" / "b").mkdir(parents=True)
            (tmp_path / "a" / "file").touch()
            raise ValueError("told")

    with pytest.raises(ValueError, match="told"):
        begin_and_fail()
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["file"]
    with without_new_folders(None):
        pass
