"""What the fuzzers feed: everything that reads bytes of a peer, up to a whole server with a real store."""

from __future__ import annotations

import json
import random
import struct
from collections.abc import Callable
from typing import Any, Final

import msgpack
import numpy as np

from elephas_fast import _core
from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout, TensorSpec
from elephas_fast.optimizers import get as get_optimizer
from elephas_fast.transport.sealing import ClientSeal, ServerSeal
from elephas_fast.wire import ProtocolError, decode, encode, pack_arrays, unpack_arrays
from elephas_fast.wire.objects import pack_object, unpack_object
from tests.faults.damage import Mutator
from tests.faults.fuzz_server import FuzzedServer

SPECS: Final = [
    TensorSpec("a/kernel", (5, 7), "float32", True, {"class_name": "NonNeg", "config": {}}),
    TensorSpec("a/bias", (), "float16", True),
    TensorSpec("a/mean", (11,), "float32", False),
    TensorSpec("a/seed", (2,), "uint32", False),
    TensorSpec("empty", (0, 3), "float32", True),
]


class Messages:
    """``wire.decode``: a protocol error, or a message that is the same after a second trip."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(seed)

    def make(self) -> list[bytes]:
        return self._mutator.frames()

    def examine(self, given: list[bytes]) -> str:
        try:
            message, payload = decode(given)
        except ProtocolError:
            return "refused"
        frames = encode(message, payload)
        again, _ = decode(frames)
        if type(again) is not type(message) or encode(again, payload) != frames:
            raise AssertionError(f"{message} came back as {again}")
        return "read"


class Arrays:
    """``wire.unpack_arrays``: the metric states of a report."""

    def __init__(self, seed: int) -> None:
        self._mutator, self._random = Mutator(seed), np.random.default_rng(seed)
        self._good = [
            [],
            [np.zeros((), np.float32)],
            [np.arange(6, dtype=np.int64).reshape(2, 3), np.zeros((0, 4), np.bool_), np.ones(5, np.float16)],
            [np.zeros((3, 1, 2), np.uint8)] * 3,
        ]

    def make(self) -> bytes:
        mutator, pick = self._mutator, self._mutator.random.random
        frame = pack_arrays(self._good[int(pick() * len(self._good))])
        (length,) = struct.unpack_from("<I", frame)
        entries, raw = msgpack.unpackb(frame[4 : 4 + length]), bytearray(frame[4 + length :])
        if entries and pick() < 0.5:
            entry = entries[int(pick() * len(entries))]
            inner = entry if pick() < 0.5 else entry[1]
            if inner and pick() < 0.8:
                inner[int(pick() * len(inner))] = mutator.anything()
            else:
                inner.append(mutator.anything())
        header = bytearray(msgpack.packb(entries))
        while pick() < 0.4:
            mutator.change_bytes(header)
        if pick() < 0.3:
            mutator.change_bytes(raw)
        claimed = len(header) if pick() < 0.9 else mutator.random.getrandbits(32) >> int(pick() * 32)
        return struct.pack("<I", claimed) + header + raw

    def examine(self, given: bytes) -> str:
        try:
            arrays = unpack_arrays(given)
        except ProtocolError:
            return "refused"
        again = unpack_arrays(pack_arrays(arrays))
        for one, other in zip(arrays, again, strict=True):
            if (one.dtype, one.shape, one.tobytes()) != (other.dtype, other.shape, other.tobytes()):
                raise AssertionError(f"{one!r} came back as {other!r}")
        return "read"


class Objects:
    """``wire.objects.unpack_object``: plain data of other programs."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(seed)
        array = np.arange(4.0)
        self._good = [
            None, [1, 2.5, "x", b"y"], {"a": (1, (2,)), 3: [array]}, (array[0], array.astype(np.int8)), {},
        ]  # fmt: skip

    def make(self) -> bytes:
        mutator, pick = self._mutator, self._mutator.random.random
        body = bytearray(pack_object(self._good[int(pick() * len(self._good))]))
        mutator.change_bytes(body)
        while pick() < 0.5:
            mutator.change_bytes(body)
        return bytes(body)

    def examine(self, given: bytes) -> str:
        try:
            unpack_object(given)
        except ProtocolError:
            return "refused"
        return "read"


