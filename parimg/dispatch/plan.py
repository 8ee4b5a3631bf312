"""What a dispatcher is given: the plan of one run, and the pool of engines that it runs on.

The controller makes a `Plan`; `parimg.cluster.engine_pool` is the pool of a real cluster, tests have a small one.
"""

from __future__ import annotations

from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

from parimg.options import Options
from parimg.protocol.disk_sharing import DiskQuestion, SeenDisks
from parimg.protocol.shared_objects import SharedRef
from parimg.sources.as_source import Source


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of a job is to do."""

    refs: tuple[SharedRef, ...]
    source: Source
    options: Options
    retry_failed: bool
    """Whether images that failed in an earlier run are run again."""
    output: str | None = None
    """Folder that the task writes files to."""
    known: int = 0
    """Images that the job knows of already, where the source names not all of them; else 0."""
    is_added: bool = False
    """Whether the source names others than those."""
    targets: frozenset[int] = frozenset()
    """Engines that it runs on while any of them is there, else, and without, on all."""


class EnginePool(Protocol):
    """What the dispatcher needs of a cluster.

    An engine answers in the order in which it was asked. What is sent raises `EngineGone` if the engine just left;
    an answer raises it if the engine died, and `EngineRefused` if it answered with an error. Answers may come from
    any thread.
    """

    def ids(self) -> list[int]:
        """Engines there are now."""

    def ready(self) -> list[int]:
        """Those that can be given chunks."""

    def disks(self, engine_id: int) -> tuple[str, str] | None:
        """Host of an engine that is ready, and the name of what it sees of disks, None if it did not tell."""

    def look_at_disks(self, question: DiskQuestion, engine_id: int) -> Future[SeenDisks]:
        """Ask an engine what its host sees."""

    def run(self, chunk: bytes, engine_id: int) -> Future[bytes]:
        """Send a chunk to an engine."""

    def image_at(self, answer: Future[bytes]) -> int | None:
        """The image of a chunk that its engine last said to be at, None if it said nothing yet."""

    def probe(self, engine_id: int) -> Future[int]:
        """Ask an engine for an answer, which it gives when it has answered all that it was sent before."""

    def send_shared(self, digest: str, data: bytes, engine_id: int) -> Future[None]:
        """Send a shared object to an engine."""

    def fetch_crash_report(self, name: str, engine_id: int) -> Future[bytes | None] | None:
        """Ask another engine of the same host what a dead one recorded; None if there is no other."""

    def exit_reason(self, engine_id: int) -> str:
        """What is known of a dead engine's end."""

    def kill(self, engine_id: int) -> None:
        """End an engine that does not answer."""
