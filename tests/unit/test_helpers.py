"""Small helpers of Elephas: sockets, versions, labels, notebooks, and the names in ``utils``."""

from __future__ import annotations

import io
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from elephas_fast import utils
from elephas_fast.utils.huggingface_utils import pad_labels
from elephas_fast.utils.notebook_utils import is_running_in_notebook
from elephas_fast.utils.sockets import receive, recv_bytes, send, send_bytes, wait_until_listening
from elephas_fast.utils.versioning_utils import get_minor_version
from elephas_fast.utils.warnings import ElephasWarning
from elephas_fast.wire import ProtocolError
from elephas_fast.wire.objects import pack_object, unpack_object


def over_a_socket(write: Any, read: Any) -> Any:
    """What ``read`` gets of what ``write`` sends in another thread, and closes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(20)

        def sender() -> None:
            with theirs:
                write(theirs)

        thread = threading.Thread(target=sender)
        thread.start()
        try:
            return read(ours)
        finally:
            thread.join(20)


def test_bytes_come_as_they_were_sent() -> None:
    data = os.urandom(3_000_001)
    assert over_a_socket(lambda s: send_bytes(s, data), recv_bytes) == data
    assert over_a_socket(lambda s: send_bytes(s, b""), recv_bytes) == b""
    assert over_a_socket(lambda s: send_bytes(s, b"abc"), lambda s: s.recv(99))[:4] == b"\0\0\0\3"


@pytest.mark.parametrize("sent", [b"", b"\0\0", b"\0\0\0\5abcd"])
def test_a_peer_that_closes_early_is_an_error(sent: bytes) -> None:
    with pytest.raises(ConnectionError, match="the peer closed the connection after"):
        over_a_socket(lambda s: s.sendall(sent), recv_bytes)


def test_lengths_are_bounded() -> None:
    with pytest.raises(ValueError, match="max_bytes: expected at most 3 bytes from the peer, got 4 announced"):
        over_a_socket(lambda s: send_bytes(s, b"abcd"), lambda s: recv_bytes(s, max_bytes=3))
    with pytest.raises(ValueError, match="max_bytes: expected at most"):
        over_a_socket(lambda s: s.sendall(b"9" * 20), receive)
    with pytest.raises(ValueError, match="a length of 20 decimal digits"):
        over_a_socket(lambda s: s.sendall(b"-" * 20), receive)


def test_objects_come_as_they_were_sent() -> None:
    sent = {
        "weights": [np.arange(6, dtype=np.float32).reshape(2, 3), np.zeros((0, 4)), np.array(7, np.int64)],
        "nested": ("a", ["ü", (1, -2.5, None)], {"b": b"\0\1", 3: True}),
        "number": np.float64(0.1),
    }
    got = over_a_socket(lambda s: send(s, sent), receive)
    assert got["nested"] == sent["nested"]
    assert type(got["number"]) is np.float64
    assert got["number"] == 0.1
    for there, here in zip(got["weights"], sent["weights"], strict=True):
        assert there.dtype == here.dtype
        assert there.shape == here.shape
        np.testing.assert_array_equal(there, here)
    assert over_a_socket(lambda s: send(s, [1], num_bytes=5), lambda s: receive(s, num_bytes=5)) == [1]


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("pwned",)


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    bad = pickle.dumps(Payload())
    with pytest.raises(ProtocolError):
        over_a_socket(lambda s: s.sendall(str(len(bad)).zfill(20).encode() + bad), receive)
    assert not list(tmp_path.iterdir())
    with pytest.raises(TypeError, match="got Payload; objects are not pickled"):
        pack_object([Payload()])
    with pytest.raises(TypeError, match="data: expected"):
        pack_object(2**70)
    with pytest.raises(TypeError, match=r"data: expected .* \(arrays: expected one of"):
        pack_object(np.array([object()]))


def test_damaged_objects_are_refused() -> None:
    whole = pack_object({"a": (np.ones(3), 1)})
    for end in range(len(whole)):
        with pytest.raises(ProtocolError):
            unpack_object(whole[:end])
    random = np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(whole)
        damaged[random.integers(len(whole))] = random.integers(256)
        try:
            unpack_object(damaged)
        except ProtocolError:
            continue
    nested: bytes = b"\xc0"
    for _ in range(200):
        nested = b"\x91" + nested
    with pytest.raises(ProtocolError):
        unpack_object(nested * 9)


def test_waiting_until_listening() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    began = time.monotonic()
    with pytest.raises(TimeoutError, match=f"nothing listens at 127.0.0.1:{port} after 0.2 s"):
        wait_until_listening("127.0.0.1", port, timeout=0.2)
    assert time.monotonic() - began < 5
    opened: list[socket.socket] = []
    timer = threading.Timer(0.2, lambda: opened.append(socket.create_server(("127.0.0.1", port))))
    timer.start()
    wait_until_listening("127.0.0.1", port, timeout=20)
    timer.join()
    assert opened
    opened[0].close()


def test_minor_versions() -> None:
    assert get_minor_version("3.15.1") == 15
    with pytest.raises(ValueError, match=r"version_string: expected a version such as .*, got 'three'"):
        get_minor_version("three")


def test_labels_are_padded() -> None:
    np.testing.assert_array_equal(pad_labels([[1, 2], [], [3]], 3, -100), [[1, 2, -100], [-100] * 3, [3, -100, -100]])
    with pytest.raises(ValueError, match="labels: expected at most 1 in row 1, got 2"):
        pad_labels([[1], [2, 3]], 1, 0)


def test_the_warning_can_be_filtered() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ElephasWarning)
        warnings.warn("trunk", ElephasWarning, stacklevel=1)
    assert caught[0].category is ElephasWarning


def test_a_script_is_no_notebook() -> None:
    assert not is_running_in_notebook()
    code = (
        "import sys, types; from elephas_fast.utils.notebook_utils import is_running_in_notebook as asked\n"
        "shell = types.SimpleNamespace(config={}); ipython = types.ModuleType('IPython')\n"
        "ipython.get_ipython = lambda: shell; sys.modules['IPython'] = ipython\n"
        "print(asked()); shell.config['IPKernelApp'] = {}; print(asked())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.stdout.split() == ["False", "True"], done.stderr


def test_utils_has_all_names_flat() -> None:
    for name in utils.__all__:
        assert getattr(utils, name) is not None
    weights = [np.ones((2, 3), np.float32), np.arange(3)]
    data = utils.weights_to_bytes(weights)
    assert isinstance(data, bytes)
    assert io.BytesIO(data).read() == data
    for there, here in zip(utils.bytes_to_weights(data), weights, strict=True):
        np.testing.assert_array_equal(there, here)
        assert there.dtype == here.dtype
        assert there.flags.writeable
    with pytest.raises(ValueError, match="arrays"):
        utils.bytes_to_weights(pickle.dumps(weights))
