"""Encryption and admission of sockets: CURVE with keys made from the fit's key.

Both sides know the fit's key, so both make the same two key pairs from it: the server's, which a client must know
before the server answers at all, and the clients' one, without which the server admits nobody (ZeroMQ RFC 26, CurveZMQ;
RFC 27, ZAP). The fit's key itself never crosses a socket in clear.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

import zmq
from zmq.utils import z85

OVERHEAD: Final = 33
"""Bytes that encryption adds to a frame: command name, nonce, flags and authenticator."""

_ADMISSION: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"elephas_fast"


def as_client(socket: zmq.Socket[Any], key: bytes) -> None:
    """Let a socket that is not yet connected speak to the server of ``key`` only, encrypted."""
    public, secret = _pair(key, b"client")
    socket.setsockopt(zmq.CURVE_SERVERKEY, _pair(key, b"server")[0])
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)


def as_server(socket: zmq.Socket[Any], key: bytes) -> None:
    """Let a socket that is not yet bound admit only whom the ``Admission`` of its context lets in, encrypted."""
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, _pair(key, b"server")[1])
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Admission:
    """Answers the sockets of one ZeroMQ context that ask whether to let a client in; those that know ``key`` are.

    Make it before the sockets are bound, and call ``answer`` whenever ``socket`` can be read.
    """

    def __init__(self, context: zmq.Context[Any], key: bytes) -> None:
        self._known = z85.decode(_pair(key, b"client")[0])
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADMISSION)

    def answer(self) -> None:
        """Admit or refuse the client that waits."""
        version, request, domain, _, _, mechanism, *credentials = self.socket.recv_multipart()
        known = (
            (domain, mechanism) == (_DOMAIN, b"CURVE")
            and len(credentials) == 1
            and hmac.compare_digest(credentials[0], self._known)
        )
        status, text = (b"200", b"") if known else (b"400", b"unknown key")
        self.socket.send_multipart([version, request, status, text, b"", b""])


def _pair(key: bytes, side: bytes) -> tuple[bytes, bytes]:
    """Public and secret key as ZeroMQ takes them; any 32 bytes are a secret key of Curve25519."""
    secret = z85.encode(hmac.digest(key, b"elephas_fast curve " + side, "sha256"))
    return zmq.curve_public(secret), secret
