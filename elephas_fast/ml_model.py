"""``ElephasEstimator`` and ``ElephasTransformer``: training and prediction as stages of a Spark ML pipeline."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from os import PathLike
from typing import Any

from pyspark.ml import Estimator, Model
from pyspark.ml.param.shared import (
    HasFeaturesCol,
    HasLabelCol,
    HasOutputCol,
    HasValidationIndicatorCol,
    HasWeightCol,
)
from pyspark.ml.util import MLReadable, MLReader, MLWritable, MLWriter
from pyspark.sql import DataFrame

from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge.configured import compiled, set_seed, unweighted
from elephas_fast.keras_bridge.model_type import LossModelTypeMapper, ModelType
from elephas_fast.optimizers import Optimizer
from elephas_fast.spark import ml_files, ml_params
from elephas_fast.spark.fit import FitRequest, fit
from elephas_fast.spark.frames import FrameSource, Roles
from elephas_fast.spark.ml_forms import columns_of, early_loss, given_params, held_classes
from elephas_fast.spark.trained import Trained

_OPTIONS = tuple(field.name for field in fields(TrainingConfig))


class _Columns(HasFeaturesCol, HasLabelCol, HasOutputCol, ml_params.HasColumns):
    """Setters that Spark's own mixins leave to their users."""

    def setFeaturesCol(self, value: str | list[str]) -> Any:
        """Name the column of features, or several."""
        return self.set_params(featuresCol=value)

    def setLabelCol(self, value: str | list[str]) -> Any:
        """Name the column of labels, or several."""
        return self.set_params(labelCol=value)

    def setOutputCol(self, value: str) -> Any:
        """Name the column that predictions go to."""
        return self.set_params(outputCol=value)

    def set_params(self, **params: Any) -> Any:
        """Set Params by name; names of earlier releases are understood, and as there, where one is used, classes are
        predicted unless ``predict_classes`` says otherwise. Raises ``TypeError`` for an unknown one."""
        given, early = given_params(type(self).__name__, [p.name for p in self.params], params)
        if early:
            self._setDefault(predict_classes=True)
        for one in ("featuresCol", "labelCol"):
            if one in given and f"{one}s" not in given:
                self.clear(self.getParam(f"{one}s"))
        return self._set(**given)


