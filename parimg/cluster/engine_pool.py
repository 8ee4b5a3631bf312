"""The engines of a client, as a dispatcher uses them: chunks and shared objects to one engine, news of its end.

Nothing of ipyparallel goes out: answers are plain futures, errors are `EngineGone` or `EngineRefused`. Messages go
by way of `engine_line`.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import cast

import ipyparallel as ipp

from parimg.cluster.engine_line import Answer, EngineLine
from parimg.cluster.ipyparallel_internals import is_closed, kill_unregistered
from parimg.engine.disks import look_at_disks
from parimg.engine.flight_recorder import fetch_crash_report
from parimg.engine.runner import receive_shared, run_chunk
from parimg.engine.setup import Handshake, handshake
from parimg.errors import EngineGone
from parimg.protocol.disk_sharing import DiskQuestion, SeenDisks

_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 60.0  # s, between handshakes with an engine that does not answer


class ClientEngines:
    """The engines of a client.

    Parameters
    ----------
    client : ipyparallel.Client
    exit_reason : callable, optional
        Given the process id of an engine of our own that died, says how it ended.
    """

    def __init__(self, client: ipp.Client, exit_reason: Callable[[int], str] | None = None) -> None:
        self._exit_reason = exit_reason
        self.use(client)

    def use(self, client: ipp.Client | None) -> None:
        """From now on these are the engines of another client, or none."""
        self._client = client
        self._line = None if client is None else EngineLine.to(client)
        self._processes: dict[int, tuple[str, int]] = {}
        self._disks: dict[int, str] = {}
        self._groups: dict[int, str] = {}
        self._answering: set[int] = set()
        self._ask_at: dict[int, tuple[float, float]] = {}
        self._replaced: set[int] = set()

    def ids(self) -> list[int]:
        """Engines there are now."""
        client = self._client
        return [] if client is None or is_closed(client) else cast("list[int]", client.ids)

    def ready(self) -> list[int]:
        """Those that have answered, and so can be given chunks.

        A message to an engine whose connection is not up yet, as under the load of a start, is dropped without a
        word by ipyparallel's multiplexer. So each engine is asked until it answers, less and less often, because
        one that is only busy hears all of it in the end.
        """
        ids = self.ids()
        now = time.monotonic()
        for engine_id in ids:
            if engine_id not in self._answering and now >= self._ask_at.get(engine_id, (0.0, 0.0))[0]:
                self._handshake(engine_id, now)
        return [engine_id for engine_id in ids if engine_id in self._answering]

    def _handshake(self, engine_id: int, now: float) -> None:
        """Make an engine fit for images, and learn its host and process."""
        pause = min(2 * self._ask_at.get(engine_id, (0.0, _FIRST_PAUSE / 2))[1], _LONGEST_PAUSE)
        self._ask_at[engine_id] = (now + pause, pause)
        processes, disks, groups = self._processes, self._disks, self._groups
        answering, replaced = self._answering, self._replaced

        def note(answer: Future[Handshake]) -> None:
            with contextlib.suppress(Exception):  # it died, or has another parimg, which its first chunk will tell
                told = answer.result()
                processes[engine_id] = told.host, told.pid
                disks[engine_id], groups[engine_id] = told.disks, told.group
                if told.is_replaced:
                    replaced.add(engine_id)
            answering.add(engine_id)

        with contextlib.suppress(EngineGone):  # it left in this very moment
            self._ask(engine_id, handshake).add_done_callback(note)

    def probe(self, engine_id: int) -> Future[int]:
        """Ask an engine for a sign of life, behind what it was sent before."""
        return self._ask(engine_id, len, b"")

    def process(self, engine_id: int) -> tuple[str, int] | None:
        """Host and process id of an engine, also of one that died, where it told them."""
        return self._processes.get(engine_id)

    def is_replaced(self, engine_id: int) -> bool:
        """Whether who started an engine starts another when it dies."""
        return engine_id in self._replaced

    def group(self, engine_id: int) -> str:
        """What an elastic cluster called the engines that this one was asked for with, empty for others."""
        return self._groups.get(engine_id, "")

    def disks(self, engine_id: int) -> tuple[str, str] | None:
        """Host of an engine, and the name of what it sees of disks, None if it did not tell."""
        disks = self._disks.get(engine_id)
        return None if disks is None else (self._processes[engine_id][0], disks)

    def look_at_disks(self, question: DiskQuestion, engine_id: int) -> Future[SeenDisks]:
        """Ask an engine what its host sees."""
        return self._ask(engine_id, look_at_disks, question)

    def run(self, chunk: bytes, engine_id: int) -> Future[bytes]:
        """Send a chunk to an engine."""
        return self._ask(engine_id, run_chunk, chunk)

    def image_at(self, answer: Future[bytes]) -> int | None:
        """The image of a chunk that its engine last said to be at, None if it said nothing yet."""
        assert isinstance(answer, Answer), "of another pool"  # noqa: S101
        return answer.image

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        """Send a shared object to one engine."""
        return self._ask(engine_id, receive_shared, digest, data)

    def fetch_crash_report(self, name: str, engine_id: int) -> Future[bytes | None] | None:
        """Ask another engine of the same host what a dead one recorded; None if there is no other."""
        host, _ = self._processes.get(engine_id, (None, 0))
        for other in self.ids():
            if other != engine_id and host is not None and self._processes.get(other, (None, 0))[0] == host:
                return self._ask(other, fetch_crash_report, name)
        return None

    def exit_reason(self, engine_id: int) -> str:
        """What is known of a dead engine's end."""
        found = self.process(engine_id)
        if found is None:
            return f"engine {engine_id}"
        host, pid = found
        end = self._exit_reason(pid) if self._exit_reason is not None else ""
        return f"engine {engine_id}, process {pid} on {host}" + (f", {end}" if end else "")

    def kill(self, engine_id: int) -> None:
        """End an engine that does not answer: its nanny, a process beside it, takes the signal."""
        client = self._client
        if client is not None and not is_closed(client):
            with contextlib.suppress(ipp.error.NoEnginesRegistered, IndexError):
                client.send_signal("SIGKILL", targets=engine_id, block=False)

    def end_lost(self, uuid: str) -> None:
        """End an engine that was given up, when it can be reached again: it never registers anew."""
        client = self._client
        if client is not None and not is_closed(client):
            kill_unregistered(client, uuid)

    def _ask(self, engine_id: int, function: Callable[..., object], *arguments: object) -> Answer:
        """Have an engine call a function.

        Raises
        ------
        EngineGone
            If the engine just left.
        """
        client, line = self._client, self._line
        if client is None or line is None or is_closed(client):  # the controller is lost, or was shut down
            raise EngineGone(f"engine {engine_id} is lost with its controller")
        return line.call(engine_id, function, *arguments)
