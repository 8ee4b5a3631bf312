"""Heartbeat: find out that a cluster's controller is gone.

ipyparallel's client waits for ever for a controller that died. So a thread asks the Hub for a sign of life every
few seconds while jobs run. Used by `parimg.cluster.supervisor`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING

from parimg.cluster.ipyparallel_internals import ask_hub, is_closed

if TYPE_CHECKING:
    import ipyparallel as ipp

PERIOD = 1.5  # s that an answer may take; after half of it comes the next question
MISSES = 6  # questions without an answer until the controller counts as lost: 13.5 s


class Heartbeat:
    """Watches the controller of one client.

    Answers are counted, not the time: a client that is itself held up, as by a notebook cell in native code, does
    not take its controller for dead.

    Parameters
    ----------
    client : ipyparallel.Client
    is_needed : callable
        Whether the controller is asked at all; each question leaves a line in its log.
    find_death : callable
        Says what died if the processes of the controller can be looked at, else nothing.
    on_beat : callable
        Called after every answer.
    on_loss : callable
        Called once with the reason, from this object's thread.
    """

    def __init__(
        self,
        client: ipp.Client,
        is_needed: Callable[[], bool],
        find_death: Callable[[], str],
        on_beat: Callable[[], None],
        on_loss: Callable[[str], None],
    ) -> None:
        self._client = client
        self._is_needed = is_needed
        self._find_death = find_death
        self._on_beat = on_beat
        self._on_loss = on_loss
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="parimg-heartbeat", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more, and wait for what is just being called."""
        self._stopped.set()
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _watch(self) -> None:
        misses = 0
        while not self._stopped.wait(PERIOD / 2):
            lost = self._find_death()
            if not lost:
                misses = 0 if not self._is_needed() or self._answers() else misses + 1
                if misses >= MISSES:
                    lost = f"it gave no sign of life for {MISSES * 1.5 * PERIOD:.0f} s"
            if self._stopped.is_set():
                return
            if lost or is_closed(self._client):
                self._on_loss(lost or "it was shut down")
                return
            if misses == 0:
                self._on_beat()

    def _answers(self) -> bool:
        """Whether the Hub answers within the period."""
        answered = threading.Event()
        try:
            question = ask_hub(self._client)
        except OSError:  # the client was closed, as ipyparallel does when a controller is shut down in order
            return False
        question.add_done_callback(lambda _: answered.set())
        return answered.wait(PERIOD)
