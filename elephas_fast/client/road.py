"""Which way to the server is nearest."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from typing import Final

from elephas_fast.client.conversation import PushRefused
from elephas_fast.store import Segment
from elephas_fast.transport import Address, Lifeline, TransportError, here, receive

_PATIENCE: Final = 10.0  # for the memory of a server that is being started again, where there is another way


@dataclass(frozen=True)
class Road:
    """A way in. ``endpoint``: where messages go; with ``scheme`` 'shm' also the mapped segment and the lifeline."""

    scheme: str
    endpoint: str
    segment: Segment | None = None
    lifeline: Lifeline | None = None


def find_road(address: Address, transport: str, timeout: float = 0.0) -> Road:
    """The way called ``transport``, or with ``'auto'`` the first that works of shm, ipc, tcp, inproc; ``timeout``:
    seconds to wait at most for the memory of a server on this host that is being started again.

    Raises ``TransportError`` where none leads to the server and ``PushRefused`` for a wrong key.
    """
    patience = timeout if transport == "shm" else min(timeout, _PATIENCE)
    for scheme in ("shm", "ipc", "tcp", "inproc") if transport == "auto" else (transport,):
        endpoint = address.endpoint(scheme)
        if endpoint is None:
            continue
        if scheme == "shm":
            road = _shared(address, endpoint, patience if _is_near(address) else 0.0)
            if road is not None:
                return road
        elif not (scheme == "ipc" and transport == "auto" and address.endpoint("shm")):
            # where shm was tried in vain this is another host, and an abstract ipc name leads nowhere
            return Road(scheme, endpoint)
    offered = ", ".join(e.partition("://")[0] for e in address.endpoints)
    raise TransportError(f"transport: {transport!r} does not lead to the server (it offers {offered})")


def follow(address: Address, lifeline: Lifeline | None, line: int, generation: int) -> Lifeline | None:
    """The lifeline of a client on the server's host after another hello, in the place of the one it had."""
    endpoint = address.endpoint("shm")
    if lifeline is None or endpoint is None:
        return lifeline
    deadline = time.monotonic() + _PATIENCE
    while (left := deadline - time.monotonic()) > 0:
        given = receive(endpoint, address.key, left)
        if given is None:
            break
        os.close(given[0])
        if given[1].introduce(line, generation):
            lifeline.close()
            return given[1]
        given[1].close()
    return lifeline


def _is_near(address: Address) -> bool:
    return bool(address.place) and address.place == here()


def _shared(address: Address, endpoint: str, patience: float) -> Road | None:
    try:
        given = receive(endpoint, address.key, patience)
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
