"""The parameter server as a process: who may speak to it, where it listens, what it costs."""

from __future__ import annotations

import contextlib
import pickle
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import psutil
import pytest
from pyspark import TaskContext

from elephas_fast import SparkMLlibModel, SparkModel
from elephas_fast.client import connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD
from elephas_fast.utils.rdd_utils import to_labeled_point, to_simple_rdd
from tests.defects.linear import free_port, kernel, linear, random_rows
from tests.spark.conftest import own_leftovers


class Intruder:
    """Unpickled, it makes a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


def test_defect_07_the_server_takes_no_pickle_and_no_stranger(sc, tmp_path):
    """It listens on the driver's address alone, on a port of its own, and what is sent to it is never unpickled."""
    file = tmp_path / "executed"
    pickled = pickle.dumps([Intruder(file)])
    listening: set[tuple[str, int]] = set()

    def intrude(epoch: int, logs: Any) -> None:
        (pid,) = own_leftovers()["servers"]
        for connection in psutil.Process(int(pid)).net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN:
                listening.add(tuple(connection.laddr))
        for address in listening:
            for message in (b"POST /update HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(pickled) + pickled, pickled):
                with socket.create_connection(address, 5.0) as stranger:
                    stranger.settimeout(0.5)
                    stranger.sendall(message)
                    with contextlib.suppress(TimeoutError, ConnectionError):
                        assert b"200" not in stranger.recv(1 << 12)

    history = SparkModel(linear(4), mode="asynchronous", parameter_server_mode="tcp", num_workers=2).fit(
        to_simple_rdd(sc, *random_rows(16, 4)),
        epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=intrude)],
    )  # fmt: skip
    assert history.updates == 4
    assert {host for host, _ in listening} == {"127.0.0.1"}
    assert not {port for _, port in listening} & {4000, 5000}
    assert not file.exists()
    pickle.loads(pickled)
    assert file.exists()


def test_defect_06_the_mllib_model_needs_no_server_at_port_5000(sc):
    """0.3's contacted localhost:5000, whatever it had been told."""
    contacted = []
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", 5000))
        listener.listen()
        listener.settimeout(0.1)
        model = SparkMLlibModel(sc, linear(4), mode="asynchronous", num_workers=2)
        history = model.train(to_labeled_point(sc, *random_rows(20, 4)), nb_epoch=2)
        with contextlib.suppress(TimeoutError):
            contacted.append(listener.accept())
    assert history.updates == 4
    assert not contacted


@pytest.fixture
def server() -> Iterator[ParameterCluster]:
    with ParameterCluster(
        np.zeros(1000, np.float32), optimizer=SGD(1.0), mode="asynchronous", transport="tcp"
    ) as cluster:
        yield cluster


def seconds_of_cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def test_defect_13_clients_that_have_left_cost_nothing(server):
    """Elephas' server went on reading from each of their sockets as fast as it could."""
    process = psutil.Process(server.pid)
    threads = process.num_threads()
    for _ in range(5):
        with connect(server.address) as client:
            client.push(np.ones(1000, np.float32))
    time.sleep(0.5)
    before = seconds_of_cpu(process)
    time.sleep(1.5)
    assert seconds_of_cpu(process) - before < 0.15
    assert process.num_threads() <= threads + 1
    assert server.version == 5


def test_defect_13_a_client_has_one_connection_however_often_it_pushes(server):
    process = psutil.Process(server.pid)
    counts = set()
    with connect(server.address) as client:
        for push in range(300):
            client.push(np.ones(1000, np.float32))
            client.pull()
            if push % 50 == 49:
                held = [c for c in process.net_connections("tcp") if c.status == psutil.CONN_ESTABLISHED]
                counts.add((len(held), process.num_threads()))
    assert len(counts) == 1, counts
    np.testing.assert_array_equal(server.pull(), np.full(1000, -300.0))


def test_defect_14_workers_are_told_the_drivers_address(sc):
    """They do not look up their own host's name to find the server: here that leads nowhere."""

    def on_a_host_whose_name_means_nothing(rows):
        task = TaskContext.get().taskAttemptId()

        def fails_in_this_task(look_up):
            def refuse(*arguments, **keywords):
                now = TaskContext.get()
                if now is not None and now.taskAttemptId() == task:
                    raise OSError("a worker looked up a name")
                return look_up(*arguments, **keywords)

            return refuse

        for name in ("gethostname", "gethostbyname", "getaddrinfo"):
            setattr(socket, name, fails_in_this_task(getattr(socket, name)))
        yield from rows

    def looks_up_after_its_rows(rows):
        yield len(list(rows))
        yield socket.gethostbyname(socket.gethostname())  # as Elephas' SocketClient did, once it had its rows

    rows = [(np.full(4, i, np.float32), np.float32(1)) for i in range(16)]
    rdd = sc.parallelize(rows, 2).mapPartitions(on_a_host_whose_name_means_nothing)
    with pytest.raises(Exception, match="a worker looked up a name"):
        rdd.mapPartitions(looks_up_after_its_rows).collect()
    network = linear(4, rate=0.001)
    history = SparkModel(network, mode="asynchronous", parameter_server_mode="tcp").fit(rdd, epochs=2, verbose=0)
    assert history.updates == 4
    assert np.all(kernel(network) != 0)


@pytest.mark.parametrize("mode", ["http", "socket"])
def test_defects_of_0_4_the_port_reaches_the_workers(sc, mode):
    """Their clients took port 4000 whatever was asked for; socket mode could not work at all."""
    port, seen = free_port(), set()

    def note(epoch: int, logs: Any) -> None:
        (pid,) = own_leftovers()["servers"]
        for connection in psutil.Process(int(pid)).net_connections("tcp"):
            seen.add(connection.laddr.port)

    model = SparkModel(linear(4), "asynchronous", "epoch", mode, 2, None, 8, port)
    history = model.fit(
        to_simple_rdd(sc, *random_rows(16, 4)),
        epochs=2, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
    )  # fmt: skip
    assert history.updates == 4
    assert seen == {port}
