"""How a cluster of ours is called where ipyparallel lists clusters: ``ipcluster list``, JupyterLab's sidebar.

ipyparallel lists the files ``security/cluster-ID.json`` of the user's IPython profiles.
"""

from __future__ import annotations

import os
import re
import sys
import uuid

_LONGEST = 24  # characters of a program's name


def new_cluster_id() -> str:
    """An id that no other cluster has, and that says what it is: ``parimg-train.py-4711-3f2a``."""
    program = os.path.basename(sys.argv[0] if sys.argv else "")
    program = {"ipykernel_launcher.py": "notebook", "-c": "", "-m": ""}.get(program, program)
    program = re.sub(r"[^A-Za-z0-9._-]", "", program)[:_LONGEST].lstrip(".-") or "python"
    # Profiles may be shared by hosts, whose process ids are alike.
    return f"parimg-{program}-{os.getpid()}-{uuid.uuid4().hex[:4]}"


def cluster_file(cluster_id: str) -> str:
    """Where a cluster that belongs to no profile is listed; empty, for nowhere, if that cannot be written."""
    from IPython.paths import get_ipython_dir

    folder = os.path.join(get_ipython_dir(), "profile_default", "security")
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
    except OSError:
        return ""
    return os.path.join(folder, f"cluster-{cluster_id}.json") if os.access(folder, os.W_OK) else ""
