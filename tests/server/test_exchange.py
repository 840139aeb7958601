"""A round in one request: its push and the weights that follow it, which may come in parts."""

from __future__ import annotations

import os
import signal
import threading

import numpy as np
import pytest

from elephas_fast.client import Turn, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import SGD
from elephas_fast.server.outgoing import PART
from elephas_fast.wire import Push, Weights
from tests.server.holdings import wait_until
from tests.server.raw import Raw
from tests.server.reference import MODEL, Reference, model_vector

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60)]
TRANSPORTS = ("inproc", "shm", "ipc", "tcp")
MODES = ("synchronous", "asynchronous", "hogwild")
LONG = 3 * PART + 5  # four parts, the last of them short
NONE = np.empty(0, np.uint8)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_rounds_leave_what_pushes_and_pulls_leave(transport: str, mode: str) -> None:
    reference = Reference(model_vector(0), SGD(learning_rate=0.5), MODEL)
    out, opaque = np.empty(MODEL.size, np.float32), np.empty(MODEL.opaque_size, np.uint8)
    given = np.arange(MODEL.opaque_size, dtype=np.uint8)
    with (
        ParameterCluster(
            model_vector(0), optimizer=SGD(learning_rate=0.5), layout=MODEL, mode=mode, transport=transport
        ) as cluster,
        connect(cluster.address, transport=transport, timeout=20.0) as client,
    ):
        for step in range(1, 5):
            flat = model_vector(step)
            client.vector[0][:] = flat
            client.send_round(client.vector[0], opaque=given)
            if not (transport == "shm" and mode == "synchronous"):
                client.vector[0][:] = 77.0  # the pair that is free: nothing of it is sent
            receipt, turn = client.finish_round(out, opaque)
            assert receipt.status == ("accepted" if mode == "synchronous" else "applied")
            assert turn == Turn(step, False, 0.0)
            reference.push(flat)
            np.testing.assert_array_equal(out, reference.weights)
            np.testing.assert_array_equal(opaque, given)
        assert (client.clock, cluster.version) == (4, 4)
        with pytest.raises(RuntimeError, match="finish_round: expected a round sent by send_round"):
            client.finish_round(out, opaque)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_an_exchange_is_a_round_sent_and_finished(transport: str, mode: str) -> None:
    reference = Reference(model_vector(0), SGD(learning_rate=0.5), MODEL)
    out, opaque = np.empty(MODEL.size, np.float32), np.empty(MODEL.opaque_size, np.uint8)
    tensors = [tensor for tensor in MODEL.tensors if tensor.role == "trainable"]
    with (
        ParameterCluster(
            model_vector(0), optimizer=SGD(learning_rate=0.5), layout=MODEL, mode=mode, transport=transport
        ) as cluster,
        connect(cluster.address, transport=transport, timeout=20.0) as client,
    ):
        for step in range(1, 4):
            flat = model_vector(step)
            parts = [2 * flat[t.offset : t.offset + t.size].reshape(t.shape) for t in tensors]
            given = np.full(MODEL.opaque_size, step, np.uint8)
            receipt, turn = client.exchange(
                parts, out, opaque, state=flat[MODEL.trainable_size :], scale=0.5, opaque=given
            )
            assert receipt.status == ("accepted" if mode == "synchronous" else "applied")
            assert turn == Turn(step, False, 0.0)
            reference.push(flat)
            np.testing.assert_array_equal(out, reference.weights)
            np.testing.assert_array_equal(opaque, given)
        assert (client.clock, cluster.version) == (3, 3)


@pytest.mark.parametrize("transport", ["inproc", "ipc", "tcp"])
def test_nothing_else_is_asked_while_a_round_is_in_flight(transport: str) -> None:
    with (
        ParameterCluster(np.zeros(4, np.float32), transport=transport) as cluster,
        connect(cluster.address, transport=transport, timeout=20.0) as client,
    ):
        client.send_round(np.ones(4, np.float32))
        for ask in (client.wait, client.pull, lambda: client.push(np.ones(4, np.float32))):
            with pytest.raises(RuntimeError, match="call finish_round first"):
                ask()
        client.finish_round(np.empty(4, np.float32), NONE)
        assert cluster.version == 1


