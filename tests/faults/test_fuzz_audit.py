"""Hostile messages make a server import, compile, execute and unpickle nothing."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import msgpack
import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address, Channel
from elephas_fast.wire import PROTOCOL_VERSION, Close, Error, Frame, Hello, ProtocolError, Steer, decode, encode
from elephas_fast.wire.messages import MESSAGES
from tests.faults.damage import Mutator, seal
from tests.server.test_wire import BAD_FIELDS, HOSTILE

WAIT: Final = 20.0

# Python runs this in each process that finds it, before anything else. SIGUSR1: write down from now on what is brought
# in or run; SIGUSR2: do some of it, to see that it is written down.
WATCHER: Final = """
import os, signal, sys
if sys.orig_argv[1:3] == ["-m", "elephas_fast.server"]:
    watched = ("import", "compile", "exec", "pickle.find_class", "marshal.loads", "os.system", "subprocess.Popen",
               "os.exec", "os.posix_spawn", "ctypes.dlopen", "code.__new__")
    fd = os.open({log!r}, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    armed = False
    def see(event, arguments):
        if armed and event in watched:
            os.write(fd, (event + " " + repr(arguments[:1])[:200] + "\\n").encode())
    sys.addaudithook(see)
    def arm(*_):
        global armed
        armed = True
        os.write(fd, b"armed\\n")
    def do(*_):
        import pickle
        pickle.loads(b"cos\\ngetpid\\n.")
        exec(compile("pass", "x", "exec"))
        import this_module_does_not_exist
    signal.signal(signal.SIGUSR1, arm)
    signal.signal(signal.SIGUSR2, do)
"""


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where watched servers write; servers started within the test are."""
    folder = tmp_path / "watcher"
    folder.mkdir()
    written = tmp_path / "events"
    (folder / "sitecustomize.py").write_text(WATCHER.format(log=str(written)))
    monkeypatch.syspath_prepend(str(folder))
    return written


def lines(log: Path, least: int) -> list[str]:
    """What has been written, once there are ``least`` lines or some seconds have passed."""
    deadline = time.monotonic() + 10.0
    while True:
        found = log.read_text().splitlines() if log.exists() else []
        if len(found) >= least or time.monotonic() > deadline:
            return found
        time.sleep(0.02)


def hostile() -> Iterator[list[Frame]]:
    """The tables of the wire's tests, unsealed and sealed, every message where it does not belong, and some mutated."""
    for frames in HOSTILE.values():
        yield list(frames)
        yield [seal(bytes(frames[0])), *frames[1:]] if frames else [b""]
    for message, name, value in BAD_FIELDS:
        values = {**message.__dict__, name: value}
        yield [seal(msgpack.packb([type(message).CODE, *values.values()]))]
    mutator = Mutator(5)
    for code, kind in MESSAGES.items():
        fields = [b"cos\nsystem\n(S'true'\ntR.", "__import__('os')", ["os", "system"], {"__class__": "os"}]
        for field in fields:
            yield [seal(msgpack.packb([code, *[field] * (len(kind.__dataclass_fields__))]))]
        yield [b"\x80\x04\x95" + bytes(20), b"cos\nsystem\n(S'true'\ntR."]
    for _ in range(300):
        yield list(mutator.frames())


def say(channel: Channel, frames: list[Frame]) -> str:
    """Send a message and give the error code it was answered with; empty where it was no error."""
    assert channel.send(frames, WAIT)
    reply = channel.receive(WAIT)
    assert reply is not None, "no answer"
    message, _ = decode(reply)
    return message.code if isinstance(message, Error) else ""


@pytest.mark.fault(11)
def test_hostile_messages_make_a_server_run_nothing(log: Path, injected: Callable[..., None]) -> None:
    gradient = np.ones(64, np.float32)
    with ParameterCluster(np.zeros(64, np.float32), transport="ipc") as cluster:
        assert cluster.pid is not None
        with connect(cluster.address, transport="ipc") as client:
            client.push(gradient)
            os.kill(cluster.pid, signal.SIGUSR1)
            assert lines(log, 1) == ["armed"]
            cases = _attack(cluster.address)
            receipt = client.push(gradient)
            assert receipt is not None
            assert receipt.status == "applied"
        assert cluster.pull().tolist() == [-2.0] * 64
        assert lines(log, 1) == ["armed"]
        os.kill(cluster.pid, signal.SIGUSR2)
        seen = "\n".join(lines(log, 4))
        assert "pickle.find_class" in seen
        assert "exec" in seen
        assert "import ('this_module_does_not_exist',)" in seen
    assert cases >= 200
    injected(hostile_messages_audited=cases, pickle_exec_import_events=0)


def _attack(address: Address) -> int:
    """Send every hostile message, before hello and after; how many were sent. None is taken for anything but an error
    by the server that has not been greeted."""
    endpoint = address.endpoint("ipc")
    assert endpoint is not None
    sent = 0
    hello = Hello(protocol=PROTOCOL_VERSION, key=address.key, partition=-1, attempt=0, rounds=0, outbox=False)
    for greeted in (False, True):
        channel = Channel(endpoint, address.key, encrypted=address.encrypted)
        if greeted:
            assert say(channel, encode(hello)) == ""
        for frames in hostile():
            if sum(map(len, frames)) > 60_000 or _is_an_order(frames):
                continue
            code = say(channel, frames or [b""])
            assert greeted or code in ("protocol", "hello", "key")
            sent += 1
        channel.close()
    return sent


def _is_an_order(frames: list[Frame]) -> bool:
    """Whether a mutated message has become one that a driver may send, which does what it says."""
    try:
        return isinstance(decode(frames)[0], Close | Steer)
    except ProtocolError:
        return False
