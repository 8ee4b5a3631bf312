"""What commands that run jobs have in common: refusals, dry runs, what is printed, what is saved."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path

import cv2
import noise_pictures
import pandas as pd
import pytest
from command_line import parimg

from parimg.cli import running
from parimg.job.job import Job

RUN = ("run", "numpy:mean", "photos")


@pytest.mark.usefixtures("no_cluster", "photos")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((*RUN, "--ship", "sometimes"), "ship must be 'auto', 'never' or 'always' (got 'sometimes')"),
        ((*RUN, "--memory-limit", "lots"), "memory_limit must be a number of bytes, or a text such as"),
        ((*RUN, "--timeout", "-1"), "timeout must be a number of seconds above 0"),
        ((*RUN, "--max-failures", "many"), "--max-failures must be like 25, 0.1 or 10%"),
        ((*RUN, "--max-failures", "1.5"), "a share of them"),
        ((*RUN, "--job", "photos"), "must be new or empty; it holds 00.png, 01.png, 02.png"),
        ((*RUN, "--job", "photos/00.png"), "cannot be written"),
        ((*RUN, "-n", "2:8"), "-n 2:8 wants a --profile, which says where more engines come from"),
        ((*RUN, "-n", "8:2", "--profile", "local"), "the least and the most, as 2:64 (got '8:2')"),
        ((*RUN, "-n", "0"), "a number of at least 1"),
        ((*RUN, "-n", "two"), "a number of at least 1, or the least and the most, as 2:64 (got 'two')"),
        ((*RUN, "--submit-set", "time=5"), "give both"),
        ((*RUN, "--submit", "pbs"), "'pbs' is not"),
        ((*RUN, "--submit", "slurm", "--submit-set", "time"), "is KEY=VALUE, an option of sbatch (got 'time')"),
        ((*RUN, "--submit", "slurm", "--submit-set", "wrap=true"), "cannot set wrap"),
        ((*RUN, "--submit", "slurm", "--submit-set", "time=2"), "time=2 is no longer than the 120 s"),
        ((*RUN, "--submit", "slurm", "--submit-set", "handover=soon"), "a number of seconds (got 'soon')"),
        ((*RUN, "--dry-run", "-n", "2", "--cluster-id", "a"), "give one"),
        ((*RUN, "--column", "path"), "is no table"),
        ((*RUN, "-o", "table.xlsx"), "-o must end in .parquet, .csv, .json or .arrow"),
        ((*RUN, "-o", "no/such/t.csv"), "there is no folder"),
        ((*RUN, "-o", "t.csv"), "is a folder; name a file"),
        ((*RUN, "--sample", "0"), "Invalid value for '--sample'"),
        ((*RUN, "--ext", "p*g"), "--ext must be like tif or png,jpg"),
        (("convolve", "photos", "-k", "box(3)", "-o", "photos"), "images lie in the output folder"),
        ((*RUN, "--ext", "tif"), "no file below 'photos' ends in .tif"),
        ((*RUN, "photos/00.png", "--ext", "png"), "--ext chooses among the files of a folder"),
        (("run", "numpy:nonsense", "photos"), "has no function 'nonsense'"),
        (("run", "numpy", "photos"), "name a function as module:function"),
        (("filter", "photos", "math:gcd"), "cannot be compiled"),
        (("filter", "photos", "math:fsum", "--size", "big"), "--size must be a number"),
        (("mtach",), "No such command 'mtach'"),
    ],
)
def test_what_can_be_known_is_refused_before_a_cluster_is_started(
    arguments: tuple[str, ...], message: str
) -> None:
    Path("t.csv").mkdir()
    ended = parimg(*arguments)
    assert ended.code == 2, ended.err
    assert message in ended.message
    assert "Traceback" not in ended.err


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_directory_that_holds_a_job_is_refused_and_a_new_one_is_not_left_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert parimg(*RUN, "--job", "job").code == 3
    monkeypatch.setattr(running, "open_controller", None)
    again = parimg(*RUN, "--job", "job")
    assert again.code == 2
    assert "'job' holds a job already" in again.message.replace(f"{os.getcwd()}/", "")
    os.mkdir("empty")
    for name in ("new", "a/b/c", "empty", "empty/d/e"):
        assert parimg(*RUN, "--job", name, "--dry-run").code == 0
    assert not Path("new").exists()
    assert not Path("a").exists()
    assert set(os.listdir("empty")) <= {"lock", "owner"}


@pytest.mark.usefixtures("no_cluster", "photos")
def test_a_dry_run_tells_what_would_be_run_and_runs_nothing(jobs_folder: Path) -> None:
    ended = parimg("convolve", "photos", "-k", "box(3)", "-o", "out", "--table", "t.csv", "--dry-run")
    assert ended.code == 0, ended.err
    assert "kernel='box(3)', output='out'" in ended.out
    assert "4 images: photos/00.png, photos/01.png, photos/02.png, photos/damaged.png\n" in ended.out
    assert "1 file left out: no image extension\n" in ended.out
    assert "table: t.csv\n" in ended.out
    assert not Path("t.csv").exists()
    assert not jobs_folder.exists()


@pytest.mark.usefixtures("no_cluster", "photos")
@pytest.mark.parametrize(
    "arguments",
    [
        ("convolve", "photos", "-k", "box(3)", "-o", "a/out"),
        ("filter", "photos", "numpy:max", "--output", "a/out"),
        ("match", "photos/00.png", "photos", "--pictures", "a/out"),
        ("skeleton", "photos", "--overlays", "a/out"),
    ],
)
def test_a_dry_run_makes_no_folder_and_leaves_one_that_is_there(arguments: tuple[str, ...]) -> None:
    ended = parimg(*arguments, "--dry-run")
    assert ended.code == 0, ended.err
    assert not Path("a").exists()
    Path("a", "out").mkdir(parents=True)
    assert parimg(*arguments, "--dry-run").code == 0
    assert Path("a", "out").is_dir()


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_preview_shows_some_images_and_keeps_nothing(jobs_folder: Path) -> None:
    arguments = ("convolve", "photos", "-k", "box(3)", "-o", "out", "--preview", 2, "--seed", 1)
    ended = parimg(*arguments)
    assert ended.code in {0, 3}, ended.err
    assert "2 of 4 images were run, " in ended.out
    assert "4 images on 2 engines would take " in ended.out
    assert "nothing was kept (--preview)" in ended.out
    [picture] = re.findall("pictures: (.*)", ended.out)
    assert cv2.imread(picture) is not None
    os.remove(picture)
    assert not Path("out").exists()
    assert not jobs_folder.exists()
    assert parimg("convolve", "photos", "-k", "box(3)", "-o", "out", "--preview", 0).code == 2


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_job_is_told_with_what_was_left_out_and_failed_images_give_exit_code_3() -> None:
    ended = parimg(*RUN, "-o", "t.CSV", "-n", "2")
    assert ended.code == 3
    assert "mean, finished: 4 of 4 images, 1 failed" in ended.out
    assert "  photos/damaged.png: ImageFormatError: " in ended.out
    assert "  1 file left out: no image extension\n" in ended.out
    assert "table: t.CSV\n" in ended.out
    assert len(pd.read_csv("t.CSV")) == 4


@pytest.mark.usefixtures("on_cluster", "photos")
def test_quiet_prints_the_job_s_directory_alone_and_verbose_the_parameters(jobs_folder: Path) -> None:
    quiet = parimg(*RUN, "-q")
    assert quiet.code == 3
    [name] = os.listdir(jobs_folder)
    assert (quiet.out, quiet.err) == (f"{jobs_folder / name}\n", "")
    assert "mean()\n" in parimg(*RUN, "-v").out


@pytest.mark.usefixtures("on_cluster", "photos")
def test_tables_are_written_even_if_nothing_can_be_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("the terminal is gone")

    monkeypatch.setattr(running, "print_records", fail)
    ended = parimg(*RUN, "-o", "t.json")
    assert ended.code == 1
    assert "parimg: RuntimeError: the terminal is gone\n" in ended.err
    assert "parimg --debug run numpy:mean photos -o t.json\n" in ended.err
    assert len(json.loads(Path("t.json").read_text())) == 4


@pytest.mark.usefixtures("on_cluster", "photos")
def test_debug_lets_an_error_through_wherever_it_is_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(running, "print_records", lambda *_: 1 / 0)
    for arguments in (("--debug", *RUN), (*RUN, "--debug")):
        with pytest.raises(ZeroDivisionError):
            parimg(*arguments)


@pytest.mark.usefixtures("on_cluster", "photos")
def test_ctrl_c_writes_the_table_so_far_and_prints_a_command_with_what_was_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    noise_pictures.write_pictures(Path("photos"), range(20))
    Path("slow.py").write_text("import time\ndef slow(image):\n    time.sleep(0.3)\n    return 1\n")

    def interrupt(job: Job) -> None:
        with job._interruptible():
            next(iter(job))
            raise KeyboardInterrupt

    monkeypatch.setattr(Job, "wait", interrupt)
    ended = parimg("run", "slow.py:slow", "photos", "-n", "2", "-o", "so far.csv", "--job", "job")
    assert ended.code == 130
    assert f"to go on: parimg resume {os.path.abspath('job')} -n 2 -o 'so far.csv'\n" in ended.err
    assert "table so far: so far.csv\n" in ended.err
    assert 1 <= len(pd.read_csv("so far.csv")) < 21


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_job_that_ends_early_writes_its_table_and_says_once_how_to_go_on() -> None:
    for number in range(6):
        Path("photos", f"bad{number}.png").write_bytes(b"no image")
    ended = parimg(*RUN, "--max-failures", "2", "-o", "t.csv", "--job", "job", "--profile", "any")
    assert ended.code == 1
    assert "images failed, more than max_failures=2" in ended.err
    command = f"parimg resume {os.path.abspath('job')}"
    assert f"to go on: {command} --profile any -o t.csv\n" in ended.out
    assert (ended.out + ended.err).count(command) == 1
    assert len(pd.read_csv("t.csv")) >= 3


def test_a_profile_that_does_not_exist_is_refused(photos: Path) -> None:
    ended = parimg(*RUN, "--profile", "slrum")
    assert ended.code == 2
    assert "no IPython profile 'slrum'" in ended.err


@pytest.mark.usefixtures("on_cluster", "photos")
def test_a_file_of_functions_may_import_what_lies_beside_it() -> None:
    Path("code").mkdir()
    Path("code", "measures_of_mine.py").write_text(
        "import scale_of_mine\nfrom scale_of_mine import twice\n"
        "def height(image):\n    return twice(image.shape[0]) + scale_of_mine.OFFSET\n"
    )
    Path("code", "scale_of_mine.py").write_text("OFFSET = 5\ndef twice(number):\n    return 2 * number\n")
    ended = parimg("run", "code/measures_of_mine.py:height", "photos", "-o", "t.csv")
    assert ended.code == 3, ended.err
    assert pd.read_csv("t.csv")["value"].dropna().tolist() == [197, 197, 197]  # 2 * 96 + 5
