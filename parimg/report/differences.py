"""The page of two jobs' differences, with pictures."""

from __future__ import annotations

import itertools
import os
import time
from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from parimg.job import pictures
from parimg.job.job import Job, open_job
from parimg.job.journal import Journal
from parimg.job.plotting import load_task, options_of
from parimg.notebook.markup import address
from parimg.report.facts import when
from parimg.report.page import check_libraries, write_page

if TYPE_CHECKING:
    from parimg.job.comparison import Comparison, Difference
    from parimg.record import Record

_SHOWN = 1000  # differences that are listed
_PICTURES = 30  # of them with pictures


def write_diff(
    first: Job | str | os.PathLike[str],
    second: Job | str | os.PathLike[str],
    comparison: Comparison,
    path: str | os.PathLike[str],
    *,
    most: int = _PICTURES,
) -> Counter[str]:
    """Write the differences of two jobs as one HTML file, the first thousand, some with pictures of either job.

    Returns
    -------
    Counter of str
        That of `Comparison.counts`, after all images were compared.
    """
    check_libraries()
    journals = [Journal((job if isinstance(job, Job) else open_job(job)).directory) for job in (first, second)]
    looks = [(load_task(journal), options_of(journal)) for journal in journals]

    def picture(record: Record | None, place: int) -> str:
        return "" if record is None else address(pictures.record_picture(looks[place][0], record, looks[place][1]))

    shown: list[dict[str, Any]] = []
    found = iter(comparison)
    for one in itertools.islice(found, _SHOWN):
        drawn = [picture(one.first, 0), picture(one.second, 1)] if len(shown) < most else []
        shown.append({"key": one.key, "kind": one.kind, "lines": list(lines_of(one)), "pictures": drawn})
    for _ in found:  # counted only
        pass
    context = {
        "directories": [journal.directory for journal in journals],
        "names": [journal.meta("task")["name"] for journal in journals],
        "counts": comparison.counts,
        "shown": shown,
        "made_at": when(time.time()),
    }
    write_page(path, "diff.html", context)
    return comparison.counts


def lines_of(found: Difference) -> Iterable[tuple[str, str, str]]:
    """What differs, line by line: name, what the first job has, what the second."""
    if found.kind == "values":
        for name, (one, other) in found.values.items():
            yield name, shown_value(one), shown_value(other)
    elif found.first is not None and found.second is not None:
        yield "status", _status(found.first), _status(found.second)


def shown_value(value: Any, longest: int = 80) -> str:
    """A value in a few words; of an array its dtype and shape."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"array of {value.dtype if value.dtype.names is None else 'rows'}, shape {value.shape}"
    text = f"{value:.8g}" if isinstance(value, float) else str(value)
    return text if len(text) <= longest else f"{text[:longest]}..."


def _status(record: Record) -> str:
    return "ok" if record.ok else f"{record.error}: {(record.message or '')[:200]}"
