"""Why images of a job failed: those that failed alike are one cause. For the command line and reports."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from parimg.record import Record

LOOKED_AT = 10_000
"""Failed images whose messages are compared."""
_NAMED = 5  # images that are named where many failed alike
_LONGEST = 400  # characters of a message


@dataclass
class Cause:
    """Why images failed: the same error with the same message, but for names and numbers in it."""

    reason: str
    count: int = 0
    keys: list[str] = field(default_factory=list)
    first: Record | None = None
    """The first of them."""


def causes_of(failed: Iterable[Record]) -> list[Cause]:
    """Group failed images by cause, the commonest first."""
    causes: dict[tuple[str | None, str], Cause] = {}
    for record in failed:
        message = record.message or ""
        kind = message
        for name in sorted({record.uri, record.key, os.path.basename(record.key)} - {""}, key=len, reverse=True):
            kind = kind.replace(name, "")
        new = Cause(f"{record.error}: {_shortened(message)}", first=record)
        cause = causes.setdefault((record.error, re.sub(r"\d+", "0", kind)), new)
        cause.count += 1
        if len(cause.keys) < _NAMED:
            cause.keys.append(record.key)
    return sorted(causes.values(), key=lambda cause: -cause.count)


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
