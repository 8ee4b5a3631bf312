"""Previews: a task on a few images, what they look like, and what all of them would take.

Runs a job in a temporary directory, into which the task writes its files, too; nothing of it stays. Called by
`Controller.preview`.
"""

from __future__ import annotations

import dataclasses
import math
import os
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from parimg.console import byte_unit
from parimg.images.readers.part import Described
from parimg.job.journal import Journal
from parimg.job.output_files import name_files
from parimg.job.pictures import picture_with
from parimg.job.plotting import image_of, listed, new_axes, options_of, plot_record
from parimg.notebook import markup
from parimg.options import Options
from parimg.record import Record
from parimg.sources.sampling import Chosen, choose
from parimg.tasks.task import Task
from parimg.tasks.writing_task import WritingTask

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from parimg.controller.controller import Controller
    from parimg.job.job import Job
    from parimg.sources.source import Source

_PICTURES, _PICTURE_WIDTH, _ROWS, _COLUMNS = 12, 200, 30, 6  # in a notebook; px wide
_CONFIDENCE = 0.9  # that what all images take lies between low and high
_UNKNOWN_TOTAL = 1000  # images that estimates are for where nobody knows how many there are


class Estimate(NamedTuple):
    """What all images would take, as far as some tell.

    Attributes
    ----------
    low, expected, high : float
        Between low and high in nine of ten cases, if the images are a fair sample; both infinitely far, 0 and
        infinity, where only one image was run.
    """

    low: float
    expected: float
    high: float

    @classmethod
    def of_sum(cls, values: Sequence[float], n: int) -> Estimate:
        """The sum of `n` images like these: Student's interval of their mean."""
        import numpy as np
        from scipy.stats import t

        if not len(values):
            return cls(0.0, 0.0, 0.0)
        mean = float(np.mean(values))
        if len(values) == 1:
            return cls(0.0, n * mean, math.inf)
        error = float(np.std(values, ddof=1)) / math.sqrt(len(values))
        wide = float(t.ppf((1 + _CONFIDENCE) / 2, len(values) - 1)) * error
        return cls(n * max(0.0, mean - wide), n * mean, n * (mean + wide))

    def over(self, share: float) -> Estimate:
        """Each number divided."""
        return Estimate(self.low / share, self.expected / share, self.high / share)


@dataclass(frozen=True, eq=False)
class Preview:
    """A task on some images of a source, and what all of them would take.

    Attributes
    ----------
    task : Task
    records : list of Record
        Of the images that were run, by place in the source.
    total : int or None
        Images of the source; None of a generator.
    engines : int
        Those that all images would be run on.
    images : int
        How many the estimates are for: `total`, or 1000 where that is unknown.
    seconds : Estimate
        Time that all images take on these engines, without compiling and starting.
    memory : Estimate
        Most that one engine occupies, bytes: least, mean and most over the images that were run.
    output_bytes : Estimate
        Size of the files that the task writes; 0 if it writes none.
    journal_bytes : Estimate
        Size of the job's directory.
    """

    task: Task
    records: list[Record]
    total: int | None
    engines: int
    images: int
    seconds: Estimate
    memory: Estimate
    output_bytes: Estimate
    journal_bytes: Estimate
    _arrays: dict[str, Any] = field(default_factory=dict, repr=False)
    _options: Options = field(default_factory=Options, repr=False)

    @property
    def failed(self) -> list[Record]:
        """Records of the images that failed."""
        return [record for record in self.records if not record.ok]

    def describe(self) -> list[str]:
        """What all images would take, a line each."""
        of = "an unknown number of" if self.total is None else f"{self.total:,}"
        lines = [f"{len(self.records)} of {of} images were run, {len(self.failed)} failed"]
        for_all = f"{self.images:,} images on {self.engines} engine{'s' if self.engines > 1 else ''}"
        lines.append(f"{for_all} would take {_told(self.seconds, markup.duration)}")
        each = _told(self.memory, _size)
        lines.append(f"memory of an engine: {each}; of all: up to {_size(self.memory.high * self.engines)}")
        if self.output_bytes.expected:
            lines.append(f"files that are written: {_told(self.output_bytes, _size)}")
        lines.append(f"the job's directory: {_told(self.journal_bytes, _size)}")
        return lines

    def __repr__(self) -> str:
        return f"<Preview of {self.task.name}: {'; '.join(self.describe())}>"

    def _repr_html_(self) -> str:
        pictures = [
            markup.picture(self._picture(record), record.key, width=_PICTURE_WIDTH)
            for record in self.records[:_PICTURES]
        ]
        names = list(next((record.columns for record in self.records if record.ok), {}))[:_COLUMNS]
        rows = [
            (record.key, *(record.get(name, "") for name in names))
            if record.ok
            else (record.key, f"{record.error}: {record.message}")
            for record in self.records[:_ROWS]
        ]
        parts = [*self.describe(), markup.row(pictures), markup.table(("image", *names), rows)]
        return markup.box(f"Preview of {self.task.name}", "", parts)

    def _image(self, record: Record) -> Described | None:
        array = self._arrays.get(record.key)
        return image_of(self.task, record, self._options) if array is None else Described(array)

    def _picture(self, record: Record) -> bytes:
        try:
            return picture_with(self.task, record, self._image(record))
        except ImportError:  # no matplotlib
            return b""

    def to_pandas(self) -> pd.DataFrame:
        """The values as a data frame: ``key, status, error``, the seconds, and the task's columns."""
        import pandas as pd

        return pd.DataFrame([
            {
                "key": record.key,
                "status": record.status,
                "error": record.error,
                "seconds": record.decode_seconds + record.task_seconds,
                **record.columns,
            }
            for record in self.records
        ])  # fmt: skip

    def plot(self, axes: Axes | Iterable[Axes] | None = None) -> list[Axes]:
        """Draw the images, each as its task does; they are not shown.

        Parameters
        ----------
        axes : matplotlib Axes or several, optional
            By default in a new figure.

        Returns
        -------
        list of matplotlib Axes
        """
        drawn = listed(axes) or new_axes(len(self.records), columns=min(4, len(self.records)))
        for ax, record in zip(drawn, self.records, strict=False):
            plot_record(self.task, record, self._image(record), ax)
        return drawn


