"""Nothing is left behind, however a server, a client or the driver ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from tests.server.holdings import Holdings, descriptors, is_alive, is_listening, wait_until

pytestmark = pytest.mark.timeout(60)
ONES = np.ones(4, np.float32)


@pytest.mark.parametrize("transport", ["auto", "inproc", "shm", "ipc", "tcp"])
def test_stop_leaves_nothing(transport: str, nothing_left: None) -> None:
    before = Holdings.now()
    cluster = ParameterCluster(np.zeros(4, np.float32), transport=transport)
    with cluster:
        pid, endpoints = cluster.pid, cluster.address.endpoints
        client = connect(cluster.address, transport=transport)
        client.push(ONES)
        assert Holdings.now().beyond(before)
        if transport != "inproc":
            assert all(is_listening(endpoint) for endpoint in endpoints)
        began = time.monotonic()
    assert time.monotonic() - began < 5.0
    cluster.stop()
    client.close()
    assert pid is None or not is_alive(pid)
    if transport != "inproc":
        assert not any(is_listening(endpoint) for endpoint in endpoints)
    assert wait_until(lambda: not Holdings.now().beyond(before), 5.0)
    with pytest.raises(RuntimeError, match="memory has been given back"):
        cluster.pull()


def test_an_exception_in_the_block_leaves_nothing(nothing_left: None) -> None:
    with pytest.raises(KeyError), ParameterCluster(np.zeros(4, np.float32)) as cluster, connect(cluster.address):
        raise KeyError("the user's own")


def test_a_server_that_does_not_stop_is_killed(nothing_left: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("elephas_fast.cluster._STOP_SECONDS", 0.3)
    with ParameterCluster(np.zeros(4, np.float32)) as cluster:
        assert cluster.pid is not None
        os.kill(cluster.pid, signal.SIGSTOP)


def test_twenty_fits_hold_no_more_than_one(nothing_left: None) -> None:
    counts = []
    for _ in range(20):
        with ParameterCluster(np.zeros(1000, np.float32)) as cluster, connect(cluster.address) as client:
            client.push(np.ones(1000, np.float32))
            np.testing.assert_array_equal(client.pull(), -np.ones(1000))
        counts.append(len(descriptors()))
    assert counts == [counts[0]] * 20


def test_a_cluster_that_was_never_started_can_be_stopped(nothing_left: None) -> None:
    cluster = ParameterCluster(np.zeros(4, np.float32))
    with pytest.raises(RuntimeError, match="the parameter server has not been started"):
        _ = cluster.address
    cluster.stop()
    cluster.stop()


DRIVER = """
import os, sys, time
import numpy as np
from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster

cluster = ParameterCluster(np.zeros(4, np.float32), transport="auto").start()
client = connect(cluster.address)
client.push(np.ones(4, np.float32))
end = sys.argv[1]
child = 0
if end == "with a child":
    child = os.fork()  # holds the server's lifeline open
    if child == 0:
        time.sleep(60)
        os._exit(0)
print(cluster.pid, child, *cluster.address.endpoints, flush=True)
if end == "exit":
    sys.exit(0)
if end == "exception":
    raise RuntimeError("no more")
if end == "os._exit":
    os._exit(0)
time.sleep(60)
"""


@pytest.mark.fault(20)
@pytest.mark.parametrize("end", ["exit", "exception", "os._exit", "SIGKILL", "SIGTERM", "SIGINT", "with a child"])
def test_the_server_ends_with_its_driver_however_that_ends(end: str, nothing_left: None) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", DRIVER, end], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as driver:
        assert driver.stdout is not None
        server, child, *endpoints = driver.stdout.readline().split()
        assert len(endpoints) == 3
        if end in ("SIGKILL", "SIGTERM", "SIGINT"):
            driver.send_signal(signal.Signals[end])
        elif end == "with a child":
            driver.kill()
        driver.wait(20)
        assert wait_until(lambda: not is_alive(int(server)), 5.0)
        assert not any(is_listening(endpoint) for endpoint in endpoints)
        if end == "with a child":
            assert is_alive(int(child))
            os.kill(int(child), signal.SIGKILL)


def test_ctrl_c_at_the_terminal_does_not_reach_the_server(nothing_left: None) -> None:
    with ParameterCluster(np.zeros(4, np.float32)) as cluster, connect(cluster.address) as client:
        assert cluster.pid is not None
        assert os.getpgid(cluster.pid) != os.getpgid(0)
        os.kill(cluster.pid, signal.SIGINT)
        client.push(ONES)
        cluster.check()


SECRETS = """
import sys
import numpy as np
from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.server import ParameterServer
heavy = {"pyspark", "tensorflow", "keras", "pandas"} & set(sys.modules)
assert not heavy, heavy
with ParameterCluster(np.zeros(4, np.float32)) as cluster:
    key = cluster.address.key
    for name in ("cmdline", "environ"):
        with open(f"/proc/{cluster.pid}/{name}", "rb") as file:
            text = file.read()
        assert key not in text and key.hex().encode() not in text, name
    assert key.hex() not in repr(cluster.address) and repr(key) not in repr(cluster.address)
    with open(f"/proc/{cluster.pid}/maps") as file:
        assert "tensorflow" not in file.read()
"""


def test_the_server_is_light_and_tells_its_key_to_nobody() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SECRETS], capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
