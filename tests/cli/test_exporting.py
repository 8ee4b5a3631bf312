"""Tables as files, in each format."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pytest
from command_line import parimg

from parimg.cli.exporting import to_json

VALUES = "def values(image):\n    return {'side': image.shape[0], 'ratio': float('nan'), 'name': 'caf\\u00e9'}\n"


@pytest.fixture
def job(on_cluster: None, photos: Path) -> str:
    Path("mine.py").write_text(VALUES)
    return parimg("run", "mine.py:values", photos, "-q").out.strip()


def test_a_job_is_exported_in_every_format(job: str) -> None:
    name = os.path.basename(job)
    for kind in ("csv", "parquet", "json", "arrow"):
        ended = parimg("export", name, "--to", kind)
        assert (ended.code, ended.out) == (0, f"table: {name}.{kind}\n"), ended.err
    with open(f"{name}.json", encoding="utf-8") as file:
        rows = json.load(file)
    assert [row["side"] for row in rows] == [96, 96, 96, None]
    assert rows[0]["ratio"] is None
    assert rows[0]["name"] == "café"
    with pa.ipc.open_file(f"{name}.arrow") as reader:
        arrow = reader.read_all()
    assert arrow.column_names == list(rows[0]) == list(pd.read_parquet(f"{name}.parquet").columns)
    assert arrow["key"].to_pylist() == list(pd.read_csv(f"{name}.csv")["key"]) == [row["key"] for row in rows]


def test_the_ending_tells_the_format_in_either_case_unless_it_is_given(job: str) -> None:
    assert parimg("export", job, "-o", "T.PARQUET").code == 0
    assert len(pd.read_parquet("T.PARQUET")) == 4
    assert parimg("export", job, "-o", "t.dat", "--to", "csv").code == 0
    assert len(pd.read_csv("t.dat")) == 4
    assert parimg("export", job).out == f"table: {os.path.basename(job)}.csv\n"
    assert "must end in" in parimg("export", job, "-o", "t.dat").message
    missing = parimg("export", job, "--table", "branches")
    assert missing.code == 2
    assert "no record of this job has a table 'branches'" in missing.err


@pytest.mark.usefixtures("on_cluster", "photos")
def test_nested_tables_are_exported_in_every_format() -> None:
    job = parimg("skeleton", "photos", "-q").out.strip()
    for kind in ("csv", "json", "arrow"):
        assert parimg("export", job, "--table", "branch_table", "--to", kind, "-o", f"b.{kind}").code == 0
    rows = json.loads(Path("b.json").read_text())
    with pa.ipc.open_file("b.arrow") as reader:
        assert reader.read_all().num_rows == len(rows) == len(pd.read_csv("b.csv")) > 10
    assert rows[0]["key"] == "photos/00.png"


def test_json_has_null_for_what_is_no_number() -> None:
    assert to_json({"a": [float("inf"), {"b": float("nan")}], "c": 1.5}) == '{"a": [null, {"b": null}], "c": 1.5}'