class ElephasEstimator(
    _Columns,
    ml_params.HasKerasModelConfig,
    ml_params.HasMode,
    ml_params.HasFrequency,
    ml_params.HasEpochs,
    ml_params.HasBatchSize,
    ml_params.HasVerbosity,
    ml_params.HasValidationSplit,
    ml_params.HasNumberOfClasses,
    ml_params.HasCategoricalLabels,
    ml_params.HasNumberOfWorkers,
    ml_params.HasKerasOptimizerConfig,
    ml_params.HasElephasOptimizerConfig,
    ml_params.HasMetrics,
    ml_params.HasLoss,
    ml_params.HasCustomObjects,
    ml_params.HasInferenceBatchSize,
    ml_params.HasPredictClasses,
    ml_params.HasTrainingOptions,
    HasWeightCol,
    HasValidationIndicatorCol,
    Estimator[Any],
    MLReadable[Any],
    MLWritable,
):
    """Trains a Keras model on a DataFrame; ``fit`` gives an ``ElephasTransformer``.

    Every argument is a Param of the same name, with Elephas' ``set_...`` and ``get_...``:

    * the model: ``keras_model_config`` (``model.to_json()``, or the model itself, also as only positional argument),
      ``loss``, ``optimizer_config``, ``metrics``, ``custom_objects``. Each ``fit`` begins with new initial weights,
      the same ones for the same ``seed``.
    * the columns: ``featuresCol``, ``labelCol`` (vectors of ``ml`` or ``mllib``, arrays, numbers; or a list of columns,
      one for each input of the model, or to be joined), ``weightCol`` (sample weights), ``validationIndicatorCol``
      (true in rows kept for validation, in place of ``validation_split``), ``outputCol``.
    * ``categorical`` (default true), ``nb_classes``: labels that are numbers are classes, made one-hot unless the loss
      takes class indices.
    * the training: ``epochs``, ``batch_size``, ``validation_split``, ``num_workers``, ``mode``, ``frequency``,
      ``server_optimizer`` and every other field of ``TrainingConfig``.
    * the output: ``predict_classes``, ``inference_batch_size``.

    Raises ``TypeError`` for an unknown argument and ``ValueError`` for a bad value. Copies may be fitted in threads at
    once, as ``CrossValidator(parallelism=2)`` does.
    """

    def __init__(self, *arguments: Any, **params: Any) -> None:
        super().__init__()
        self._setDefault(
            mode="asynchronous", frequency="epoch", epochs=10, batch_size=32, verbose=0, validation_split=0.1,
            nb_classes=10, categorical=True, num_workers=8, optimizer_config=None, server_optimizer=None,
            metrics=["acc"], loss=None, custom_objects={}, outputCol="prediction", featuresCol="features",
            labelCol="label", inference_batch_size=None, predict_classes=False,
        )  # fmt: skip
        if len(arguments) > 1:
            raise TypeError(f"ElephasEstimator: expected keywords, got {len(arguments)} arguments by position")
        if arguments:
            params = {"keras_model_config": arguments[0], **params}
        self.set_params(**params)

    def setWeightCol(self, value: str) -> ElephasEstimator:
        """Name the column of sample weights."""
        return self.set_params(weightCol=value)  # type: ignore[no-any-return]

    def setValidationIndicatorCol(self, value: str) -> ElephasEstimator:
        """Name the column that is true in rows kept for validation."""
        return self.set_params(validationIndicatorCol=value)  # type: ignore[no-any-return]

    def get_config(self) -> dict[str, Any]:
        """Every Param that is set or has a default, by name, without ``custom_objects``."""
        return ml_files.config_of(self)

    def get_model(self) -> Any:
        """A new Keras model of ``keras_model_config``, not compiled unless that says how."""
        return unweighted(self.get_keras_model_config(), self.get_custom_objects())

    def _fit(self, dataset: DataFrame) -> ElephasTransformer:
        options = {name: self.getOrDefault(name) for name in _OPTIONS if self.hasParam(name) and self.isDefined(name)}
        config = TrainingConfig(**options)
        set_seed(config.seed)
        model = compiled(
            self.get_keras_model_config(),
            optimizer=self.get_optimizer_config(),
            loss=early_loss(self) or self.get_loss(),
            metrics=self.get_metrics(),
            custom_objects=self.get_custom_objects(),
        )
        roles = Roles(
            columns_of(self, "featuresCol"),
            columns_of(self, "labelCol"),
            self.getWeightCol() if self.isDefined("weightCol") else None,
            self.getValidationIndicatorCol() if self.isDefined("validationIndicatorCol") else None,
            held_classes(self, model),
        )
        server_optimizer = self.get_server_optimizer()
        if server_optimizer is not None:
            server_optimizer = Optimizer.from_config(server_optimizer)
        elif config.update == "gradient":
            server_optimizer = model.optimizer
        result = fit(
            FitRequest(
                model=model,
                source=FrameSource(dataset, roles, self.get_num_workers()),
                config=config,
                optimizer=server_optimizer,
                custom_objects=self.get_custom_objects(),
            )
        )
        transformer = ElephasTransformer(
            keras_model_config=model,
            weights=model.get_weights(),
            model_type=LossModelTypeMapper().get_model_type(model.loss),
            history=result.histories,
        )
        transformer.training = result.history
        transformer._resetUid(self.uid)
        fitted: ElephasTransformer = self._copyValues(transformer)
        return fitted

    def save(self, path: str | PathLike[str]) -> None:
        """Save the Params: in a file where the name ends in ``.h5``, as Elephas did, else as Spark ML does."""
        loss = early_loss(self)
        ml_files.save(self, path, {} if loss is None else {"loss": loss})

    def write(self) -> MLWriter:
        """Spark ML's writer."""
        return ml_files.Writer(self)

    @classmethod
    def read(cls) -> MLReader[Any]:
        """Spark ML's reader."""
        return ml_files.Reader(cls)


