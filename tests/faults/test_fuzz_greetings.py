"""Mutated greetings at the doors: the proof of the key on the Unix socket, and ZeroMQ's handshake with a password."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import threading
from collections import deque
from collections.abc import Callable
from typing import Final

import pytest

from elephas_fast.transport import Channel, Handover, Listener, new_name, receive
from tests.faults.damage import Mutator

KEY: Final = b"k" * 32
_NONCE: Final = 32
_OPEN: Final = 32
# ZMTP 3.1: signature, version, mechanism, as-server, filler; then a PLAIN HELLO command of the right lengths.
_GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"PLAIN".ljust(20, b"\x00") + bytes(32)
_HELLO: Final = b"\x04\x74\x05HELLO\x0celephas_fast\x60" + b"0" * 96


def proof(side: bytes, nonce: bytes) -> bytes:
    return hmac.digest(KEY, side + nonce, "sha256")


@pytest.mark.fault(11)
def test_a_mutated_proof_is_given_nothing(
    how_many: Callable[[int, int], int], injected: Callable[..., None], nothing_left: None
) -> None:
    total, admitted = how_many(2_000, 100_000), 0
    mutator = Mutator(1)
    endpoint = new_name()
    handover = Handover(endpoint, os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC), KEY)
    try:
        for number in range(total):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as peer:
                peer.settimeout(10.0)
                peer.connect("\0" + endpoint.removeprefix("shm://"))
                guess = bytearray(proof(b"client", bytes(_NONCE)) + bytes(_NONCE))
                mutator.change_bytes(guess)
                peer.sendall(guess)
                peer.shutdown(socket.SHUT_WR)
                with contextlib.suppress(PermissionError):
                    admitted += handover.accept() is not None
                _, fds, _, _ = socket.recv_fds(peer, 256, 4)
                assert fds == [], f"proof {number} was given a descriptor"
    finally:
        handover.close()
        os.close(handover._fd)
    assert admitted == 0
    injected(mutated_proofs=total, admitted=admitted)


@pytest.mark.fault(23)
def test_a_client_takes_no_descriptor_without_a_proof(
    how_many: Callable[[int, int], int], injected: Callable[..., None], nothing_left: None
) -> None:
    """The other side: whoever listens under the name but does not know the key, and sends what it likes."""
    total = how_many(500, 20_000)
    mutator = Mutator(2)
    endpoint = new_name()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind("\0" + endpoint.removeprefix("shm://"))
        listener.listen(8)

        def pretend() -> None:
            for _ in range(total):
                connection, _ = listener.accept()
                with connection, contextlib.suppress(OSError):  # the client leaves when it has seen enough
                    connection.settimeout(10.0)
                    pick = mutator.random.random
                    nonce = bytearray(_NONCE)
                    if pick() < 0.3:
                        mutator.change_bytes(nonce)
                    connection.sendall(nonce)
                    if len(nonce) >= _NONCE:
                        connection.recv(2 * _NONCE, socket.MSG_WAITALL)
                        count = int(pick() * 4)
                        socket.send_fds(connection, [secrets.token_bytes(1 + int(pick() * 40))], [0] * count)

        thread = threading.Thread(target=pretend)
        thread.start()
        refused = silent = 0
        for _ in range(total):
            try:
                assert receive(endpoint, KEY) is None
                silent += 1
            except PermissionError:
                refused += 1
        thread.join(20.0)
    assert min(refused, silent) > 0
    injected(mutated_answers=total, taken=0)


@pytest.mark.fault(12)
def test_nothing_comes_through_a_mutated_handshake(
    how_many: Callable[[int, int], int], injected: Callable[..., None], nothing_left: None
) -> None:
    total, delivered = how_many(1_000, 50_000), 0
    mutator = Mutator(3)
    listener = Listener(["tcp://127.0.0.1:*"], 2**20, KEY)
    port = int(listener.endpoints[0].rpartition(":")[2])
    peers: deque[socket.socket] = deque()
    for number in range(total):
        peer = socket.create_connection(("127.0.0.1", port), timeout=10.0)
        peers.append(peer)
        spoken = bytearray(_GREETING + _HELLO)
        for _ in range(number % 3):
            mutator.change_bytes(spoken)
        with contextlib.suppress(OSError):  # it may have been shown the door already
            peer.sendall(spoken)
            peer.sendall(b"".join(mutator.frames()))
        delivered += len(list(listener.messages(0)))
        if len(peers) > _OPEN:
            peers.popleft().close()
    channel = Channel(listener.endpoints[0], KEY)
    assert channel.send([b"honest"], 10.0)
    honest = []
    for _ in range(200):
        honest += [bytes(frame) for _, frames in listener.messages(0.1) for frame in frames]
        if honest:
            break
    assert honest == [b"honest"]
    channel.close()
    listener.close()
    while peers:
        peers.pop().close()
    assert delivered == 0
    injected(mutated_handshakes=total, messages_delivered=delivered)
