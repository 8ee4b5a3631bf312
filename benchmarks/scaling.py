"""How far one client and one controller reach: hundreds of real engines here, ten thousand that are played.

python benchmarks/scaling.py [--engines 16 64 128 250] [--items 0.1 1 10]
python benchmarks/scaling.py --simulate [--engines 1000 10000]

The real engines are forked from one warm process (`parimg engines --fork N`), and sleep: they leave the processor
to the client and the controller, so hundreds can be measured on one machine. An item is an image, here a tiny
array; a chunk is the items of one message. Told are the time until all engines have registered and answered; the
efficiency, which is the wall time of the same sleep in as many plain processes over that of the job; and the
processor time of the client an item and a chunk, which other work on the machine changes little.

Simulated engines are one thread with a clock: each answers a chunk when its images would be done, with the rows of
a task of one column. Source, dispatcher and journal are real; what is missing is the way of the messages.
"""

from __future__ import annotations

import argparse
import contextlib
import heapq
import os
import pickle
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from concurrent.futures import Future

import numpy as np
import psutil
from paired import print_setting

import parimg
from parimg import events
from parimg.cluster import profiles
from parimg.dispatch.dispatcher import Dispatcher
from parimg.dispatch.plan import Plan
from parimg.engine.setup import disks
from parimg.job.directory import JobDirectory
from parimg.job.journal_writer import JournalWriter
from parimg.options import Options
from parimg.protocol.messages import Reply
from parimg.record import Row
from parimg.sources.as_source import Image, Source

MIB = 2**20
LEAST_ITEMS = 3


# -- real engines ----------------------------------------------------------------------------------------------


@contextlib.contextmanager
def running_controller(folder):
    """A controller of the profile `local`, in an IPython directory of its own; yields its processes."""
    os.environ["IPYTHONDIR"] = folder
    profile_dir = profiles.install("local")
    options = [f"--profile-dir={profile_dir}", "--HeartMonitor.period=1000", "--log-level=CRITICAL"]
    command = [sys.executable, "-m", "ipyparallel.controller", *options]
    with open(os.path.join(folder, "controller.log"), "wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        connection_file = os.path.join(profile_dir, "security", "ipcontroller-engine.json")
        wait_until(lambda: os.path.exists(connection_file))
        hub = psutil.Process(process.pid)
        yield [hub, *hub.children(recursive=True)]
    finally:
        process.terminate()
        process.wait()


@contextlib.contextmanager
def forked_engines(n, folder):
    """Engines of the profile `local`; yields the process that they are forked from.

    On hosts of their own they would not compete with the controller for the processor, so here they stand behind.
    """
    fork = [sys.executable, "-m", "parimg.cli", "engines", "--fork", str(n), "--profile", "local"]
    command = ["nice", "-n", "5", *fork]
    with open(os.path.join(folder, "engines.log"), "ab") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
    try:
        yield psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def wait_until(condition):
    deadline = time.monotonic() + 600
    while not condition():
        assert time.monotonic() < deadline, "not so after ten minutes"
        time.sleep(0.05)


def measure(n, seconds_of_items, job_seconds):
    """Register n engines, and run a job of each kind of items on them."""
    with tempfile.TemporaryDirectory() as folder, running_controller(folder) as controllers:
        begin = time.perf_counter()
        with forked_engines(n, folder) as warm, parimg.connect("local", timeout=600) as controller:
            wait_until(lambda: len(controller.engines) == n)
            registered = time.perf_counter() - begin
            wait_until(lambda: len(controller._supervisor.engines.ready()) == n)
            answered = time.perf_counter() - begin
            own = [child.memory_full_info().uss / MIB for child in warm.children()]
            print(
                f"{n:>4} engines: registered after {registered:.1f} s, all answer after {answered:.1f} s; "
                f"{np.median(own):.0f} MiB of its own an engine; controller {memory(controllers):.0f} MiB, "
                f"{cpu(controllers):.1f} s of CPU so far",
                flush=True,
            )
            for seconds in seconds_of_items:
                measure_items(controller, controllers, n, seconds, job_seconds)


def measure_items(controller, controllers, n, seconds, job_seconds):
    """One job of items that sleep, and the same sleep in plain processes."""
    per_engine = max(LEAST_ITEMS, round(job_seconds / seconds))
    items = ((f"{number:07d}", np.full(1, number)) for number in range(n * per_engine))
    chunks = 0

    def count(event):
        nonlocal chunks
        chunks += isinstance(event, events.ChunkSubmitted)

    def sleep(image):
        import time

        time.sleep(seconds)

    with tempfile.TemporaryDirectory() as folder:
        hub_cpu, own_cpu, begin = cpu(controllers), time.process_time(), time.perf_counter()
        job = controller.map(sleep, items, job_dir=os.path.join(folder, "job"), listeners=[count])
        job.wait()
        wall = time.perf_counter() - begin
        own_cpu, hub_cpu = time.process_time() - own_cpu, cpu(controllers) - hub_cpu
        assert job.counts["ok"] == n * per_engine
    n_items = n * per_engine
    plain = sleep_plainly(n, per_engine, seconds)
    print(
        f"     items of {seconds:>4g} s, {per_engine} an engine: efficiency {plain / wall:.3f} of plain processes "
        f"({n_items * seconds / n / wall:.3f} of the clock), {n_items / wall:.0f} items/s in {chunks / wall:.0f} "
        f"chunks/s; client {own_cpu / n_items * 1e3:.3f} ms of CPU an item, {own_cpu / chunks * 1e3:.3f} a chunk, "
        f"busy {own_cpu / wall:.0%}, {memory([psutil.Process()]):.0f} MiB; controller "
        f"{hub_cpu / chunks * 1e3:.3f} ms of CPU a chunk, {memory(controllers):.0f} MiB",
        flush=True,
    )


def sleep_plainly(n, per_engine, seconds):
    """Wall time of the same sleep in n processes that do nothing else."""
    program = (
        f"import os, time\nfor _ in range({n}):\n if not os.fork():\n"
        f"  for _ in range({per_engine}): time.sleep({seconds})\n  os._exit(0)\n"
        f"for _ in range({n}): os.wait()"
    )
    begin = time.perf_counter()
    subprocess.run([sys.executable, "-c", program], check=True)
    return time.perf_counter() - begin


def cpu(processes):
    return sum(sum(process.cpu_times()[:2]) for process in processes)


def memory(processes):
    return sum(process.memory_info().rss for process in processes) / MIB


# -- engines that are played -----------------------------------------------------------------------------------


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


def simulate(n_engines, seconds_per_image, images_per_engine):
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
    parser.add_argument("--engines", type=int, nargs="*")
    parser.add_argument("--items", type=float, nargs="*", default=[0.1, 1.0, 10.0], help="seconds of an item")
    parser.add_argument("--seconds", type=float, default=15.0, help="that an engine works, or three items")
    parser.add_argument("--simulate", action="store_true", help="play the engines: where is the client full?")
    options = parser.parse_args()
    print_setting("ipyparallel", "numpy")
    os.environ["IPP_NONINTERACTIVE"] = "1"
    if options.simulate:
        for n in options.engines or [1000, 10_000]:
            for seconds in options.items:
                simulate(n, seconds, max(1, round(1 / seconds)))
    else:
        for n in options.engines or [16, 64, 128, 250]:
            measure(n, options.items, options.seconds)


if __name__ == "__main__":
    main()
