"""List and install the cluster profiles that come with parimg.

A profile is a folder of ``cluster_profiles/`` with the ``*_config.py`` files of an IPython profile; installing
copies it to ``profile_NAME`` in the IPython directory, where ``ipcluster start --profile=NAME`` finds it.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from parimg.errors import ClusterError, ProfileNotFoundError


def available() -> dict[str, str]:
    """Name and one line of description of every profile that comes with parimg."""
    return {
        path.name: _description(path)
        for path in sorted(_folder().iterdir())
        if (path / "ipcluster_config.py").is_file()
    }


def install(name: str, *, overwrite: bool = False) -> str:
    """Copy a profile into the IPython directory.

    Parameters
    ----------
    name : str
    overwrite : bool
        Whether configuration files that exist already are replaced.

    Returns
    -------
    str
        Folder of the installed profile.

    Raises
    ------
    ProfileNotFoundError
        If no such profile comes with parimg.
    ClusterError
        If it is installed already with other content, and `overwrite` is false.
    """
    if name not in available():
        raise ProfileNotFoundError(f"parimg has no cluster profile {name!r}; it has {', '.join(available())}")
    from IPython.core.profiledir import ProfileDir
    from IPython.paths import get_ipython_dir

    # Makes the folder with its security/ and log/ parts, or takes the one there is.
    profile_dir = ProfileDir.create_profile_dir_by_name(get_ipython_dir(), name)  # type: ignore[no-untyped-call]
    target = Path(profile_dir.location)
    copies = {source: target / source.name for source in sorted((_folder() / name).glob("*.py"))}
    for source, copy in copies.items():
        if copy.exists() and not overwrite and copy.read_bytes() != source.read_bytes():
            raise ClusterError(
                f"{str(copy)!r} exists and differs from parimg's; `parimg profiles install {name} --overwrite` "
                "replaces it"
            )
    for source, copy in copies.items():
        shutil.copyfile(source, copy)
    return os.fspath(target)


def _folder() -> Path:
    package = Path(sys.modules["parimg"].__path__[0])
    installed = package / "cluster_profiles"  # in the wheel
    return installed if installed.is_dir() else package.parent / "cluster_profiles"  # in a source tree


def _description(path: Path) -> str:
    first = (path / "ipcluster_config.py").read_text(encoding="utf-8").splitlines()[0]
    return first.strip('# "').rstrip(".")
