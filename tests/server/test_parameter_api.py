"""Elephas' parameter servers and clients, with clients in processes of their own."""

from __future__ import annotations

import os
import pickle
import signal
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path

import keras
import numpy as np
import pytest

from elephas_fast.client import PushRefused, connect
from elephas_fast.cluster import ParameterCluster, ServerLost
from elephas_fast.enums.modes import Mode
from elephas_fast.parameter import (
    BaseParameterClient,
    BaseParameterServer,
    HttpClient,
    HttpServer,
    SocketClient,
    SocketServer,
)
from elephas_fast.parameter.factory import ClientServerFactory
from elephas_fast.spark_model import get_server_weights, put_deltas_to_server
from elephas_fast.transport import Address, find, notice
from elephas_fast.utils.functional_utils import subtract_params
from elephas_fast.utils.serialization import model_to_dict
from tests.server import parameter_clients
from tests.server.crew import Crew
from tests.server.holdings import is_alive, wait_until


def model(moving: bool = False) -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [keras.layers.Dense(3, kernel_constraint="non_neg"), *([keras.layers.BatchNormalization()] * moving)]
    return keras.Sequential([keras.Input((4,)), *layers])


def assert_equal(some: list[np.ndarray], others: list[np.ndarray]) -> None:
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(one, other)


def folder() -> Path:
    return Path(notice._folder(make=False))


@pytest.mark.parametrize("kind", ["http", "socket"])
def test_deltas_are_subtracted(kind: str) -> None:
    network = model(moving=True)
    factory = ClientServerFactory.get_factory(kind)
    server = factory.create_server(model_to_dict(network), None, Mode.ASYNCHRONOUS, debug=False, threaded=True)
    assert isinstance(server, BaseParameterServer)
    assert isinstance(server, HttpServer if kind == "http" else SocketServer)
    server.start()
    try:
        client = factory.create_client(server.port)
        assert isinstance(client, HttpClient if kind == "http" else SocketClient)
        before = client.get_parameters()
        assert_equal(before, network.get_weights())
        rng = np.random.default_rng(0)
        delta = [rng.normal(size=w.shape).astype(np.float32) for w in before]
        client.update_parameters(delta)
        expected = subtract_params(before, delta)
        assert_equal(client.get_parameters(), expected)
        assert_equal(server.weights, expected)
        assert_equal(server.master_network.get_weights(), expected)
        client.close()
    finally:
        server.stop()
    assert_equal(server.weights, expected)


def test_processes_that_know_the_port(crew: Crew) -> None:
    with HttpServer(model(), None) as server:
        first = server.weights[0].flat[0]
        seen = crew.run(parameter_clients.push_ones, [(server.port, 5)] * 4, 60)
        assert all(values == sorted(values, reverse=True) for values in seen)
        assert server.weights[0].flat[0] == pytest.approx(first - 20, abs=1e-4)
        assert_equal(crew.run(parameter_clients.take_by, [(server.address,)], 60)[0], server.weights)
        client = HttpClient(server.port)
        assert_equal(crew.run(parameter_clients.take, [(client,)], 60)[0], client.get_parameters())
        assert server.address.key not in pickle.dumps(client)
        client.close()


def test_weights_that_are_no_floats_are_subtracted_too() -> None:
    class Counting(keras.layers.Layer):
        def build(self, shape):
            self.seen = self.add_weight(shape=(2,), dtype="int64", initializer="ones", trainable=False)
            self.wide = self.add_weight(shape=(3,), dtype="float16", initializer="ones")

        def call(self, inputs):
            return inputs

    network = keras.Sequential([keras.Input((4,)), Counting()])
    with SocketServer(network, None, "hogwild") as server, SocketClient(server.port) as client:
        weights = {w.dtype.name: w for w in client.get_parameters()}
        deltas = [np.full_like(w, 3) for w in client.get_parameters()]
        client.update_parameters(deltas)
        client.update_parameters(deltas)
        after = {w.dtype.name: w for w in client.get_parameters()}
        assert_equal([after[name] for name in weights], [w - np.full_like(w, 6) for w in weights.values()])
        assert set(weights) == {"int64", "float16"}


def test_a_delta_that_does_not_fit_changes_nothing() -> None:
    with HttpServer(model(), None) as server, HttpClient(server.port) as client:
        before = client.get_parameters()
        ones = [np.ones_like(w) for w in before]
        with pytest.raises(ValueError, match=r"delta: expected 2 arrays, one for each weight, got 1"):
            client.update_parameters(ones[:1])
        with pytest.raises(ValueError, match=r"delta: expected shape \[4, 3\] for weight '.*kernel', got \[3\]"):
            client.update_parameters([ones[1], ones[1]])
        ones[0][0, 0] = np.nan
        with pytest.raises(ValueError, match="delta: expected finite numbers, got NaN or infinity"):
            client.update_parameters(ones)
        assert_equal(client.get_parameters(), before)


