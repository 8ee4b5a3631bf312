"""``%parimg`` and ``%%parimg map`` in a real shell of IPython."""

from __future__ import annotations

import builtins
import keyword
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from IPython.core.completer import provisionalcompleter
from made_journals import make_journal, row

import parimg
from parimg.job.directory import jobs_folder

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

Run = Callable[[str], object]


def test_importing_the_package_loads_no_ipython() -> None:
    program = "import parimg, sys; print(parimg.__all__ != [], 'IPython' in sys.modules)"
    command = [sys.executable, "-c", program]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "True False\n"


def test_a_line_starts_a_cluster_and_the_next_closes_it(run: Run, shell: InteractiveShell) -> None:
    started = run("%parimg start -n 1")
    assert started is shell.user_ns["ctl"]
    assert isinstance(started, parimg.Controller)
    assert len(started) == 1
    again = run("%parimg start -n 1")
    assert "closed" in repr(started)
    run("%parimg close")
    assert "closed" in repr(again)


@pytest.mark.usefixtures("on_cluster")
def test_matches_land_in_the_job(run: Run, shell: InteractiveShell, temple_ring: list[str]) -> None:
    shell.user_ns["views"] = temple_ring[:2]
    job = run(f"%parimg match {temple_ring[0]} views --verify homography")
    assert job is shell.user_ns["job"]
    assert isinstance(job, parimg.Job)
    assert job.state == "finished"
    first, second = job.get()
    assert first["inliers"] > second["inliers"] > 10


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_cell_is_the_body_of_a_function_with_the_users_names(run: Run, shell: InteractiveShell) -> None:
    run("twice = lambda value: 2 * value\nfolder = 'photos'")
    run("%%parimg map folder -o mine --color gray\nif image.shape[0] < 1:\n    return -1\ntwice(image.shape[0])")
    mine = shell.user_ns["mine"]
    assert "job" not in shell.user_ns
    heights = {record.key: record.get("value") for record in mine.get()}
    assert heights["photos/damaged.png"] is None
    assert heights["photos/00.png"] == 2 * 96


def test_targets_are_the_engines_that_run_a_job(
    run: Run, shell: InteractiveShell, on_cluster: parimg.Controller, photos: Path
) -> None:
    second = on_cluster.engines[1]
    for typed in (f"{second}", "1:", f"[{second}]"):
        job = run(f"%%parimg map {photos} -t {typed}\nimage.shape[0]")
        assert isinstance(job, parimg.Job)
        assert {record.engine for record in job} == {second}


@pytest.mark.usefixtures("on_cluster")
def test_noblock_gives_the_job_back_while_it_runs(run: Run, photos: Path) -> None:
    job = run(f"%%parimg map {photos} --noblock\nimport time\ntime.sleep(0.3)\nimage.max()")
    assert isinstance(job, parimg.Job)
    assert job.state == "running"
    assert job.wait(60)


