"""Hosts of their own, as far as the network goes, and disks: namespaces, with an SSH server if wanted."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from ssh_hosts import ssh_server

_numbers = itertools.count(1)


@dataclass(frozen=True)
class OtherHost:
    """A host that is reached by SSH."""

    name: str
    ssh_config: Path
    here: str
    """Address of this machine on the link to it."""
    link: str
    """This machine's end of that link."""
    pid: int
    """Of a process there."""

    def path(self, path: Path) -> Path:
        """A path of that host as it is seen from here."""
        return Path(f"/proc/{self.pid}/root{path}")


@contextmanager
def network_namespace(name: str, link: str, subnet: str) -> Iterator[None]:
    """Make one, and delete it; `link` leads there: ``.1`` of the subnet is here, ``.2`` is there."""
    try:
        ip("netns", "add", name)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a network namespace takes Linux, root and iproute2, see tests/setup-machine.sh ({error})")
    try:
        ip("link", "add", link, "type", "veth", "peer", "name", "far", "netns", name)
        ip("address", "add", f"{subnet}.1/24", "dev", link)
        ip("link", "set", link, "up")
        ip("-n", name, "address", "add", f"{subnet}.2/24", "dev", "far")
        ip("-n", name, "link", "set", "far", "up")
        ip("-n", name, "link", "set", "lo", "up")
        yield
    finally:
        ip("netns", "delete", name)


@contextmanager
def other_host(
    folder: Path, name: str, *, hidden: Sequence[Path] = (), mounted: Mapping[Path, Path] | None = None
) -> Iterator[OtherHost]:
    """Make one, and end it.

    Parameters
    ----------
    folder : path
        For the keys of its SSH server, which it sees.
    name : str
        Of the host.
    hidden : sequence of path
        Folders over which an empty disk of its own lies.
    mounted : mapping of path to path, optional
        What lies in the place of other folders.
    """
    number = next(_numbers)
    space, link = f"parimg{os.getpid()}-{number}", f"pi{os.getpid() % 10**6}x{number}"
    subnet = f"10.{214 + number % 40}.{os.getpid() % 250}"
    with network_namespace(space, link, subnet):
        ip("-n", space, "route", "add", "default", "via", f"{subnet}.1")
        script = [f"hostname {name}", *(f"mount -t tmpfs none '{path}'" for path in hidden)]
        script += [f"mount --bind '{source}' '{place}'" for place, source in (mounted or {}).items()]
        apart = ["ip", "netns", "exec", space, "unshare", "--mount", "--uts", "--propagation", "private"]
        within = [*apart, "sh", "-c", " && ".join([*script, 'exec "$0" "$@"'])]
        folder.mkdir()
        with ssh_server(folder, [name], f"{subnet}.2", within) as ssh_config:
            [pid] = map(int, (folder / "sshd.pid").read_text().split())
            yield OtherHost(name, ssh_config, f"{subnet}.1", link, pid)


def ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, stderr=subprocess.PIPE)
