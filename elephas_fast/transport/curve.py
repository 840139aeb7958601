"""Admission and encryption of sockets, with what is made from the fit's key.

Both sides know the fit's key, so both make the same two key pairs from it: the server's, which a client must know
before the server answers at all, and the clients' one, without which the server admits nobody (ZeroMQ RFC 26, CurveZMQ;
RFC 27, ZAP). The fit's key itself never crosses a socket in clear.

Sockets that are not to be encrypted ask for a password made from the key instead (ZeroMQ RFC 24, PLAIN): whoever
listens on the way learns it with all the rest, but a stranger's bytes are no messages here either.
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


def as_client(socket: zmq.Socket[Any], key: bytes, *, encrypted: bool) -> None:
    """Let a socket that is not yet connected be admitted by the server of ``key``; encrypted it speaks to no other."""
    if not encrypted:
        socket.setsockopt(zmq.PLAIN_USERNAME, _DOMAIN)
        socket.setsockopt(zmq.PLAIN_PASSWORD, _password(key))
        return
    public, secret = _pair(key, b"client")
    socket.setsockopt(zmq.CURVE_SERVERKEY, _pair(key, b"server")[0])
    socket.setsockopt(zmq.CURVE_PUBLICKEY, public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, secret)


def as_server(socket: zmq.Socket[Any], key: bytes, *, encrypted: bool) -> None:
    """Let a socket that is not yet bound admit only whom the ``Admission`` of its context lets in."""
    if encrypted:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, _pair(key, b"server")[1])
    else:
        socket.setsockopt(zmq.PLAIN_SERVER, 1)
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Admission:
    """Answers the sockets of one ZeroMQ context that ask whether to let a client in; those that know ``key`` are.

    Make it before the sockets are bound, and call ``answer`` whenever ``socket`` can be read.
    """

    def __init__(self, context: zmq.Context[Any], key: bytes, *, encrypted: bool) -> None:
        self._mechanism = b"CURVE" if encrypted else b"PLAIN"
        self._known = [z85.decode(_pair(key, b"client")[0])] if encrypted else [_DOMAIN, _password(key)]
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADMISSION)

    def answer(self) -> None:
        """Admit or refuse the client that waits."""
        version, request, domain, _, _, mechanism, *credentials = self.socket.recv_multipart()
        known = (
            (domain, mechanism) == (_DOMAIN, self._mechanism)
            and len(credentials) == len(self._known)
            and hmac.compare_digest(b"".join(credentials), b"".join(self._known))
        )
        status, text = (b"200", b"") if known else (b"400", b"unknown key")
        self.socket.send_multipart([version, request, status, text, b"", b""])


def _password(key: bytes) -> bytes:
    return hmac.digest(key, b"elephas_fast plain client", "sha256").hex().encode()


def _pair(key: bytes, side: bytes) -> tuple[bytes, bytes]:
    """Public and secret key as ZeroMQ takes them; any 32 bytes are a secret key of Curve25519."""
    secret = z85.encode(hmac.digest(key, b"elephas_fast curve " + side, "sha256"))
    return zmq.curve_public(secret), secret
