"""What a live page costs the job that it shows: throughput with an open page beside none, in turn.

    python benchmarks/dashboard.py --rounds 8

One cluster, a job of many small images for each turn. The visitor is a plain websocket client that takes what the
server sends: a browser's own work is not the job's, it mostly runs on another machine. Beside the throughput,
which other load of the machine disturbs, the processor time of the page's threads is told, which it hardly does.
"""

import argparse
import asyncio
import re
import statistics
import tempfile
import threading
import time
import urllib.request
from http.cookiejar import CookieJar

import numpy as np
import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

import parimg


class Visitor:
    """An open page without a browser: it takes what the server sends."""

    def __init__(self, url):
        cookies = CookieJar()
        opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(cookies))
        text = opener.open(url).read().decode()
        self._token = re.search(r'"token":"([^"]+)"', text)[1]
        self._cookie = "; ".join(f"{cookie.name}={cookie.value}" for cookie in cookies)
        self._origin = url.partition("/?")[0]
        self.received = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=[self._take()], daemon=True)
        self._thread.start()

    async def _take(self):
        self._end = asyncio.Event()
        headers = {"Cookie": self._cookie, "Origin": self._origin}
        request = HTTPRequest(f"{self._origin.replace('http', 'ws')}/ws", headers=headers)
        socket = await websocket_connect(request, subprotocols=["bokeh", self._token])
        for _ in range(3):  # the greeting
            await socket.read_message()
        # Changes of a document are sent once it was pulled.
        for part in ('{"msgid":"1","msgtype":"PULL-DOC-REQ"}', "{}", "{}"):
            await socket.write_message(part)
        ended = asyncio.create_task(self._end.wait())
        while not ended.done():
            message = asyncio.ensure_future(socket.read_message())
            await asyncio.wait([message, ended], return_when=asyncio.FIRST_COMPLETED)
            if message.done() and message.result() is not None:
                self.received += len(message.result())
            elif message.done():
                break
        socket.close()

    def leave(self):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)


def page_seconds():
    """Processor time of the threads of the page so far."""
    ours = {thread.native_id for thread in threading.enumerate() if thread.name.startswith("parimg-dashboard")}
    return sum(one.user_time + one.system_time for one in psutil.Process().threads() if one.id in ours)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("-n", "--engines", type=int, default=2)
    arguments = parser.parse_args()

    def work(image):
        return float(np.sort(image.ravel()).mean())

    picture = np.random.default_rng(0).integers(0, 256, (256, 256), np.uint8)
    images = [(f"{k:06}", picture) for k in range(arguments.images)]
    seconds = {"without": [], "with": []}
    with parimg.start(arguments.engines) as ctl, tempfile.TemporaryDirectory() as folder:
        served = ctl.dashboard(port=0)
        ctl.map(work, images[:200], job_dir=f"{folder}/warm").wait()
        received, page = 0, 0.0
        for turn in range(arguments.rounds):
            for kind in ("without", "with") if turn % 2 else ("with", "without"):
                visitor = Visitor(served.url) if kind == "with" else None
                if visitor is not None:
                    time.sleep(4.0)  # what is measured is an open page: to open it takes 0.1 s of processor, once
                start, before = time.perf_counter(), page_seconds()
                ctl.map(work, iter(images), job_dir=f"{folder}/{turn}-{kind}").wait()
                seconds[kind].append(time.perf_counter() - start)
                if visitor is not None:
                    visitor.leave()
                    received += visitor.received
                    page += page_seconds() - before
        assert received > 0
    ratios = [opened / closed for opened, closed in zip(seconds["with"], seconds["without"], strict=True)]
    medians = {kind: statistics.median(taken) for kind, taken in seconds.items()}
    print(f"{arguments.images} images, {arguments.rounds} rounds, {received / 1024:.0f} KiB sent to the page")
    print(f"without: {arguments.images / medians['without']:.1f} images/s; "
          f"with: {arguments.images / medians['with']:.1f} images/s")
    print(f"with over without, by round: {' '.join(f'{ratio:.3f}' for ratio in sorted(ratios))}; "
          f"median {statistics.median(ratios):.4f}")
    share = page / sum(seconds["with"])
    cores = f"{100 * share / arguments.engines:.2f} % of {arguments.engines} cores"
    print(f"the page's threads: {1e3 * share:.2f} ms of processor a second, {cores}")


if __name__ == "__main__":
    main()
