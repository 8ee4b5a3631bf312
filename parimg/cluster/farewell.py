"""Clear up after a client that was killed: what it left in a queue, in a profile, in the temporary folder.

``python -m parimg.cluster.farewell FOLDER FILE [PROFILE_DIR CLUSTER_ID]`` is started by the client's controller,
which is told by `parimg.cluster.parent_poller` that its client is gone, and then ends itself.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time

_END_SECONDS = 3.0  # in which the cluster's processes end, and write no more


def command(folder: str | None, file: str, profile_dir: str | None = None, cluster_id: str = "") -> list[str]:
    """The command that removes a folder and a file, and stops the cluster of a profile, where they are given."""
    stopped = [] if profile_dir is None else [profile_dir, cluster_id]
    return [sys.executable, "-m", "parimg.cluster.farewell", folder or "", file, *stopped]


def main() -> None:
    """Do what the command line says."""
    folder, file, *stopped = sys.argv[1:]
    time.sleep(_END_SECONDS)
    if stopped:
        profile_dir, cluster_id = stopped
        _stop(os.path.join(profile_dir, "security"), profile_dir, cluster_id)
    if file:
        with contextlib.suppress(OSError):
            os.unlink(file)
    if folder:
        shutil.rmtree(folder, ignore_errors=True)


def _stop(security: str, profile_dir: str, cluster_id: str) -> None:
    from parimg.cluster.foreign import open_cluster, stop_all

    cluster_file = os.path.join(security, f"cluster-{cluster_id}.json")
    with contextlib.suppress(Exception):  # it may have been stopped by its user
        stop_all(open_cluster(profile_dir, cluster_file))
    controller = os.path.join(security, f"ipcontroller-{cluster_id}")
    for path in (cluster_file, f"{controller}-client.json", f"{controller}-engine.json"):
        with contextlib.suppress(OSError):
            os.unlink(path)


if __name__ == "__main__":
    main()
