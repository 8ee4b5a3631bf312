"""What Windows and macOS lack: nothing of it is used without a look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

NAMES = [
    "register_at_fork", "O_NOFOLLOW", "O_CLOEXEC", "O_DIRECTORY", "pwrite", "pread", "sched_getaffinity",
    "sysconf", "ttyname",
    "geteuid", "getuid", "uname", "statvfs", "fork", "killpg", "getpgid", "setsid", "mkfifo", "chown", "fchmod",
    "posix_fallocate", "posix_fadvise", "WNOHANG",
]  # fmt: skip
MODULES = ["resource", "pwd", "grp", "fcntl", "termios", "pty"]

SCRIPT = """
    import importlib, json, os, pickle, pkgutil, signal, sys
    import cv2, filelock, ipyparallel, IPython, numba, numpy, pandas, psutil, pyarrow, rich, scipy.ndimage, skimage
    import threadpoolctl, tqdm, typer, tifffile  # these know what is lacking

    for name in {names}:
        delattr(os, name)
    for name in {modules}:
        sys.modules[name] = None
    for name in ("SIGKILL", "SIGHUP", "SIGSTOP", "SIGUSR1"):
        delattr(signal, name)

    import parimg
    for module in pkgutil.walk_packages(parimg.__path__, "parimg."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)

    from parimg.engine.runner import run_chunk
    from parimg.files.permissions import check_private
    from parimg.protocol import shared_objects
    from parimg.protocol.messages import VERSION, Chunk

    folder = os.path.join(sys.argv[1], "shared")
    refs = tuple(shared_objects.write_task(folder, parimg.Function(numpy.mean)))
    images = [(0, "two", "two", numpy.full(3, 2.0)), (1, "none", "/no/such/file", None)]
    chunk = Chunk(VERSION, refs, folder, 2**28, images, 1, {recorder}, timeout=60, memory_limit=2**33)
    reply = pickle.loads(run_chunk(pickle.dumps(chunk)))
    check_private(folder)
    print(json.dumps([[row.status, row.error, row.columns] for row in reply.rows]))
"""


def test_every_module_loads_and_a_chunk_runs_without_what_only_linux_has(tmp_path: Path) -> None:
    (tmp_path / "engines").mkdir()
    recorder = tmp_path / "engines" / "recorder"
    names = [name for name in NAMES if hasattr(os, name)]
    script = textwrap.dedent(SCRIPT).format(names=names, modules=MODULES, recorder=repr(str(recorder)))
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [["ok", None, '{"value":2.0}'], ["failed", "ImageMissingError", "{}"]]
    assert recorder.read_bytes().split()[:2] == [b"1", b"-2"]  # the chunk, and that it is done
