"""Moving frames between processes; knows no message. Only this room opens sockets."""

from elephas_fast.transport.address import Address, own_host, resolve_bind_host
from elephas_fast.transport.channel import Channel, Frame, Listener, TransportError
from elephas_fast.transport.handover import Handover, Lifeline, new_name, receive

__all__ = [
    "Address",
    "Channel",
    "Frame",
    "Handover",
    "Lifeline",
    "Listener",
    "TransportError",
    "new_name",
    "own_host",
    "receive",
    "resolve_bind_host",
]
