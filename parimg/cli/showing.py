"""What commands show of jobs: tables on the screen, what failed and why, what a task was given."""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import parimg
from parimg.console import byte_unit, print_table, say, visible
from parimg.job.causes import LOOKED_AT, causes_of

if TYPE_CHECKING:
    from parimg.job.job import Job
    from parimg.job.listing import JobSummary

SHOWN = 20  # rows of a table on the screen
_FUNCTION = re.compile(r"<(?:built-in )?function (?:\S*\.)?(\w+|<lambda>)(?: at 0x\w+)?>")  # is called by its name


def print_records(job: Job, sort_by: str | None = None) -> None:
    """Print the values of some images: the first, or those with the most of one column."""
    import heapq

    good = (record for record in job.in_order() if record.ok)
    if sort_by is not None:
        shown = heapq.nlargest(SHOWN, good, key=lambda record: record[sort_by])
    else:
        shown = list(itertools.islice(good, SHOWN))
    if not shown:
        return
    names = list(shown[0].columns)
    n_good = job.counts["ok"] or 0
    print_table(
        ["image", *names],
        [[shown_key(record.key), *(cell(record.columns.get(name)) for name in names)] for record in shown],
        title=f"{sort_by}, most first" if sort_by else None,
        caption=f"{len(shown)} of {n_good} images" if n_good > len(shown) else None,
    )


def shown_key(key: str) -> str:
    """An image's name, relative to the current directory if it is a path below it."""
    if not os.path.isabs(key):
        return visible(key)
    relative = os.path.relpath(key)
    outside = relative == os.pardir or relative.startswith(os.pardir + os.sep)
    return visible(key if outside else relative)


def cell(value: object) -> str:
    """A value in a table."""
    return "" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)


def print_summary(job: Job, *, verbose: bool = False) -> None:
    """Print how a job stands, and why images failed."""
    counts = job.counts
    of = "" if counts["total"] is None else f" of {counts['total']}"
    say(
        f"{job.name}, {job.state}: {counts['done']}{of} images, {counts['failed']} failed, {job.wall_time:.1f} s "
        f"({job.serial_time:.1f} s on engines)"
    )
    if tiles := job.tiles:
        say(f"  {tiles[0]} of {tiles[1]} tiles are done of the images under way")
    if job.duplicates:
        say(f"  {job.duplicates} images were named more than once, and run once")
    if verbose:
        for record in job.failures:
            say(f"  {shown_key(record.key)}: {record.error}: {record.message}")
    elif counts["failed"]:
        _print_causes(job)


def _print_causes(job: Job) -> None:
    causes = causes_of(itertools.islice(job.failures, LOOKED_AT))
    for cause in causes[:SHOWN]:
        names = [shown_key(key) for key in cause.keys]
        if cause.count == 1:
            say(f"  {names[0]}: {cause.reason}")
        else:
            more = ", ..." if cause.count > len(names) else ""
            say(f"  {cause.count} images failed alike: {cause.reason}")
            say(f"    {', '.join(names)}{more}")
    n_failed = job.counts["failed"] or 0
    if len(causes) > SHOWN or n_failed > LOOKED_AT:
        kinds = ", ".join(f"{group.count} {group.error}" for group in job.failures.by_error.values())
        say(f"  in all {kinds}; -v names every one")


def describe_task(name: str, parameters: Mapping[str, str], longest: int = 120) -> str:
    """A task as it would be typed, with those parameters that are not as they are by default."""
    usual = _defaults("Function" if "function" in parameters and name not in parimg.__all__ else name)
    values = {one: _FUNCTION.sub(r"\1", value) for one, value in parameters.items() if value != usual.get(one)}
    text = f"{name}({', '.join(f'{one}={value}' for one, value in values.items() if value != name)})"
    return text if len(text) <= longest else f"{text[: longest - 4]}...)"


def _defaults(name: str) -> dict[str, str]:
    """How a task's parameters are described where they were not given."""
    import dataclasses

    task: Any = getattr(parimg, name, None) if name in parimg.__all__ else None
    fields = dataclasses.fields(task) if dataclasses.is_dataclass(task) else ()
    return {one.name: repr(one.default) for one in fields if one.default is not dataclasses.MISSING}


def shown_size(nbytes: int) -> str:
    """A number of bytes, rounded."""
    size, unit = byte_unit(nbytes)
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def job_facts(job: JobSummary) -> dict[str, Any]:
    """What scripts want to know of a job."""
    return {
        "job": job.name,
        "directory": job.place.path,
        "task": job.task,
        "parameters": job.parameters,
        "source": job.source,
        "state": job.state,
        "ok": job.done - job.failed,
        "failed": job.failed,
        "done": job.done,
        "total": job.total,
        "seconds": job.seconds,
        "last_used": job.last_used,
        "bytes": job.nbytes,
    }
