"""Run the Python that pages show, and make their pictures by it: ``python docs/make_pictures.py sift results``.

The Python blocks of a page run in order, in a temporary folder, and see each other's names. What they save as
``PAGE_*.png`` goes into ``docs/images``, in few colours, so that the repository stays small; of a report Chromium
photographs the top. A block behind the line ``<!-- not run: REASON -->`` is left out.

The tests run every page so, and compare what a block prints with the block of text that follows it.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

import matplotlib.pyplot as plt
from PIL import Image

DOCS = Path(__file__).parent
_BLOCK = re.compile(
    r"^(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)^```$(?:\n\n```text\n(.*?)^```$)?", re.MULTILINE | re.DOTALL
)


class Block(NamedTuple):
    """Python that a page shows, and whether it is run."""

    code: str
    line: int
    """Of the page, where it begins."""
    runs: bool
    output: str | None
    """What the page says it prints."""


def python_blocks(page: Path) -> list[Block]:
    """Blocks of Python of a page, in order."""
    text = page.read_text(encoding="utf-8")
    return [
        Block(found[2], text.count("\n", 0, found.start(2)) + 1, runs=found[1] is None, output=found[3])
        for found in _BLOCK.finditer(text)
    ]


def run_page(page: Path, folder: Path) -> list[tuple[Block, str]]:
    """Run the blocks of a page in a folder, end the clusters that it started, and give what each block printed."""
    plt.switch_backend("Agg")
    names: dict[str, object] = {"__name__": "__main__"}
    printed = []
    # So that whoever looks for the source of a function, as numba does, finds a file with the lines of the page.
    source = folder / f"page_{page.stem}.py"
    with contextlib.chdir(folder), plt.rc_context({"savefig.dpi": 72}):
        try:
            for block in python_blocks(page):
                if block.runs:
                    source.write_text("\n" * (block.line - 1) + block.code, encoding="utf-8")
                    code = compile(source.read_text(encoding="utf-8"), str(source), "exec")
                    with contextlib.redirect_stdout(io.StringIO()) as output:
                        exec(code, names)  # noqa: S102 - the page's own code
                    printed.append((block, output.getvalue()))
        finally:
            plt.close("all")
            for value in list(names.values()):
                if type(value).__name__ == "Controller":
                    value.close()  # type: ignore[attr-defined]
    return printed


def photograph(page: Path, picture: Path) -> None:
    """The top of a page, as a browser shows it."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with sync_playwright() as started:
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        opened = browser.new_page(viewport={"width": 1100, "height": 900}, device_scale_factor=0.7)
        opened.goto(f"file://{page}")
        opened.screenshot(path=picture)
        browser.close()


def in_few_colours(picture: Path) -> Image.Image:
    """A picture as it is kept."""
    with Image.open(picture) as image:
        # Not by the median cut, which gives no colour to what is small, as a red cross.
        return image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)


def main(name: str) -> None:
    """Make all pictures of a page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PARIMG_JOBS_DIR"] = str(folder / "jobs")
        for block, printed in run_page(DOCS / f"{name}.md", folder):
            if printed:
                print(f"line {block.line}:", printed, sep="\n")  # noqa: T201
        if (folder / "report.html").exists():
            photograph(folder / "report.html", folder / f"{name}_report.png")
        for made in sorted(folder.glob(f"{name}_*.png")):
            kept = DOCS / "images" / made.name
            in_few_colours(made).save(kept, optimize=True)
            print(made.name, kept.stat().st_size, "bytes")  # noqa: T201


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(argument)
