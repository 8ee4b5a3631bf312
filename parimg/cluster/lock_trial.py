"""Whether hosts see each other's locks in a folder: one is taken here, and tried by an engine of each other host.

Called by ``parimg doctor FOLDER``. Where locks are not seen, the owner file alone keeps a second writer out.
"""

from __future__ import annotations

import contextlib
import os
import secrets
from dataclasses import dataclass

import ipyparallel as ipp
from filelock import FileLock

from parimg.engine.disks import try_lock
from parimg.engine.setup import disks, handshake
from parimg.errors import ClusterError

_ANSWER_SECONDS = 15.0


@dataclass(frozen=True, slots=True)
class LockTrial:
    """What an engine of another host found."""

    sees: bool
    """Whether the folder is the same there."""
    lock: str
    """``ok``, or what is wrong with locks."""


def try_lock_elsewhere(client: ipp.Client, folder: str) -> dict[str, LockTrial]:
    """Try a lock of this host on every other one.

    Parameters
    ----------
    client : ipyparallel.Client
    folder : str
        That can be written; nothing is left in it.

    Returns
    -------
    dict of str to LockTrial
        By host, empty if all engines that answer run on this one.

    Raises
    ------
    ClusterError
        If an engine that said its host's name does not answer again.
    """
    others = _engine_of_each_other_host(client)
    path = os.path.join(folder, f".parimg-{secrets.token_hex(4)}.lock")
    token = secrets.token_hex(16)
    try:
        with open(f"{path}.token", "w", encoding="ascii") as file:
            file.write(token)
        with FileLock(path, timeout=1):
            held = {host: _ask(client, engine, path, token) for host, engine in others.items()}
        free = {host: _ask(client, engine, path, token) for host, engine in others.items()}
    finally:
        for name in (path, f"{path}.token"):
            with contextlib.suppress(OSError):
                os.remove(name)
    return {host: _judge(held[host], free[host]) for host in others}


def _judge(held: str, free: str) -> LockTrial:
    if "not seen" in {held, free}:
        return LockTrial(sees=False, lock="")
    if (held, free) == ("refused", "got"):
        return LockTrial(sees=True, lock="ok")
    if held == "got":
        return LockTrial(sees=True, lock="no: it got the lock while this host held it")
    if held == "refused":
        return LockTrial(sees=True, lock="no: it did not get the lock after this host gave it up")
    return LockTrial(sees=True, lock=f"no: {held}")


def _engine_of_each_other_host(client: ipp.Client) -> dict[str, int]:
    asked = [(engine, client[engine].apply_async(handshake)) for engine in client.ids]
    found: dict[str, tuple[str, int]] = {}
    for engine, answer in asked:
        with contextlib.suppress(TimeoutError, ipp.error.RemoteError):  # busy, or just gone
            told = answer.get(_ANSWER_SECONDS)
            if told.disks != disks():
                found.setdefault(told.disks, (told.host, engine))
    return dict(found.values())


def _ask(client: ipp.Client, engine: int, path: str, token: str) -> str:
    try:
        return str(client[engine].apply_async(try_lock, path, token).get(_ANSWER_SECONDS))
    except (TimeoutError, ipp.error.RemoteError, IndexError) as error:
        raise ClusterError(f"engine {engine} did not answer when it was asked for a lock: {error}") from error
