"""Start engines on this host as stdin says, and end them when it ends.

``python -m parimg.cluster.launchers.ssh_host`` is what `parimg.cluster.launchers.ssh` runs on each host. It
imports only the standard library, so that engines start at once.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading

STARTED, ENDED = "parimg: started", "parimg: ended"
_END_SECONDS = 5.0


def main() -> None:
    """Read one line of JSON with ``n``, ``environment`` and ``arguments``; end when all engines have ended."""
    request = json.loads(sys.stdin.buffer.readline())
    profile_dir = request["environment"]["IPP_PROFILE_DIR"]
    if not os.path.isdir(profile_dir):  # no disk is shared, or not this one
        os.makedirs(profile_dir, mode=0o700, exist_ok=True)
    n, command = request["n"], [sys.executable, "-m", "ipyparallel.engine"]
    if request["fork"]:
        n, command = 1, [sys.executable, "-m", "parimg.cluster.forked_engines", str(n)]
    command += request["arguments"]
    environment = os.environ | request["environment"]
    engines = [
        # Not our stdin: that is the lifeline.
        subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT)  # noqa: S603
        for _ in range(n)
    ]
    _say(f"{STARTED} {' '.join(str(engine.pid) for engine in engines)}")
    threading.Thread(target=_end_with_stdin, args=(engines,), daemon=True).start()
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, lambda *_: _end(engines))
    watchers = [threading.Thread(target=_report_end, args=(engine,)) for engine in engines]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join()
    sys.stdout.flush()
    os._exit(0)  # in order, Python would wait for the thread that reads stdin


def _report_end(engine: subprocess.Popen[bytes]) -> None:
    _say(f"{ENDED} {engine.pid} with code {engine.wait()}")


def _say(line: str) -> None:
    """Write a whole line at once: engines write there, too."""
    os.write(sys.stdout.fileno(), f"\n{line}\n".encode())


def _end_with_stdin(engines: list[subprocess.Popen[bytes]]) -> None:
    while sys.stdin.buffer.read(1):
        pass
    _end(engines)
    for engine in engines:
        try:
            engine.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            engine.kill()
    os._exit(1)  # what the engines' ends are reported to is gone


def _end(engines: list[subprocess.Popen[bytes]]) -> None:
    for engine in engines:
        engine.terminate()


if __name__ == "__main__":
    main()
