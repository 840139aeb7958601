"""The Params of estimator and transformer. Those that are options of a training run are made from ``TrainingConfig``,
which checks their values and says what they mean."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from pyspark.ml.param import Param, Params, TypeConverters

from elephas_fast.config import TrainingConfig, whole
from elephas_fast.keras_bridge.configured import as_config, as_json
from elephas_fast.optimizers import Optimizer
from elephas_fast.optimizers import get as get_optimizer

P = TypeVar("P", bound=Params)
_MEANINGS: Final = {name: meaning for name, _, meaning in TrainingConfig.table()}
_ALONE: Final[dict[str, dict[str, Any]]] = {
    "access": {"mode": "hogwild"},
    "sync_every": {"mode": "synchronous"},
    "checkpoint_every": {"checkpoint_dir": "."},
    "resume": {"checkpoint_dir": "."},
}


def option(name: str) -> Param[Any]:
    """The Param of a field of ``TrainingConfig``, which checks a value as that does."""

    def convert(value: Any) -> Any:
        if name == "class_weight" and isinstance(value, Mapping):
            value = {int(label): weight for label, weight in value.items()}  # JSON made the labels text
        return getattr(TrainingConfig(**{**_ALONE.get(name, {}), name: value}), name)

    return _param(name, _MEANINGS[name], convert)


def _param(name: str, meaning: str, convert: Callable[[Any], Any]) -> Param[Any]:
    return Param(Params._dummy(), name, meaning, typeConverter=convert)


def _setter(name: str) -> Callable[[P, Any], P]:
    def set_(self: P, value: Any) -> P:
        by_name: Callable[..., P] = getattr(self, "set_params", self._set)
        return by_name(**{name: value})

    set_.__doc__ = f"Set the Param ``{name}``; returns this object."
    return set_


def _getter(name: str) -> Callable[[Params], Any]:
    def get(self: Params) -> Any:
        return self.getOrDefault(name)

    get.__doc__ = f"The value of the Param ``{name}``."
    return get


class HasKerasModelConfig(Params):
    """``keras_model_config``: ``model.to_json()``, a Keras model, or YAML of an early Keras."""

    keras_model_config = _param("keras_model_config", "the model: model.to_json()", as_config)
    set_keras_model_config = _setter("keras_model_config")

    def get_keras_model_config(self) -> str:
        """The model's configuration as JSON. Raises ``ValueError`` where none has been set."""
        if not self.isDefined("keras_model_config") or self.getOrDefault("keras_model_config") is None:
            raise ValueError(
                "keras_model_config: expected a model, got none; pass keras_model_config=model.to_json(), or the model"
            )
        return str(self.getOrDefault("keras_model_config"))


class HasMode(Params):
    """``mode``."""

    mode = option("mode")
    set_mode = _setter("mode")
    get_mode = _getter("mode")


class HasFrequency(Params):
    """``frequency``."""

    frequency = option("frequency")
    set_frequency = _setter("frequency")
    get_frequency = _getter("frequency")


class HasEpochs(Params):
    """``epochs``, which the first releases called ``nb_epoch``."""

    epochs = option("epochs")
    set_epochs = _setter("epochs")
    set_nb_epoch = _setter("nb_epoch")
    get_epochs = get_nb_epoch = _getter("epochs")

    @property
    def nb_epoch(self) -> Param[Any]:
        """The Param ``epochs``."""
        return self.epochs


class HasBatchSize(Params):
    """``batch_size``."""

    batch_size = option("batch_size")
    set_batch_size = _setter("batch_size")
    get_batch_size = _getter("batch_size")


class HasVerbosity(Params):
    """``verbose``."""

    verbose = option("verbose")
    set_verbosity = _setter("verbose")
    get_verbosity = _getter("verbose")


class HasValidationSplit(Params):
    """``validation_split``."""

    validation_split = option("validation_split")
    set_validation_split = _setter("validation_split")
    get_validation_split = _getter("validation_split")


class HasNumberOfClasses(Params):
    """``nb_classes``."""

    nb_classes = _param("nb_classes", "number of classes", lambda value: whole("nb_classes", value, 1))
    set_nb_classes = _setter("nb_classes")
    get_nb_classes = _getter("nb_classes")


