"""Handing an open file to another process on the same host, over an abstract Unix socket.

The name has 128 random bits and lives in the network namespace, so that only processes of the same host can reach it;
the peer must run as the same user (``SO_PEERCRED``) and both sides must prove that they know the fit's key
(HMAC-SHA256 over a fresh nonce) before the descriptor is sent. The connection then stays open as long as the client
lives: when it dies, however it dies, the server sees the end of it.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import struct
import time
from typing import Final

_NONCE: Final = 32
_TIMEOUT: Final = 2.0  # of the server, which serves nobody else meanwhile
_PATIENCE: Final = 10.0  # of a client, whose server may be busy with a large update
_AGAIN: Final = 0.05
_REFUSED: Final = b"\0"  # in place of a proof; without it a server that refuses looks like one that is killed
_OWNER: Final = struct.Struct("<QQ")
SCHEME: Final = "shm://"


def new_name() -> str:
    """A fresh ``shm://`` endpoint nobody can guess."""
    return f"{SCHEME}elephas_fast-{secrets.token_hex(16)}"


class Lifeline:
    """The connection of a client on this host, open as long as the client lives.

    The client says once who it is; after that nothing is sent, and the end of the connection is the end of the client.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.owner: tuple[int, int] | None = None

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._connection.fileno()

    def introduce(self, line: int, generation: int) -> bool:
        """The client's ledger line and generation, to the server; ``False`` where it has gone."""
        try:
            self._connection.sendall(_OWNER.pack(line, generation))
        except ConnectionError:
            return False
        return True

    def still_there(self) -> bool:
        """Read what has come (the introduction, kept in ``owner``); ``False`` at the end of the connection."""
        try:
            data = self._connection.recv(_OWNER.size)
        except OSError:
            return False
        if len(data) != _OWNER.size or self.owner is not None:
            return False
        self.owner = _OWNER.unpack(data)
        return True

    def close(self) -> None:
        """Close this end."""
        self._connection.close()


class Handover:
    """The giving side. ``accept`` is called when ``fileno()`` can be read; it answers one peer within seconds."""

    def __init__(self, endpoint: str, fd: int, key: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(_abstract(endpoint))
        self._socket.listen(64)
        self._socket.setblocking(False)
        self._fd = fd
        self._key = key

    def fileno(self) -> int:
        """The descriptor to poll."""
        return self._socket.fileno()

    def accept(self) -> Lifeline | None:
        """Hand the file to the next peer in line. The open connection, or ``None`` if the peer has left by itself, as
        one does that is killed. Raises ``PermissionError`` if it was refused: another user's, one that does not know
        the key, or one that is too slow to show it.
        """
        try:
            peer, _ = self._socket.accept()
        except OSError:
            return None
        try:
            _, uid, _ = struct.unpack("3i", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
            if uid != os.getuid():
                raise PermissionError(f"peer runs as uid {uid}")
            deadline = time.monotonic() + _TIMEOUT
            peer.settimeout(_TIMEOUT)
            nonce = secrets.token_bytes(_NONCE)
            peer.sendall(nonce)
            answer = _receive_exactly(peer, 2 * _NONCE, deadline)
            if not hmac.compare_digest(answer[:_NONCE], _proof(self._key, b"client", nonce)):
                with contextlib.suppress(OSError):
                    peer.sendall(_REFUSED)
                raise PermissionError("peer does not know the key")
            socket.send_fds(peer, [_proof(self._key, b"server", answer[_NONCE:])], [self._fd])
            peer.setblocking(False)
            return Lifeline(peer)
        except ConnectionError:
            peer.close()
            return None
        except PermissionError:
            peer.close()
            raise
        except OSError as error:
            peer.close()
            raise PermissionError(f"peer does not show the key: {error}") from None

    def close(self) -> None:
        """Stop listening; the name is gone at once."""
        self._socket.close()


def receive(endpoint: str, key: bytes, patience: float = 0.0) -> tuple[int, Lifeline] | None:
    """The taking side: ``(descriptor, connection to keep open)``.

    ``None`` where there is no such listener, which is what a process on another host sees, and what one sees for up to
    a second while a server that was killed, be it amid its answer, is followed by another: with ``patience`` it is
    asked again for as many seconds. Raises ``PermissionError`` where there is one but it, or we, do not know the key.
    """
    deadline = time.monotonic() + patience
    while (given := _receive(endpoint, key)) is None and time.monotonic() < deadline:
        time.sleep(_AGAIN)
    return given


def _receive(endpoint: str, key: bytes) -> tuple[int, Lifeline] | None:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    deadline = time.monotonic() + _PATIENCE
    connection.settimeout(_PATIENCE)
    with contextlib.ExitStack() as stack:
        stack.callback(connection.close)
        try:
            connection.connect(_abstract(endpoint))
            nonce = _receive_exactly(connection, _NONCE, deadline)
            mine = secrets.token_bytes(_NONCE)
            connection.sendall(_proof(key, b"client", nonce) + mine)
        except OSError:
            return None
        try:
            proof, fds, _, _ = socket.recv_fds(connection, _NONCE, 1)
        except OSError:
            return None
        if not proof:  # it has gone amid the answer
            return None
        for fd in fds[1:]:
            os.close(fd)
        if not fds or not hmac.compare_digest(proof, _proof(key, b"server", mine)):
            for fd in fds[:1]:
                os.close(fd)
            raise PermissionError(f"{endpoint}: key refused; the address belongs to another fit")
        os.set_inheritable(fds[0], False)
        stack.pop_all()
        return fds[0], Lifeline(connection)


def _abstract(endpoint: str) -> str:
    if not endpoint.startswith(SCHEME):
        raise ValueError(f"endpoint: expected {SCHEME}name, got {endpoint!r}")
    return "\0" + endpoint[len(SCHEME) :]


def _proof(key: bytes, side: bytes, nonce: bytes) -> bytes:
    return hmac.digest(key, side + nonce, "sha256")


def _receive_exactly(connection: socket.socket, count: int, deadline: float) -> bytes:
    data = b""
    while len(data) < count:
        connection.settimeout(max(1e-3, deadline - time.monotonic()))
        part = connection.recv(count - len(data))
        if not part:
            raise ConnectionResetError("peer closed the connection")
        data += part
    return data
