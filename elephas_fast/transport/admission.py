"""Who gets into a listener's sockets: who shows a password made from the fit's key (ZeroMQ RFC 24, PLAIN; RFC 27, ZAP).

Without one ZeroMQ hands a stranger's bytes to the application as messages of its first protocol. Each channel makes a
password of its own, which is good from one address only, so that it is of little use to who reads it on the way. It
protects nothing of what is said: that is the business of ``sealing``.
"""

from __future__ import annotations

import hmac
import secrets
from collections import OrderedDict
from typing import Any, Final

import zmq

_ADMISSION: Final = "inproc://zeromq.zap.01"
_DOMAIN: Final = b"elephas_fast"
_NONCE: Final = 32  # hexadecimal digits
_REMEMBERED: Final = 2**16  # passwords whose address is known


def as_client(socket: zmq.Socket[Any], key: bytes, *, encrypted: bool) -> None:
    """Let a socket that is not yet connected be admitted by the listener of ``key`` that speaks as it does."""
    socket.setsockopt(zmq.PLAIN_USERNAME, _DOMAIN)
    nonce = secrets.token_hex(_NONCE // 2).encode()
    socket.setsockopt(zmq.PLAIN_PASSWORD, nonce + _proof(key, nonce, encrypted=encrypted))


def as_server(socket: zmq.Socket[Any]) -> None:
    """Let a socket that is not yet bound admit only whom the ``Admission`` of its context lets in."""
    socket.setsockopt(zmq.PLAIN_SERVER, 1)
    socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)
    socket.setsockopt(zmq.ZAP_ENFORCE_DOMAIN, 1)


class Admission:
    """Answers the sockets of one ZeroMQ context that ask whether to let a client in; those that know ``key`` are.

    Make it before the sockets are bound, and call ``answer`` whenever ``socket`` can be read.
    """

    def __init__(self, context: zmq.Context[Any], key: bytes, *, encrypted: bool) -> None:
        self._key, self._encrypted = key, encrypted
        self._from: OrderedDict[bytes, bytes] = OrderedDict()
        self.socket: zmq.Socket[Any] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(_ADMISSION)

    def answer(self) -> None:
        """Admit or refuse the client that waits."""
        version, request, domain, address, _, mechanism, *credentials = self.socket.recv_multipart()
        known = (
            (domain, mechanism, credentials[:1]) == (_DOMAIN, b"PLAIN", [_DOMAIN])
            and len(credentials) == 2
            and self._is_good(credentials[1], address)
        )
        status, text = (b"200", b"") if known else (b"400", b"unknown key")
        self.socket.send_multipart([version, request, status, text, b"", b""])

    def _is_good(self, password: bytes, address: bytes) -> bool:
        nonce, proof = password[:_NONCE], password[_NONCE:]
        if not hmac.compare_digest(proof, _proof(self._key, nonce, encrypted=self._encrypted)):
            return False
        if len(self._from) >= _REMEMBERED:
            self._from.popitem(last=False)
        return self._from.setdefault(nonce, address) == address


def _proof(key: bytes, nonce: bytes, *, encrypted: bool) -> bytes:
    """Hexadecimal digits that only who has the key can make; others for those who encrypt and those who do not."""
    kind = b"sealed " if encrypted else b"plain "
    return hmac.digest(key, b"elephas_fast client, " + kind + nonce, "sha256").hex().encode()
