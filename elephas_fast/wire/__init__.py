"""The wire: what messages there are and what bytes they become. No sockets here."""

from elephas_fast.wire.arrays import pack_arrays, unpack_arrays
from elephas_fast.wire.codec import Frame, ProtocolError, decode, encode
from elephas_fast.wire.messages import (
    PROTOCOL_VERSION,
    Ack,
    Close,
    Error,
    Goodbye,
    Hello,
    Message,
    Observe,
    Observed,
    Part,
    Pull,
    Push,
    Report,
    Steer,
    Wait,
    Weights,
    Welcome,
)

__all__ = [
    "PROTOCOL_VERSION",
    "Ack",
    "Close",
    "Error",
    "Frame",
    "Goodbye",
    "Hello",
    "Message",
    "Observe",
    "Observed",
    "Part",
    "ProtocolError",
    "Pull",
    "Push",
    "Report",
    "Steer",
    "Wait",
    "Weights",
    "Welcome",
    "decode",
    "encode",
    "pack_arrays",
    "unpack_arrays",
]
