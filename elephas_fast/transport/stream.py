"""Byte strings, each after its length, over a TCP socket that the caller has opened.

Every length is bounded before memory is taken for it. How long a call may wait is what the socket's own timeout says.
"""

from __future__ import annotations

import socket
import struct
import time
from typing import Final

MAX_BYTES: Final = 2**31
"""What is read at most, unless the caller says otherwise."""
_CHUNK: Final = 2**20


def send_bytes(sock: socket.socket, b: bytes | bytearray | memoryview) -> None:
    """Send one byte string: its length as an unsigned 32-bit number, most significant byte first, then the bytes.

    Raises ``ValueError`` for 4 GiB and more.
    """
    if len(b) >= 2**32:
        raise ValueError(f"b: expected less than 4 GiB, got {len(b)} bytes")
    sock.sendall(struct.pack("!I", len(b)))
    sock.sendall(b)


def recv_bytes(sock: socket.socket, max_bytes: int = MAX_BYTES) -> bytes:
    """The byte string that ``send_bytes`` sent.

    Raises ``ConnectionError`` where the peer closes before its end, and ``ValueError`` where it announces more than
    ``max_bytes``: close the connection then.
    """
    (length,) = struct.unpack("!I", receive_exactly(sock, 4))
    return receive_exactly(sock, bounded(length, max_bytes))


def bounded(length: int, max_bytes: int) -> int:
    """``length`` if a peer may announce as much. Raises ``ValueError`` otherwise."""
    if not 0 <= length <= max_bytes:
        raise ValueError(f"max_bytes: expected at most {max_bytes} bytes from the peer, got {length} announced")
    return length


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """``count`` bytes. Raises ``ConnectionError`` where the peer closes before."""
    received = bytearray()
    while len(received) < count:
        chunk = sock.recv(min(_CHUNK, count - len(received)))
        if not chunk:
            raise ConnectionError(f"the peer closed the connection after {len(received)} of {count} bytes")
        received += chunk
    return bytes(received)


def wait_until_listening(host: str, port: int, timeout: float = 30.0) -> None:
    """Return as soon as something accepts connections on ``host`` and ``port``. Raises ``TimeoutError`` where nothing
    does within ``timeout`` seconds."""
    deadline = time.monotonic() + timeout
    while True:
        left = deadline - time.monotonic()
        try:
            socket.create_connection((host, port), timeout=min(0.5, max(0.01, left))).close()
            return
        except OSError as error:
            if time.monotonic() >= deadline:
                raise TimeoutError(f"nothing listens at {host}:{port} after {timeout} s ({error})") from None
            time.sleep(min(0.05, max(0.0, left)))