class HasCategoricalLabels(Params):
    """``categorical``."""

    categorical = _param(
        "categorical", "labels that are numbers are classes, to be made one-hot", TypeConverters.toBoolean
    )
    set_categorical_labels = _setter("categorical")
    get_categorical_labels = _getter("categorical")


class HasNumberOfWorkers(Params):
    """``num_workers``."""

    num_workers = _param(
        "num_workers", "parts of the rows, each trained by a worker", lambda value: whole("num_workers", value, 1)
    )
    set_num_workers = _setter("num_workers")
    get_num_workers = _getter("num_workers")


class HasKerasOptimizerConfig(Params):
    """``optimizer_config``: the workers' Keras optimizer, by name or as Keras serialized it."""

    optimizer_config = _param("optimizer_config", "Keras optimizer: a name or what Keras serialized", as_json)
    set_optimizer_config = _setter("optimizer_config")
    get_optimizer_config = _getter("optimizer_config")


def _server_optimizer(value: Any) -> Any:
    if isinstance(value, Optimizer):
        return value.to_config()
    return get_optimizer(value).to_config()


class HasElephasOptimizerConfig(Params):
    """``server_optimizer``: what the server does with the workers' updates; 0.4 called it
    ``elephas_optimizer_config``."""

    server_optimizer = _param("server_optimizer", "the server's optimizer: a name or its config", _server_optimizer)
    set_server_optimizer = _setter("server_optimizer")
    set_elephas_optimizer_config = _setter("elephas_optimizer_config")
    get_server_optimizer = get_elephas_optimizer_config = _getter("server_optimizer")

    @property
    def elephas_optimizer_config(self) -> Param[Any]:
        """The Param ``server_optimizer``."""
        return self.server_optimizer


class HasMetrics(Params):
    """``metrics``."""

    metrics = _param("metrics", "Keras metrics: names or what Keras serialized", as_json)
    set_metrics = _setter("metrics")
    get_metrics = _getter("metrics")


class HasLoss(Params):
    """``loss``."""

    loss = _param("loss", "Keras loss: a name or what Keras serialized, or these by output", as_json)
    set_loss = _setter("loss")
    get_loss = _getter("loss")


class HasCustomObjects(Params):
    """``custom_objects``, which no file holds: register with Keras what it has to find, or set them again."""

    custom_objects = _param("custom_objects", "layers, losses and metrics of one's own by name", dict)
    set_custom_objects = _setter("custom_objects")

    def get_custom_objects(self) -> dict[str, Any]:
        """The value of the Param ``custom_objects``, empty where that is ``None``."""
        return dict(self.getOrDefault("custom_objects") or {})


class HasInferenceBatchSize(Params):
    """``inference_batch_size``."""

    inference_batch_size = _param(
        "inference_batch_size", "rows per batch of prediction", lambda value: whole("inference_batch_size", value, 1)
    )
    set_inference_batch_size = _setter("inference_batch_size")
    get_inference_batch_size = _getter("inference_batch_size")


class HasPredictClasses(Params):
    """``predict_classes``: the output column holds class indices and not scores, as before Elephas 2."""

    predict_classes = _param(
        "predict_classes", "give the index of the class as double, not the scores", TypeConverters.toBoolean
    )
    set_predict_classes = _setter("predict_classes")
    get_predict_classes = _getter("predict_classes")


class HasColumns(Params):
    """``featuresCols``, ``labelCols``: columns for several inputs and outputs, or to be joined."""

    featuresCols = _param("featuresCols", "a column for each input, or columns to join", TypeConverters.toListString)
    labelCols = _param("labelCols", "a column for each output, or columns to join", TypeConverters.toListString)


class HasTrainingOptions(Params):
    """The other fields of ``TrainingConfig``."""

    update = option("update")
    sync_every = option("sync_every")
    prefetch = option("prefetch")
    staleness = option("staleness")
    access = option("access")
    on_nonfinite = option("on_nonfinite")
    transport = option("transport")
    security = option("security")
    port = option("port")
    shuffle = option("shuffle")
    class_weight = option("class_weight")
    seed = option("seed")
    xla = option("xla")
    server_timeout = option("server_timeout")
    straggler_timeout = option("straggler_timeout")
    checkpoint_dir = option("checkpoint_dir")
    checkpoint_every = option("checkpoint_every")
    resume = option("resume")
