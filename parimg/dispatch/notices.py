"""Notices: what engines say of images that the user should know, said once a job.

Called by the dispatcher's thread alone, with every answer.
"""

from __future__ import annotations

import logging

from parimg.protocol.messages import Reply

_log = logging.getLogger(__name__)


class Notices:
    """Remembers what was said."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def take(self, reply: Reply) -> None:
        """Log what is new in an answer."""
        if reply.most_pages > 1 and self._is_new("pages"):
            _log.warning(
                "an image has %d pages or frames, of which only the first was taken, and there may be others: see "
                "the column 'pages'; color='stack' gives all pages of a TIFF file",
                reply.most_pages,
            )
        if reply.read_whole and self._is_new("whole"):
            _log.warning("%s read by tiles: images of its kind are run whole", reply.read_whole)
        for line in reply.losses:
            if self._is_new(line):
                _log.warning("%s", line)

    def _is_new(self, what: str) -> bool:
        is_new = what not in self._said
        self._said.add(what)
        return is_new
