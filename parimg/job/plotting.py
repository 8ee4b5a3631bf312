"""Plots of a whole job on matplotlib's axes, from its journal: `Job.plot` and `Job.plot_timeline`.

What one record looks like is drawn by the job's task. Nothing is shown: figures belong to whoever asked.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.console import visible
from parimg.errors import JobError, ParimgError
from parimg.job.timeline import Timeline, Worker, read_timeline, work_axis
from parimg.options import Options
from parimg.tasks._axes import caption_of, set_caption, show_image
from parimg.tasks.reading import read_for
from parimg.tasks.task import Task

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from matplotlib.axes import Axes

    from parimg.images.readers.part import Described
    from parimg.job.journal import Journal
    from parimg.record import Record

_NAMED = 60  # images whose names stand below a course
_POINTS = 3000  # of a course; with more images it is a band
_BARS = 3000  # images that are drawn one by one in a timeline
_ROWS = 40  # engines of such a timeline
_NAME = 24  # characters
_COLUMNS = 4  # that are drawn where a task does not say which
_DECODE, _OK, _FAILED = "#a9c7e4", "#3b78b5", "#d03a2b"


def new_axes(n: int, columns: int = 3, width: float = 3.4, height: float = 3.0) -> list[Axes]:
    """Axes in a new figure; those that make rows full are left out.

    Raises
    ------
    JobError
        If matplotlib is not installed.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise JobError(f"plots need matplotlib: pip install 'parimg[plots]' ({error})") from error
    columns = min(columns, n)
    rows = -(-n // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(width * columns, height * rows), squeeze=False)
    figure.set_layout_engine("constrained")
    for left_over in axes.flat[n:]:
        left_over.remove()
    return list(axes.flat[:n])


def listed(axes: object) -> list[Axes] | None:
    """Axes as users have them, one, a list or an array of `plt.subplots`, as a list."""
    import numpy as np

    return None if axes is None else list(np.array(axes, dtype=object).ravel())


def load_task(journal: Journal) -> Task:
    """The job's task; where it cannot be loaded here any more, one that shows images as they are."""
    try:
        return journal.load_task()
    except Exception:  # of another version, a module that is gone, a folder that others can write
        return Task()


def image_of(task: Task, record: Record, options: Options) -> Described | None:
    """What a record's task was given, read once more; None if it is not there any more, or was an array."""
    if not record.uri:
        return None
    try:
        return read_for(task, record.uri, max_pixels=options.max_pixels, reading=options.reading)
    except (ParimgError, NotImplementedError, OSError):
        return None


def plot_record(task: Task, record: Record, image: Described | None, ax: Axes) -> None:
    """Draw one record, as its task does; one that failed is its image, with the error."""
    if record.ok:
        try:
            task.plot(record, image, ax)
        except Exception as error:  # a user's own, or values that the task does not know
            reason = f"{type(error).__name__}: {error}"
            ax.clear()
        else:
            return
    else:
        reason = f"{record.error}: {record.message}"
    show_image(ax, picture_of(image), visible(reason)[:200])
    set_caption(ax, caption_of(record))


def picture_of(image: Described | None) -> npt.NDArray[Any] | None:
    """The pixels that can be shown; a region index or a feature map has none."""
    pixels = None if image is None else image.pixels
    kind = getattr(getattr(pixels, "dtype", None), "kind", "")
    return pixels if kind and kind in "biufc" else None


# -- the task's natural picture of a job ----------------------------------------------------------------------


def plot_job(
    journal: Journal, axes: list[Axes] | None, columns: Sequence[str] | None = None, n: int = 6
) -> list[Axes]:
    """See `parimg.Job.plot`."""
    first = journal.next_ok(0)
    if first is None and not journal.count_by_status()["failed"]:
        raise JobError(f"nothing of the job {journal.directory!r} is recorded yet, so there is nothing to draw")
    if columns is None:
        columns = natural_columns(load_task(journal), first)
    elif first is not None and (unknown := set(columns) - set(first.columns)):
        known = ", ".join(numeric_columns(first)) or "no column of numbers"
        raise JobError(f"the records have no column {min(unknown)!r}; there is {known}")
    if columns:
        return [plot_course(journal, columns, axes[0] if axes else None)]
    return plot_images(journal, axes, n)


def natural_columns(task: Task, first: Record | None) -> Sequence[str]:
    """The columns whose course is the picture of a job; none if pictures of its images are."""
    found = [] if first is None else numeric_columns(first)
    return found[:_COLUMNS] if task.plotted is None else [name for name in task.plotted if name in found]


class Course(NamedTuple):
    """Columns over a job's images."""

    positions: npt.NDArray[np.int64]
    """Place in the source of each image that went well."""
    values: dict[str, npt.NDArray[np.float64]]
    """By column; NaN where an image has none."""
    failed: npt.NDArray[np.int64]
    """Places of images that failed."""


def read_course(journal: Journal, names: Sequence[str]) -> Course:
    """Read columns of all images, by place."""
    import numpy as np

    positions: list[int] = []
    failed: list[int] = []
    values: dict[str, list[float]] = {name: [] for name in names}
    for batch in journal.fields("position", "status", "columns"):
        good = [(position, columns) for position, status, columns in batch if status == "ok"]
        failed += [position for position, status, _ in batch if status != "ok"]
        positions += [position for position, _ in good]
        found = json.loads(f"[{','.join(columns for _, columns in good)}]")  # twice as fast as one by one
        for name, column in values.items():
            read = (one.get(name) for one in found)
            column += [value if type(value) in {int, float} else np.nan for value in read]
    places = np.array(positions, np.int64)
    order = np.argsort(places, kind="stable")
    in_order = {name: np.array(column, np.float64)[order] for name, column in values.items()}
    return Course(places[order], in_order, np.sort(np.array(failed, np.int64)))


def numeric_columns(record: Record) -> list[str]:
    """Columns of a record that are numbers."""
    return [
        name
        for name, value in record.columns.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    ]


def plot_course(journal: Journal, names: Sequence[str], ax: Axes | None = None) -> Axes:
    """Plot columns over the places of a job's images."""
    ax = ax if ax is not None else new_axes(1, width=8.0, height=4.0)[0]
    draw_course(journal, names, ax)
    return ax


def draw_course(journal: Journal, names: Sequence[str], ax: Axes, course: Course | None = None) -> None:
    """Plot columns that may have been read already."""
    course = course or read_course(journal, names)
    course = course._replace(values={name: course.values[name] for name in names})
    for name, values in course.values.items():
        if len(values) <= _POINTS:
            marker = "o" if len(values) <= _NAMED else "."
            ax.plot(course.positions, values, marker=marker, markersize=4, linewidth=1, label=name)
        else:
            _plot_band(ax, course.positions, values, name)
    if len(course.failed):
        shown = course.failed[:: max(1, len(course.failed) // _POINTS)]
        bottom = ax.get_xaxis_transform()
        label = f"{len(course.failed)} failed"
        ax.plot(shown, [0.01] * len(shown), "x", color=_FAILED, transform=bottom, clip_on=False, label=label)
    n = len(course.positions) + len(course.failed)
    if n <= _NAMED:
        named = sorted((place, key) for batch in journal.fields("position", "key") for place, key in batch)
        ax.set_xticks([place for place, _ in named])
        labels = [_short(os.path.basename(key) or key) for _, key in named]
        ax.set_xticklabels(labels, rotation=90, fontsize=7, parse_math=False)
    else:
        ax.set_xlabel("image, by place in the source")
        ax.ticklabel_format(style="plain", axis="x")
    if len(names) == 1:
        ax.set_ylabel(visible(names[0]), parse_math=False)
    if len(names) > 1 or len(course.failed):
        for text in ax.legend(fontsize=8).get_texts():
            text.set_parse_math(False)
    ax.set_title(f"{visible(str(journal.meta('task')['name']))}: {n} images", fontsize=10, parse_math=False)
    ax.grid(alpha=0.3)


def _plot_band(ax: Axes, positions: npt.NDArray[np.int64], values: npt.NDArray[np.float64], name: str) -> None:
    """A thousand steps of mean, least and most."""
    import numpy as np

    parts = np.array_split(np.arange(len(values)), 1000)
    middle, least, most, mean = (np.full(len(parts), np.nan) for _ in range(4))
    for n, part in enumerate(parts):
        known = values[part][np.isfinite(values[part])]
        middle[n] = positions[part].mean()
        if len(known):
            least[n], most[n], mean[n] = known.min(), known.max(), known.mean()
    [line] = ax.plot(middle, mean, linewidth=1, label=f"{name}: mean, least, most")
    ax.fill_between(middle, least, most, color=line.get_color(), alpha=0.25, linewidth=0)


def plot_images(journal: Journal, axes: Sequence[Axes] | None, n: int) -> list[Axes]:
    """Draw some images of a job, evenly chosen by place in the source, each on axes of its own."""
    records = choose_records(journal, n if axes is None else len(axes))
    drawn = list(axes) if axes is not None else new_axes(max(len(records), 1))
    task, options = load_task(journal), options_of(journal)
    for ax, record in zip(drawn, records, strict=False):
        plot_record(task, record, image_of(task, record, options), ax)
    for ax in drawn[len(records) :]:
        ax.set_axis_off()
    return drawn


def choose_records(journal: Journal, n: int) -> list[Record]:
    """Up to `n` images that went well, evenly chosen by place in the source; where none did, that failed."""
    last = journal.last_position()
    found: dict[int, Record] = {}
    for k in range(n):
        record = journal.next_ok(max((last + 1) * k // n, max(found, default=-1) + 1))
        if record is not None:
            found[record.position] = record
    return list(found.values()) or journal.failed_slice(range(n))


def options_of(journal: Journal) -> Options:
    """How the job was run, for reading its images once more."""
    return Options.changed(journal.meta("options") or {}, {})


# -- the engines over time ------------------------------------------------------------------------------------


def plot_timeline(journal: Journal, ax: Axes | None = None, timeline: Timeline | None = None) -> Axes:
    """Plot what each engine did when: each image as a bar, or the share of the time that engines were busy."""
    import numpy as np

    timeline = timeline or read_timeline(journal)
    rows = len(timeline.workers)
    ax = ax if ax is not None else new_axes(1, width=8.0, height=min(8.0, 1.8 + 0.25 * max(rows, 3)))[0]
    unit, name = next((one for one in _UNITS if timeline.seconds > 2 * one[0]), _UNITS[-1])
    if rows and timeline.images <= _BARS and rows <= _ROWS:
        _plot_bars(journal, timeline, ax, unit)
    elif rows:
        extent = (0, timeline.seconds / unit, rows - 0.5, -0.5)
        shown = ax.imshow(timeline.busy, extent=extent, aspect="auto", vmin=0, vmax=1, cmap="Blues")
        ax.figure.colorbar(shown, ax=ax, label="busy", pad=0.01)
        where, when = np.nonzero(timeline.failed)
        middle = (timeline.edges[:-1] + timeline.edges[1:]) / 2 / unit
        ax.plot(middle[when], where, "|", color=_FAILED, markersize=min(4.0, max(0.8, 200 / rows)))
    for start in timeline.starts[1:]:
        ax.axvline(start / unit, color="black", linewidth=1, linestyle=":")
    _name_rows(timeline.workers, ax)
    ax.set(xlim=(0, timeline.seconds / unit), ylim=(max(rows, 1) - 0.5, -0.5), xlabel=f"{name} of work")
    busy = f", busy {timeline.busy_share:.0%} of their time" if rows else ""
    runs = f", {len(timeline.starts)} runs" if len(timeline.starts) > 1 else ""
    ax.set_title(f"{timeline.images} images on {rows} engines{busy}{runs}", fontsize=10, loc="left")
    return ax


_UNITS = ((86_400, "days"), (3600, "hours"), (60, "minutes"), (1, "seconds"))


def _plot_bars(journal: Journal, timeline: Timeline, ax: Axes, unit: float) -> None:
    import numpy as np

    place, _, _ = work_axis(journal.runs(), journal.spans())
    row_of = {worker: row for row, worker in enumerate(timeline.workers)}
    bars: dict[tuple[int, str], list[tuple[float, float]]] = {}
    fields = ("run", "started", "decode_seconds", "task_seconds", "status", "engine", "host", "pid")
    for batch in journal.fields(*fields):
        for run, started, decoding, running, status, engine, host, pid in batch:
            row = row_of.get(Worker(host or "", engine, pid or 0)) if engine is not None else None
            if row is None:
                continue
            begin = float(place(np.array([run]), np.array([started]))[0])
            color = _FAILED if status == "failed" else _OK
            bars.setdefault((row, _DECODE), []).append((begin / unit, decoding / unit))
            bars.setdefault((row, color), []).append(((begin + decoding) / unit, running / unit))
    for (row, color), spans in bars.items():
        ax.broken_barh(spans, (row - 0.4, 0.8), color=color, edgecolor="white", linewidth=0.3)
    used = {color for _, color in bars}
    for color, label in ((_DECODE, "reading"), (_OK, "task"), (_FAILED, "failed")):
        if color in used:
            ax.broken_barh([], (0, 0), color=color, label=label)
    ax.legend(fontsize=7, ncols=3, loc="lower right", bbox_to_anchor=(1, 1), frameon=False)


def _name_rows(workers: Sequence[Worker], ax: Axes) -> None:
    """Engines by number, and their host where there are several; of many, hosts alone."""
    hosts = list(dict.fromkeys(worker.host for worker in workers))
    if len(workers) <= _ROWS:
        ax.set_yticks(range(len(workers)))
        labels = [f"{one.host} {one.engine}" if len(hosts) > 1 else f"engine {one.engine}" for one in workers]
    else:
        first = {host: row for row, host in reversed(list(enumerate(worker.host for worker in workers)))}
        shown = hosts[:: -(-len(hosts) // _ROWS)]
        ax.set_yticks([first[host] for host in shown])
        labels = shown
    ax.set_yticklabels([_short(label) for label in labels], fontsize=7, parse_math=False)


def _short(text: str) -> str:
    return visible(text if len(text) <= _NAME else f"...{text[-_NAME:]}")
