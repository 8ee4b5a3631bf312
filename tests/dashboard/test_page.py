"""The live page in a real browser, of jobs that were made by hand."""

from __future__ import annotations

import re
from pathlib import Path

import cv2
import headless
import numpy as np
import pytest
from made_journals import make_journal, row
from stripping_proxy import proxy

from parimg.dashboard.jobs import WatchedJobs
from parimg.dashboard.server import Dashboard
from parimg.errors import JobError

MARKUP = "<img src=x onerror=window.hacked=1>"


def test_a_page_tells_what_ran_how_far_and_what_failed(tmp_path: Path) -> None:
    seen = tmp_path / "seen.png"
    cv2.imwrite(str(seen), np.full((30, 60), 200, np.uint8))
    rows = [row(k, started=1000.0 + k / 2, task=0.5, engine=k % 2, host=f"node{k % 2}") for k in range(98)]
    failed = [
        row(98, key="photos/seen.png", uri=str(seen), started=1049.0, task=0.5, status="failed",
            message="too dark"),
        row(99, key="photos/gone.png", uri=str(tmp_path / "gone"), started=1049.5, task=0.5, status="failed",
            error="OSError", message="is gone"),
    ]  # fmt: skip
    journal = make_journal(tmp_path / "20261126-job", rows, failed, total=150, state="interrupted")
    with Dashboard(WatchedJobs([journal.directory]), 0) as served, headless.page() as page:
        page.goto(served.url)
        assert "token" not in page.url
        page.wait_for_selector(".tiles")
        tiles = {
            kind: re.sub(r"\s+", " ", page.inner_text(f".tiles .{kind}")) for kind in ("done", "failed", "queue")
        }
        assert tiles == {"done": "100 of 150 images, 66.7 %", "failed": "2 failed", "queue": "50 in the queue"}
        assert page.inner_text(".state") == "interrupted"
        causes = page.locator(".cause").all_inner_texts()
        assert [cause.split("\n")[0] for cause in causes] == [
            "1 \u00d7 OSError: is gone",
            "1 \u00d7 ValueError: too dark",
        ]
        page.wait_for_selector(".cause img")
        sides = "all => all.map(one => [one.naturalWidth, one.naturalHeight])"
        shown = page.locator(".cause img").evaluate_all(sides)
        assert shown == [[60, 30]]
        engines = page.locator("tr").all_inner_texts()
        assert re.match(r"node0 \(1\)\s+\d+ %\s+[\d.]+\s+49\s+0\s+1 MiB", engines[1])
        assert page.locator("canvas").count() > 0
        assert page.get_by_role("button").count() == 0  # another process owns the job
        assert page.title() == "66 % Task, interrupted"


def test_text_from_outside_is_text(tmp_path: Path) -> None:
    for name in ("one", "two"):
        rows = [
            row(0, key=f"{MARKUP}.png", status="failed", error=f"E{MARKUP}", message=f"m{MARKUP} $$x^2$$"),
            row(1, host=f"h{MARKUP}$$y$$"), row(2, host="other"),
        ]  # fmt: skip
        about = {"source": {"kind": "folder", "images": f"s{MARKUP}", "cwd": "/", "column": None}}
        make_journal(tmp_path / f"{name}{MARKUP}", rows, meta=about)
    directories = [str(tmp_path / f"{name}{MARKUP}") for name in ("one", "two")]
    with Dashboard(WatchedJobs(directories), 0) as served, headless.page() as page:
        page.goto(served.url)
        page.wait_for_selector(".cause")
        page.wait_for_timeout(3000)
        assert f"E{MARKUP}: m{MARKUP} $$x^2$$" in page.inner_text(".cause")
        assert f"{MARKUP}.png" in page.inner_text("figcaption")
        assert f"h{MARKUP}$$y$$ (1)" in " ".join(page.locator("tr.host").all_inner_texts())
        assert f"s{MARKUP}" in page.inner_text(".sub")
        assert f"two{MARKUP}" in page.inner_text("tr.chosen ~ tr")
        assert page.evaluate("window.hacked") is None
        assert page.locator("img[src=x]").count() == 0


def test_another_job_can_be_chosen(tmp_path: Path) -> None:
    for name, n in (("first", 3), ("second", 5)):
        make_journal(tmp_path / name, [row(k) for k in range(n)])
    with (
        Dashboard(WatchedJobs([str(tmp_path / "first"), str(tmp_path / "second")]), 0) as served,
        headless.page() as page,
    ):
        page.goto(served.url)
        page.wait_for_selector("tr.chosen")
        assert page.inner_text(".done b") == "3"
        page.locator("select").select_option(label="second: Task, finished")
        page.wait_for_function("document.title && true")
        page.get_by_text("job second").wait_for()
        assert page.inner_text(".done b") == "5"


def test_it_works_below_another_path_of_a_proxy(tmp_path: Path) -> None:
    journal = make_journal(tmp_path / "job", [row(k) for k in range(7)])
    with (
        Dashboard(WatchedJobs([journal.directory]), 0) as served,
        proxy() as address,
        headless.page() as page,
    ):
        page.goto(f"{address}/{served.port}/?{served.url.partition('?')[2]}")
        page.wait_for_selector(".tiles")
        assert page.url == f"{address}/{served.port}/"
        assert page.inner_text(".done b") == "7"


def test_no_job_and_a_job_that_is_gone_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("parimg.dashboard.jobs.jobs_folder", lambda: str(tmp_path / "none"))
    with Dashboard(WatchedJobs(), 0) as served, headless.page() as page:
        page.goto(served.url)
        page.get_by_text("no job yet").wait_for()
        make_journal(tmp_path / "none" / "job", [row(0)])
        page.wait_for_selector(".tiles")
        assert page.inner_text(".done b") == "1"
        (tmp_path / "none").rename(tmp_path / "moved")
        page.get_by_text("no job yet").wait_for()


def test_a_taken_port_is_told_and_one_that_nobody_chose_is_another(tmp_path: Path) -> None:
    with Dashboard(WatchedJobs(), None) as one, Dashboard(WatchedJobs(), None) as other:
        assert one.port != other.port
        with pytest.raises(JobError, match=rf"port {one.port} of this machine cannot be had: .* 0 for any"):
            Dashboard(WatchedJobs(), one.port)
    with pytest.raises(JobError, match="port must be a number from 0 to 65535"):
        Dashboard(WatchedJobs(), 70000)
    assert repr(one) == "<Dashboard closed>"
    with Dashboard(WatchedJobs(), one.port) as again:  # it can be had at once
        assert again.port == one.port


def test_a_missing_bokeh_is_told_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "bokeh.server.server", None)
    with pytest.raises(JobError, match=r"the live page needs bokeh: pip install 'parimg\[dashboard\]'"):
        Dashboard(WatchedJobs())
