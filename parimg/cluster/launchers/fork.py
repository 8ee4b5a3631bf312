"""Engines of one host, forked from one warm process; see `parimg.cluster.forked_engines`.

Used by ipyparallel under the name ``parimg-fork``.
"""

from __future__ import annotations

import sys
from typing import Any

from ipyparallel.cluster.launcher import EngineLauncher, LocalProcessLauncher

FORKED_ENGINES = "parimg.cluster.forked_engines"


class ForkedEnginesLauncher(LocalProcessLauncher, EngineLauncher):  # type: ignore[misc]
    """One process, whose children are the engines; a signal to it goes to all of them.

    It replaces engines that die itself, so ipyparallel takes it for running until the last one has left.
    """

    entrypoint_name = "parimg-fork"

    def find_args(self) -> list[str]:
        """The command of the warm process."""
        return [sys.executable, "-m", FORKED_ENGINES, str(self.n), *self.cluster_args, *self.engine_args]

    def start(self, n: int) -> Any:
        """Start n engines."""
        self.n = n
        return super().start()
