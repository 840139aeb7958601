"""Which way to the server is nearest."""

from __future__ import annotations

from dataclasses import dataclass

from elephas_fast.client.conversation import PushRefused
from elephas_fast.store import Segment
from elephas_fast.transport import Address, Lifeline, TransportError, receive


@dataclass(frozen=True)
class Road:
    """A way in. ``endpoint``: where messages go; with ``scheme`` 'shm' also the mapped segment and the lifeline."""

    scheme: str
    endpoint: str
    segment: Segment | None = None
    lifeline: Lifeline | None = None


def find_road(address: Address, transport: str) -> Road:
    """The way called ``transport``, or with ``'auto'`` the first that works of shm, ipc, tcp, inproc.

    Raises ``TransportError`` where none leads to the server and ``PushRefused`` for a wrong key.
    """
    for scheme in ("shm", "ipc", "tcp", "inproc") if transport == "auto" else (transport,):
        endpoint = address.endpoint(scheme)
        if endpoint is None:
            continue
        if scheme == "shm":
            road = _shared(address, endpoint)
            if road is not None:
                return road
        elif not (scheme == "ipc" and transport == "auto" and address.endpoint("shm")):
            # where shm was tried in vain this is another host, and an abstract ipc name leads nowhere
            return Road(scheme, endpoint)
    offered = ", ".join(e.partition("://")[0] for e in address.endpoints)
    raise TransportError(f"transport: {transport!r} does not lead to the server (it offers {offered})")


def _shared(address: Address, endpoint: str) -> Road | None:
    try:
        given = receive(endpoint, address.key)
    except PermissionError as error:
        raise PushRefused("key", str(error)) from None
    if given is None:
        return None
    messages = address.endpoint("ipc")
    assert messages is not None
    try:
        return Road("shm", messages, Segment.attach(given[0]), given[1])
    except BaseException:
        given[1].close()
        raise