def preview(
    controller: Controller,
    task: Task,
    source: Source,
    n: int,
    seed: int,
    options: dict[str, Any],
) -> Preview:
    """See `parimg.Controller.preview`."""
    chosen, total = choose(name_files(task, source), n, seed)
    with tempfile.TemporaryDirectory(prefix="parimg-preview-") as folder:
        output = os.path.join(folder, "output")
        redirected = task.redirected(output) if isinstance(task, WritingTask) else task
        job = controller.submit(redirected, Chosen(chosen), job_dir=os.path.join(folder, "job"), **options)
        _wait(job)
        journal = Journal(job.directory)
        used = options_of(journal)
        records = [dataclasses.replace(record, job="") for record in job.in_order()]
        stored = [
            float(_ROW_BYTES + len(key) + len(uri) + len(columns) + len(arrays or b""))
            for batch in journal.fields("key", "uri", "columns", "arrays")
            for key, uri, columns, arrays in batch
        ]
        written = _sizes(records, redirected)
    n_images = _UNKNOWN_TOTAL if total is None else total
    engines = max(len(controller), 1)
    spent = [record.decode_seconds + record.task_seconds for record in records]
    peaks = [record.peak_memory for record in records if record.peak_memory is not None] or [0]
    # Engines end together only if there is something left for each.
    at_once = max(1, min(engines, n_images))
    return Preview(
        task=redirected,
        records=records,
        total=total,
        engines=engines,
        images=n_images,
        seconds=Estimate.of_sum(spent, n_images).over(at_once),
        memory=Estimate(min(peaks), sum(peaks) / len(peaks), max(peaks)),
        output_bytes=Estimate.of_sum(written, n_images),
        journal_bytes=Estimate.of_sum(stored, n_images),
        _arrays={image.key: image.array for image in chosen if image.array is not None},
        _options=used,
    )


_ROW_BYTES = 180  # of a record in the journal, besides texts and arrays, its three indexes included


def _wait(job: Job) -> None:
    """Wait for the end; by Ctrl-C it is given up, without telling how to go on with what is temporary."""
    try:
        while not job.ready():
            time.sleep(0.02)
    except BaseException:
        job.abort()
        raise
    job.wait()  # raises what ended it


def _sizes(records: list[Record], task: Task) -> list[float]:
    """Bytes of the file, or folder, that each image became; of files that hold several an equal share."""
    if not isinstance(task, WritingTask) or task.folder is None:
        return []
    good = [record for record in records if record.ok]
    found = [_size_of(record.get(task.path_column)) for record in good]
    if not all(found):
        found = [_size_of(task.folder) / len(good) for _ in good]
    return found + [0.0] * (len(records) - len(good))


def _size_of(path: object) -> float:
    if not isinstance(path, str) or not os.path.exists(path):
        return 0.0
    files = [os.path.join(folder, name) for folder, _, names in os.walk(path) for name in names]
    return float(sum(map(os.path.getsize, files or [path])))


def _told(estimate: Estimate, shown: Any) -> str:
    if not math.isfinite(estimate.high):
        return f"about {shown(estimate.expected)}, by one image"
    low, high = shown(estimate.low), shown(estimate.high)
    return shown(estimate.expected) if low == high else f"{shown(estimate.expected)} ({low} to {high})"


def _size(nbytes: float) -> str:
    size, unit = byte_unit(nbytes)
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.3g} {unit}"
