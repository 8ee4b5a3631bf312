"""Displays that follow a job, in a notebook that nbclient runs, and what IPython shows without one."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from parimg.notebook import live

START = """
import parimg
ctl = parimg.start(1)
"""
RUN = """
import time
import numpy as np

def slow(image):
    time.sleep(0.4)
    return float(image.mean())

images = {f"<b>{n}</b>": np.full((4, 4), n, np.uint8) for n in range(6)}
"""
JOB = "job = ctl.map(slow, images, chunk_size=1)\njob"
CLOSE = """
job.wait()
ctl.close()
import threading
[one.join() for one in threading.enumerate() if one.name == "parimg-display"]
"""


class Watching(NotebookClient):  # type: ignore[misc]
    """Keeps every message that changes an output."""

    seen: list[dict[str, Any]]

    def process_message(self, msg: dict[str, Any], cell: Any, cell_index: int) -> Any:
        if msg["header"]["msg_type"] in {"display_data", "update_display_data"}:
            self.seen = [*getattr(self, "seen", []), copy.deepcopy(msg["content"])]
        return super().process_message(msg, cell, cell_index)


def run(cells: list[str], folder: Path) -> tuple[Any, list[dict[str, Any]]]:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    client = Watching(notebook, timeout=120, resources={"metadata": {"path": str(folder)}})
    client.execute()
    return notebook, client.seen


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_job_in_a_notebook_is_drawn_anew_until_it_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IPP_NONINTERACTIVE", "")
    notebook, seen = run([START, RUN, JOB, CLOSE], tmp_path)
    drawings = [content["data"]["text/html"] for content in seen if "<b>slow</b>" in content["data"]["text/html"]]
    assert "running" in drawings[0]
    assert len(set(drawings)) > 2
    assert "6 of 6 images, 0 failed" in drawings[-1]
    assert "finished" in drawings[-1]
    [shown] = notebook.cells[2].outputs
    assert shown["data"]["text/html"] == drawings[-1]
    assert shown["data"]["text/plain"].startswith("<Job slow finished: 6/6 images")
    assert "<b>5</b>" not in drawings[-1]
    assert "<script" not in drawings[-1]


@pytest.mark.cluster
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_magic_follows_its_job_in_one_display(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IPP_NONINTERACTIVE", "")
    cell = "%%parimg map images\nimport time\ntime.sleep(0.4)\nimage.mean()"
    notebook, seen = run(["%load_ext parimg\n%parimg start -n 1", RUN, cell, "%parimg close"], tmp_path)
    [shown] = [output for output in notebook.cells[2].outputs if output.output_type == "display_data"]
    assert "6 of 6 images, 0 failed" in shown["data"]["text/html"]
    assert len([content for content in seen if "<b>cell</b>" in content["data"]["text/html"]]) > 3


def test_without_a_notebook_ipython_shows_the_object_itself() -> None:
    with pytest.raises(NotImplementedError):
        live.show_live(str, str, lambda: True)
    assert not live.can_update()
