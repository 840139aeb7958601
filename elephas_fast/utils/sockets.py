"""Elephas' ``utils.sockets``. ``send`` and ``receive`` carry data, not objects: nothing is pickled."""

from __future__ import annotations

from typing import Any

from elephas_fast.spark.earlier import determine_master
from elephas_fast.transport.stream import (
    MAX_BYTES,
    bounded,
    receive_exactly,
    recv_bytes,
    send_bytes,
    wait_until_listening,
)
from elephas_fast.wire.objects import pack_object, unpack_object

__all__ = ["determine_master", "receive", "recv_bytes", "send", "send_bytes", "wait_until_listening"]


def send(socket: Any, data: Any, num_bytes: int = 20) -> None:
    """Send numbers, text, arrays, lists, tuples and dicts, after their length in ``num_bytes`` decimal digits.

    Raises ``TypeError`` for other objects.
    """
    packed = pack_object(data)
    socket.sendall(str(len(packed)).zfill(num_bytes).encode())
    socket.sendall(packed)


def receive(socket: Any, num_bytes: int = 20, max_bytes: int = MAX_BYTES) -> Any:
    """What ``send`` sent. Raises ``ConnectionError`` where the peer closes before its end, and ``ValueError`` for more
    than ``max_bytes`` and for bytes that ``send`` does not make."""
    digits = receive_exactly(socket, num_bytes)
    if not digits.isdigit():
        raise ValueError(f"num_bytes: expected a length of {num_bytes} decimal digits from the peer, got other bytes")
    return unpack_object(receive_exactly(socket, bounded(int(digits), max_bytes)))
