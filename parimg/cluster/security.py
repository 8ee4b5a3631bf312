"""Security: who can reach a cluster's controller, and who can read and write what it sends."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ipyparallel as ipp


@dataclass(frozen=True, slots=True)
class Security:
    """How a cluster is secured."""

    interfaces: tuple[str, ...]
    """What its controller listens on, such as ``tcp://127.0.0.1``."""
    is_local: bool
    """Whether these are the loopback interface, which only this machine reaches."""
    curve: bool
    """Whether CurveZMQ encrypts and authenticates its messages."""
    connection_file: str
    is_private: bool
    """Whether only its owner can read the connection file, with which one can run code on the engines."""

    @property
    def warning(self) -> str:
        """What is to be repaired, empty if nothing."""
        if not self.is_private:
            return (
                f"others can read {self.connection_file!r}, and with it run code on the engines as you: "
                f"chmod 600 {self.connection_file}, and start the cluster anew"
            )
        if not self.is_local and not self.curve:
            return (
                f"the controller listens on {', '.join(self.interfaces)} without CurveZMQ: whoever can listen on "
                "that network reads images and results, and can forge results; set c.IPController.enable_curve = "
                "True in ipcontroller_config.py, and start the cluster anew"
            )
        return ""

    def __str__(self) -> str:
        who = "this machine only" if self.is_local else "other machines, too"
        curve = "on" if self.curve else "off"
        return f"the controller listens on {', '.join(self.interfaces)} ({who}); CurveZMQ is {curve}"


def find_security(connection_file: str, client: ipp.Client) -> Security:
    """How the cluster of a client's connection file is secured."""
    # Not the client's own knowledge: it has put 127.0.0.1 in the place of 0.0.0.0.
    files = {connection_file, connection_file.removesuffix("client.json") + "engine.json"}
    interfaces = set()
    for path in files:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                interfaces.add(str(json.load(file)["interface"]))
    is_private = os.name != "posix" or not os.stat(connection_file).st_mode & (stat.S_IRWXG | stat.S_IRWXO)
    is_local = all(map(_is_loopback, interfaces))
    return Security(tuple(sorted(interfaces)), is_local, bool(client.curve_serverkey), connection_file, is_private)


def _is_loopback(interface: str) -> bool:
    transport, _, host = interface.partition("://")
    return transport in {"ipc", "inproc"} or host in {"localhost", "[::1]", "::1"} or host.startswith("127.")
