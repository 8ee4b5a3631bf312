"""Names of files are shown by every command as they are, and end none of them."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from command_line import parimg
from noise_pictures import write_model
from odd_names import ODD_NAMES, SHOWN_NAMES


def assert_all_shown(printed: str) -> None:
    for name in SHOWN_NAMES:
        assert f"x[/new]/{name} " in printed or f"x[/new]/{name}:" in printed
    assert "\x1b" not in printed


@pytest.mark.usefixtures("on_cluster")
def test_match_shows_names_as_they_are_and_writes_its_table(odd: Path) -> None:
    ended = parimg("match", odd / ODD_NAMES[0], odd, "-o", "t.csv")
    assert ended.code == 0, ended.err
    assert_all_shown(ended.out)
    with open("t.csv", newline="", encoding="utf-8") as file:
        assert {row["key"] for row in csv.DictReader(file)} == {f"x[/new]/{name}" for name in ODD_NAMES}


@pytest.mark.usefixtures("on_cluster")
@pytest.mark.parametrize(
    "arguments",
    [
        ("convolve", "{odd}", "-k", "box(3)", "-o", "out[/b]", "--table", "[b]t.csv"),
        ("filter", "{odd}", "numpy:ptp", "--python"),
        ("skeleton", "{odd}", "-o", "[b]t.json"),
        ("run", "numpy:mean", "{odd}", "-v"),
    ],
)
def test_every_command_that_runs_a_job_shows_names_as_they_are(odd: Path, arguments: tuple[str, ...]) -> None:
    ended = parimg(*(argument.format(odd=odd) for argument in arguments))
    assert ended.code == 0, ended.err
    assert_all_shown(ended.out)


@pytest.mark.usefixtures("on_cluster")
def test_failures_status_jobs_and_resume_show_names_and_values_as_they_are(odd: Path) -> None:
    Path("good.py").write_text("def label(image):\n    return {'label[/x]': '[/y] :cat: \\x1b[31m'}\n")
    Path("mine.py").write_text("def broken(image):\n    raise ValueError('[/z] :cat: \\x1b[31m')\n")
    ended = parimg("run", "good.py:label", odd)
    assert ended.code == 0, ended.err
    assert r"[/y] :cat: \x1b[31m" in ended.out
    assert "label[/x]" in ended.out
    broken = parimg("run", "mine.py:broken", odd, "--job", "job[/b]")
    shown = [broken, parimg("status", "job[/b]"), parimg("resume", "job[/b]"), parimg("status", "job[/b]", "-v")]
    for one in shown:
        assert one.code == 3
        assert r"ValueError: [/z] :cat: \x1b[31m" in one.out
        assert "\x1b" not in one.out + one.err
    assert_all_shown(shown[3].out)
    listed = parimg("jobs")
    assert "x[/new]" in listed.out


@pytest.mark.usefixtures("on_cluster")
def test_index_and_search_show_names_as_they_are_and_save_before_they_print(odd: Path, tmp_path: Path) -> None:
    model = write_model(tmp_path / "model.onnx")
    options = ("-m", model, "-o", "index[/b]", "--layer", "act", "--size", 128, "--mean", 0, "--scale", 1)
    made = parimg("index", odd, *options)
    assert made.code == 0, made.err
    assert_all_shown(made.out)
    found = parimg("search", odd / ODD_NAMES[1], "index[/b]", "-o", "[b]hits.CSV")
    assert found.code == 0, found.err
    assert_all_shown(found.out)
    assert Path("[b]hits.CSV").read_text(encoding="utf-8").startswith("rank,")


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    "arguments",
    [
        ("match", "no[/b]\x1b[31m.png", "photos"),
        ("match", "ref.png", "no[/b]\x1b[31m"),
        ("status", "no[/b]\x1b[31m"),
        ("run", "no[/b]\x1b[31m.py:f", "."),
        ("jobs", "--older", "[/b]\x1b[31m"),
        ("profiles", "install", "no[/b]\x1b[31m"),
        ("no[/b]\x1b[31m",),
    ],
)
def test_errors_show_what_was_typed_as_it_is(photos: Path, arguments: tuple[str, ...]) -> None:
    ended = parimg(*arguments)
    assert ended.code == 2
    assert "[/b]" in ended.err
    assert "\x1b" not in ended.err
