"""Retries: what becomes of the images that were on an engine when it died, or that it refused.

Only the image that a dead engine was at is blamed, where its flight recorder says which; the others run again as
if nothing had been. Decides, and changes nothing but the counts of the images, which are changed nowhere else;
called by the dispatcher and by `lost_engines`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parimg.dispatch.in_flight import Pending, Sent
from parimg.errors import EngineDied, EngineRefused
from parimg.options import Options
from parimg.protocol.crash_report import IDLE, PREPARING, CrashReport

_MAX_LOSSES = 10  # for each attempt: engines that die before they take an image up, for which it is not to blame


@dataclass(frozen=True, slots=True)
class RetryDecision:
    """What is to be done."""

    again: list[list[Pending]] = field(default_factory=list)
    """Chunks to be run again."""
    failed: list[tuple[Pending, str, str, str | None]] = field(default_factory=list)
    """Images that get a failed record: with type of the error, message, traceback."""


def decide_retries(lost: list[Sent], report: CrashReport | None, end: str, options: Options) -> RetryDecision:
    """Decide over the chunks of a dead engine.

    Parameters
    ----------
    lost : list of Sent
        The engine's chunks, in the order in which it got them.
    report : CrashReport or None
        What its flight recorder says; without, every image of the first chunk counts as its possible cause.
    end : str
        What is known of the process's end, for messages.
    options : Options
    """
    decision = RetryDecision()
    most_losses = _MAX_LOSSES * (options.retries + 1)
    for place, sent in enumerate(lost):
        suspects = _suspects(sent, report, is_first=place == 0)
        waiting = [pending for pending in sent.images if pending not in suspects]
        for pending in waiting:
            pending.losses += 1
        if others := [pending for pending in waiting if pending.losses <= most_losses]:
            decision.again.append(others)
        decision.failed.extend(
            (pending, EngineDied.__name__, f"{pending.losses} engines died before they took it up: {end}", None)
            for pending in waiting
            if pending.losses > most_losses
        )
        for pending in suspects:
            pending.attempts += 1
            _judge(pending, report, end, options, decision)
    return decision


def decide_refusal(images: list[Pending], refusal: EngineRefused) -> RetryDecision:
    """Decide over a chunk that was answered with an error: one unusable result must not spoil its neighbours."""
    if len(images) > 1:
        return RetryDecision(again=[[pending] for pending in images])
    images[0].attempts += 1
    return RetryDecision(failed=[(images[0], refusal.name, refusal.message, None)])


def _suspects(sent: Sent, report: CrashReport | None, *, is_first: bool) -> list[Pending]:
    """Images of a lost chunk that the engine may have died of."""
    if report is None:
        return list(sent.images) if is_first else []
    if report.chunk != sent.number or report.index == IDLE:
        return []
    return list(sent.images) if report.index == PREPARING else [sent.images[report.index]]


def _judge(
    pending: Pending, report: CrashReport | None, end: str, options: Options, decision: RetryDecision
) -> None:
    trace = report.traceback if report is not None else None
    if report is not None and report.timed_out and options.timeout is not None:
        message = f"it ran longer than timeout={options.timeout:g} s, and its engine was ended"
        decision.failed.append((pending, TimeoutError.__name__, message, trace))
    elif pending.attempts > options.retries:
        message = f"its engine died at each of {pending.attempts} attempts: {end}"
        if report is not None and report.memory:
            message += f"; before this image its memory had reached {report.memory / 2**20:.0f} MiB"
        decision.failed.append((pending, EngineDied.__name__, message, trace))
    else:
        decision.again.append([pending])
