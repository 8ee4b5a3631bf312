"""DiskSharing: what the hosts of engines see of the client's disks, asked once a host, before its first chunk.

Used by the dispatcher's thread alone; answers come through its inbox. Engines that see the same disks as this
process, as those of an own cluster do, are not asked.
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace

from parimg.console import print_line
from parimg.dispatch.plan import EnginePool, Plan
from parimg.engine.setup import disks
from parimg.errors import ClusterError, EngineGone
from parimg.events import DisksSeen
from parimg.images.read import local_path
from parimg.job.directory import JobDirectory, resume_command
from parimg.protocol.disk_sharing import ALL_SEEN, NONE_SEEN, DiskQuestion, SeenDisks
from parimg.sources.as_source import Image

# Seconds, after which another engine of the host is asked, too: one may be busy with another job, or the question
# lost, as `parimg.cluster.engine_pool` says.
_FIRST_PAUSE, _LONGEST_PAUSE = 2.0, 60.0


@dataclass(slots=True)
class _Asked:
    """The engines of one host that were asked, and when the next one is."""

    engines: set[int] = field(default_factory=set)
    next_at: float = 0.0
    pause: float = _FIRST_PAUSE


class DiskSharing:
    """What each host sees; it owns all that is known of it.

    Parameters
    ----------
    pool : EnginePool
    plan : Plan
    place : JobDirectory
    call : callable
        Has a function called by the dispatcher's thread.
    emit : callable
        Given each `DisksSeen`.

    Attributes
    ----------
    has_news : bool
        Whether a host has answered since `usable` was called.
    """

    def __init__(
        self,
        pool: EnginePool,
        plan: Plan,
        place: JobDirectory,
        call: Callable[[Callable[[], None]], None],
        emit: Callable[[DisksSeen], None],
    ) -> None:
        self.has_news = False
        self._pool = pool
        self._ship = plan.options.ship
        self._folder = plan.output
        self._place = place
        self._call = call
        self._emit = emit
        self._known = {disks(): ALL_SEEN}
        self._asked: dict[str, _Asked] = {}
        self._open: set[str] = set()
        self._token = secrets.token_hex(16)

    def usable(self, engines: list[int], next_images: Callable[[], list[Image]]) -> list[int]:
        """Those of the engines whose hosts have answered; the others' are asked.

        Parameters
        ----------
        engines : list of int
            Engines that are ready.
        next_images : callable
            Gives some of the images that are to be run, none if none is listed yet.
        """
        self.has_news = False
        if self._ship == "always":
            return engines
        strangers: dict[tuple[str, str], list[int]] = {}
        usable = []
        for engine in engines:
            found = self._pool.disks(engine)
            if found is None or found[1] in self._known:
                usable.append(engine)
            else:
                strangers.setdefault(found, []).append(engine)
        if strangers and (images := next_images()):
            image, size = _first_file(images)
            for (host, name), others in strangers.items():
                if image or self._folder:
                    self._ask(host, name, others, image, size)
                else:  # arrays and URLs, and nothing is written
                    usable += others
        return usable

    def seen_by(self, engine: int) -> SeenDisks:
        """What a usable engine sees."""
        if self._ship == "always":
            return NONE_SEEN
        found = self._pool.disks(engine)
        return ALL_SEEN if found is None else self._known.get(found[1], ALL_SEEN)

    def close(self) -> None:
        """Remove what was written for hosts that did not answer."""
        for path in self._open:
            with contextlib.suppress(OSError):
                os.remove(path)

    def _ask(self, host: str, name: str, engines: list[int], image: str, size: int) -> None:
        asked = self._asked.setdefault(name, _Asked())
        now = time.monotonic()
        if now < asked.next_at:
            return
        if asked.engines.issuperset(engines):
            asked.engines.clear()
        engine = next(engine for engine in engines if engine not in asked.engines)
        asked.engines.add(engine)
        asked.next_at = now + asked.pause
        asked.pause = min(2 * asked.pause, _LONGEST_PAUSE)
        question = DiskQuestion(
            token=self._token,
            job=self._written(self._place.recorders, "token"),
            image=image,
            image_size=size,
            output=self._written(self._folder, f".parimg-{secrets.token_hex(8)}") if self._folder else "",
        )
        self._open.add(question.output)
        with contextlib.suppress(EngineGone):  # it left in this very moment
            answer = self._pool.look_at_disks(question, engine)
            answer.add_done_callback(
                lambda answer: self._call(functools.partial(self._note, host, name, question, answer))
            )

    def _written(self, folder: str, name: str) -> str:
        """Path of a file with the token, empty if it cannot be written."""
        path = os.path.join(folder, name)
        try:
            os.makedirs(folder, exist_ok=True)
            with open(path, "w", encoding="ascii") as file:
                file.write(self._token)
        except OSError:
            return ""
        return path

    def _note(self, host: str, name: str, question: DiskQuestion, answer: Future[SeenDisks]) -> None:
        self.has_news = True
        is_answered = _take(question)
        self._open.discard(question.output)
        error = answer.exception()
        if isinstance(error, EngineGone):
            self._asked[name].next_at = 0.0
            return
        if name in self._known:
            return
        seen = NONE_SEEN if error is not None else answer.result()
        seen = replace(
            seen,
            images=seen.images or not question.image,
            output=(seen.output and is_answered) or self._folder is None,
        )
        self._known[name] = seen
        self._emit(DisksSeen(host, seen.job, seen.images, seen.output))
        self._tell(host, question.image, seen)

    def _tell(self, host: str, image: str, seen: SeenDisks) -> None:
        """Say what a host does not see.

        Raises
        ------
        ClusterError
            If nothing may be sent in its place.
        """
        unseen = [] if seen.images else [f"the image {image!r:.300}"]
        unseen += [] if seen.output else [f"the output folder {self._folder!r}, or may not write there"]
        if not unseen:
            return
        told = f"{host} does not see {', nor '.join(unseen)}"
        if self._ship == "never":
            raise ClusterError(
                f"{told}; ship='never' forbids to send files of images with their chunks and outputs back. Use "
                f"engines that see both, or go on with {resume_command(self._place.path)} --ship auto"
            )
        ways = ([] if seen.images else ["images are sent to it"]) + ([] if seen.output else ["outputs come back"])
        print_line(f"{told}: {' and '.join(ways)} by message")


def _first_file(images: Iterable[Image]) -> tuple[str, int]:
    """URI and size of the first image that this process can read from a disk, empty if it sees none."""
    for image in images:
        path = local_path(image.uri) if image.array is None else None
        if path is not None and os.path.isfile(path):
            with contextlib.suppress(OSError):
                return image.uri, os.path.getsize(path)
    return "", 0


def _take(question: DiskQuestion) -> bool:
    """Remove the file in the output folder, and say whether it holds the answer."""
    if not question.output:
        return False
    try:
        with open(question.output, encoding="ascii") as file:
            found = file.read()
        os.remove(question.output)
    except (OSError, ValueError):
        return False
    return found == question.answer