class Texts:
    """The JSON of a ``Welcome``: a ``ValueError``, or a layout or settings that are equal after a second trip."""

    def __init__(self, seed: int) -> None:
        self._mutator, self._random = Mutator(seed), random.Random(seed)
        settings = ServerSettings(mode="hogwild", access="stripes", optimizer={"class_name": "SGD", "config": {}})
        self._good = [(Layout, Layout.build(SPECS).to_json()), (ServerSettings, settings.to_json())]

    def make(self) -> tuple[Any, str]:
        pick = self._random.random
        kind, text = self._good[int(pick() * 2)]
        data = json.loads(text)
        for _ in range(1 + int(pick() * 2)):
            self._change(data)
        text = json.dumps(data, default=repr)
        if pick() < 0.3:
            raw = bytearray(text.encode())
            self._mutator.change_bytes(raw)
            text = raw.decode("utf-8", "replace")
        return kind, text

    def _change(self, data: Any) -> None:
        """Put something else in a place somewhere inside."""
        pick = self._random.random
        while True:
            if isinstance(data, dict) and data:
                key: Any = list(data)[int(pick() * len(data))]
            elif isinstance(data, list) and data:
                key = int(pick() * len(data))
            else:
                return
            if pick() < 0.4 or not isinstance(data[key], dict | list) or not data[key]:
                if pick() < 0.1:
                    del data[key]
                else:
                    data[key] = self._mutator.anything()
                return
            data = data[key]

    def examine(self, given: tuple[Any, str]) -> str:
        kind, text = given
        try:
            value = kind.from_json(text)
        except ValueError:
            return "refused"
        if kind.from_json(value.to_json()) != value:
            raise AssertionError(f"{value} came back as another")
        if kind is ServerSettings:
            try:
                get_optimizer(value.optimizer)
            except ValueError:
                return "refused optimizer"
        return "read"


class Sealed:
    """``transport.sealing``: a listener reads what a channel has said, as it was said, or nothing."""

    def __init__(self, seed: int) -> None:
        self._mutator = Mutator(seed)
        self._client, self._server = ClientSeal(bytes(32)), ServerSeal(bytes(32), 2**20)

    def make(self) -> tuple[list[bytes], list[bytes]]:
        pick = self._mutator.random.random
        said = [b"header", bytes(int(pick() * 300)), b"end"][: 1 + int(pick() * 3)]
        wire = [bytearray(frame) for frame in self._client.seal(said)]
        while pick() < 0.6:
            place = int(pick() * len(wire))
            if pick() < 0.8:
                self._mutator.change_bytes(wire[place])
            else:
                wire.insert(int(pick() * len(wire)), wire[place] if pick() < 0.5 else wire.pop(place))
        return said, [bytes(frame) for frame in wire]

    def examine(self, given: tuple[list[bytes], list[bytes]]) -> str:
        said, wire = given
        views = [memoryview(frame) for frame in wire]
        if self._client.open(views) is not None or self._client.meets_another(views):
            raise AssertionError(f"a channel takes its own words for a listener's: {wire}")
        found = self._server.open(views)
        if found is None:
            return "refused"
        if found[1] is None or [bytes(frame) for frame in found[1]] != said:
            raise AssertionError(f"{said} came as {found[1]}")
        return "read"


class Overrun:
    """Reads past the end of a vector: what a sanitizer that works ends the process for."""

    def __init__(self, seed: int) -> None:
        del seed

    def make(self) -> Any:
        return np.lib.stride_tricks.as_strided(np.zeros(1000, np.float32), (1001,))

    def examine(self, given: Any) -> str:
        return str(_core.count_nonfinite(given))


TARGETS: Final[dict[str, Callable[[int], Any]]] = {
    "messages": Messages,
    "arrays": Arrays,
    "objects": Objects,
    "texts": Texts,
    "sealed": Sealed,
    "asynchronous": lambda seed: FuzzedServer(seed, "asynchronous"),
    "synchronous": lambda seed: FuzzedServer(seed, "synchronous"),
    "hogwild": lambda seed: FuzzedServer(seed, "hogwild"),
    "overrun": Overrun,
}