class ElephasTransformer(
    _Columns,
    ml_params.HasKerasModelConfig,
    ml_params.HasCustomObjects,
    ml_params.HasInferenceBatchSize,
    ml_params.HasPredictClasses,
    Model,
    MLReadable[Any],
    MLWritable,
):
    """A trained Keras model; ``transform`` adds its predictions to a DataFrame as one more column.

    A classifier's are the scores as ``array<double>``, or the class index as ``double`` with ``predict_classes``; a
    regression's a ``double``, or an array where there are several numbers; of several outputs a struct of them by
    name. The column is lazy, in the order of the rows, and beside all others.

    ``weights``: the model's, as NumPy arrays; ``model_type``; ``history``: one dict of metrics by epoch for each
    partition that was trained, ``None`` for one without rows; ``training``: the Keras ``History`` of the ``fit`` over
    all rows, where there was one in this process.
    """

    def __init__(
        self,
        *,
        weights: Any = None,
        model_type: ModelType | None = None,
        history: list[Any] | None = None,
        **params: Any,
    ) -> None:
        super().__init__()
        self._setDefault(
            outputCol="prediction", featuresCol="features", labelCol="label", custom_objects={},
            inference_batch_size=None, predict_classes=False,
        )  # fmt: skip
        self.model_type = model_type
        self.history: list[Any] = list(history or [])
        self.training: Any = None
        self._trained = Trained(weights)
        self.set_params(**params)

    @property
    def weights(self) -> list[Any]:
        """The weights as a list of NumPy arrays, in Keras' order."""
        return self._trained.weights

    @weights.setter
    def weights(self, weights: Any) -> None:
        self._trained = Trained(weights)

    def get_config(self) -> dict[str, Any]:
        """Every Param that is set or has a default, by name, and ``weights`` as lists and ``model_type``."""
        weights = [weight.tolist() for weight in self.weights]
        return {**ml_files.config_of(self), "weights": weights, "model_type": self.model_type}

    def get_model(self) -> Any:
        """The Keras model, with its weights."""
        return self._trained.model(self.get_keras_model_config(), self.get_custom_objects())

    def _transform(self, dataset: DataFrame) -> DataFrame:
        form = "class" if self.get_predict_classes() else ""
        if not form:
            form = "number" if self.model_type is ModelType.REGRESSION else "array"
        return self._trained.transform(
            dataset,
            self.getOutputCol(),
            columns_of(self, "featuresCol"),
            self.get_keras_model_config(),
            self.get_custom_objects(),
            form,
            self.get_inference_batch_size(),
        )

    def save(self, path: str | PathLike[str]) -> None:
        """Save Params and weights: in a file where the name ends in ``.h5``, as Elephas did, else as Spark ML does."""
        ml_files.save(self, path, {"weights": self.weights, "model_type": self.model_type})

    def write(self) -> MLWriter:
        """Spark ML's writer."""
        return ml_files.Writer(self, weights=self.weights, model_type=self.model_type, history=self.history)

    @classmethod
    def read(cls) -> MLReader[Any]:
        """Spark ML's reader."""
        return ml_files.Reader(cls)


def load_ml_estimator(
    file_name: str | PathLike[str], custom_objects: Mapping[str, Any] | None = None
) -> ElephasEstimator:
    """The estimator in a file of ours or of Elephas, or in a folder as ``save`` writes where no ``.h5`` is."""
    estimator: ElephasEstimator = ml_files.load(ElephasEstimator, file_name, custom_objects)
    return estimator


def load_ml_transformer(
    file_name: str | PathLike[str], custom_objects: Mapping[str, Any] | None = None
) -> ElephasTransformer:
    """The transformer in a file of ours or of Elephas, or in a folder as ``load_ml_estimator``, with its weights."""
    transformer: ElephasTransformer = ml_files.load(ElephasTransformer, file_name, custom_objects)
    return transformer
