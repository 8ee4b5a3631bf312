"""Retries: what becomes of the images that were on an engine when it died.

Only the image that the engine was at is blamed, where its flight recorder says which; the others run again as if
nothing had been. Decides, and changes nothing but the counts of the images; called by the dispatcher.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from parimg.dispatch.in_flight import Pending, Sent
from parimg.engine.flight_recorder import IDLE, PREPARING, LastWords
from parimg.errors import EngineDied
from parimg.options import Options

_MAX_LOSSES = 10  # for each attempt: engines that die before they take an image up, for which it is not to blame


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is to be done."""

    again: list[list[Pending]] = field(default_factory=list)
    """Chunks to be run again."""
    failed: list[tuple[Pending, str, str, str | None]] = field(default_factory=list)
    """Images that get a failed record: with type of the error, message, traceback."""


def find_verdict(lost: list[Sent], words: LastWords | None, end: str, options: Options) -> Verdict:
    """Decide over the chunks of a dead engine.

    Parameters
    ----------
    lost : list of Sent
        The engine's chunks, in the order in which it got them.
    words : LastWords or None
        What its flight recorder says; without, every image of the first chunk counts as its possible cause.
    end : str
        What is known of the process's end, for messages.
    options : Options
    """
    verdict = Verdict()
    most_losses = _MAX_LOSSES * (options.retries + 1)
    for place, sent in enumerate(lost):
        suspects = _suspects(sent, words, is_first=place == 0)
        waiting = [pending for pending in sent.images if pending not in suspects]
        for pending in waiting:
            pending.losses += 1
        if others := [pending for pending in waiting if pending.losses <= most_losses]:
            verdict.again.append(others)
        verdict.failed.extend(
            (pending, EngineDied.__name__, f"{pending.losses} engines died before they took it up: {end}", None)
            for pending in waiting
            if pending.losses > most_losses
        )
        for pending in suspects:
            pending.attempts += 1
            _judge(pending, words, end, options, verdict)
    return verdict


def _suspects(sent: Sent, words: LastWords | None, *, is_first: bool) -> list[Pending]:
    """Images of a lost chunk that the engine may have died of."""
    if words is None:
        return list(sent.images) if is_first else []
    if words.chunk != sent.number or words.index == IDLE:
        return []
    return list(sent.images) if words.index == PREPARING else [sent.images[words.index]]


def _judge(pending: Pending, words: LastWords | None, end: str, options: Options, verdict: Verdict) -> None:
    trace = words.traceback if words is not None else None
    if words is not None and words.timed_out and options.timeout is not None:
        message = f"it ran longer than timeout={options.timeout:g} s, and its engine was ended"
        verdict.failed.append((pending, TimeoutError.__name__, message, trace))
    elif pending.attempts > options.retries:
        message = f"its engine died at each of {pending.attempts} attempts: {end}"
        if words is not None and words.memory:
            message += f"; before this image its memory had reached {words.memory / 2**20:.0f} MiB"
        verdict.failed.append((pending, EngineDied.__name__, message, trace))
    else:
        verdict.again.append([pending])
