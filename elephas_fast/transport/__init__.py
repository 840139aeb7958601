"""Moving frames between processes; knows no message. Only this room opens sockets.

The scheme of an endpoint chooses the way: ``inproc://name`` within a process, ``ipc://@name`` on one host (abstract
Unix socket, nothing on disk), ``tcp://host:port``. Channels and listeners belong to the thread that made them. Nothing
blocks without a time limit and nothing lingers on close.
"""

from elephas_fast.transport.address import (
    Address,
    here,
    is_this_host,
    own_address_towards,
    own_host,
    resolve_bind_host,
)
from elephas_fast.transport.channel import Channel
from elephas_fast.transport.handover import Handover, Lifeline, new_name, receive
from elephas_fast.transport.listener import Listener
from elephas_fast.transport.notice import Notice, find
from elephas_fast.transport.sockets import Frame, TransportError

__all__ = [
    "Address",
    "Channel",
    "Frame",
    "Handover",
    "Lifeline",
    "Listener",
    "Notice",
    "TransportError",
    "find",
    "here",
    "is_this_host",
    "new_name",
    "own_address_towards",
    "own_host",
    "receive",
    "resolve_bind_host",
]
