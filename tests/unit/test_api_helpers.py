"""Every documented class and function of Elephas' helpers, made and called with its documented arguments."""

from __future__ import annotations

import inspect
import json
import socket
import threading
from typing import Any

import keras
import numpy as np
import pytest

from elephas_fast import optimizers as todays_optimizers
from elephas_fast.alias import optimizers as elephas_optimizers
from elephas_fast.enums.frequency import Frequency
from elephas_fast.enums.modes import Mode
from elephas_fast.parameter import BaseParameterClient, HttpClient, HttpServer, SocketClient, SocketServer
from elephas_fast.parameter.factory import ClientServerFactory
from elephas_fast.spark_model import (
    AsynchronousSparkWorker,
    SparkHFModel,
    SparkWorker,
    get_server_weights,
    put_deltas_to_server,
)
from elephas_fast.utils import model_utils, notebook_utils, rwlock, serialization, sockets, versioning_utils
from elephas_fast.utils.huggingface_utils import pad_labels
from elephas_fast.utils.warnings import ElephasWarning
from tests.defects.linear import free_port

OPTIMIZERS = {
    "SGD": {"lr": 0.01, "momentum": 0.0, "decay": 0.0, "nesterov": False},
    "RMSprop": {"lr": 0.001, "rho": 0.9, "epsilon": 1e-6},
    "Adagrad": {"lr": 0.01, "epsilon": 1e-6},
    "Adadelta": {"lr": 1.0, "rho": 0.95, "epsilon": 1e-6},
    "Adam": {"lr": 0.001, "beta_1": 0.9, "beta_2": 0.999, "epsilon": 1e-8},
}
"""Elephas' own arguments with their defaults, in order."""
CLIPS: list[dict[str, float]] = [{}, {"clipnorm": 1.0}, {"clipvalue": 0.5}, {"clipnorm": 1.0, "clipvalue": 0.5}]


@pytest.mark.parametrize("clips", CLIPS, ids=lambda clips: " and ".join(clips) or "plain")
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name, clips):
    kind = getattr(elephas_optimizers, name)
    assert getattr(elephas_optimizers, name.lower()) is kind
    made = kind(**OPTIMIZERS[name], **clips)
    assert made == kind(*OPTIMIZERS[name].values(), **clips) == kind(**clips)
    assert isinstance(made, kind)
    assert isinstance(made, getattr(todays_optimizers, name))
    assert isinstance(made, elephas_optimizers.Optimizer)
    assert {clip: getattr(made, clip) for clip in clips} == clips
    config = made.get_config()
    assert todays_optimizers.get({"name": name, **OPTIMIZERS[name], **clips}) == todays_optimizers.get(config) == made
    assert config["name"] == name
    assert config["lr"] == OPTIMIZERS[name]["lr"]
    params, grads = [np.ones(3, np.float32), np.ones((2, 2), np.float32)], [np.full(3, 0.1), np.full((2, 2), 0.2)]
    for _ in range(2):
        new = made.get_updates(params, [None, None], grads)
        assert [part.shape for part in new] == [(3,), (2, 2)]
        assert all(np.all(after < before) for after, before in zip(new, params, strict=True))
        params = new
    other = kind(**OPTIMIZERS[name], **clips)
    other.set_state(made.get_state())
    for one, two in zip(
        made.get_updates(params, [None, None], grads), other.get_updates(params, [None, None], grads), strict=True
    ):
        np.testing.assert_array_equal(one, two)
    assert elephas_optimizers.get(name.lower(), OPTIMIZERS[name]) == kind(**OPTIMIZERS[name])
    assert elephas_optimizers.get(name.lower()) == kind()
    assert elephas_optimizers.deserialize(elephas_optimizers.serialize(made)) == made
    assert todays_optimizers.get(name) == getattr(todays_optimizers, name)() != kind() or name == "SGD"


def test_what_elephas_optimizers_begin_with():
    """By their text: 0.3's accumulator of Adagrad began at zero; a clip of zero was none."""
    assert elephas_optimizers.Adagrad().initial_accumulator_value == 0.0
    assert todays_optimizers.Adagrad().initial_accumulator_value == 0.1
    assert elephas_optimizers.SGD(0.5, 0.9, 0.1, True) == todays_optimizers.SGD(
        todays_optimizers.InverseTimeDecay(0.5, 1, 0.1), 0.9, True
    )
    assert elephas_optimizers.SGD(clipnorm=0.0, clipvalue=0) == elephas_optimizers.SGD()
    for wrong in ({"speed": 3}, {"lr": 0.1, "learning_rate": 0.1}):
        with pytest.raises(TypeError, match=r"speed|expected lr once"):
            elephas_optimizers.Adam(**wrong)


def network() -> keras.Model:
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    return model


@pytest.mark.parametrize(
    ("way", "server_kind", "client_kind"), [("http", HttpServer, HttpClient), ("socket", SocketServer, SocketClient)]
)
def test_parameter_servers_and_clients(way, server_kind, client_kind):
    port = free_port()
    factory = ClientServerFactory.get_factory(way)
    server = factory.create_server(serialization.model_to_dict(network()), port, "asynchronous", custom_objects={})
    assert type(server) is server_kind
    server.start()
    try:
        for client in (client_kind(port), BaseParameterClient.get_client(way, port), factory.create_client(port=port)):
            assert type(client) is client_kind
            before = client.get_parameters()
            assert [part.shape for part in before] == [(3, 1), (1,)]
            client.update_parameters([np.ones_like(part) for part in before])
            for after, was in zip(client.get_parameters(), before, strict=True):
                np.testing.assert_allclose(after, was - 1, rtol=1e-6)
            client.close()
        address = f"localhost:{port}"
        weights = get_server_weights(address)
        put_deltas_to_server(weights, master_url=address)
        assert all(np.all(part == 0) for part in get_server_weights(master_url=address))
    finally:
        server.stop()


