"""The report of a job, opened in a real browser."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import cv2
import headless
import numpy as np
import pytest
from command_line import parimg as command
from made_journals import make_journal, multiply, row

import parimg
from parimg.errors import JobError


def write(path: Path, level: int) -> str:
    cv2.imwrite(str(path), np.full((30, 40), level, np.uint8))
    return str(path)


@pytest.fixture
def job(tmp_path: Path) -> str:
    """Five images: one is gone, one failed and can be seen, one has a name that is markup."""
    rows = [
        row(0, key="small.png", uri=write(tmp_path / "small.png", 10), total_length=5.0, memory=300 * 2**20),
        row(1, key="large.png", uri=write(tmp_path / "large.png", 200), total_length=50.0, task=7.5),
        row(2, key="gone.png", uri=str(tmp_path / "gone.png"), total_length=20.0),
        row(3, key="bad.png", uri=write(tmp_path / "bad.png", 0), status="failed", message="<script>alert(1)"),
        row(4, key="<b>&amp;.png", total_length=1.0, engine=1),
    ]
    journal = make_journal(tmp_path / "job", rows, task=parimg.SkeletonGraph(min_size=17))
    return journal.directory


def test_a_report_shows_counts_values_failures_and_what_was_run(job: str, tmp_path: Path) -> None:
    parimg.write_report(job, tmp_path / "report.html")
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/report.html")
        text = page.inner_text("body")
        tiles = page.locator(".tiles div").all_inner_texts()
        assert [re.sub(r"\s+", " ", tile) for tile in tiles[:3]] == ["5 images", "4 went well", "1 failed"]
        assert "300 MiB" in page.inner_text(".tiles")
        assert page.locator("h2").all_inner_texts() == [
            "Engines over time", "Images a second", "Memory of the largest engine",
            "4 images with the most total_length", "Why images failed", "Slowest images", "Values", "Hosts",
            "What was run",
        ]  # fmt: skip
        cards = page.locator(".cards").nth(0).locator("figcaption b").all_inner_texts()
        assert cards == ["large.png", "gone.png", "small.png", "<b>&amp;.png"]
        assert page.locator(".cards").nth(2).locator("figcaption b").first.inner_text() == "large.png"
        assert re.search(r"total_length\s+4\s+1\s+12.5\s+19\s+50", text)
        assert re.search(r"min_size\s+17", text)
        assert re.search(r"node1\s+2\s+5\s+1\s", text)
        assert re.search(r"parimg\s+0.1.0", text)


def test_names_and_messages_are_text_in_a_page_that_runs_nothing(job: str, tmp_path: Path) -> None:
    parimg.write_report(job, tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script" not in source
    assert "<b>&amp;.png" not in source
    assert "default-src 'none'" in source
    assert re.findall(r"(?:src|href)=\"(?!data:image/)", source) == []
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/report.html")
        assert "ValueError: <script>alert(1)" in page.inner_text("body")


# The least contrast of any text with what is behind it, as WCAG 2 reckons it, and the page's background.
CONTRAST = """() => {
    const rgb = (text) => text.match(/[\\d.]+/g).map(Number);
    const light = ([r, g, b]) => {
        const [x, y, z] = [r, g, b].map((v) => (v /= 255) <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * x + 0.7152 * y + 0.0722 * z;
    };
    const behind = (element) => {
        for (let one = element; one; one = one.parentElement) {
            const found = rgb(getComputedStyle(one).backgroundColor);
            if (found.length === 3 || found[3] > 0) return found;
        }
        return [255, 255, 255];
    };
    let least = 21;
    for (const element of document.querySelectorAll("body *")) {
        const said = [...element.childNodes].some((node) => node.nodeType === 3 && node.data.trim());
        if (!said || !element.checkVisibility()) continue;
        const two = [light(rgb(getComputedStyle(element).color)), light(behind(element))].sort((a, b) => b - a);
        least = Math.min(least, (two[0] + 0.05) / (two[1] + 0.05));
    }
    return [least, light(rgb(getComputedStyle(document.body).backgroundColor))];
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("state", ["finished", "interrupted", "failed"])
def test_a_page_is_readable_in_the_theme_of_its_reader(scheme: str, state: str, tmp_path: Path) -> None:
    rows = [row(0, key="a.png", total_length=5.0), row(1, key="gone.png", status="failed", message="no such file")]
    job = make_journal(tmp_path / "job", rows, task=parimg.SkeletonGraph(), state=state).directory
    parimg.write_report(job, tmp_path / "report.html")
    with headless.page() as page:
        page.emulate_media(color_scheme=scheme)
        page.goto(f"file://{tmp_path}/report.html")
        least, background = page.evaluate(CONTRAST)
        assert least >= 4.5  # what WCAG asks of text
        assert background > 0.9 if scheme == "light" else background < 0.05
        # Plots and pictures have grounds of their own.
        shown = page.locator("img.plot").first.evaluate("one => getComputedStyle(one).backgroundColor")
        assert shown == "rgb(255, 255, 255)"


def test_images_that_are_gone_are_told_and_the_others_are_seen(job: str, tmp_path: Path) -> None:
    parimg.write_report(job, tmp_path / "report.html")
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/report.html")
        failed, slowest = page.locator(".cards").nth(1), page.locator(".cards").nth(2)
        assert failed.locator("img").count() == 1
        assert slowest.locator("img").count() == 3
        assert slowest.locator(".none").all_inner_texts() == ["no picture: the image cannot be read here"] * 2
        widths = page.eval_on_selector_all("img", "found => found.map(one => one.naturalWidth)")
        assert min(widths) >= 40


def test_odd_bytes_in_names_and_messages_do_not_stop_the_page(tmp_path: Path) -> None:
    rows = [
        row(0, key="caf\\udce9\u202e.png", value=1.0),
        row(1, key="\x1b[2J.png", status="failed", message="\x00 \x07"),
        row(2, key="図.png", value=float("nan"), text="x" * 5000),
    ]
    journal = make_journal(tmp_path / "job", rows)
    parimg.write_report(journal.directory, tmp_path / "report.html")
    source = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "図.png" in source
    assert "\\x1b[2J.png" in source
    assert "\u202e" not in source
    assert "x" * 200 not in source


@pytest.mark.parametrize("rows", [[], [row(0, status="failed", engine=None)]], ids=["nothing", "all failed"])
def test_a_job_with_nothing_to_show_has_a_report_all_the_same(tmp_path: Path, rows: list) -> None:
    journal = make_journal(tmp_path / "job", rows, state="interrupted", total=9)
    parimg.write_report(journal.directory, tmp_path / "report.html")
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/report.html")
        assert f"{len(rows)} of 9" in page.inner_text(".tiles")
        assert "To go on: parimg resume" in page.inner_text("body")


@pytest.mark.slow
def test_a_million_images_make_a_small_page_that_opens(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", [row(0, matches=1)], [row(1, status="failed")], total=1_000_000)
    multiply(journal, position=0, numbers=range(2, 900_000))
    multiply(journal, position=1, numbers=range(900_000, 1_000_000))
    parimg.write_report(journal.directory, tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size < 5_000_000
    with headless.page() as page:
        page.goto(f"file://{tmp_path}/report.html", timeout=10_000)
        assert "1,000,000\nimages" in page.inner_text(".tiles")
        assert "By error, of all: 100,001 ValueError" in page.inner_text("body")
        assert "the causes of the first 10,000 failures" in page.inner_text("body")


def test_the_command_writes_the_page_and_refuses_other_names(job: str, tmp_path: Path) -> None:
    ended = command("report", job, "-o", tmp_path / "page.html", "--pictures", 0)
    assert ended.code == 0, ended.err
    assert ended.out.startswith(f"report: {tmp_path}/page.html (")
    assert (tmp_path / "page.html").read_text().count("<figure") == 0
    assert "-o must end in .html" in command("report", job, "-o", tmp_path / "page.pdf").message
    assert command("report", "no-such-job", "-o", tmp_path / "page.html").code == 2
    with pytest.raises(JobError, match="cannot be written"):
        parimg.write_report(job, tmp_path / "nowhere" / "page.html")


@pytest.mark.parametrize("library", ["jinja2", "matplotlib"])
def test_a_library_that_is_missing_is_named_with_its_extra(
    job: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.pyplot", None)
    with pytest.raises(JobError, match=r"pip install 'parimg\[report\]'"):
        parimg.write_report(job, tmp_path / "report.html")
    if library == "matplotlib":
        with pytest.raises(JobError, match=r"pip install 'parimg\[plots\]'"):
            parimg.open_job(job).plot()
