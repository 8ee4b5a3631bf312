"""What a report says of a job, read from its journal in a few passes."""

from __future__ import annotations

import itertools
import json
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from parimg.job.causes import LOOKED_AT, Cause, causes_of
from parimg.job.listing import describe_source
from parimg.job.plotting import Course, natural_columns, numeric_columns, read_course

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from parimg.job.job import Job
    from parimg.job.journal import HostShare, Journal, Run
    from parimg.record import Record
    from parimg.tasks.task import Task

_VALUES = 12  # columns whose distribution is told
_HOSTS = 40
_CAUSES = 20


@dataclass(frozen=True)
class Spread:
    """How the numbers of a column lie."""

    name: str
    count: int
    least: float
    middle: float
    mean: float
    most: float


@dataclass(frozen=True)
class Facts:
    """The numbers and texts of a report."""

    parameters: dict[str, str]
    options: dict[str, Any]
    versions: dict[str, str]
    digest: str
    source: str
    runs: list[Run]
    hosts: list[HostShare]
    more_hosts: int
    seconds: Spread | None
    values: list[Spread]
    causes: list[Cause]
    more_causes: int
    by_error: dict[str, int]
    course: Course
    plotted: list[str]
    ranking: str


def read_facts(job: Job, journal: Journal, task: Task) -> Facts:
    """Read what a report says of a job."""
    described = journal.meta("task")
    first = journal.next_ok(0)
    plotted = list(natural_columns(task, first))
    numbers = list(dict.fromkeys([*plotted, *([] if first is None else numeric_columns(first)[:_VALUES])]))
    ranked = [name for name in task.ranked_by if name.lstrip("-") in numbers]
    course = read_course(journal, numbers)
    causes = causes_of(itertools.islice(job.failures, LOOKED_AT))
    hosts = journal.by_host()
    return Facts(
        parameters=described["parameters"],
        options=journal.meta("options") or {},
        versions=journal.meta("versions") or {},
        digest=described["refs"][0][0] if described["refs"] else "",
        source=describe_source(journal.meta("source") or {}),
        runs=journal.runs(),
        hosts=hosts[:_HOSTS],
        more_hosts=max(0, len(hosts) - _HOSTS),
        seconds=_spread("seconds", _image_seconds(journal)),
        values=[spread for name in numbers if (spread := _spread(name, course.values[name]))],
        causes=causes[:_CAUSES],
        more_causes=max(0, len(causes) - _CAUSES),
        by_error={error: group.count for error, group in job.failures.by_error.items()},
        course=course,
        plotted=plotted,
        ranking=ranked[0] if ranked else plotted[0] if plotted else "",
    )


def best_images(journal: Journal, facts: Facts, most: int) -> list[Record]:
    """The images that come first by the task's ranking; none if it has no such column."""
    import numpy as np

    name = facts.ranking.lstrip("-")
    if not name:
        return []
    values = facts.course.values[name]
    known = np.flatnonzero(np.isfinite(values))
    order = np.argsort(values[known] * (1 if facts.ranking.startswith("-") else -1), kind="stable")[:most]
    found = (journal.next_ok(int(facts.course.positions[known[place]])) for place in order)
    return [record for record in found if record is not None]


def shown_values(record: Record, longest: int = 120) -> str:
    """A record's columns on one line."""
    text = ", ".join(
        f"{name} {value:.5g}" if isinstance(value, float) else f"{name} {json.dumps(value, ensure_ascii=False)}"
        for name, value in itertools.islice(record.columns.items(), 12)
    )
    return text if len(text) <= longest else f"{text[:longest]}..."


def when(seconds: float | None) -> str:
    """A time of day and date here."""
    return "" if seconds is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _image_seconds(journal: Journal) -> npt.NDArray[np.float64]:
    import numpy as np

    found = [np.array(batch, np.float64).sum(axis=1) for batch in journal.fields("decode_seconds", "task_seconds")]
    return np.concatenate(found) if found else np.zeros(0)


def _spread(name: str, values: npt.NDArray[np.float64]) -> Spread | None:
    import numpy as np

    known = values[np.isfinite(values)]
    if not len(known):
        return None
    return Spread(
        name, len(known), float(known.min()), float(np.median(known)), float(known.mean()), float(known.max())
    )
