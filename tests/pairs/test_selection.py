"""Which pairs are wanted, and how images are named."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from parimg.errors import SourceError, TaskError
from parimg.pairs.selection import Names, check_selection, not_indexed, select_pairs, unknown_names

KEYS = [f"/photos/{name}.png" for name in "abcde"]


class Similar:
    """An index in which a and e look alike, and b and c."""

    uris: ClassVar[list[str]] = ["/photos/e.png", "/photos/a.png", "/photos/c.png", "/photos/b.png"]
    descriptors = np.array([[1, 0], [1, 0.1], [0, 1], [0.1, 1]], np.float32)


def selected(*arguments: object, **options: object) -> list[list[int]] | None:
    selection = check_selection(*arguments, **options)
    found = select_pairs(selection, KEYS, KEYS, range(5))
    return None if found is None else sorted(sorted(pair) for pair in found.tolist())


def test_all_are_all() -> None:
    assert selected("all") is None


def test_sequential_pairs_are_within_the_overlap() -> None:
    assert selected("sequential", overlap=2) == [[0, 1], [0, 2], [1, 2], [1, 3], [2, 3], [2, 4], [3, 4]]


def test_sequential_follows_the_order_of_the_source() -> None:
    found = select_pairs(check_selection("sequential", overlap=1), KEYS, KEYS, [4, 0, 1])
    assert found.tolist() == [[4, 0], [0, 1]]


def test_loops_are_closed_by_an_index() -> None:
    found = selected("sequential", overlap=1, neighbours=1, index=Similar())
    assert [0, 4] in found


def test_retrieval_takes_the_most_alike() -> None:
    assert selected("retrieval", neighbours=1, index=Similar()) == [[0, 4], [0, 4], [1, 2], [1, 2]]


def test_images_that_an_index_lacks_are_counted_and_get_no_pairs() -> None:
    selection = check_selection("retrieval", neighbours=3, index=Similar())
    assert not_indexed(selection, KEYS) == 1
    assert not {3} & set(select_pairs(selection, KEYS, KEYS, range(5)).ravel().tolist())
    assert not_indexed(check_selection("sequential"), KEYS) == 0
    assert select_pairs(selection, KEYS[:1], KEYS[:1], [0]).tolist() == []


def test_an_index_of_other_images_is_refused() -> None:
    with pytest.raises(TaskError, match="has none of the 2 images; index the same files, by the same paths"):
        not_indexed(check_selection("retrieval", index=Similar()), ["/other/a.png", "/other/b.png"])


def test_retrieval_wants_an_index() -> None:
    with pytest.raises(TaskError, match="needs index="):
        check_selection("retrieval")


def test_a_list_is_taken_in_any_form(tmp_path: Path) -> None:
    frame = pd.DataFrame({"one": ["a.png", "b.png"], "other": ["b.png", "/photos/e.png"], "third": [1, 2]})
    pq.write_table(pa.Table.from_pandas(frame), tmp_path / "pairs.parquet")
    frame.to_csv(tmp_path / "pairs.csv", index=False)
    (tmp_path / "pairs.txt").write_text("# two names a line\na.png b.png\n\nb.png /photos/e.png\n")
    forms = [
        [("a.png", "b.png"), ("b.png", "/photos/e.png")], frame, pa.Table.from_pandas(frame),
        tmp_path / "pairs.parquet", tmp_path / "pairs.csv", str(tmp_path / "pairs.txt"),
    ]  # fmt: skip
    for form in forms:
        assert selected(form) == [[0, 1], [1, 4]]


@pytest.mark.parametrize(
    ("pairs", "error", "message"),
    [
        ("al", TaskError, "'all', 'sequential', 'retrieval'"),
        ([], SourceError, "the list of pairs is empty"),
        (["ab"], SourceError, "pair 0 must be two names"),
        ([("a", "b", "c")], SourceError, "pair 0 must be two names"),
        (7, TaskError, "a list of pairs of names"),
    ],
)
def test_what_is_no_list_of_pairs_is_refused(pairs: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        check_selection(pairs)


def test_a_row_of_one_name_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pairs.txt").write_text("a.png b.png\nc.png\n")
    with pytest.raises(SourceError, match="row 2 of"):
        check_selection(tmp_path / "pairs.txt")


def test_unknown_names_are_found() -> None:
    assert unknown_names(check_selection([("a.png", "x.png")]), KEYS, KEYS) == ["x.png"]


def test_images_are_named_by_path_or_below_their_folder() -> None:
    names = Names(["/p/1/a.png", "/p/2/a.png", "array"], ["/p/1/a.png", "/p/2/a.png", ""])
    assert [names.number(name) for name in ("1/a.png", "/p/2/a.png", "array", "a.png")] == [0, 1, 2, None]
