"""What the shell completes: profiles here; jobs and images stand with their commands. Loads nothing heavy."""

from __future__ import annotations

import glob
import os


def installed_profiles(beginning: str) -> list[str]:
    """IPython profiles of this user."""
    folder = os.environ.get("IPYTHONDIR") or os.path.join(os.path.expanduser("~"), ".ipython")
    found = glob.glob(os.path.join(glob.escape(folder), "profile_*"))
    names = (os.path.basename(path).removeprefix("profile_") for path in sorted(found))
    return [name for name in names if name.startswith(beginning)]


def shipped_profiles(beginning: str) -> list[tuple[str, str]]:
    """Profiles that come with parimg, with what they are."""
    from parimg.cluster.profiles import available

    return [(name, about) for name, about in available().items() if name.startswith(beginning)]
