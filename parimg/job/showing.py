"""What a job and its failures look like in a notebook: HTML of their journal.

Called by `Job` and `Failures`. While a job runs only numbers are read, so that looking costs it next to nothing.
"""

from __future__ import annotations

import contextlib
import itertools
from typing import TYPE_CHECKING

from parimg.job.causes import Cause, causes_of
from parimg.notebook import markup

if TYPE_CHECKING:
    from parimg.job.failures import Failures
    from parimg.job.job import Job
    from parimg.job.journal import Journal
    from parimg.notebook.markup import Markup
    from parimg.record import Record

_PICTURES = 4
_CAUSES = 5
_LOOKED_AT = 500  # failed images whose messages are compared; it is done twice a second
_WIDTH = 200  # px of a picture


def job_html(job: Job, journal: Journal) -> Markup:
    """A job: how far it is, why images failed, and, once it has ended, some images with their results."""
    counts = job.counts
    ok, failed, done, total = (counts[name] or 0 for name in ("ok", "failed", "done", "total"))
    of = f"{done:,} images" if counts["total"] is None else f"{done:,} of {total:,} images"
    runs = job.state == "running"
    parts: list[object] = [
        markup.bar(ok, failed, counts["total"]),
        f"{of}, {failed:,} failed{_pace(job, done, counts['total']) if runs else ''}",
        markup.facts(
            {
                "engines": "waiting for an engine" if job.engines == 0 else job.engines,
                "tiles": "{} of {}".format(*job.tiles) if job.tiles else None,
                "duplicates": job.duplicates or None,
                "run by": job.writer if runs and job.engines is None else None,
                "time": markup.duration(job.wall_time),
                "directory": job.directory,
                "to go on": None if runs or job.state == "finished" else job.resume_command,
            }
        ),
        _causes(_causes_of(job.failures)) if failed else None,
    ]
    if not runs:
        parts.append(markup.row(picture_of(record, record.key) for record in _chosen(journal)))
    return markup.box(job.name, job.state, parts)


def failures_html(failures: Failures) -> Markup:
    """Failed images by cause, with the first of each."""
    parts: list[object] = []
    if count := len(failures):
        causes = _causes_of(failures)
        parts.append(_causes(causes))
        firsts = [cause.first for cause in causes[:_PICTURES] if cause.first is not None]
        parts.append(markup.row(picture_of(record, record.key) for record in firsts))
    return markup.box("Failures", f"{count:,} {'image' if count == 1 else 'images'}", parts)


def picture_of(record: Record, caption: str, width: int = _WIDTH) -> Markup:
    """A record's image with its result, empty where that cannot be had."""
    with contextlib.suppress(Exception):  # the image, the job or matplotlib is not there, or others can write it
        return markup.picture(type(record).draw(record), caption, width=width)
    return markup.Markup()


def _pace(job: Job, done: int, total: int | None) -> str:
    """Images a second, and the time that the others take at this pace."""
    seconds = job.wall_time
    if not done or seconds <= 0:
        return ""
    rate = done / seconds
    left = "" if total is None else f", about {markup.duration((total - done) / rate)} left"
    return f", {rate:,.3g} images/s{left}"


def _causes_of(failures: Failures) -> list[Cause]:
    return causes_of(itertools.islice(failures, _LOOKED_AT))


def _causes(causes: list[Cause]) -> Markup:
    rows = [(cause.count, cause.reason, ", ".join(cause.keys[:3])) for cause in causes[:_CAUSES]]
    compared = sum(cause.count for cause in causes)
    if len(causes) > _CAUSES:
        rows.append((sum(cause.count for cause in causes[_CAUSES:]), "others", ""))
    first = f" (of the first {_LOOKED_AT})" if compared == _LOOKED_AT else ""
    return markup.table((f"failed{first}", "cause", "images"), rows)


def _chosen(journal: Journal) -> list[Record]:
    from parimg.job.plotting import choose_records

    return choose_records(journal, _PICTURES)
