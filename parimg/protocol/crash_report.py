"""The file in which an engine says which image it is at, and what is read of it when the engine died.

Written by the engine's flight recorder, and by `faulthandler` behind its header; read by the client, or by another
engine of the host for it.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

FOLDER = "engines"
"""Folder of the recorders in a host's own folder, for jobs whose directory it does not see."""

HEADER = b"%19d %9d %19d\n"
"""Number of the chunk, place of the image in it, peak memory before it."""
HEADER_LENGTH = len(HEADER % (0, 0, 0))
PREPARING, IDLE = -1, -2  # in the place of an image's index
_LONGEST = 100_000  # bytes read of a recorder: a deep recursion in many threads
_LONGEST_TRACE = 4_000  # characters of a traceback kept


@dataclass(frozen=True, slots=True)
class CrashReport:
    """What the recorder of a dead engine says."""

    chunk: int
    """Number of the last chunk that the engine took up."""
    index: int
    """Place in that chunk of the image it was at; ``PREPARING`` or ``IDLE`` if it was at none."""
    memory: int
    """Peak resident memory of the engine before it took up that image, bytes."""
    text: str
    """Traceback, empty if the process had no chance to write one."""

    @property
    def timed_out(self) -> bool:
        """Whether the engine ended itself because the image ran too long."""
        return self.text.startswith("Timeout (")

    @property
    def traceback(self) -> str | None:
        """The traceback of the thread that ran the image."""
        head, *threads = re.split(r"^(?=(?:Current thread|Thread|Stack) )", self.text, flags=re.MULTILINE)
        # The function that ipyparallel calls, wherever its module lies.
        chosen = next((text for text in threads if " in run_chunk" in text), None)
        if not self.text:
            return None
        text = head + (chosen or "".join(threads))
        return text if len(text) <= _LONGEST_TRACE else f"{text[:_LONGEST_TRACE]}..."


def read_report(folder: str, name: str) -> CrashReport | None:
    """What the recorder `name` says, None if there is none here."""
    try:
        return parse_report(read_bytes(os.path.join(folder, name)))
    except OSError:
        return None


def parse_report(found: bytes | None) -> CrashReport | None:
    """A report as an engine of the host gives it."""
    if found is None or len(found) < HEADER_LENGTH:
        return None
    try:
        chunk, index, peak = (int(number) for number in found[:HEADER_LENGTH].split())
    except ValueError:
        return None
    return CrashReport(chunk, index, peak, found[HEADER_LENGTH:].decode("utf-8", "replace"))


def read_bytes(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_LONGEST)
