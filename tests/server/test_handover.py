"""Handing the segment's descriptor to another process: only to one of the same user that knows the key."""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from elephas_fast.transport import Handover, Lifeline, handover, new_name, receive
from tests.server.holdings import descriptors, is_listening, wait_until

KEY = b"k" * 32
pytestmark = pytest.mark.usefixtures("nothing_left")


def memfd(content: bytes) -> int:
    fd = os.memfd_create("test")
    os.write(fd, content)
    return fd


def readable(lifeline: Lifeline, seconds: float) -> bool:
    return bool(select.select([lifeline.fileno()], [], [], seconds)[0])


class Giver:
    """A handover that is served in a thread; ``accepted`` are the connections it keeps, ``refused`` and ``left`` the
    numbers of the others."""

    def __init__(self) -> None:
        self.endpoint = new_name()
        self._fd = memfd(b"weights")
        self._handover = Handover(self.endpoint, self._fd, KEY)
        self.accepted: list[Lifeline] = []
        self.refused = self.left = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.is_set():
            if select.select([self._handover.fileno()], [], [], 0.02)[0]:
                try:
                    lifeline = self._handover.accept()
                except PermissionError:
                    self.refused += 1
                    continue
                if lifeline is None:
                    self.left += 1
                else:
                    self.accepted.append(lifeline)

    def close(self) -> None:
        self._stop.set()
        self._thread.join(10)
        self._handover.close()
        for lifeline in self.accepted:
            lifeline.close()
        os.close(self._fd)


@pytest.fixture
def giver() -> Iterator[Giver]:
    made = Giver()
    yield made
    made.close()
    assert not is_listening(made.endpoint)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(handover, "_TIMEOUT", 0.3)
    monkeypatch.setattr(handover, "_PATIENCE", 0.3)


def test_the_file_and_a_connection_that_lasts(giver: Giver) -> None:
    given = receive(giver.endpoint, KEY)
    assert given is not None
    fd, connection = given
    assert os.pread(fd, 100, 0) == b"weights"
    assert not os.get_inheritable(fd)
    assert wait_until(lambda: len(giver.accepted) == 1, 5.0)
    theirs = giver.accepted[0]
    assert not readable(theirs, 0.05)
    connection.introduce(5, 2**63)
    assert readable(theirs, 5.0)
    assert theirs.still_there()
    assert theirs.owner == (5, 2**63)
    assert not readable(theirs, 0.05)
    connection.close()
    os.close(fd)
    assert readable(theirs, 5.0)
    assert not theirs.still_there()
    assert theirs.owner == (5, 2**63)


def test_a_client_that_introduces_itself_twice_is_no_client(giver: Giver) -> None:
    given = receive(giver.endpoint, KEY)
    assert given is not None
    assert wait_until(lambda: len(giver.accepted) == 1, 5.0)
    for expected in (True, False):
        given[1].introduce(1, 1)
        assert readable(giver.accepted[0], 5.0)
        assert giver.accepted[0].still_there() is expected
    given[1].close()
    os.close(given[0])


def test_a_server_that_has_gone_is_told_from_one_that_knows_its_client() -> None:
    ours, theirs = socket.socketpair()
    lifeline = Lifeline(ours)
    assert lifeline.introduce(1, 1)
    theirs.close()
    assert not lifeline.introduce(1, 1)
    lifeline.close()


def test_several_may_have_it(giver: Giver) -> None:
    given = [receive(giver.endpoint, KEY) for _ in range(5)]
    for one in given:
        assert one is not None
        assert os.pread(one[0], 100, 0) == b"weights"
        os.close(one[0])
        one[1].close()
    assert giver.refused == 0


@pytest.mark.parametrize("key", [b"x" * 32, b"", KEY[:-1], KEY + b"k"])
def test_a_wrong_key_gets_nothing(giver: Giver, key: bytes) -> None:
    before = descriptors()
    with pytest.raises(PermissionError, match="key refused; the address belongs to another fit"):
        receive(giver.endpoint, key)
    assert wait_until(lambda: giver.refused == 1, 5.0)
    assert descriptors() == before
    assert giver.accepted == []


def test_a_name_nobody_has_leads_nowhere() -> None:
    began = time.monotonic()
    assert receive(new_name(), KEY) is None
    assert time.monotonic() - began < 1.0


@pytest.mark.parametrize("endpoint", ["ipc://x", "elephas", "tcp://127.0.0.1:1"])
def test_only_its_own_scheme_is_taken(endpoint: str) -> None:
    with pytest.raises(ValueError, match="endpoint: expected shm://name, got"):
        receive(endpoint, KEY)


def test_names_cannot_be_guessed_and_are_nowhere_on_disk(giver: Giver) -> None:
    names = {new_name() for _ in range(100)}
    assert len(names) == 100
    assert all(len(name.rpartition("-")[2]) == 32 for name in names)
    assert not os.path.exists(giver.endpoint.removeprefix("shm://"))
    assert is_listening(giver.endpoint)


def raw(endpoint: str) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5.0)
    connection.connect("\0" + endpoint.removeprefix("shm://"))
    return connection


