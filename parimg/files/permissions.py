"""Whether a file or folder can be changed by nobody but its owner, who is this user.

A task is a pickle: whoever can change it, or the journal that names it, has his code run by whoever loads it. So
neither is used from a place that others can write.
"""

from __future__ import annotations

import os
import stat

from parimg.errors import JobError

try:
    import grp
    import pwd
except ImportError:  # Windows, where modes say nothing
    grp = pwd = None  # type: ignore[assignment]


def check_private(path: str) -> None:
    """Refuse a file or folder that other users can write.

    Raises
    ------
    JobError
        If its group or everybody can write it, or it belongs to another user. A group that holds this user alone
        does not count, nor does root.
    OSError
        If it cannot be looked at.
    """
    if pwd is None:
        return
    found = os.stat(path)
    if found.st_uid not in {os.geteuid(), 0}:
        raise JobError(
            f"{path!r} belongs to another user ({_name_of(found.st_uid)}), who could have code of his own run by "
            "what it holds; copy it, if you trust it"
        )
    others = found.st_mode & stat.S_IWOTH
    group = found.st_mode & stat.S_IWGRP and not _is_own_group(found.st_gid)
    if others or group:
        raise JobError(
            f"{path!r} can be written by other users (mode {stat.S_IMODE(found.st_mode):o}), who could have code "
            f"of their own run by what it holds; `chmod go-w {path}` mends that, if you trust what is there"
        )


def _name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"uid {uid}"


def _is_own_group(gid: int) -> bool:
    """Whether a group holds this user alone, as Linux distributions make one for each user."""
    try:
        group, user = grp.getgrgid(gid), pwd.getpwuid(os.geteuid())
    except KeyError:
        return False
    return group.gr_gid == user.pw_gid and group.gr_name == user.pw_name and set(group.gr_mem) <= {user.pw_name}
