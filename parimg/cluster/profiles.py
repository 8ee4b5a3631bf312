"""List and install the cluster profiles that come with parimg.

A profile is a folder of ``cluster_profiles/`` with the ``*_config.py`` files of an IPython profile; installing
copies it to ``profile_NAME`` in the IPython directory, where ``ipcluster start --profile=NAME`` finds it. What
users change are assignments at the top of these files, such as ``partition = ""``; installing can set them.
"""

from __future__ import annotations

import ast
import os
import re
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

from parimg.errors import ClusterError, ProfileNotFoundError


def available() -> dict[str, str]:
    """Name and one line of description of every profile that comes with parimg."""
    return {
        path.name: _description(path)
        for path in sorted(_folder().iterdir())
        if (path / "ipcluster_config.py").is_file()
    }


def install(
    name: str,
    *,
    as_name: str | None = None,
    settings: Mapping[str, str] | None = None,
    overwrite: bool = False,
    ipython_dir: str | None = None,
) -> str:
    """Copy a profile into the IPython directory.

    Parameters
    ----------
    name : str
    as_name : str, optional
        Name of the copy, by default the same.
    settings : mapping of str to str, optional
        Values of what stands under "What to change" in the profile's files, as ``{"hosts": "a:4,b:8"}``.
    overwrite : bool
        Whether configuration files that exist already are replaced.
    ipython_dir : path, optional
        By default that of IPython.

    Returns
    -------
    str
        Folder of the installed profile.

    Raises
    ------
    ProfileNotFoundError
        If no such profile comes with parimg.
    ClusterError
        If it is installed already with other content, and `overwrite` is false; or has no such setting, or one of
        another kind.
    """
    if name not in available():
        raise ProfileNotFoundError(f"parimg has no cluster profile {name!r}; it has {', '.join(available())}")
    copied = as_name or name
    if not re.fullmatch(r"[\w.-]+", copied) or copied.startswith("."):
        raise ClusterError(f"a profile's name is of letters, digits, '-', '_' and '.' (got {copied!r})")
    sources = sorted((_folder() / name).glob("*.py"))
    texts = _with_settings(name, {path.name: path.read_text(encoding="utf-8") for path in sources}, settings or {})
    from IPython.core.profiledir import ProfileDir
    from IPython.paths import get_ipython_dir

    # Makes the folder with its security/ and log/ parts, or takes the one there is.
    ipython_dir = ipython_dir or get_ipython_dir()
    profile_dir = ProfileDir.create_profile_dir_by_name(ipython_dir, copied)  # type: ignore[no-untyped-call]
    target = Path(profile_dir.location)
    for file, text in texts.items():
        path = target / file
        if path.exists() and not overwrite and path.read_text(encoding="utf-8", errors="replace") != text:
            raise ClusterError(
                f"{str(path)!r} exists and differs from parimg's; `parimg profiles install {name} --overwrite` "
                "replaces it"
            )
    for file, text in texts.items():
        (target / file).write_text(text, encoding="utf-8")
    return os.fspath(target)


def _with_settings(name: str, texts: dict[str, str], settings: Mapping[str, str]) -> dict[str, str]:
    """The files with other values in the assignments at their top."""
    found = {
        key: (file, line, value)
        for file, text in texts.items()
        for block in re.findall(r"^# What to change.*?(?=\n\n)", text, re.MULTILINE | re.DOTALL)
        for line, key, value in re.findall(r"^((\w+) = ([^#\n]*[^#\s]).*)$", block, re.MULTILINE)
    }
    for key, typed in settings.items():
        if key not in found:
            raise ClusterError(f"the profile {name!r} has no setting {key!r}; it has {', '.join(sorted(found))}")
        file, line, value = found[key]
        try:
            default = ast.literal_eval(value)
        except ValueError:  # a name, such as sys.executable: a text
            default = ""
        new = _parse(key, typed, default)
        texts[file] = texts[file].replace(line, line.replace(f"{key} = {value}", f"{key} = {new!r}", 1), 1)
    return texts


def _parse(key: str, typed: str, default: object) -> object:
    """A typed value of the same kind as the one in the profile."""
    if isinstance(default, str):
        return typed
    if isinstance(default, list):
        return typed.split(",") if typed else []
    wanted = "true or false" if isinstance(default, bool) else "a number"
    try:
        if isinstance(default, bool):
            return {"true": True, "false": False}[typed.lower()]
        if isinstance(default, int):
            return int(typed)
        wanted = "like a:4,b:8"
        return {host: int(n) for host, n in _pairs(typed.split(","))}
    except (ValueError, KeyError):
        raise ClusterError(f"the setting {key!r} is {wanted} (got {typed!r})") from None


def _pairs(items: Iterable[str]) -> Iterable[tuple[str, str]]:
    for item in items:
        host, _, n = item.rpartition(":")
        if not host:
            raise ValueError
        yield host, n


def _folder() -> Path:
    package = Path(sys.modules["parimg"].__path__[0])
    installed = package / "cluster_profiles"  # in the wheel
    return installed if installed.is_dir() else package.parent / "cluster_profiles"  # in a source tree


def _description(path: Path) -> str:
    first = (path / "ipcluster_config.py").read_text(encoding="utf-8").splitlines()[0]
    return first.strip('# "').rstrip(".")
