"""Recording: journals the rows of a run, counts them, and ends a job in which too much fails.

Called by the dispatcher's thread alone; whoever waits for records in other threads waits at `changed`.
"""

from __future__ import annotations

import threading

from parimg import events
from parimg.console import print_line
from parimg.dispatch.common_failure import ALIKE, MISSING, CommonFailure
from parimg.dispatch.plan import Plan
from parimg.errors import TooManyFailures
from parimg.job.directory import resume_command
from parimg.job.journal import Recorded
from parimg.job.journal_writer import JournalWriter
from parimg.record import Placement, Row

_MOST_TRACES = 10_000  # failures of a run that are kept with traceback and whole message: at most 60 MB
_SHORT_MESSAGE = 200  # characters


class Recording:
    """The records of one run; it owns all counts of them.

    Parameters
    ----------
    plan : Plan
    journal : JournalWriter
    listeners : Listeners
    changed : threading.Condition
        Notified when records were written.

    Attributes
    ----------
    counts : dict
        Records by status, of all runs; changed under `changed`.
    """

    def __init__(
        self, plan: Plan, journal: JournalWriter, listeners: events.Listeners, changed: threading.Condition
    ) -> None:
        self.counts = journal.count_by_status()
        self._plan = plan
        self._journal = journal
        self._listeners = listeners
        self._changed = changed
        self._failed = self._done = self._traces = 0
        self._common = CommonFailure()
        self._has_raised = False
        self._unreported: list[tuple[list[tuple[Row, int]], dict[str, Recorded], Placement, float]] = []

    def write(self, rows: list[tuple[Row, int]], placement: Placement, seconds: float) -> None:
        """Journal rows, each with its number of attempts, and let others know of them by `report`."""
        rows = [(self._shortened(row), attempts) for row, attempts in rows]
        replaced = self._journal.recorded([row.key for row, _ in rows]) if self._plan.retry_failed else {}
        try:
            self._journal.append(rows, placement)
        except BaseException:
            self._unreported.clear()  # what the journal held back is undone, too
            raise
        self._unreported.append((rows, replaced, placement, seconds))
        if not self._journal.holds_back:
            self.report()

    def report(self) -> None:
        """Let others know of the rows that were written, which are all in the journal before.

        Raises
        ------
        TooManyFailures
            Once, when failures are more than the options allow, or a host sees none of its images; the rows are
            written.
        """
        unreported, self._unreported = self._unreported, []
        self._journal.commit()
        reasons = [reason for written in unreported if (reason := self._report(*written))]
        if reasons and not self._has_raised:
            self._has_raised = True
            raise TooManyFailures(reasons[0])

    def _report(
        self, rows: list[tuple[Row, int]], replaced: dict[str, Recorded], placement: Placement, seconds: float
    ) -> str:
        failed = sum(row.status == "failed" for row, _ in rows)
        with self._changed:
            for earlier in replaced.values():
                self.counts[earlier.status] -= 1
            self.counts["ok"] += len(rows) - failed
            self.counts["failed"] += failed
            self._changed.notify_all()
        self._listeners.emit(events.RecordsWritten(len(rows) - failed, failed, placement.engine, seconds))
        self._failed += failed
        self._done += len(rows)
        return self._reason_to_end([row for row, _ in rows], placement.host, failed)

    def _reason_to_end(self, rows: list[Row], host: str | None, failed: int) -> str:
        """Why the job is to end after these rows, empty if it is not; report that all fail alike."""
        if (cause := self._common.note_rows(rows)) is not None:
            self._listeners.emit(events.AllFailedAlike(ALIKE, *cause))
            print_line(
                f"warning: all of the first {ALIKE} images failed alike, the first with {cause.error}: "
                f"{cause.message:.200}"
            )
        command = resume_command(self._journal.directory)
        if host is not None and self._common.note_host(host, rows):
            return (
                f"the first {MISSING} images that {host} was given are all missing there, such as "
                f"{rows[0].uri or rows[0].key!r}; does that host see their folder? They are recorded as failed; "
                f"to run them again and go on: {command} --retry-failed"
            )
        if not failed or self._has_raised or not self._plan.options.has_too_many(self._failed, self._done):
            return ""
        groups = self._journal.failures_by_error()
        most = "; ".join(f"{group.count} {group.error} ({group.message:.200})" for group in groups[:3])
        return (
            f"{self._failed} of {self._done} images failed, more than max_failures="
            f"{self._plan.options.max_failures}; all failures so far: {most}; to go on: {command}"
        )

    def _shortened(self, row: Row) -> Row:
        """A failed row without its traceback, once so many failed that nobody reads them: disks are finite."""
        if row.message is None:
            return row
        self._traces += 1
        if self._traces <= _MOST_TRACES:
            return row
        return row._replace(message=row.message[:_SHORT_MESSAGE], traceback=None)
