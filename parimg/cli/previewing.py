"""What ``--preview`` shows: a table, a picture of the images, and what all would take."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import typer

from parimg.cli.options import EXIT_SOME_IMAGES_FAILED
from parimg.cli.showing import cell, shown_key
from parimg.console import print_table, say

if TYPE_CHECKING:
    from parimg.controller.previewing import Preview


def print_preview(preview: Preview) -> None:
    """Print a preview, and say where its picture lies; exit as a job would."""
    names = list(dict.fromkeys(name for record in preview.records for name in record.columns))
    rows = [
        [
            shown_key(record.key),
            f"{record.decode_seconds + record.task_seconds:.3g}",
            *(cell(record.columns.get(name)) for name in names),
        ]
        for record in preview.records
        if record.ok
    ]
    if rows:
        print_table(["image", "seconds", *names], rows)
    for record in preview.failed:
        say(f"  {shown_key(record.key)}: {record.error}: {record.message}")
    for line in preview.describe():
        say(line)
    say(_picture(preview))
    say("nothing was kept (--preview)")
    if preview.failed:
        raise typer.Exit(EXIT_SOME_IMAGES_FAILED)


def _picture(preview: Preview) -> str:
    try:
        import matplotlib as mpl
    except ImportError:
        return "pictures: pip install 'parimg[plots]' shows them"
    mpl.use("Agg")
    handle, path = tempfile.mkstemp(prefix="parimg-preview-", suffix=".png")
    os.close(handle)
    figure = preview.plot()[0].get_figure(root=True)
    if figure is not None:
        figure.savefig(path, dpi=110)
    return f"pictures: {path}"
