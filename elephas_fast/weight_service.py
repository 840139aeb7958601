"""A model's weights in a server that other processes take them from and subtract from: Elephas' parameter API.

A server is found by its TCP port, by processes of the same user on the same host (``transport.notice``), or by its
address, which holds the key.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast.client import Client, connect
from elephas_fast.cluster import ParameterCluster
from elephas_fast.config import whole
from elephas_fast.keras_bridge import layout_of
from elephas_fast.keras_bridge.serialization import dict_to_model
from elephas_fast.layout import ByteArray, Float32Array, Layout, TensorSpec
from elephas_fast.transport import Address, find, is_this_host

_MODES: Final = ("asynchronous", "hogwild")
Weights = list[NDArray[Any]]


class WeightServer:
    """Serves the weights of ``model`` until ``stop``, in a process of its own that ends with this one.

    Args:
        model: a Keras model, or what ``model_to_dict`` made of one.
        port: the TCP port; ``None`` takes a free one, which ``port`` then holds.
        mode: ``'asynchronous'``: one update at a time, and no reader sees half of one. ``'hogwild'``: neither.
        custom_objects: what a ``model`` given as a dict needs.
        host: the address to listen on; by default ``SPARK_LOCAL_IP`` where that is set, else 127.0.0.1. Clients on
            other hosts need one that they can reach, and ``address``.
        optimizer: what is done with deltas; ``None`` subtracts them.

    It may be started again, on the last weights. Not thread-safe; a context manager.
    """

    def __init__(
        self,
        model: Any,
        port: int | None = 4000,
        mode: str = "asynchronous",
        *,
        custom_objects: Mapping[str, Any] | None = None,
        host: str | None = None,
        optimizer: Any = None,
    ) -> None:
        self.mode: str = getattr(mode, "value", mode)
        if self.mode not in _MODES:
            raise ValueError(f"mode: expected 'asynchronous' or 'hogwild', got {mode!r}")
        self.port = None if port is None else whole("port", port, 1, 65535)
        self._model = dict_to_model(model, custom_objects) if isinstance(model, Mapping) else model
        self._layout = _all_subtracted(layout_of(self._model))
        self._weights: Weights = self._model.get_weights()
        self._host = host or os.environ.get("SPARK_LOCAL_IP") or "127.0.0.1"
        self._optimizer = optimizer
        self._cluster: ParameterCluster | None = None

    @property
    def address(self) -> Address:
        """Where the server is, with its key: for clients on other hosts. Raises ``RuntimeError`` unless it runs."""
        return self._running.address

    @property
    def master_url(self) -> str | None:
        """``'host:port'``, or ``None`` while it does not run."""
        return None if self._cluster is None else str(self._cluster.address).partition("://")[2]

    @property
    def weights(self) -> Weights:
        """The weights now, or the last ones when it does not run; in the order of ``model.get_weights()``."""
        if self._cluster is not None:
            opaque = np.zeros(self._layout.opaque_size, np.uint8)
            self._weights = self._layout.unflatten(self._cluster.pull(opaque=opaque), opaque)
        return [weight.copy() for weight in self._weights]

    @property
    def master_network(self) -> Any:
        """The Keras model, with the present weights."""
        self._model.set_weights(self.weights)
        return self._model

    def start(self) -> None:
        """Start it, anew where it runs. Raises ``ServerLost`` where it cannot, because the port is taken for one."""
        self.stop()
        flat, opaque = self._layout.flatten(self._weights)
        cluster = ParameterCluster(
            flat,
            opaque=opaque,
            layout=self._layout,
            optimizer=self._optimizer,
            mode=self.mode,
            host=self._host,
            port=self.port,
            published=True,
        ).start()
        self._cluster = cluster
        self.port = int(str(cluster.address).rpartition(":")[2])

    def stop(self) -> None:
        """End it; ``weights`` keeps the last ones. Safe to call twice."""
        if self._cluster is not None:
            self._cluster.close()
            self._weights = self.weights
            self._cluster.stop()
            self._cluster = None

    def __enter__(self) -> WeightServer:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _running(self) -> ParameterCluster:
        if self._cluster is None:
            raise RuntimeError("the parameter server has not been started: call start() first")
        return self._cluster


class WeightClient:
    """Takes weights from a ``WeightServer`` and sends it deltas.

    Args:
        port: of a server of this user on this host.
        address: ``WeightServer.address``, for a server on another host.
        timeout: seconds without an answer after which the server counts as lost.

    It connects when it is first used, and anew after a failure, a restart of the server, a fork or a pickling; pickled
    with an ``address`` it carries the key. Thread-safe, one request at a time.
    """

    def __init__(self, port: int = 4000, *, address: Address | None = None, timeout: float = 60.0) -> None:
        self.port = whole("port", port, 1, 65535)
        self.address = address
        self.timeout = timeout
        self._forget()

    def get_parameters(self) -> Weights:
        """The weights, in the order of ``model.get_weights()``. Raises ``ConnectionError`` where there is no server."""
        with self._lock, _Use(self) as client:
            flat, opaque = _pull(client)
            return client.layout.unflatten(flat, opaque)

    def update_parameters(self, delta: Sequence[Any]) -> None:
        """Subtract a delta (weights before minus after, one array for each weight); returns when that has been done.

        Raises ``ValueError`` where its shapes are not those of the weights or a number is not finite, and
        ``ConnectionError`` where there is no server.
        """
        with self._lock, _Use(self) as client:
            flat, whole_numbers = _flat_delta(client.layout, delta)
            opaque = None
            if whole_numbers:
                opaque = _moved(client, whole_numbers)
            receipt = client.push(flat, opaque=opaque)
        if receipt is not None and receipt.status == "refused":
            raise ValueError("delta: expected finite numbers, got NaN or infinity, which the server refused")

    def close(self) -> None:
        """Leave the server. Safe to call twice; a later request connects again."""
        with self._lock:
            self._leave()

    def __enter__(self) -> WeightClient:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        return {"port": self.port, "address": self.address, "timeout": self.timeout}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def _forget(self) -> None:
        self._lock = threading.Lock()
        self._client: Client | None = None
        self._connected_to: tuple[int, Address] | None = None

    def _leave(self) -> None:
        client, self._client = self._client, None
        if client is not None and self._connected_to is not None and self._connected_to[0] == os.getpid():
            client.close()

    def _find(self) -> Address:
        return self.address if self.address is not None else find(self.port)

    def _look(self) -> None:
        """Raise where the server has gone, which its silence may mean."""
        self._find()

    def _connected(self) -> Client:
        wanted = os.getpid(), self._find()
        if self._client is None or self._connected_to != wanted:
            self._leave()
            self._client = connect(wanted[1], timeout=self.timeout, while_silent=self._look)
            self._connected_to = wanted
        return self._client


class _Use:
    """The connection for one request, which is dropped where that fails."""

    def __init__(self, owner: WeightClient) -> None:
        self._owner = owner

    def __enter__(self) -> Client:
        return self._owner._connected()

    def __exit__(self, kind: type[BaseException] | None, *exc: object) -> None:
        if kind is not None:
            self._owner._leave()


def _pull(client: Client) -> tuple[Float32Array, ByteArray]:
    opaque = np.zeros(client.layout.opaque_size, np.uint8)
    return client.pull(opaque=opaque), opaque


def _all_subtracted(layout: Layout) -> Layout:
    """The same weights with none apart: deltas of moving statistics are subtracted too, and nothing is projected."""
    return Layout.build(TensorSpec(t.name, t.shape, t.dtype, True) for t in layout.tensors)


def _flat_delta(layout: Layout, delta: Sequence[Any]) -> tuple[Float32Array, dict[int, NDArray[Any]]]:
    """The delta of the float weights as one vector, and those of the others by their place in the list."""
    arrays = [np.asarray(array) for array in delta]
    if len(arrays) != len(layout.tensors):
        raise ValueError(f"delta: expected {len(layout.tensors)} arrays, one for each weight, got {len(arrays)}")
    flat, apart = layout.new_flat(), {}
    for place, (tensor, array) in enumerate(zip(layout.tensors, arrays, strict=True)):
        if array.shape != tensor.shape:
            raise ValueError(
                f"delta: expected shape {list(tensor.shape)} for weight '{tensor.name}', got {list(array.shape)}"
            )
        if tensor.role == "opaque":
            apart[place] = array
        else:
            flat[tensor.offset : tensor.offset + tensor.size] = array.reshape(-1)
    return flat, apart


def _moved(client: Client, deltas: Mapping[int, NDArray[Any]]) -> ByteArray:
    """The bytes of the weights that are no floats, as they are on the server, less their deltas."""
    weights = client.layout.unflatten(*_pull(client))
    for place, delta in deltas.items():
        now = weights[place]
        weights[place] = now ^ delta.astype(bool) if now.dtype == bool else (now - delta).astype(now.dtype)
    return client.layout.flatten(weights)[1]


def client_of(master_url: str) -> WeightClient:
    """A client of the server at ``'host:port'`` of this host. Raises ``ValueError`` for another host, whose server only
    its address opens."""
    host, _, port = master_url.rpartition("://")[2].rstrip("/").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"master_url: expected 'host:port', got {master_url!r}")
    if not is_this_host(host):
        raise ValueError(
            f"master_url: expected a server on this host, which its port finds, got {host!r}; use "
            "elephas_fast.parameter.HttpClient(address=...) with the server's address"
        )
    return WeightClient(int(port))
