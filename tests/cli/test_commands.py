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
    ],
)
def test_what_was_typed_wrong_is_told_with_exit_code_2(
    photos: Path, arguments: tuple[str, ...], message: str
) -> None:
    ended = parimg(*(part.format(ref=photos / "00.png", dir=photos) for part in arguments))
    assert ended.code == 2, ended.out
    assert message in ended.message