@pytest.mark.parametrize(
    ("typed", "told"),
    [
        ("%parimg mtach a b", "there is no command 'mtach'; did you mean 'match'?; %parimg lists them"),
        ("%parimg xyz", "there is no command 'xyz'; %parimg lists them"),
        ("%parimg match a b --verify homo", "choose from 'homography', 'fundamental'); see %parimg match --help"),
        ("%parimg match a", "required: IMAGES"),
        ("%parimg match a 'b", "No closing quotation"),
        ("%parimg match a.png photos", "there is no cluster yet: %parimg start -n 4"),
        ("%parimg start -n four", "wanted a number, or a range as 2:64 (got 'four')"),
        ("%parimg start -n 0", "at least 1 (got 0)"),
        ("%parimg start -n 1 -o 'my ctl'", "-o wants the name of a variable (got 'my ctl')"),
        ("%parimg connect --profile nowhere", "'nowhere'"),
        ("%parimg status", "there is no job in `job`"),
        ("%parimg status nothing", "is not a job"),
        ("%parimg match a.png b -o 'my job'", "-o wants the name of a variable (got 'my job')"),
        ("%parimg map photos", "it is %%parimg map IMAGES, with two %"),
        ("%%parimg match a b\n1", "a cell belongs to %%parimg map IMAGES; of match it is %parimg, with one %"),
        ("%%parimg map photos\nx = = 1", "line 1 of the cell: invalid syntax"),
        ("%%parimg map photos\nx = 1", "the cell returns nothing"),
    ],
)
def test_what_is_typed_wrong_is_told_in_one_line(
    typed: str, told: str, shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    result = shell.run_cell(typed)
    assert not result.success
    said = "".join(capsys.readouterr())
    assert said.startswith("parimg: ")
    assert told in said
    assert said.count("\n") == 1
    assert "Traceback" not in said


@pytest.mark.usefixtures("on_cluster")
def test_images_that_are_not_there_and_a_wrong_name_leave_no_job(
    run: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("%%parimg map nowhere\n1")
    told = "".join(capsys.readouterr())
    assert "'nowhere' does not exist (looked for " in told
    assert told.endswith("nowhere')\n")  # and not what was typed
    before = os.listdir(jobs_folder()) if os.path.isdir(jobs_folder()) else []
    run(f"%%parimg map {photos} -o 3x\n1")
    assert "-o wants the name of a variable (got '3x')" in "".join(capsys.readouterr())
    assert (os.listdir(jobs_folder()) if os.path.isdir(jobs_folder()) else []) == before


def test_engines_that_are_not_there_are_refused(
    run: Run, on_cluster: parimg.Controller, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(f"%%parimg map {photos} --targets 9999\n1")
    told = f"targets are ids of engines, of {on_cluster.engines} (got [9999])"
    assert told in "".join(capsys.readouterr())
    run(f"%%parimg map {photos} --targets __import__\n1")
    assert "--targets are ids of engines as 0,2" in "".join(capsys.readouterr())


@pytest.mark.usefixtures("on_cluster")
def test_ctrl_c_stops_the_job_in_order_and_says_how_to_go_on(
    shell: InteractiveShell, run: Run, photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt() -> None:
        while "job" not in shell.user_ns or shell.user_ns["job"].progress == 0:
            time.sleep(0.01)
        signal.raise_signal(signal.SIGINT)

    (photos / "damaged.png").unlink()
    threading.Thread(target=interrupt, daemon=True).start()
    result = shell.run_cell("%%parimg map photos\nimport time\ntime.sleep(1)\nreturn 1")
    assert isinstance(result.error_in_exec, KeyboardInterrupt)
    job = shell.user_ns["job"]
    assert job.state in {"interrupted", "finished"}
    said = "".join(capsys.readouterr())
    name = Path(job.directory).name
    assert f"parimg: interrupted; to go on here: %parimg resume {name}\n" in said
    assert "Traceback" not in said
    if job.state == "interrupted":
        assert f"to go on: parimg resume {job.directory}" in said
    run(f"%parimg resume {name}")
    assert shell.user_ns["job"].counts == {"ok": 3, "failed": 0, "done": 3, "total": 3}


@pytest.mark.usefixtures("on_cluster")
def test_jobs_are_listed_and_shown_by_name(run: Run, photos: Path) -> None:
    job = run(f"%%parimg map {photos} --targets all\nimage.max()")
    assert isinstance(job, parimg.Job)
    name = Path(job.directory).name
    [row] = run("%parimg jobs").rows  # type: ignore[attr-defined]
    assert row[:2] == (name, "cell")
    assert row[3:6] == ("4/4", "1", "finished")
    shown = run(f"%parimg status {name} -o looked_at")
    assert repr(shown) == repr(run("looked_at"))
    assert repr(run("%parimg status")) == repr(job)


def complete(shell: InteractiveShell, line: str) -> list[str]:
    """What is offered of the line's last word, whole words as Tab leaves them."""
    with provisionalcompleter():
        found = list(shell.Completer.completions(line, len(line)))
    # Python's own names are offered, too.
    ours = [one for one in found if not hasattr(builtins, one.text) and not keyword.iskeyword(one.text)]
    return [(line[: one.start] + one.text).rpartition(" ")[2] for one in ours]


def test_tab_completes_commands_options_profiles_jobs_variables_and_paths(
    shell: InteractiveShell, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "jobs" / "20261122-0930-MatchSIFT").mkdir(parents=True)
    from IPython.paths import get_ipython_dir

    Path(get_ipython_dir(), "profile_tabbed").mkdir(parents=True, exist_ok=True)
    shell.user_ns["phones"] = []
    assert complete(shell, "%parimg st") == ["start", "status", "stop"]
    assert complete(shell, "%parimg start --pro") == ["--profile"]
    assert complete(shell, "%parimg start --profile tab") == ["tabbed"]
    assert complete(shell, "%parimg status 2026") == ["20261122-0930-MatchSIFT"]
    assert complete(shell, "%parimg match ph") == ["phones", "photos/"]
    assert complete(shell, "%%parimg map photos/d") == ["photos/damaged.png"]
    assert complete(shell, "%parimg match --verify ho") == ["homography"]


def test_a_notebook_shows_the_table_of_jobs_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbclient, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
    monkeypatch.setenv("PARIMG_JOBS_DIR", str(tmp_path))
    make_journal(tmp_path / "20261122-0930-mean", [row(0)])
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("%load_ext parimg"), nbformat.v4.new_code_cell("%parimg jobs")]
    )
    nbclient.NotebookClient(notebook, timeout=60).execute()
    [shown] = notebook.cells[1].outputs
    assert shown["data"]["text/html"].count("20261122-0930-mean") == 1
    assert shown["data"]["text/plain"].count("20261122-0930-mean") == 1
