"""What ``%parimg jobs`` shows: a table in a notebook, text elsewhere."""

from __future__ import annotations

import io
import itertools
from contextlib import redirect_stdout
from dataclasses import dataclass

from parimg.console import print_table
from parimg.job.listing import list_jobs
from parimg.notebook import markup

_COLUMNS = ("job", "task", "images", "done", "failed", "state", "time")


@dataclass(frozen=True)
class JobTable:
    """The newest jobs, a row each."""

    rows: tuple[tuple[str, ...], ...]
    is_cut: bool

    @classmethod
    def read(cls, most: int | None) -> JobTable:
        """The newest jobs of the user's folder, or all."""
        found = [
            (
                job.name,
                job.task,
                job.source,
                f"{job.done}" if job.total is None else f"{job.done}/{job.total}",
                str(job.failed),
                job.state,
                markup.duration(job.seconds),
            )
            for job in itertools.islice(list_jobs(), None if most is None else most + 1)
        ]
        return cls(tuple(found[:most]), most is not None and len(found) > most)

    def __repr__(self) -> str:
        if not self.rows:
            return "no jobs"
        text = io.StringIO()
        with redirect_stdout(text):
            print_table(_COLUMNS, self.rows, whole_names=True)
        return text.getvalue() + ("older ones: %parimg jobs --all" if self.is_cut else "")

    def _repr_html_(self) -> str:
        more = "older ones: %parimg jobs --all" if self.is_cut else None
        return markup.box("Jobs", "" if self.rows else "none", [markup.table(_COLUMNS, self.rows), more])
