"""Messages encrypted and authenticated from end to end, by AES-GCM with keys that both ends make from the fit's key.

Each channel and each listener has a key pair of its own (X25519, RFC 7748) and says its public key with each message.
Both ends make the keys of the two directions from the secret these share and the fit's key (HKDF, RFC 5869): who does
not know the fit's key can neither read nor speak, and who learns it later cannot read what was recorded, but for what a
channel says before it has heard from the listener: that is sealed with a key made from the fit's key and the channel's
public key alone.

A message is ``[head, chunk, ...]``. The head is clear, and authenticated with every chunk: kind, public key, number of
the message, lengths of the frames. The nonce of a chunk is the number of its message and its own place, so that none is
used twice with a key, and none can be left out, doubled, or moved. A listener takes the messages of a channel in
ascending order only; what is recorded and sent again is not heard.

A listener that cannot read a message, as one that has followed another, answers with its public key alone.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from collections.abc import Sequence
from typing import Final

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from elephas_fast.transport.sockets import Frame

CHUNK: Final = 2**20
"""Bytes of a frame that are encrypted at a time."""
OVERHEAD: Final = 16
"""Bytes by which a chunk grows."""
MAX_HEAD: Final = 512

_EARLY, _SEALED, _UNREADABLE = 1, 2, 3
_HEAD: Final = struct.Struct("<B32sQ")
_NONCE: Final = struct.Struct("<QI")
_LENGTH: Final = 8
_MOST_FRAMES: Final = (MAX_HEAD - _HEAD.size) // _LENGTH
_REMEMBERED: Final = 2**16  # channels whose numbers a listener keeps
_SECRET_BYTES: Final = 16  # AES-128


class ClientSeal:
    """A channel's side. ``key``: the fit's. Not thread-safe."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._own = X25519PrivateKey.generate()
        self._public = self._own.public_key().public_bytes_raw()
        self._peer = b""
        self._there = AESGCM(_early_secret(key, self._public))
        self._back: AESGCM | None = None
        self._kind = _EARLY
        self._said = 0
        self._heard: dict[bytes, int] = {}  # by the listener's public key

    def seal(self, frames: Sequence[Frame]) -> list[Frame]:
        """A message as it crosses the wire."""
        self._said += 1
        return _seal(self._there, self._kind, self._public, self._said, frames)

    def open(self, wire: Sequence[memoryview]) -> list[memoryview] | None:
        """The frames of a message from the listener; ``None`` for anything else, and for what has been heard."""
        head = _Head.read(wire)
        if head is None or head.kind != _SEALED or head.number <= self._heard.get(head.public, 0):
            return None
        if head.public == self._peer:
            frames = None if self._back is None else _open(self._back, head, wire)
        else:
            pair = self._agree(head.public)
            frames = None if pair is None else _open(pair[1], head, wire)
            if frames is not None and pair is not None:
                self._meet(head.public, pair)
        if frames is not None:
            self._heard[head.public] = head.number
        return frames

    def meets_another(self, wire: Sequence[memoryview]) -> bool:
        """Whether this is a listener's word that it could not read what was said to one before it. From now on is said
        what it can read."""
        if len(wire) != 1 or len(wire[0]) != 1 + len(self._public) or wire[0][0] != _UNREADABLE:
            return False
        public = bytes(wire[0][1:])
        pair = None if public == self._peer else self._agree(public)
        if pair is None:
            return False
        self._meet(public, pair)
        return True

    def _agree(self, public: bytes) -> tuple[AESGCM, AESGCM] | None:
        return _pair(self._key, self._own, public, self._public + public)

    def _meet(self, public: bytes, pair: tuple[AESGCM, AESGCM]) -> None:
        self._peer, self._kind = public, _SEALED
        self._there, self._back = pair


class Hearer:
    """One channel, as a listener knows it."""

    def __init__(self, there: AESGCM, back: AESGCM) -> None:
        self.there, self.back = there, back
        self.heard = 0


