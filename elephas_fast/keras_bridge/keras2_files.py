"""Keras 2's HDF5 files, which Elephas 0.4 to 6 wrote, read into today's Keras.

Keras 3 reads most of them, but not recurrent layers, ``lr`` and ``decay`` of optimizers, objects as losses, and metrics
as Keras 2 wrote them. The text in a file is put into today's words in a copy; weights are read by Keras itself. The
state of the optimizer is left behind: in Elephas that of the driver never trained.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from collections.abc import Mapping
from typing import Any, Final

from elephas_fast.keras_bridge import runtime

_SILENT: Final = ("decay", "jit_compile", "is_legacy_optimizer", "schedule_decay")
_ACCURACY: Final = ("acc", "accuracy")
_REMOVED: Final[Mapping[str, Mapping[str, Any]]] = {
    "LSTM": {"time_major": (False,)},
    "GRU": {"time_major": (False,)},
    "SimpleRNN": {"time_major": (False,)},
    "RNN": {"time_major": (False,)},
    "Embedding": {"input_length": None},
}
"""Settings of layers that Keras 3 does not have, and the values that meant nothing (``None``: any)."""


def is_of_keras_2(path: str) -> bool:
    """Whether ``path`` is an HDF5 file of a model that Keras 2 wrote."""
    import h5py

    if not h5py.is_hdf5(path):
        return False
    with h5py.File(path, "r") as file:
        return "model_config" in file.attrs and _text(file.attrs.get("keras_version", "2")).startswith("2")


def is_of_keras_2_config(config: Mapping[str, Any]) -> bool:
    """Whether Keras 2's ``to_json`` wrote this configuration."""
    return str(config.get("keras_version", "")).startswith("2")


def load(path: str, custom_objects: Mapping[str, Any]) -> Any:
    """The model in a file of Keras 2, compiled as it was, in safe mode: no code from the file is run.

    A setting of the optimizer that Keras 3 does not have is left out with one warning.
    """
    import h5py

    keras = runtime.keras()
    with tempfile.TemporaryDirectory(prefix="elephas_fast-") as folder:
        copy = os.path.join(folder, "model.h5")
        shutil.copyfile(path, copy)
        with h5py.File(copy, "r+") as file:
            config = todays_config(json.loads(_text(file.attrs["model_config"])))
            file.attrs["model_config"] = json.dumps(config).encode()
            training = _text(file.attrs.pop("training_config", "null"))
        model = keras.models.load_model(copy, custom_objects=dict(custom_objects), compile=False, safe_mode=True)
    compiled = json.loads(training)
    if compiled is not None:
        with keras.saving.custom_object_scope(dict(custom_objects)):
            model.compile(**_compile_arguments(compiled, custom_objects))
        model.optimizer.build(model.trainable_variables)
    return model


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def todays_config(config: Any) -> Any:
    """A model's or layer's configuration in today's words, all the way down."""
    if isinstance(config, list):
        return [todays_config(item) for item in config]
    if not isinstance(config, dict):
        return config
    config = {key: todays_config(value) for key, value in config.items()}
    own = config.get("config")
    if config.get("class_name") == "Sequential":
        config["config"] = _sequential(own)
    elif config.get("class_name") == "Model":
        config["class_name"] = "Functional"
    elif isinstance(own, dict):
        removed: Mapping[str, Any] = _REMOVED.get(str(config.get("class_name")), {})
        for name in [n for n, values in removed.items() if n in own and (values is None or own[n] in values)]:
            del own[name]
    return config


def _sequential(config: Any) -> dict[str, Any]:
    """With an input layer of its own; until Keras 2.2 the first layer had its shape, and the list stood alone."""
    sequential: dict[str, Any] = {"name": "sequential", "layers": config} if isinstance(config, list) else dict(config)
    layers = sequential.get("layers") or []
    shapes = [layer["config"].pop("batch_input_shape", None) for layer in layers if layer["class_name"] != "InputLayer"]
    if shapes and shapes[0] is not None and layers[0]["class_name"] not in ("InputLayer", "Sequential", "Functional"):
        first = layers[0]["config"]
        dtype = "int32" if layers[0]["class_name"] == "Embedding" else first.get("dtype") or "float32"
        settings = {"batch_input_shape": shapes[0], "dtype": dtype, "sparse": False, "name": f"{first['name']}_input"}
        sequential["layers"] = [{"class_name": "InputLayer", "config": settings}, *layers]
    return sequential


