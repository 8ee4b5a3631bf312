"""What single commands refuse."""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import parimg


@pytest.mark.usefixtures("no_cluster")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("match", "{ref}", "{dir}/*.jpeg"), "*.jpeg"),
        (("match", "{dir}/none.png", "{dir}"), "the reference cannot be read"),
        (("match", "{ref}", "{dir}", "-o", "table.xlsx"), "-o must end in .parquet, .csv, .json or .arrow"),
        (("match", "{ref}", "{dir}", "--max-ratio", "2"), "max_ratio must lie in"),
        (("match", "{ref}", "{dir}", "--cross-check", "both"), "both"),
        (
            ("convolve", "{dir}", "-k", "gauss", "-o", "{dir}/out"),
            "kernel must be an array, a .npy file, or one of",
        ),
        (("convolve", "{dir}", "-k", "sobel"), "Missing option"),
        (("convolve", "{dir}", "-k", "sobel", "-o", "{dir}/out", "--table", "a.xlsx"), "--table must end in"),
        (("convolve", "{dir}", "-k", "box(3)", "-o", "{dir}/out", "--dtype", "int"), "dtype must be one of"),
        (("filter", "{dir}", "spread"), "name a function as module:function"),
        (("filter", "{dir}", "no/such.py:spread"), "no file 'no/such.py'"),
        (("filter", "{dir}", "numpy:ptp", "-o", "out", "--format", "gif"), "gif"),
        (("profiles", "install", "nonsense"), "no cluster profile 'nonsense'"),
        (("profiles", "install", "ssh", "--set", "host=a:1"), "has no setting 'host'; it has address, fork"),
        (("run", "numpy:mean", "{dir}", "--channel", "-1"), "--channel is a number from 0, or a name"),
        (("demo", "{ref}"), "the views cannot be written into"),
        (("jobs", "{ref}"), "00.png' is not a job"),
        (("jobs", "{dir}"), "photos' is not a job"),
        (("jobs", "{dir}", "--remove"), "photos' is not a job"),
    ],
)
def test_what_was_typed_wrong_is_told_with_exit_code_2(
    photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = parimg(*(part.format(ref=photos / "00.png", dir=photos) for part in arguments))
    assert ended.code == 2, ended.out
    assert message in ended.message


@pytest.mark.usefixtures("no_cluster")
def test_doctor_of_a_folder_says_what_its_disk_can_do_without_a_cluster(tmp_path: Path) -> None:
    told = parimg("doctor", tmp_path)
    assert told.code == 0
    first, second, *found = told.out.splitlines()
    assert first.startswith(f"{tmp_path}: ")
    assert first.endswith(", a disk of this host")
    assert second == "journals are written there"
    assert [(line[:40].strip(), line[40:]) for line in found] == [
        ("a file made once only", "ok"),
        ("a rename over a file", "ok"),
        ("fsync", "ok"),
        ("a lock between processes of this host", "ok"),
    ]
    assert parimg("doctor", tmp_path / "nowhere").code == 2
