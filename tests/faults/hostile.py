"""Peers that speak to a server's port without being a client: what each sends, how fast, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Callable
from typing import Final

GIVEN_UP: Final = 20.0
"""Seconds after which a peer that the server does not hang up on counts as kept."""

_RESET: Final = struct.pack("ii", 1, 0)
_TLS: Final = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"


def greeting(mechanism: bytes) -> bytes:
    """The first 64 bytes of ZMTP 3.1 (RFC 37)."""
    return b"\xff\0\0\0\0\0\0\0\1\x7f\3\1" + mechanism.ljust(20, b"\0") + bytes(32)


def command(name: bytes, body: bytes) -> bytes:
    """One ZMTP command."""
    content = bytes([len(name)]) + name + body
    return b"\x06" + struct.pack(">Q", len(content)) + content


READY: Final = greeting(b"NULL") + command(b"READY", b"\x0bSocket-Type\0\0\0\x06DEALER\x08Identity\0\0\0\0")
Chunks = AsyncIterator[bytes]


async def _random(rng: random.Random) -> Chunks:
    yield rng.randbytes(rng.randrange(1, 3000))


async def _http(rng: random.Random) -> Chunks:
    yield b"POST /weights HTTP/1.1\r\nHost: x\r\nContent-Length: 70000\r\n\r\n" + rng.randbytes(70_000)


async def _tls(rng: random.Random) -> Chunks:
    yield _TLS + rng.randbytes(500)


async def _garbage_after_greeting(rng: random.Random) -> Chunks:
    yield greeting(rng.choice([b"NULL", b"CURVE", b"PLAIN", b"GSSAPI", rng.randbytes(20)]))
    await asyncio.sleep(0.01)
    yield rng.randbytes(3000)


async def _wrong_handshake(rng: random.Random) -> Chunks:
    yield greeting(b"CURVE") + command(b"HELLO", b"\1\0" + bytes(72) + rng.randbytes(120))
    await asyncio.sleep(0.01)
    yield command(b"INITIATE", rng.randbytes(300))


async def _wrong_password(rng: random.Random) -> Chunks:
    yield greeting(b"PLAIN") + command(b"HELLO", b"\x0celephas_fast\x20" + rng.randbytes(32))


async def _byte_by_byte(rng: random.Random) -> Chunks:
    for byte in READY:
        yield bytes([byte])
        await asyncio.sleep(0.1)


async def _silent(rng: random.Random) -> Chunks:
    if rng.random() < 0.5:
        yield greeting(b"CURVE")[: rng.randrange(1, 64)]


async def _frame_of_a_tebibyte(rng: random.Random) -> Chunks:
    if rng.random() < 0.5:
        yield b"\xff" + struct.pack(">Q", 2**40) + b"\0" + bytes(1000)  # as ZMTP 1.0
    else:
        yield READY + b"\x02" + struct.pack(">Q", 2**40) + bytes(1000)


async def _endless_multipart(rng: random.Random) -> Chunks:
    yield READY
    frames = (b"\x01\x00" * 500) + b"\x03" + struct.pack(">Q", 40_000) + bytes(40_000)
    for _ in range(500):
        yield frames


async def _reset_amid(rng: random.Random) -> Chunks:
    yield READY[: rng.randrange(1, len(READY))]


ATTACKS: Final[dict[str, Callable[[random.Random], Chunks]]] = {
    "random bytes": _random,
    "HTTP": _http,
    "TLS": _tls,
    "garbage after a greeting": _garbage_after_greeting,
    "a wrong handshake": _wrong_handshake,
    "a wrong password": _wrong_password,
    "byte by byte": _byte_by_byte,
    "silence": _silent,
    "a frame of 1 TiB": _frame_of_a_tebibyte,
    "an endless multipart": _endless_multipart,
    "a reset": _reset_amid,
}


async def _attack(name: str, host: str, port: int, rng: random.Random, kept: Counter[str]) -> None:
    """One peer; ``kept`` counts it unless the server hangs up on it."""
    reader, writer = await asyncio.open_connection(host, port)

    async def talk() -> None:
        with contextlib.suppress(OSError):
            async for chunk in ATTACKS[name](rng):
                writer.write(chunk)
                await writer.drain()
        if name == "a reset":
            await asyncio.sleep(0.02)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.close()

    talking = asyncio.create_task(talk())
    try:
        async with asyncio.timeout(GIVEN_UP):
            with contextlib.suppress(OSError):
                while await reader.read(1 << 16):
                    pass
    except TimeoutError:
        kept[name] += 1
    finally:
        talking.cancel()
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await talking
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def _all(endpoint: str, count: int, at_once: int, seed: int) -> Counter[str]:
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    rng = random.Random(seed)
    names = [list(ATTACKS)[number % len(ATTACKS)] for number in range(count)]
    rng.shuffle(names)
    kept: Counter[str] = Counter()
    room = asyncio.Semaphore(at_once)

    async def one(name: str, seed: int) -> None:
        async with room:
            await _attack(name, host, int(port), random.Random(seed), kept)

    await asyncio.gather(*(one(name, rng.getrandbits(32)) for name in names))
    return kept


def attack(endpoint: str, count: int, at_once: int, seed: int) -> dict[str, int]:
    """``count`` hostile peers, ``at_once`` of them at a time; how many of which kind the server has kept."""
    return dict(asyncio.run(_all(endpoint, count, at_once, seed)))