def _compile_arguments(training: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> dict[str, Any]:
    metrics, weighted = (_each(_metric, training.get(name)) for name in ("metrics", "weighted_metrics"))
    return {
        "optimizer": _optimizer(training["optimizer_config"], custom_objects),
        "loss": _each(_loss, training.get("loss")),
        "loss_weights": training.get("loss_weights"),
        "metrics": _of_one_output(metrics),
        "weighted_metrics": _of_one_output(weighted),
    }


def _of_one_output(metrics: Any) -> Any:
    """The list of one output out of the list of outputs."""
    one = isinstance(metrics, list) and len(metrics) == 1 and isinstance(metrics[0], list)
    return metrics[0] if one else metrics


def _each(translate: Any, saved: Any) -> Any:
    """``translate`` on what stands in lists and in mappings from outputs."""
    if isinstance(saved, list):
        return [_each(translate, item) for item in saved]
    if isinstance(saved, dict) and "class_name" not in saved:
        return {output: _each(translate, item) for output, item in saved.items()}
    return None if saved is None else translate(saved)


def _optimizer(saved: Mapping[str, Any], custom_objects: Mapping[str, Any]) -> Any:
    keras = runtime.keras()
    name = str(saved["class_name"]).rpartition(">")[2]
    config = dict(saved["config"])
    if name not in custom_objects:
        rate = config.pop("lr", None)
        rate = config.get("learning_rate") if rate is None else rate
        if isinstance(rate, dict):  # a schedule; one without a name cannot be called in Keras 3
            own = {key: value for key, value in rate["config"].items() if key != "name" or value is not None}
            rate = {**rate, "config": own}
        if config.get("decay") and not isinstance(rate, dict):
            rate = keras.optimizers.schedules.InverseTimeDecay(rate, decay_steps=1, decay_rate=config["decay"])
        config = {**config, "learning_rate": rate}
        known = set(keras.optimizers.get(name).get_config())
        unknown = sorted(set(config) - known - set(_SILENT))
        if unknown:
            warnings.warn(
                f"optimizer {name}: left out {', '.join(unknown)} of the file, which Keras 3 does not have",
                stacklevel=6,
            )
        config = {key: value for key, value in config.items() if key in known}
        if not isinstance(rate, int | float | dict):
            return type(keras.optimizers.get(name))(**config)
    return keras.optimizers.deserialize({"class_name": name, "config": config}, custom_objects=dict(custom_objects))


def _loss(saved: Any) -> Any:
    keras = runtime.keras()
    if isinstance(saved, str):
        return keras.saving.get_registered_object(saved) or saved
    config = dict(saved["config"])
    function = config.pop("fn", None)
    if saved["class_name"] == "LossFunctionWrapper":
        return keras.losses.get(function)
    if config.get("reduction") == "auto":
        config["reduction"] = "sum_over_batch_size"
    return keras.losses.deserialize({"class_name": saved["class_name"], "config": config})


def _metric(saved: Any) -> Any:
    keras = runtime.keras()
    if isinstance(saved, str):
        return keras.saving.get_registered_object(saved) or saved
    config = dict(saved["config"])
    function = config.pop("fn", None)
    if saved["class_name"] != "MeanMetricWrapper":
        return keras.metrics.deserialize({"class_name": saved["class_name"], "config": config})
    name = config.get("name")
    if name in _ACCURACY:
        return name
    return keras.metrics.MeanMetricWrapper(_function(function), name=name)


def _function(name: str) -> Any:
    """The function of a metric or loss; Keras' own, or one of ``custom_objects``."""
    keras = runtime.keras()
    return keras.saving.get_registered_object(name) or getattr(keras.losses, name, None) or keras.metrics.get(name)
