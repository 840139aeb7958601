"""What ``SparkModel`` was asked for by other names before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from elephas_fast.spark.forms import EARLY_TRAINING, TRAINING, bind, training
from elephas_fast.spark.weight_lists import subtract_params
from elephas_fast.transport import own_host


class EarlierNames:
    """Members of Elephas 0.1 to 6 that scripts still use; each is a name for something of ``SparkModel``."""

    server_optimizer: Any
    parameter_server_mode: str
    _master_network: Any
    _training: dict[str, Any]

    def train(self, rdd: Any, *arguments: Any, **options: Any) -> Any:
        """``fit`` with the defaults of Elephas 0.1 to 0.3: ten epochs, silent, a tenth of the rows for validation.

        By position: ``nb_epoch, batch_size, verbose, validation_split``. ``num_workers`` holds for this call and later
        ones.
        """
        given = training(bind("train", ("nb_epoch", *TRAINING), arguments, options), {})
        return self.fit(rdd, **{**EARLY_TRAINING, **given})  # type: ignore[attr-defined]

    def get_network(self) -> Any:
        """``master_network``."""
        return self._master_network

    def set_network(self, network: Any) -> None:
        """Set ``master_network``."""
        self.master_network = network

    @property
    def optimizer(self) -> Any:
        """``server_optimizer``."""
        return self.server_optimizer

    @optimizer.setter
    def optimizer(self, optimizer: Any) -> None:
        self.server_optimizer = optimizer

    @property
    def master_optimizer(self) -> Any:
        """The optimizer that ``master_network`` is compiled with."""
        return self._master_network.optimizer

    @property
    def master_loss(self) -> Any:
        """The loss that ``master_network`` is compiled with."""
        return self._master_network.loss

    @property
    def master_metrics(self) -> Any:
        """The metrics that ``master_network`` is compiled with."""
        return self._master_network.get_compile_config()["metrics"]

    @property
    def serialized_model(self) -> dict[str, Any]:
        """``master_network`` as a dict: ``model`` (JSON) and ``weights``."""
        return {"model": self._master_network.to_json(), "weights": self._master_network.get_weights()}

    @property
    def kwargs(self) -> dict[str, Any]:
        """Empty: what a constructor does not know, it refuses."""
        return {}

    @property
    def parameter_server(self) -> BetweenFits:
        """What stands where Elephas kept its server."""
        return BetweenFits(self._master_network)

    @property
    def client(self) -> BetweenFits:
        """What stands where Elephas kept its server's client."""
        return BetweenFits(self._master_network)

    def get_train_config(
        self, nb_epoch: int = 10, batch_size: int = 32, verbose: int = 0, validation_split: float = 0.1
    ) -> dict[str, Any]:
        """The keywords of a training call as a dict."""
        return {
            "epochs": nb_epoch, "batch_size": batch_size, "verbose": verbose, "validation_split": validation_split,
        }  # fmt: skip

    def start_server(self) -> None:
        """Nothing to do: ``fit`` starts a parameter server of its own."""

    def stop_server(self) -> None:
        """Nothing to do: when ``fit`` returns its parameter server has ended."""

    @staticmethod
    def determine_master(port: int = 4000) -> str:
        """``'address:port'`` of the driver: ``SPARK_LOCAL_IP`` where that is set, else this host's own."""
        return determine_master(port)

    def predict_classes(self, data: Any) -> NDArray[np.int64]:
        """The class of each row, int64[rows]: of several outputs the largest, of one whether it is above one half."""
        outputs = np.asarray(self.predict(data))  # type: ignore[attr-defined]
        if outputs.ndim > 1 and outputs.shape[-1] > 1:
            return np.asarray(np.argmax(outputs, axis=-1), np.int64)
        return np.asarray(outputs.reshape(len(outputs), -1)[:, 0] > 0.5, np.int64)


class BetweenFits:
    """A model's weights by the names of Elephas' parameter servers and clients. ``fit`` has a server of its own, for as
    long as it takes; between fits the weights are those of the driver's model."""

    def __init__(self, model: Any) -> None:
        self._model = model

    def start(self) -> None:
        """Nothing to do: ``fit`` starts its server."""

    def stop(self) -> None:
        """Nothing to do: the server has ended with ``fit``."""

    def get_parameters(self) -> list[NDArray[Any]]:
        """The weights as NumPy arrays."""
        weights: list[NDArray[Any]] = self._model.get_weights()
        return weights

    def update_parameters(self, delta: Sequence[Any]) -> None:
        """Subtract ``delta``, arrays of the weights' shapes. Raises ``ValueError`` where they are not."""
        self._model.set_weights(subtract_params(self.get_parameters(), list(delta)))


def determine_master(port: int = 4000) -> str:
    """``'address:port'`` of this host: ``SPARK_LOCAL_IP`` where that is set, else the address its name stands for."""
    address = os.environ.get("SPARK_LOCAL_IP") or own_host()
    return f"{address}:{port}"
