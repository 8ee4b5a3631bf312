"""The address by which other hosts reach this one.

Used by the cluster profiles: a controller that tells its engines a host *name* is not found by those whose
``/etc/hosts`` has that name as 127.0.0.1, as Debian installs it.
"""

from __future__ import annotations

import socket

import psutil

_ANYWHERE = ("192.0.2.1", 9)  # reserved for documentation; nothing is sent


def own_address() -> str:
    """IPv4 address on the interface of the default route, else on any that is not loopback, else 127.0.0.1."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_ANYWHERE)
        except OSError:
            pass
        else:
            return str(probe.getsockname()[0])
    found = [
        address.address
        for addresses in psutil.net_if_addrs().values()
        for address in addresses
        if address.family == socket.AF_INET and not address.address.startswith("127.")
    ]
    return found[0] if found else "127.0.0.1"
