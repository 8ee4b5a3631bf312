"""Tables of jobs as files, in the format that their names end in."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from parimg.files.atomic import whole_file

if TYPE_CHECKING:
    import pyarrow as pa

    from parimg.job.job import Job

FORMATS = ("parquet", "csv", "json", "arrow")


def check_output(output: Path | None, option: str = "-o", formats: tuple[str, ...] = FORMATS) -> None:
    """Refuse a table that could not be written, before anything is run."""
    if output is None:
        return
    if output.suffix[1:].lower() not in formats:
        wanted = f"{', '.join(f'.{name}' for name in formats[:-1])} or .{formats[-1]}"
        raise typer.BadParameter(f"{option} must end in {wanted} (got {str(output)!r})")
    check_folder(output, option)


def check_folder(output: Path, option: str) -> None:
    """Refuse a file that could not be written where it is wanted."""
    folder = output.absolute().parent
    if not folder.is_dir():
        raise typer.BadParameter(f"{option} {str(output)!r}: there is no folder {str(folder)!r}")
    if output.is_dir():
        raise typer.BadParameter(f"{option} {str(output)!r} is a folder; name a file")
    if not os.access(folder, os.W_OK):
        raise typer.BadParameter(f"{option} {str(output)!r}: nothing can be written into {str(folder)!r}")


def export(job: Job, output: Path | None, nested: str | None = None, kind: str | None = None) -> None:
    """Write a job's table, or the nested tables of one name, if it is wanted."""
    if output is None:
        return
    kind = kind or output.suffix[1:].lower()
    if kind in {"parquet", "csv"}:
        (job.to_parquet if kind == "parquet" else job.to_csv)(output, nested)
    else:
        import pyarrow as pa

        table = job.to_arrow() if nested is None else pa.Table.from_pandas(job.table(nested), preserve_index=False)
        with whole_file(output) as unfinished:
            (_write_json if kind == "json" else _write_arrow)(table, unfinished)


def _write_arrow(table: pa.Table, path: str) -> None:
    import pyarrow as pa

    with pa.ipc.new_file(path, table.schema) as writer:
        writer.write_table(table)


def _write_json(table: pa.Table, path: str) -> None:
    """A list of objects, one a line."""
    with open(path, "w", encoding="utf-8") as file:
        before = "[\n"
        for batch in table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                file.write(f"{before}{to_json(row)}")
                before = ",\n"
        file.write("[]\n" if before == "[\n" else "\n]\n")


def to_json(value: object) -> str:
    """JSON as every reader takes it: what is no number, or infinite, is null."""
    return json.dumps(_finite(value), ensure_ascii=False, allow_nan=False, default=str)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
