"""Where the client's loop saturates: the dispatcher against engines that only wait, up to ten thousand of them.

python benchmarks/scaling.py [--engines 1000 10000] [--seconds 1]

The engines are one thread with a clock: each answers a chunk when its images would be done, with the rows that a
task of one column gives. Source, dispatcher and journal are real; what is missing is ipyparallel's client, which
takes about 1 ms a chunk (`benchmarks/dispatch.py`), and the decoding of images.
"""

from __future__ import annotations

import argparse
import heapq
import os
import pickle
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future

from paired import print_setting

from parimg.dispatch.dispatcher import Dispatcher
from parimg.dispatch.plan import Plan
from parimg.engine.setup import disks
from parimg.job.directory import JobDirectory
from parimg.job.journal_writer import JournalWriter
from parimg.options import Options
from parimg.protocol.messages import Reply
from parimg.record import Row
from parimg.sources.as_source import Image, Source


class Names(Source):
    """Images that are named and nothing else."""

    def __init__(self, n):
        self._n = n

    def __iter__(self):
        return (Image(f"views/{number:08d}.png", f"/data/views/{number:08d}.png") for number in range(self._n))

    def count(self):
        return self._n

    def spec(self):
        return {}


class WaitingEngines:
    """Engines that take `seconds` an image, and nothing for a message."""

    def __init__(self, n, seconds):
        self._ids = list(range(n))
        self._seconds = seconds
        self._queues = [deque() for _ in range(n)]
        self._due = []
        self._sent = deque()
        self._wake = threading.Event()
        self._is_closed = False
        self.cpu_seconds = 0.0
        self.busy_seconds = 0.0
        self.chunks = 0
        self._thread = threading.Thread(target=self._live, daemon=True)
        self._thread.start()

    def ids(self):
        return list(self._ids)

    ready = ids

    def run(self, chunk, engine_id):
        answer = Future()
        self._sent.append((engine_id, chunk, answer))
        self._wake.set()
        return answer

    def disks(self, _engine_id):
        return "host", disks()

    def look_at_disks(self, _question, _engine_id):
        raise AssertionError("these engines see the client's disks")

    def probe(self, _engine_id):
        return Future()  # no chunk is lost here

    def close(self):
        self._is_closed = True
        self._wake.set()
        self._thread.join()

    def _live(self):
        while not self._is_closed:
            wait = self._due[0][0] - time.monotonic() if self._due else None
            if wait is None or wait > 0:
                self._wake.wait(wait)
            self._wake.clear()
            now = time.monotonic()
            while self._sent:
                engine_id, chunk, answer = self._sent.popleft()
                self._queues[engine_id].append((pickle.loads(chunk), answer))
                if len(self._queues[engine_id]) == 1:
                    self._begin(engine_id, now)
            while self._due and self._due[0][0] <= time.monotonic():
                due, engine_id = heapq.heappop(self._due)
                chunk, answer = self._queues[engine_id].popleft()
                if self._queues[engine_id]:
                    self._begin(engine_id, due)
                answer.set_result(self._reply(chunk))
            self.cpu_seconds = time.thread_time()

    def _begin(self, engine_id, now):
        n = len(self._queues[engine_id][0][0].images)
        heapq.heappush(self._due, (now + n * self._seconds, engine_id))

    def _reply(self, chunk):
        self.chunks += 1
        seconds = len(chunk.images) * self._seconds
        self.busy_seconds += seconds
        rows = [
            Row(position, key, uri, "ok", None, None, None, None, 1.0, 0.0, 0.0, '{"value": 1}', None)
            for position, key, uri, _ in chunk.images
        ]
        return pickle.dumps(Reply("host", 1, rows, [], seconds), protocol=5)


def measure(n_engines, seconds_per_image, images_per_engine):
    """One job; prints what the client's loop did, and what was left of the engines' time."""
    n = n_engines * images_per_engine
    engines = WaitingEngines(n_engines, seconds_per_image)
    with tempfile.TemporaryDirectory() as folder:
        place = JobDirectory(os.path.join(folder, "job"))
        journal = JournalWriter.create(place, place.reserve(), {"options": {}})
        dispatcher = Dispatcher(Plan((), Names(n), Options(), retry_failed=False), journal, engines, [])
        cpu, begin = time.process_time(), time.perf_counter()
        dispatcher.start()
        dispatcher.join()
        wall, cpu = time.perf_counter() - begin, time.process_time() - cpu
        engines.close()
        assert dispatcher.state == "finished", dispatcher.error
        assert dispatcher.counts == {"ok": n, "failed": 0}
    own = cpu - engines.cpu_seconds
    print(
        f"{n_engines:>6} engines, {seconds_per_image:>4g} s an image: {n / wall:6.0f} images/s in "
        f"{engines.chunks / wall:5.0f} chunks/s; client {own / engines.chunks * 1e3:.3f} ms of CPU a chunk, "
        f"{own / n * 1e3:.3f} an image, busy {own / wall:4.0%}, full at {engines.chunks / own:5.0f} chunks/s; "
        f"engines busy {engines.busy_seconds / (n_engines * wall):4.0%}"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engines", type=int, nargs="*", default=[1000, 10_000])
    parser.add_argument("--seconds", type=float, default=1.0, help="that each job should take")
    options = parser.parse_args()
    print_setting("numpy")
    for n_engines in options.engines:
        for seconds_per_image in (0.1, 1.0, 10.0):
            measure(n_engines, seconds_per_image, max(1, round(options.seconds / seconds_per_image)))


if __name__ == "__main__":
    main()
