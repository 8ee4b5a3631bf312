"""The Python and the commands that pages show run, print what the pages say, and make the pictures beside them."""

from __future__ import annotations

import doctest
import importlib.util
import re
import shlex
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import typer.main
from PIL import Image

from parimg.cli import app

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
# Drawn from times, or by a browser.
BY_TIME = {"results_timeline.png", "results_report.png"}
PRINTED_AS_SHOWN = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


def make_pictures() -> ModuleType:
    found = importlib.util.spec_from_file_location("make_pictures", DOCS / "make_pictures.py")
    assert found is not None
    assert found.loader is not None
    made = importlib.util.module_from_spec(found)
    found.loader.exec_module(made)
    return made


PICTURES = make_pictures()
RUN = [page for page in PAGES if any(block.runs for block in PICTURES.python_blocks(page))]


def named(pages: list[Path]) -> Any:
    return pytest.mark.parametrize("page", pages, ids=[page.stem for page in pages])


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore:.*low contrast image")
@named(RUN)
def test_the_python_of_a_page_runs_prints_what_it_says_and_makes_its_pictures(page: Path, tmp_path: Path) -> None:
    for block, printed in PICTURES.run_page(page, tmp_path):
        if block.output is not None:
            same = doctest.OutputChecker().check_output(block.output, printed, PRINTED_AS_SHOWN)
            assert same, f"{page.name}, line {block.line}, printed:\n{printed}"
    own = re.findall(rf"\(images/({page.stem}_\w+\.png)\)", page.read_text(encoding="utf-8"))
    assert set(own) - BY_TIME == {path.name for path in tmp_path.glob(f"{page.stem}_*.png")} - BY_TIME
    for name in set(own) - BY_TIME:
        assert difference(tmp_path / name, DOCS / "images" / name) < 6, f"python docs/make_pictures.py {page.stem}"


def difference(made: Path, kept: Path) -> float:
    """Mean difference of gray levels, 0 to 255, of two pictures at a tenth of their size."""
    with Image.open(made) as first, Image.open(kept) as second:
        assert first.size == second.size
        small = (first.width // 10, first.height // 10)
        levels = [
            np.asarray(each.convert("RGB").convert("L").resize(small, Image.Resampling.BOX), float)
            for each in (first, second)
        ]
    return float(np.abs(levels[0] - levels[1]).mean())


@named(PAGES)
def test_the_python_that_a_page_shows_can_be_compiled(page: Path) -> None:
    blocks = PICTURES.python_blocks(page)
    assert len(blocks) == page.read_text(encoding="utf-8").count("```python\n")
    for block in blocks:
        code = "async def page():\n" + "".join(f"    {line}\n" for line in [*block.code.splitlines(), "pass"])
        compile(code, f"{page.name}, line {block.line}", "exec")


def commands_of(page: Path) -> list[list[str]]:
    """Words of the ``parimg`` commands in the console blocks of a page."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [shlex.split(line[2:], comments=True)[1:] for line in lines if line.startswith("$ parimg ")]


@named([page for page in PAGES if commands_of(page)])
def test_the_commands_that_a_page_shows_have_these_options(page: Path) -> None:
    for words in commands_of(page):
        command: Any = typer.main.get_command(app)
        rest = list(words)
        while hasattr(command, "commands"):
            assert rest, words
            assert rest[0] in command.commands or rest[0].startswith("--"), words
            if rest[0].startswith("--"):
                break
            command = command.commands[rest.pop(0)]
        known = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
        for word in rest:
            if re.match(r"--?[a-z]", word):
                assert word.partition("=")[0] in known | {"--help"}, words


@named(PAGES)
def test_the_pictures_that_a_page_shows_are_there_and_small(page: Path) -> None:
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", page.read_text(encoding="utf-8"))
    for name in shown:
        picture = page.parent / name
        assert picture.stat().st_size < 130_000, name
        if picture.suffix == ".png":
            with Image.open(picture) as image:
                assert image.width <= 1100, name


def test_every_picture_is_shown() -> None:
    shown = {name for page in PAGES for name in re.findall(r"images/([\w.]+)\)", page.read_text(encoding="utf-8"))}
    assert {path.name for path in (DOCS / "images").iterdir()} == shown