def test_a_round_sent_again_is_recognised_and_answered_with_weights() -> None:
    ones = np.ones(4, np.float32)
    with (
        ParameterCluster(np.zeros(4, np.float32), transport="tcp") as cluster,
        Raw(cluster.address, "tcp") as raw,
    ):
        raw.hello()
        push = Push(generation=raw.generation, clock=1, base_version=0, rows=1, outbox=False, pull=True)
        replies = [raw.ask(push, [ones.tobytes()]) for _ in range(3)]
        assert all(isinstance(reply, Weights) for reply in replies)
        assert [reply.status for reply in replies] == ["applied", "duplicate", "duplicate"]  # type: ignore[attr-defined]
        np.testing.assert_array_equal(cluster.pull(), -ones)


def test_workers_of_a_synchronous_round_begin_the_next_on_the_same_weights() -> None:
    size, rounds = 5, 20
    seen: list[list[float]] = [[], []]

    def work(which: int, address: object) -> None:
        with connect(address, transport="tcp", partition=which, rounds=rounds, timeout=20.0) as client:  # type: ignore[arg-type]
            out = np.empty(size, np.float32)
            client.begin_round(out, NONE, new_epoch=True)
            for number in range(rounds):
                update = np.full(size, which + 1, np.float32)
                if number + 1 < rounds:
                    client.send_round(update)
                    client.finish_round(out, NONE)
                    seen[which].append(float(out[0]))
                else:
                    client.push(update)

    with ParameterCluster(
        np.zeros(size, np.float32), mode="synchronous", transport="tcp", workers=2, partitions=2
    ) as cluster:
        threads = [threading.Thread(target=work, args=(which, cluster.address)) for which in (0, 1)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(40.0)
        assert cluster.version == rounds
        assert seen[0] == seen[1] == [-1.5 * (number + 1) for number in range(rounds - 1)]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("transport", ["inproc", "tcp"])
def test_a_long_vector_comes_in_parts(transport: str, mode: str) -> None:
    start = np.arange(LONG, dtype=np.float32)
    out = np.empty(LONG, np.float32)
    with (
        ParameterCluster(start, transport=transport, mode=mode) as cluster,
        connect(cluster.address, transport=transport, timeout=20.0) as client,
    ):
        np.testing.assert_array_equal(client.pull(), start)
        client.send_round(np.ones(LONG, np.float32))
        client.finish_round(out, NONE)
        np.testing.assert_array_equal(out, start - 1)
        client.push(np.ones(LONG, np.float32))
        np.testing.assert_array_equal(client.pull(out), start - 2)


@pytest.mark.usefixtures("impatient")
def test_a_long_round_counts_once_while_the_server_is_frozen() -> None:
    size = 20 * PART
    gradient, out = np.ones(size, np.float32), np.empty(size, np.float32)
    with (
        ParameterCluster(np.zeros(size, np.float32), transport="tcp") as cluster,
        connect(cluster.address, transport="tcp", timeout=30.0) as client,
    ):
        assert cluster.pid is not None
        for step in range(1, 4):
            os.kill(cluster.pid, signal.SIGSTOP)
            client.send_round(gradient)
            timer = threading.Timer(0.6, os.kill, (cluster.pid, signal.SIGCONT))
            timer.start()
            client.finish_round(out, NONE)
            timer.join()
            assert (out.min(), out.max(), cluster.version) == (-step, -step, step)


def test_a_slow_reader_gets_the_version_it_was_promised_and_keeps_nobody_waiting() -> None:
    size = 30 * PART
    with (
        ParameterCluster(np.zeros(size, np.float32), transport="tcp") as cluster,
        connect(cluster.address, transport="tcp", timeout=30.0) as slow,
        connect(cluster.address, transport="tcp", timeout=30.0) as quick,
    ):
        gradient, out = np.ones(size, np.float32), np.empty(size, np.float32)
        slow.send_round(gradient)
        assert wait_until(lambda: cluster.version == 1, 20.0)
        for _ in range(4):  # over both buffers, while most of the answer still waits to be read
            quick.push(gradient)
        receipt, turn = slow.finish_round(out, NONE)
        assert (receipt.version, turn.version) == (1, 1)
        assert (out.min(), out.max()) == (-1.0, -1.0)
        assert cluster.version == 5