@pytest.mark.fault(13)
@pytest.mark.parametrize("words", [b"", b"x", b"x" * 63, b"x" * 64, b"x" * 10_000])
@pytest.mark.usefixtures("hurried")
def test_a_peer_that_talks_otherwise_gets_nothing_and_delays_little(giver: Giver, words: bytes) -> None:
    for hang_up in (True, False):
        with raw(giver.endpoint) as connection:
            connection.sendall(words)
            if hang_up:
                connection.shutdown(socket.SHUT_WR)
            began = time.monotonic()
            data = b""
            fds: list[int] = []
            while True:
                try:
                    part, more, _, _ = socket.recv_fds(connection, 1000, 4)
                except ConnectionResetError:
                    break
                data, fds = data + part, fds + more
                if not part:
                    break
            assert len(data) <= 32 + 1  # a nonce, and that it was refused
            assert fds == []
            assert time.monotonic() - began < 3.0
    given = receive(giver.endpoint, KEY)
    assert given is not None
    os.close(given[0])
    given[1].close()
    assert (giver.left, giver.refused) == ((1, 1) if len(words) < 64 else (0, 2))


@pytest.mark.fault(13)
@pytest.mark.usefixtures("hurried")
def test_a_peer_that_talks_byte_by_byte_is_not_waited_for_longer(giver: Giver) -> None:
    with raw(giver.endpoint) as connection:
        began = time.monotonic()
        sent = 0
        with contextlib.suppress(OSError):
            while sent < 63:
                connection.sendall(b"x")
                sent += 1
                time.sleep(0.1)
        assert sent < 63
        assert time.monotonic() - began < 3.0
    assert wait_until(lambda: giver.refused == 1, 5.0)


def test_a_proof_is_good_for_one_nonce_only(giver: Giver) -> None:
    with raw(giver.endpoint) as first, raw(giver.endpoint) as second:
        proof = hmac.digest(KEY, b"client" + first.recv(32), "sha256")
        first.sendall(proof + bytes(32))
        assert socket.recv_fds(first, 32, 4)[1]
        second.recv(32)
        second.sendall(proof + bytes(32))
        assert socket.recv_fds(second, 32, 4)[1] == []
    assert wait_until(lambda: giver.refused == 1, 5.0)
    for fd in [int(d.split()[0]) for d in descriptors() if "memfd:test" in d]:
        if fd != giver._fd:
            os.close(fd)


@pytest.mark.fault(23)
def test_an_impostor_s_file_is_refused() -> None:
    endpoint = new_name()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind("\0" + endpoint.removeprefix("shm://"))
    server.listen()
    fds = [memfd(b"poison"), memfd(b"poison")]

    def impostor() -> None:
        peer, _ = server.accept()
        peer.sendall(secrets.token_bytes(32))
        peer.recv(64)
        socket.send_fds(peer, [secrets.token_bytes(32)], fds)
        peer.close()

    thread = threading.Thread(target=impostor)
    thread.start()
    with pytest.raises(PermissionError, match="key refused"):
        receive(endpoint, KEY)
    thread.join(10)
    server.close()
    for fd in fds:
        os.close(fd)


@pytest.mark.fault(8)
def test_a_server_that_is_killed_amid_its_answer_is_asked_again() -> None:
    """At whatever byte it went, the one that follows under its name is waited for."""
    endpoint, fd = new_name(), memfd(b"weights")

    def killed_after(sent: int) -> None:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as server:
            server.bind("\0" + endpoint.removeprefix("shm://"))
            server.listen()
            ready.set()
            peer, _ = server.accept()
            peer.sendall(bytes(sent))
            if sent == 32:
                peer.recv(64)
            peer.close()
        with contextlib.closing(Handover(endpoint, fd, KEY)) as following:
            assert select.select([following.fileno()], [], [], 10)[0]
            lifelines.append(following.accept())

    for sent in (0, 1, 31, 32):
        lifelines: list[Lifeline | None] = []
        ready = threading.Event()
        thread = threading.Thread(target=killed_after, args=(sent,))
        thread.start()
        assert ready.wait(10)
        given = receive(endpoint, KEY, 10.0)
        thread.join(20)
        assert given is not None
        assert os.pread(given[0], 100, 0) == b"weights"
        os.close(given[0])
        for lifeline in (given[1], *lifelines):
            assert lifeline is not None
            lifeline.close()
    os.close(fd)


@pytest.mark.usefixtures("hurried")
def test_a_listener_that_says_nothing_is_given_up() -> None:
    endpoint = new_name()
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    server.bind("\0" + endpoint.removeprefix("shm://"))
    server.listen()
    began = time.monotonic()
    assert receive(endpoint, KEY) is None
    assert time.monotonic() - began < 3.0
    server.close()


OTHER_USER = """
import os, sys
from elephas_fast.transport import receive
os.setuid(65534)
sys.exit(0 if receive(sys.argv[1], b"k" * 32) is None else 1)
"""


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user to try it")
def test_another_user_gets_nothing_even_with_the_key(giver: Giver) -> None:
    done = subprocess.run([sys.executable, "-c", OTHER_USER, giver.endpoint], timeout=60, check=False)
    assert done.returncode == 0
    assert wait_until(lambda: giver.refused == 1, 5.0)
    assert giver.accepted == []
