"""Moving frames between processes; knows no message. Only this room opens sockets."""

from elephas_fast.transport.address import Address, here, is_this_host, own_host, resolve_bind_host
from elephas_fast.transport.channel import Channel, Frame, Listener, TransportError
from elephas_fast.transport.handover import Handover, Lifeline, new_name, receive
from elephas_fast.transport.notice import Notice, find

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
    "own_host",
    "receive",
    "resolve_bind_host",
]