WORKER = (network().to_json(), network().get_weights(), {"epochs": 1, "batch_size": 4, "verbose": 0})
COMPILED: tuple[Any, ...] = (keras.optimizers.serialize(keras.optimizers.SGD(0.1)), "mse", ["mae"], {})
ROWS = [(np.full(3, i, np.float32), np.float32(i)) for i in range(8)]


def test_the_workers():
    assert HttpClient().port == SocketClient().port == 4000
    ((delta, history),) = SparkWorker(*WORKER, *COMPILED).train(iter(ROWS))
    assert [part.shape for part in delta] == [(3, 1), (1,)]
    assert len(history["loss"]) == 1
    json_model, parameters, config = WORKER
    with HttpServer(network(), None, Mode.ASYNCHRONOUS) as server:
        client = HttpClient(server.port)
        before = client.get_parameters()
        worker = AsynchronousSparkWorker(json_model, parameters, client, config, Frequency.EPOCH, *COMPILED)
        list(worker.train(iter(ROWS)))
        assert any(np.any(a != b) for a, b in zip(client.get_parameters(), before, strict=True))
        client.close()


def test_serialization():
    model = network()
    again = serialization.dict_to_model(serialization.model_to_dict(model), custom_objects={})
    assert isinstance(again, keras.Model)
    content = serialization.weights_to_bytes(model.get_weights())
    assert isinstance(content, bytes)
    for weights in (again.get_weights(), serialization.bytes_to_weights(content)):
        for got, expected in zip(weights, model.get_weights(), strict=True):
            np.testing.assert_array_equal(got, expected)


def test_sockets(monkeypatch):
    monkeypatch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
    assert sockets.determine_master() == "127.0.0.1:4000"
    assert sockets.determine_master(port=4001) == "127.0.0.1:4001"
    one, other = socket.socketpair()
    with one, other:
        sockets.send_bytes(one, b"some bytes")
        assert sockets.recv_bytes(other) == b"some bytes"
        sockets.send(one, [np.arange(3.0), "text"])
        array, text = sockets.receive(other)
        np.testing.assert_array_equal(array, np.arange(3.0))
        assert text == "text"
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        assert sockets.wait_until_listening("127.0.0.1", listener.getsockname()[1], timeout=5.0) is None
    with pytest.raises((TimeoutError, ConnectionError)):
        sockets.wait_until_listening("127.0.0.1", free_port(), timeout=0.2)


def test_the_lock():
    lock = rwlock.RWLock()
    lock.acquire_read()
    lock.acquire_read()
    lock.release()
    lock.release()
    lock.acquire_write()
    seen: list[str] = []

    def read() -> None:
        lock.acquire_read()
        seen.append("read")
        lock.release()

    reader = threading.Thread(target=read)
    reader.start()
    reader.join(0.1)
    assert not seen
    lock.release()
    reader.join(10)
    assert seen == ["read"]


def test_model_utils():
    kinds = model_utils.ModelType
    mapper = model_utils.LossModelTypeMapper()
    assert mapper is model_utils.LossModelTypeMapper()
    assert mapper.get_model_type("mse") is kinds.REGRESSION
    assert mapper.get_model_type("categorical_crossentropy") is kinds.CLASSIFICATION
    mapper.register_loss("of_my_own", kinds.REGRESSION)
    assert mapper.get_model_type("of_my_own") is kinds.REGRESSION
    text = json.dumps({"kind": kinds.REGRESSION}, cls=model_utils.ModelTypeEncoder)
    assert text == '{"kind": {"__enum__": "ModelType.REGRESSION"}}'
    assert json.loads(text, object_hook=model_utils.as_enum) == {"kind": kinds.REGRESSION}
    assert not model_utils.is_multiple_input_model(network())
    assert not model_utils.is_multiple_output_model(network())


def test_small_helpers():
    assert notebook_utils.is_running_in_notebook() is False
    assert versioning_utils.get_minor_version("3.15.1") == 15
    assert issubclass(ElephasWarning, Warning)
    assert pad_labels([[1], [1, 2]], 3, -100).tolist() == [[1, -100, -100], [1, 2, -100]]
    assert (Mode.SYNCHRONOUS, Mode.ASYNCHRONOUS, Mode.HOGWILD) == ("synchronous", "asynchronous", "hogwild")
    assert (Frequency.EPOCH, Frequency.BATCH) == ("epoch", "batch")


def test_the_model_of_texts_takes_its_arguments():
    """What it does is tested with models that generate; here, that every documented argument is one."""
    names = (
        "model", "mode", "frequency", "parameter_server_mode", "num_workers", "batch_size", "port", "tokenizer",
        "tokenizer_kwargs", "loader",
    )  # fmt: skip
    inspect.signature(SparkHFModel).bind(**dict.fromkeys(names))
    assert callable(SparkHFModel.generate)
    assert callable(SparkHFModel.__call__)
