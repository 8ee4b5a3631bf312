"""Where the time of a message to an engine and back goes; `parimg doctor` prints it."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import ipyparallel as ipp


def time_round_trip(client: ipp.Client, repeats: int) -> dict[str, float]:
    """Where the time of a round trip goes: medians of `repeats` measurements, seconds."""

    def median(call: Callable[[], object]) -> float:
        seconds = []
        for _ in range(repeats):
            begin = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - begin)
        return statistics.median(seconds)

    balanced = client.load_balanced_view()
    direct = client[client.ids[0]]
    megabyte = bytes(2**20)
    times = {
        "packing an empty message": median(lambda: ipp.serialize.pack_apply_message(len, (b"",), {})),
        "one engine, direct": median(lambda: direct.apply_sync(len, b"")),
        "through the load-balancing scheduler": median(lambda: balanced.apply_sync(len, b"")),
        "the same with 1 MiB of data": median(lambda: balanced.apply_sync(len, megabyte)),
    }
    client.history.clear()
    return times
