"""Damage that leaves a message nearly as it was: each single bit of a header, a cut after each byte of a push, and bits
of its payload. Whatever gets through must be what was sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Final

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.server import ParameterServer
from elephas_fast.store import ParameterStore
from elephas_fast.transport import Channel, Listener
from elephas_fast.wire import PROTOCOL_VERSION, Ack, Error, Frame, Hello, Message, ProtocolError, Push, decode, encode
from tests.faults.damage import Mutator
from tests.server.test_wire import GOLDEN

LAYOUT: Final = Layout.build([TensorSpec("w", (3, 16), "float32", True), TensorSpec("seed", (2,), "uint32", False)])
KEY: Final = b"k" * 32
_NAMES: Final = count()


def flipped(data: bytes) -> Iterator[bytes]:
    """``data`` with each of its bits changed in turn."""
    for at in range(8 * len(data)):
        damaged = bytearray(data)
        damaged[at // 8] ^= 1 << at % 8
        yield bytes(damaged)


def cuts(frames: list[Frame]) -> Iterator[list[Frame]]:
    """What is left of a message that ends after each of its bytes, with an empty last frame and without it."""
    for index, frame in enumerate(frames):
        for end in range(len(frame)):
            yield [*frames[:index], frame[:end]]
        yield frames[:index]


class Served:
    """A server with one client that has said hello; a context manager."""

    def __init__(self, mode: str) -> None:
        settings = ServerSettings(
            mode=mode, access="stripes", optimizer={"class_name": "SGD", "config": {"learning_rate": 1.0}}
        )
        self.store = ParameterStore(np.zeros(LAYOUT.size, np.float32), layout=LAYOUT, access=settings.store_access)
        self._listener = Listener([f"inproc://bits-{next(_NAMES)}"], 2**20)
        self._channel = Channel(self._listener.endpoints[0])
        self._server = ParameterServer(self.store, settings, self._listener, KEY)
        hello = Hello(protocol=PROTOCOL_VERSION, key=KEY, partition=-1, attempt=0, rounds=1, outbox=False)
        self.generation = getattr(self.ask(encode(hello)), "generation", 0)

    def ask(self, frames: list[Frame]) -> Message:
        """The server's answer to any frames."""
        assert self._channel.send(frames, 5.0)
        for peer, received in self._listener.messages(5.0):
            self._server._answer(peer, received)
        answer = self._channel.receive(5.0)
        assert answer is not None, "no answer"
        return decode(answer)[0]

    def push(self, clock: int) -> list[Frame]:
        """The next push: float32 vector, opaque bytes."""
        push = Push(generation=self.generation, clock=clock, base_version=0, rows=1, outbox=False, opaque=True)
        return encode(push, [np.ones(LAYOUT.size, np.float32).tobytes(), bytes(range(LAYOUT.opaque_size))])

    def contents(self) -> tuple[int, bytes, bytes]:
        """Version, weights, opaque bytes."""
        flat, opaque = np.empty(LAYOUT.size, np.float32), np.empty(LAYOUT.opaque_size, np.uint8)
        version = self.store.read(flat, opaque)
        return version, flat.tobytes(), opaque.tobytes()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *exc: object) -> None:
        self._server.close()
        self._channel.close()
        self._listener.close()
        self.store.close()


@pytest.mark.fault(11)
def test_no_header_with_one_wrong_bit_is_read(
    how_many: Callable[[int, int], int], injected: Callable[..., None]
) -> None:
    """Of one message of every type by hand, and of others with all kinds of values."""
    mutator = Mutator(3)
    messages = [message for message, _ in GOLDEN] + [mutator.message() for _ in range(how_many(300, 30_000))]
    flips = 0
    for message in messages:
        payload: list[Frame] = [b"abcd"] * type(message).PAYLOAD
        frames = encode(message, payload)
        for header in flipped(bytes(frames[0])):
            with pytest.raises(ProtocolError):
                decode([header, *payload])
            flips += 1
    assert {type(message) for message in messages[len(GOLDEN) :]} == {type(message) for message, _ in GOLDEN}
    injected(header_bits_flipped=flips, read=0)


@pytest.mark.fault(6)
@pytest.mark.fault(11)
@pytest.mark.parametrize("mode", ["asynchronous", "synchronous", "hogwild"])
def test_a_damaged_push_changes_nothing(mode: str, injected: Callable[..., None]) -> None:
    with Served(mode) as served:
        good = served.push(1)
        before = served.contents()
        cut = flips = 0
        for frames in cuts(good):
            if frames:
                answer = served.ask(frames)
                assert isinstance(answer, Error)
                assert answer.code == "protocol"
                cut += 1
        for header in flipped(bytes(good[0])):
            answer = served.ask([header, *good[1:]])
            assert isinstance(answer, Error)
            assert answer.code == "protocol"
            flips += 1
        assert served.contents() == before
        assert served.store.counts()["damaged"] == cut + flips
        answer = served.ask(good)
        assert isinstance(answer, Ack)
        assert answer.status == ("accepted" if mode == "synchronous" else "applied")
        assert served.contents()[0] == 1
    injected(pushes_cut=cut, header_bits_flipped=flips, applied=0)


@pytest.mark.fault(6)
@pytest.mark.parametrize("size", [1000, 600_000])
def test_a_damaged_reply_is_asked_for_again(
    size: int, impatient: None, monkeypatch: pytest.MonkeyPatch, injected: Callable[..., None]
) -> None:
    """One bit of every fifth reply is wrong, pieces of a long vector included: each push counts once all the same."""
    sent, damaged, pushes = count(), count(), 10
    whole = Listener.send

    def send(self: Listener, peer: object, frames: list[Frame]) -> bool:
        number = next(sent)
        if number % 5 == 0:
            header = bytearray(frames[0])
            header[number % len(header)] ^= 1 << number % 8
            frames = [bytes(header), *frames[1:]]
            next(damaged)
        return whole(self, peer, frames)

    monkeypatch.setattr(Listener, "send", send)
    with ParameterCluster(np.zeros(size, np.float32), transport="inproc") as cluster:
        with connect(cluster.address, transport="inproc") as client:
            out, gradient = np.empty(size, np.float32), np.ones(size, np.float32)
            for clock in range(1, pushes + 1):
                receipt, _ = client.exchange(gradient, out, np.empty(0, np.uint8))
                assert receipt.status in ("applied", "duplicate")
                assert np.all(out == -clock)
        assert np.all(cluster.pull() == -pushes)
        assert cluster.version == pushes
    injected(replies_damaged=next(damaged), lost=0, doubled=0)
