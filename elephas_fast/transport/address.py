"""Where a server can be reached, and the key that lets one in."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Address:
    """The endpoints of one server by scheme, the fit's key, whether its sockets are encrypted (``security``:
    ``'curve'``) or only ask for the key (``'none'``), and on which host it is (``place``: see ``here``; empty where
    that is not known).

    Small and picklable. Whoever has it may push: hand it on only in a Spark task's closure. Its ``repr`` leaves the
    key out.
    """

    endpoints: tuple[str, ...]
    key: bytes = field(repr=False)
    security: str = "curve"
    place: str = ""

    @property
    def encrypted(self) -> bool:
        """Whether channels to the server and its listener are."""
        return self.security == "curve"

    def endpoint(self, scheme: str) -> str | None:
        """The endpoint of a scheme (``'tcp'``, ``'ipc'``, ``'shm'``, ``'inproc'``), or ``None``."""
        for endpoint in self.endpoints:
            if endpoint.startswith(f"{scheme}://"):
                return endpoint
        return None

    def __str__(self) -> str:
        return self.endpoint("tcp") or self.endpoints[0]


def resolve_bind_host(host: str) -> str:
    """The numeric address to bind for ``host``. Raises ``ValueError`` where the name does not resolve.

    Wildcard addresses are refused: a parameter server listens on one address of the driver only.
    """
    if host in ("", "*", "0.0.0.0", "::"):
        raise ValueError(f"host: expected one address of this machine, got {host!r}; set spark.driver.host")
    try:
        family, _, _, _, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
    except OSError as error:
        raise ValueError(f"host: cannot resolve {host!r} ({error}); set spark.driver.host to an address") from error
    return f"[{address[0]}]" if family == socket.AF_INET6 else str(address[0])


def here() -> str:
    """A token that two processes share if abstract Unix sockets of one can be reached by the other: of the running
    kernel and the network namespace. Empty where the system does not tell."""
    try:
        with open("/proc/sys/kernel/random/boot_id", "rb") as file:
            boot = file.read()
        namespace = os.readlink("/proc/self/ns/net").encode()
    except OSError:
        return ""
    return hashlib.sha256(boot + namespace).hexdigest()[:16]


def is_this_host(host: str) -> bool:
    """Whether a name or numeric address is one of this machine's."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, 0, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as probe:
            probe.bind(address)
    except OSError:
        return False
    return True


def own_address_towards(host: str) -> str:
    """The numeric address of this machine that another one sees. Nothing is sent. Raises ``OSError`` where there is no
    way to it."""
    family, kind, protocol, _, address = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(address)
        return str(probe.getsockname()[0])


def own_host() -> str:
    """The numeric address that this machine's name stands for. Raises ``OSError`` where it stands for none."""
    return socket.gethostbyname(socket.gethostname())
