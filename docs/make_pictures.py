"""Make the pictures of a page by the code that it shows: ``python docs/make_pictures.py results``.

Runs the page's Python blocks in order, in a temporary folder, and puts the pictures that they save into
``docs/images``, in few colours, so that the repository stays small. Of a report Chromium photographs the top.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import sys
import tempfile
import textwrap
from pathlib import Path

import matplotlib as mpl
from PIL import Image

_DOCS = Path(__file__).parent


def run_page(name: str, folder: Path) -> None:
    """Run the Python blocks of a page in a folder."""
    text = (_DOCS / f"{name}.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    mpl.use("Agg")
    mpl.rcParams["savefig.dpi"] = 72
    (folder / "photos").mkdir()
    names: dict[str, object] = {}
    with contextlib.chdir(folder):
        for block in blocks:
            exec(compile(textwrap.dedent(block), f"{name}.md", "exec"), names)  # noqa: S102 - the page's own code
    controller = names.get("ctl")
    if controller is not None:
        controller.close()  # type: ignore[attr-defined]


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


def main(name: str) -> None:
    """Make all pictures of a page."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        os.environ["PARIMG_JOBS_DIR"] = str(folder / "jobs")
        run_page(name, folder)
        if (folder / "report.html").exists():
            photograph(folder / "report.html", folder / f"{name}_report.png")
        for made in sorted(folder.glob(f"{name}_*.png")):
            with Image.open(made) as image:
                # Not by the median cut, which gives no colour to what is small, as a red cross.
                small = image.convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
            small.save(_DOCS / "images" / made.name, optimize=True)
            print(made.name, (_DOCS / "images" / made.name).stat().st_size, "bytes")  # noqa: T201


if __name__ == "__main__":
    main(sys.argv[1])
