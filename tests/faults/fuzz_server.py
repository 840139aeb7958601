"""A real server on a real store, fed by a peer who knows the key and means no good.

Beside it stands a second store, to which what the server says it has applied is pushed from clean copies: both must
hold the same bits after every message, and a message that was refused must have left everything as it was.
"""

from __future__ import annotations

from itertools import count
from typing import Any, Final

import msgpack
import numpy as np
from numpy.typing import NDArray

from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import SGD
from elephas_fast.server import ParameterServer
from elephas_fast.store import ParameterStore
from elephas_fast.transport import Channel, Listener
from elephas_fast.wire import (
    PROTOCOL_VERSION,
    Ack,
    Error,
    Frame,
    Hello,
    Message,
    Observe,
    Observed,
    ProtocolError,
    Pull,
    Push,
    Weights,
    Welcome,
    decode,
    encode,
)  # fmt: skip
from tests.faults.damage import Mutator, seal

KEY: Final = b"k" * 32
_LINE: Final = 1
_SERVED: Final = 400  # inputs, then a new server
_LAYOUT: Final = Layout.build(
    [
        TensorSpec("kernel", (9, 15), "float32", True),
        TensorSpec("mean", (11,), "float32", False),
        TensorSpec("seed", (6,), "uint32", False),
    ]
)
_SIZES: Final = (4 * _LAYOUT.size, _LAYOUT.opaque_size)
_NAMES: Final = count()