class ServerSeal:
    """A listener's side, for all its channels. ``key``: the fit's; a message of more than ``max_bytes`` is not read.
    Not thread-safe."""

    def __init__(self, key: bytes, max_bytes: int) -> None:
        self._key, self._max_bytes = key, max_bytes
        self._own = X25519PrivateKey.generate()
        self._public = self._own.public_key().public_bytes_raw()
        self._hearers: OrderedDict[bytes, Hearer] = OrderedDict()
        self._said = 0  # to all of them: a channel that was forgotten and is back gets its old key again
        self.unreadable: Frame = bytes([_UNREADABLE]) + self._public

    def open(self, wire: Sequence[memoryview]) -> tuple[Hearer, list[memoryview] | None] | None:
        """Who has sent a message, and its frames, or ``None`` instead of frames that have been heard; ``None`` for what
        cannot be read."""
        head = _Head.read(wire)
        if head is None or head.kind not in (_EARLY, _SEALED) or sum(head.lengths) > self._max_bytes:
            return None
        hearer = self._hearers.get(head.public)
        if hearer is None:
            pair = _pair(self._key, self._own, head.public, head.public + self._public)
            if pair is None:
                return None
            hearer = Hearer(*pair)
        cipher = hearer.there if head.kind == _SEALED else AESGCM(_early_secret(self._key, head.public))
        frames = _open(cipher, head, wire)
        if frames is None:
            return None
        self._hearers[head.public] = hearer
        self._hearers.move_to_end(head.public)
        if len(self._hearers) > _REMEMBERED:
            self._hearers.popitem(last=False)
        if head.number <= hearer.heard:
            return hearer, None
        hearer.heard = head.number
        return hearer, frames

    def seal(self, hearer: Hearer, frames: Sequence[Frame]) -> list[Frame]:
        """A message to a channel as it crosses the wire."""
        self._said += 1
        return _seal(hearer.back, _SEALED, self._public, self._said, frames)


class _Head:
    """The clear part of a message."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.kind, self.public, self.number = _HEAD.unpack_from(data)
        self.lengths: tuple[int, ...] = struct.unpack_from(f"<{(len(data) - _HEAD.size) // _LENGTH}Q", data, _HEAD.size)
        self.places: list[tuple[int, int, int]] = []

    @classmethod
    def read(cls, wire: Sequence[memoryview]) -> _Head | None:
        """The head of a message whose chunks are as many and as long as it says; ``None`` for anything else."""
        size = len(wire[0]) if wire else 0
        if not _HEAD.size < size <= MAX_HEAD or (size - _HEAD.size) % _LENGTH:
            return None
        head = cls(bytes(wire[0]))
        if sum(head.lengths) > CHUNK * len(wire):
            return None
        head.places = _places(head.lengths)
        if [end - begin + OVERHEAD for _, begin, end in head.places] != [len(chunk) for chunk in wire[1:]]:
            return None
        return head


def _places(lengths: Sequence[int]) -> list[tuple[int, int, int]]:
    """(frame, begin, end) of each chunk; an empty frame has one too."""
    return [
        (frame, begin, min(length, begin + CHUNK))
        for frame, length in enumerate(lengths)
        for begin in range(0, max(1, length), CHUNK)
    ]


def _seal(cipher: AESGCM, kind: int, public: bytes, number: int, frames: Sequence[Frame]) -> list[Frame]:
    views = [memoryview(frame) for frame in frames]
    lengths = [view.nbytes for view in views]
    if not 0 < len(lengths) <= _MOST_FRAMES:
        raise ValueError(f"frames: expected 1 to {_MOST_FRAMES}, got {len(lengths)}")
    head = _HEAD.pack(kind, public, number) + struct.pack(f"<{len(lengths)}Q", *lengths)
    wire: list[Frame] = [head]
    for place, (frame, begin, end) in enumerate(_places(lengths)):
        wire.append(cipher.encrypt(_NONCE.pack(number, place), views[frame][begin:end], head))
    return wire


def _open(cipher: AESGCM, head: _Head, wire: Sequence[memoryview]) -> list[memoryview] | None:
    """The frames of a message; ``None`` where a chunk is not what was sealed. They own their memory."""
    frames = [memoryview(b"")] * len(head.lengths)
    whole: dict[int, memoryview] = {}
    try:
        for place, (frame, begin, end) in enumerate(head.places):
            nonce, chunk = _NONCE.pack(head.number, place), wire[place + 1]
            if head.lengths[frame] <= CHUNK:
                frames[frame] = memoryview(cipher.decrypt(nonce, chunk, head.data))
                continue
            if frame not in whole:
                whole[frame] = frames[frame] = np.empty(head.lengths[frame], np.uint8).data
            cipher.decrypt_into(nonce, chunk, head.data, whole[frame][begin:end])
    except InvalidTag:
        return None
    return frames


def _pair(key: bytes, own: X25519PrivateKey, public: bytes, publics: bytes) -> tuple[AESGCM, AESGCM] | None:
    """The ciphers of what a channel says and of what a listener answers; ``None`` for a public key that is none."""
    try:
        shared = own.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None
    secrets = _derive(key, shared, b"both, " + publics, 2 * _SECRET_BYTES)
    return AESGCM(secrets[:_SECRET_BYTES]), AESGCM(secrets[_SECRET_BYTES:])


def _early_secret(key: bytes, public: bytes) -> bytes:
    return _derive(key, public, b"early", _SECRET_BYTES)


def _derive(key: bytes, material: bytes, use: bytes, count: int) -> bytes:
    return HKDF(SHA256(), count, salt=key, info=b"elephas_fast sealing, " + use).derive(material)
