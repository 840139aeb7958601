"""``SparkModel`` and its kin by Elephas' import path."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pyspark import RDD
from pyspark.mllib.linalg import Matrix, Vector

from elephas_fast.spark import forms, hadoop, saving
from elephas_fast.spark.labeled_points import from_matrix, from_vector, lp_to_simple_rdd, to_matrix, to_vector
from elephas_fast.spark.model import AsynchronousSparkModel, SparkModel
from elephas_fast.spark.texts import TextCalls, check_model, tokenizer_of
from elephas_fast.weight_service import client_of
from elephas_fast.worker import AsynchronousSparkWorker, SparkWorker

__all__ = [
    "AsynchronousSparkModel",
    "AsynchronousSparkWorker",
    "SparkHFModel",
    "SparkMLlibModel",
    "SparkModel",
    "SparkWorker",
    "get_server_weights",
    "load_spark_model",
    "put_deltas_to_server",
]


class SparkMLlibModel(SparkModel):
    """A ``SparkModel`` for MLlib: trains on an RDD of LabeledPoints, predicts matrices and vectors."""

    def fit(self, labeled_points: Any, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # named so
        """``SparkModel.fit`` on an RDD of LabeledPoints with dense or sparse vectors; ten epochs, silent, a tenth of
        the rows for validation, unless told otherwise.

        By position: ``epochs, batch_size, verbose, validation_split, categorical, nb_classes``. ``categorical``: labels
        are classes, of which there are ``nb_classes`` (``None``: as many as there are), and are made one-hot.
        """
        options = forms.bind("fit", ("epochs", *forms.MLLIB_TRAINING), arguments, options)
        categorical, nb_classes = options.pop("categorical", False), options.pop("nb_classes", None)
        options = forms.training(options, forms.EARLY_TRAINING)
        return super().fit(lp_to_simple_rdd(labeled_points, categorical, nb_classes), **options)

    def train(self, labeled_points: Any, *arguments: Any, **options: Any) -> Any:  # type: ignore[override]  # named so
        """``fit``, by position: ``nb_epoch, batch_size, verbose, validation_split, categorical, nb_classes``."""
        return super().train(
            labeled_points, **forms.bind("train", ("nb_epoch", *forms.MLLIB_TRAINING), arguments, options)
        )

    def predict(self, mllib_data: Any, *, batch_size: int | None = None) -> Any:
        """A Matrix of outputs for a Matrix of rows; a Vector of outputs for one row as a Vector; else as
        ``SparkModel.predict``, also for an RDD of vectors."""
        if isinstance(mllib_data, Matrix):
            return to_matrix(np.asarray(super().predict(from_matrix(mllib_data), batch_size=batch_size)))
        if isinstance(mllib_data, Vector):
            return to_vector(super().predict(from_vector(mllib_data)[None, :], batch_size=batch_size)[0])
        if isinstance(mllib_data, RDD):
            mllib_data = mllib_data.map(_features)
        return super().predict(mllib_data, batch_size=batch_size)


class SparkHFModel(TextCalls, SparkModel):
    """A ``SparkModel`` on texts, in Elephas 6's form: ``SparkHFModel(model, mode, frequency, parameter_server_mode,
    num_workers, batch_size, port, tokenizer, tokenizer_kwargs, loader)``.

    Args:
        model: a compiled ``keras.Model`` on token ids, for instance of keras_hub without its preprocessor; its inputs
            are named as the tokenizer names its arrays. Models of transformers cannot be trained by Keras 3.
        tokenizer: a callable that makes arrays of a list of texts, or the name of one for transformers' AutoTokenizer.
        tokenizer_kwargs: its keywords.
        loader: Elephas loaded the model in the workers with it; here they rebuild it from its configuration.
        **options: as for ``SparkModel``. ``mode`` is 'synchronous' unless it is given.
    """

    def _construct(self, form: forms.Construction) -> None:
        check_model(form.model)
        self.tokenizer = tokenizer_of(form.options.pop("tokenizer", None))
        self.tokenizer_kwargs = dict(form.options.pop("tokenizer_kwargs", None) or {})
        self.tf_loader = form.options.pop("loader", None)
        super()._construct(form)

    @classmethod
    def _form(cls, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> forms.Construction:
        return forms.fixed_construction(cls.__name__, forms.TEXTS, "synchronous", arguments, keywords)


SparkHFModel.__signature__ = forms.signature(  # type: ignore[attr-defined]
    SparkModel._set_up, forms.TEXTS, mode="synchronous", frequency="epoch"
)
_KINDS = {kind.__name__: kind for kind in (SparkModel, AsynchronousSparkModel, SparkMLlibModel, SparkHFModel)}


def load_spark_model(
    file_name: str | os.PathLike[str], from_hadoop: bool = False, *, custom_objects: Mapping[str, Any] | None = None
) -> SparkModel:
    """The ``SparkModel``, ``AsynchronousSparkModel`` or ``SparkMLlibModel`` that ``save`` wrote to a file, whatever the
    file is called now.

    ``from_hadoop``: ``file_name`` is a path of Spark's Hadoop file systems; so is one with ``://`` in it.
    """
    file_name = os.fspath(file_name)
    if from_hadoop or "://" in file_name:
        with saving.beside(file_name) as local:
            hadoop.download(file_name, local)
            model, kind, config = saving.load(local, custom_objects)
    else:
        model, kind, config = saving.load(file_name, custom_objects)
    return _KINDS[kind](model, custom_objects=custom_objects, **config)


def get_server_weights(master_url: str = "localhost:5000") -> list[Any]:
    """The weights of a parameter server (``elephas_fast.parameter``) of this user on this host, as Elephas 0.2 and 0.3
    fetched them. Raises ``ConnectionError`` where there is none."""
    with client_of(master_url) as client:
        return client.get_parameters()


def put_deltas_to_server(delta: Sequence[Any], master_url: str = "localhost:5000") -> None:
    """Subtract ``delta``, one array for each weight, from that server's weights; returns when that has been done."""
    with client_of(master_url) as client:
        client.update_parameters(delta)


def _features(row: Any) -> Any:
    """The numbers of a vector or LabeledPoint; any other row as it is."""
    vector = getattr(row, "features", row)
    return from_vector(vector) if isinstance(vector, Vector) else row