class FuzzedServer:
    """A target of ``tests.faults.fuzzing``: one message for a server in ``mode``."""

    def __init__(self, seed: int, mode: str) -> None:
        self._mutator = Mutator(seed, (*_SIZES, _SIZES[0] - 1, _SIZES[0] + 1, 0))
        self._mode = mode
        self._settings = ServerSettings(
            mode=mode,
            access="stripes",
            optimizer=SGD(learning_rate=1.0, momentum=0.5).to_config(),
            workers=1,
            partitions=4,
        )
        self._initial = np.arange(_LAYOUT.size, dtype=np.float32)
        self._open()

    def _new_store(self) -> ParameterStore:
        return ParameterStore(
            self._initial, self._settings.optimizer, layout=_LAYOUT, access=self._settings.store_access, outboxes=2
        )  # fmt: skip

    def _open(self) -> None:
        self._served = self._unread = self._perhaps = 0
        self._store, self._reference = self._new_store(), self._new_store()
        self._listener = Listener([f"inproc://fuzzed-{next(_NAMES)}"], 2**20)
        self._channel = Channel(self._listener.endpoints[0])
        self._server = ParameterServer(self._store, self._settings, self._listener, KEY)
        hello = Hello(protocol=PROTOCOL_VERSION, key=KEY, partition=_LINE, attempt=3, rounds=2**30, outbox=False)
        welcome = self._ask(encode(hello))[0]
        assert isinstance(welcome, Welcome)
        self._generation = welcome.generation
        self._before = _state(self._store)

    def close(self) -> None:
        """Give everything back. Whatever could not be read has been counted, and hellos with a wrong key."""
        assert self._unread <= self._store.counts()["damaged"] <= self._unread + self._perhaps
        self._server.close()
        self._channel.close()
        self._listener.close()
        self._store.close()
        self._reference.close()

    def _ask(self, frames: list[Frame]) -> list[Message]:
        """Send a message over the socket, have the server answer, and read the answers."""
        assert self._channel.send(frames, 1.0)
        for peer, received in self._listener.messages(1.0):
            self._peer = peer
            self._server._answer(peer, received)
        return self._answers()

    def _answers(self) -> list[Message]:
        found = []
        while (frames := self._channel.receive(0)) is not None:
            found.append(decode(frames)[0])
        return found

    def make(self) -> list[Frame]:
        mutator, pick = self._mutator, self._mutator.random.random
        if pick() < 0.3:
            message: Message = mutator.message()
            payload = mutator.payload(type(message).PAYLOAD)
        elif pick() < 0.1:
            message, payload = self._hello(), []
        else:
            message, payload = self._push()
        values = [type(message).CODE, *message.__dict__.values()]
        if isinstance(message, Hello) and pick() < 0.7:
            values[2:5] = [PROTOCOL_VERSION, KEY, _LINE if pick() < 0.6 else message.partition]
        if pick() < 0.3:
            return [seal(msgpack.packb(values), payload), *payload]
        if pick() < 0.4:
            mutator.change_payload(payload)
            return [seal(msgpack.packb(values), payload), *payload]
        return list(mutator.mutated(values, payload))

    def _hello(self) -> Hello:
        """A hello of one's own again, with claims that are not all true."""
        pick, bits = self._mutator.random.random, self._mutator.random.getrandbits
        return Hello(
            protocol=PROTOCOL_VERSION, key=KEY, partition=_LINE if pick() < 0.8 else bits(2) - 1, attempt=bits(2),
            rounds=2**30, outbox=pick() < 0.5, line=bits(7) - 1, generation=bits(2), held=bits(3) - 1,
        )  # fmt: skip

    def _push(self) -> tuple[Push, list[bytes]]:
        """A push that is the next one, or nearly."""
        pick, bits = self._mutator.random.random, self._mutator.random.getrandbits
        opaque, outbox = pick() < 0.3, pick() < 0.05
        clock = self._store.ledger.applied(_LINE) + 1 + (int(pick() * 5) - 2 if pick() < 0.2 else 0)
        gradient = np.full(_LAYOUT.size, np.float32(bits(4) - 8))
        if pick() < 0.1:
            gradient[bits(7)] = (np.nan, np.inf, -np.inf, 3e38)[bits(2)]
        payload = [] if outbox else [gradient.tobytes()]
        if opaque and not outbox:
            payload.append(self._mutator.random.randbytes(_LAYOUT.opaque_size))
        push = Push(
            request=bits(20), generation=self._generation - (pick() < 0.05), clock=max(1, clock), base_version=bits(8),
            rows=bits(8), outbox=outbox, opaque=opaque, pull=pick() < 0.3,
        )  # fmt: skip
        return push, payload

    def examine(self, given: list[Frame]) -> str:
        if not given or self._mutator.random.random() < 0.5:
            self._server._answer(self._peer, [_anywhere(frame, self._mutator) for frame in given])
            answers = self._answers()
        else:
            answers = self._ask(given)
        before, self._before = self._before, _state(self._store)
        outcome = self._judge(given, answers, before, self._before)
        self._unread += outcome == "refused"
        self._perhaps += outcome in ("Error protocol", "Error key")
        self._served += 1
        if self._served >= _SERVED or outcome in ("Close", "Goodbye", "Steer", "parked"):
            self.close()
            self._open()
        return outcome

    def _judge(self, given: list[Frame], answers: list[Message], before: Any, after: Any) -> str:
        """What came of a message; raises ``AssertionError`` where that is not what should have."""
        try:
            message, payload = decode(given)
        except ProtocolError:
            assert [a.code for a in answers if isinstance(a, Error)] == ["protocol"], answers
            assert after == before
            return "refused"
        assert all(answer.request == message.request for answer in answers), answers
        if not answers:
            assert isinstance(message, Pull)
            assert after == before
            return "parked"
        first = answers[0]
        if isinstance(first, Error):
            known = ("protocol", "key", "fenced", "finished", "gap", "closed", "full")
            assert first.code in known or (first.code == "hello" and isinstance(message, Pull)), answers
            assert after == before
            return f"Error {first.code}"
        if isinstance(message, Push):
            assert isinstance(first, Ack | Weights)
            return self._judge_push(message, payload, first.status, before, after)
        assert isinstance(first, {Hello: Welcome, Pull: Weights, Observe: Observed}.get(type(message), Ack))
        assert after == before
        if isinstance(first, Welcome):
            self._generation = first.generation
        return type(message).__name__

    def _judge_push(self, push: Push, payload: list[Frame], status: str, before: Any, after: Any) -> str:
        if status in ("duplicate", "refused"):
            assert after == before
            return "not finite" if status == "refused" else status
        assert status in ("applied", "accepted")
        assert push.clock == self._store.ledger.applied(_LINE)
        session = self._server._sessions.find(self._peer)
        assert session is not None
        if push.outbox:
            assert session.outbox >= 0
            flat, opaque = self._store.segment.outbox(session.outbox)
        else:
            flat = np.frombuffer(bytes(payload[0]), np.float32)
            opaque = np.frombuffer(bytes(payload[1]), np.uint8) if push.opaque else flat[:0].view(np.uint8)
        self._reference.push(flat, opaque=opaque if push.opaque else None)
        assert after == _state(self._reference)
        return status


def _state(store: ParameterStore) -> tuple[Any, ...]:
    """Everything that a push changes."""
    flat, opaque = np.empty(_LAYOUT.size, np.float32), np.empty(_LAYOUT.opaque_size, np.uint8)
    version = store.read(flat, opaque)
    slots = store.segment.slots[version & 1 if len(store.segment.slots) == 2 else 0]
    return version, flat.tobytes(), opaque.tobytes(), *(slot.tobytes() for slot in slots)


def _anywhere(frame: Frame, mutator: Mutator) -> memoryview:
    """The same bytes in memory of their own that begins at any address and ends with them."""
    shift = int(mutator.random.random() * 4)
    memory: NDArray[np.uint8] = np.empty(shift + len(frame), np.uint8)
    memory[shift:] = np.frombuffer(frame, np.uint8)
    return memory[shift:].data