def test_threads_share_a_client() -> None:
    with HttpServer(model(), None) as server, HttpClient(server.port) as client:
        first = client.get_parameters()[1][0]
        ones = [np.ones_like(w) for w in client.get_parameters()]

        def push() -> None:
            for _ in range(25):
                client.update_parameters(ones)

        threads = [threading.Thread(target=push) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert client.get_parameters()[1][0] == first - 100


def test_without_a_server_there_is_an_error_at_once_and_a_new_server_is_found() -> None:
    server = HttpServer(model(), None)
    server.start()
    client = HttpClient(server.port)
    client.update_parameters([np.ones_like(w) for w in client.get_parameters()])
    last = client.get_parameters()
    server.stop()
    began = time.monotonic()
    with pytest.raises(ConnectionError, match=f"port: no parameter server of this user has port {server.port}"):
        client.get_parameters()
    assert time.monotonic() - began < 1.0
    server.start()
    try:
        assert_equal(client.get_parameters(), last)
        with pytest.raises(ServerLost, match=f"{server.port}: Address already in use"):
            HttpServer(model(), server.port).start()
        assert_equal(client.get_parameters(), last)
        client.close()
    finally:
        server.stop()
        server.stop()


def test_the_key_is_for_this_user_alone() -> None:
    with HttpServer(model(), None) as server:
        file = folder() / f"{server.port}.json"
        assert stat.S_IMODE(folder().stat().st_mode) == 0o700
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert server.address.key.hex() in file.read_text()
        assert find(server.port or 0) == server.address
        keyless = Address(tuple(e for e in server.address.endpoints if e.startswith("tcp")), b"\0" * 32)
        with pytest.raises(PushRefused, match="key"):
            connect(keyless, timeout=10)
        if os.getuid() == 0:
            code = (
                "import sys; from tests.server.parameter_clients import as_another_user as run; "
                f"print(run({server.port}, 65534))"
            )
            done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
            assert "Error: " in done.stdout, done
            assert "let in" not in done.stdout
    assert not file.exists()


def test_a_file_that_others_may_read_is_not_trusted() -> None:
    with HttpServer(model(), None) as server:
        file = folder() / f"{server.port}.json"
        file.chmod(0o644)
        with pytest.raises(PermissionError, match="expected a file that only this user can read"):
            HttpClient(server.port).get_parameters()


def is_found(port: int) -> bool:
    try:
        find(port)
    except ConnectionError:
        return False
    return True


DRIVER = """
import os, sys, time
import numpy as np
from elephas_fast.cluster import ParameterCluster
cluster = ParameterCluster(np.zeros(4, np.float32), published=True).start()
print(cluster.pid, str(cluster.address).rpartition(":")[2], flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("victim", ["driver", "server"])
def test_the_file_does_not_outlive_the_server(victim: str) -> None:
    with subprocess.Popen([sys.executable, "-c", DRIVER], stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        pid, port = map(int, driver.stdout.readline().split())
        file = folder() / f"{port}.json"
        assert find(port).key
        os.kill(driver.pid if victim == "driver" else pid, signal.SIGKILL)
        assert wait_until(lambda: not is_alive(pid), 10.0)
        if victim == "driver":
            assert wait_until(lambda: not file.exists(), 10.0)
        assert wait_until(lambda: not is_found(port), 10.0)  # the last thread of a killed process ends a little later
        with pytest.raises(ConnectionError, match="no parameter server of this user"):
            find(port)
        assert not file.exists()
        driver.kill()


def test_a_published_server_needs_a_port() -> None:
    with pytest.raises(ValueError, match="published: a server is found by its TCP port, got transport='shm'"):
        ParameterCluster(np.zeros(4, np.float32), transport="shm", published=True)


def test_the_functions_of_the_early_releases() -> None:
    with HttpServer(model(), None) as server:
        for host in ("localhost", "127.0.0.1"):
            weights = get_server_weights(f"{host}:{server.port}")
            put_deltas_to_server([np.ones_like(w) for w in weights], master_url=f"{host}:{server.port}")
            assert_equal(get_server_weights(master_url=f"http://{host}:{server.port}"), [w - 1 for w in weights])
        for url, message in [
            ("localhost", "master_url: expected 'host:port', got 'localhost'"),
            ("192.0.2.1:4000", "master_url: expected a server on this host, which its port finds, got '192.0.2.1'"),
        ]:
            with pytest.raises(ValueError, match=message):
                get_server_weights(url)
    with pytest.raises(ConnectionError, match="no parameter server of this user has port 5000"):
        get_server_weights()


def test_arguments() -> None:
    network = model()
    with pytest.raises(TypeError, match="unknown keyword of HttpServer 'thraeded': did you mean 'threaded'"):
        HttpServer(network, 4000, "asynchronous", thraeded=True)
    with pytest.raises(ValueError, match="mode: expected 'asynchronous' or 'hogwild', got 'synchronous'"):
        HttpServer(network, 4000, "synchronous")
    with pytest.raises(ValueError, match="port: expected a whole number from 1 to 65535, got 0"):
        SocketServer(network, 0)
    with pytest.raises(ValueError, match="client_type: expected one of 'http', 'socket', got 'ftp'"):
        BaseParameterClient.get_client("ftp")
    assert BaseParameterClient.get_client("http", 4321).port == 4321
    assert BaseParameterClient.get_client("socket").port == 4000
    with pytest.raises(ValueError, match="_type: expected 'http' or 'socket', got 'ftp'"):
        ClientServerFactory.get_factory("ftp")
    server = HttpServer(network)
    assert server.master_url is None
    with pytest.raises(RuntimeError, match="call start"):
        _ = server.address
