"""Two jobs compared image by image."""

from __future__ import annotations

import json
from pathlib import Path

import headless
import numpy as np
import pytest
from command_line import parimg as command
from hypothesis import given, settings
from hypothesis import strategies as st
from made_journals import make_journal, row

import parimg
from parimg.errors import JobError
from parimg.job.comparison import agree


@pytest.fixture
def jobs(tmp_path: Path) -> tuple[str, str]:
    """Two jobs of which five images differ and two agree, in another order and at another time."""
    first = [
        row(0, key="same.png", value=1.0, list=[1, 2]),
        row(1, key="changed.png", value=1.0, other=2),
        row(2, key="cured.png", status="failed"),
        row(3, key="é-only-here.png", value=3),
        row(4, key="worse.png", value=4),
        row(5, key="fails-alike.png", status="failed", message="a"),
        row(6, key="fails-otherwise.png", status="failed", error="OSError"),
    ]
    second = [
        row(0, key="worse.png", status="failed", started=5.0),
        row(1, key="same.png", value=1.0, list=[1, 2], started=9.0, engine=3),
        row(2, key="changed.png", value=1.5, other=2),
        row(3, key="cured.png", value=7),
        row(4, key="a-only-there.png", value=3),
        row(5, key="fails-alike.png", status="failed", message="b"),
        row(6, key="fails-otherwise.png", status="failed"),
    ]
    return make_journal(tmp_path / "first", first).directory, make_journal(tmp_path / "second", second).directory


DIFFERENCES = [
    ("a-only-there.png", "only in the second"),
    ("changed.png", "values"),
    ("cured.png", "status"),
    ("fails-otherwise.png", "error"),
    ("worse.png", "status"),
    ("é-only-here.png", "only in the first"),
]


def test_images_differ_in_status_values_errors_or_are_in_one_job_only(jobs: tuple[str, str]) -> None:
    comparison = parimg.compare_jobs(*jobs)
    found = list(comparison)
    assert [(one.key, one.kind) for one in found] == DIFFERENCES
    assert found[1].values == {"value": (1.0, 1.5)}
    assert comparison.counts == {
        "same": 2, "values": 1, "status": 2, "error": 1, "only in the first": 1, "only in the second": 1,
    }  # fmt: skip
    assert list(parimg.compare_jobs(jobs[0], jobs[0])) == []


def test_a_tolerance_and_ignored_columns_are_no_differences(jobs: tuple[str, str]) -> None:
    for options in ({"tolerance": 0.4}, {"ignore": {"value"}}):
        kinds = [one.kind for one in parimg.compare_jobs(*jobs, **options)]
        assert "values" not in kinds
        assert len(kinds) == 5
    with pytest.raises(JobError, match="tolerance must be"):
        parimg.compare_jobs(*jobs, tolerance=-1)


def test_output_files_agree_where_only_their_folder_is_another(tmp_path: Path) -> None:
    made = []
    for name, ending in (("old", "a.png"), ("new", "a.png"), ("moved", "b.png")):
        meta = {"task": {"name": "T", "parameters": {}, "columns": {}, "refs": [], "output": f"/out/{name}"}}
        made.append(make_journal(tmp_path / name, [row(0, path=f"/out/{name}/sub/{ending}")], meta=meta).directory)
    assert list(parimg.compare_jobs(made[0], made[1])) == []
    assert [one.kind for one in parimg.compare_jobs(made[0], made[2])] == ["values"]


@pytest.mark.parametrize(
    ("one", "other", "tolerance", "same"),
    [
        (float("nan"), float("nan"), 0, True),
        (1.0, 1.0 + 1e-9, 0, False),
        (1.0, 1.0 + 1e-9, 1e-6, True),
        (float("inf"), float("inf"), 0, True),
        (1, True, 0, False),
        (1, 1.0, 0, True),
        (None, 0, 0, False),
        ([1, [2.0]], [1, [2.0 + 1e-9]], 1e-6, True),
        ({"a": 1}, {"a": 1, "b": 2}, 0, False),
        (np.array([np.nan, 1.0]), np.array([np.nan, 1.0]), 0, True),
        (np.array([0, 255], np.uint8), np.array([255, 0], np.uint8), 0.1, False),
        (np.array([200, 255], np.uint8), np.array([201, 255], np.uint8), 0.01, True),
        (np.zeros((2, 3)), np.zeros((3, 2)), 0, False),
        (np.array([(1, 2.0)], "i8, f8"), np.array([(1, 2.1)], "i8, f8"), 0, False),
        (np.array([(1, 2.0)], "i8, f8"), np.array([(1, 2.1)], "i8, f8"), 0.1, True),
        (np.array(["a"]), np.array(["b"]), 0.1, False),
    ],
)
def test_values_agree_as_numbers_do(one: object, other: object, tolerance: float, same: bool) -> None:
    assert agree(one, other, tolerance) is same
    assert agree(other, one, tolerance) is same


@settings(deadline=None, max_examples=25)
@given(st.sets(st.text(min_size=1, max_size=4)), st.sets(st.text(min_size=1, max_size=4)))
def test_keys_of_every_script_are_matched(tmp_path_factory: pytest.TempPathFactory, a: set, b: set) -> None:
    folder = tmp_path_factory.mktemp("jobs")

    def stored(key: str) -> bool:
        return "\x00" not in key and key.encode("utf-8", "ignore").decode() == key

    a, b = set(filter(stored, a)), set(filter(stored, b))
    first, second = (
        make_journal(folder / name, [row(n, key=key) for n, key in enumerate(keys)])
        for name, keys in (("a", a), ("b", b))
    )
    found = {one.key: one.kind for one in parimg.compare_jobs(first.directory, second.directory)}
    assert found == dict.fromkeys(a - b, "only in the first") | dict.fromkeys(b - a, "only in the second")


def test_the_command_lists_differences_and_its_exit_code_says_whether_there_are_any(jobs: tuple[str, str]) -> None:
    ended = command("diff", *jobs)
    assert ended.code == 1
    assert "6 of 8 images differ: 2 status, " in ended.out
    assert "1.5" in ended.out
    same = command("diff", jobs[0], jobs[0])
    assert (same.code, same.out) == (0, "0 of 7 images differ\n")
    assert command("diff", jobs[0], "nothing").code == 2


def test_scripts_get_json(jobs: tuple[str, str]) -> None:
    ended = command("diff", *jobs, "--json")
    found = json.loads(ended.out)
    assert ended.code == 1
    assert [(one["key"], one["kind"]) for one in found["differences"]] == DIFFERENCES
    assert found["differences"][1]["values"] == {"value": [1.0, 1.5]}
    assert found["differences"][2]["first"] == {"status": "failed", "error": "ValueError"}
    assert found["counts"]["same"] == 2
    same = json.loads(command("diff", jobs[0], jobs[0], "--json").out)
    assert same == {"differences": [], "counts": {"same": 7}}


def test_the_page_shows_what_differs(jobs: tuple[str, str], tmp_path: Path) -> None:
    assert command("diff", *jobs, "-o", tmp_path / "diff.html").code == 1
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/diff.html")
        assert page.locator("h2").all_inner_texts() == [key for key, _ in DIFFERENCES]
        assert page.locator("del").first.inner_text() == "1"
        assert page.locator("ins").first.inner_text() == "1.5"
        assert "2\nimages agree" in page.inner_text(".tiles")
