"""An ensemble of Keras models that votes: in the driver, over an RDD, or over a DataFrame, each in one pass."""

from __future__ import annotations

import json
import os
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pyspark import RDD
from pyspark.sql import DataFrame

from elephas_fast.config import whole
from elephas_fast.keras_bridge import describe, layout_of, weights_of
from elephas_fast.keras_bridge.files import load_model, save_model
from elephas_fast.keras_bridge.joined import is_classifier, joined
from elephas_fast.spark.inference import predict
from elephas_fast.spark.transform import Output, predictions
from elephas_fast.votes import Vote

_FORMAT: Final = "elephas_fast voting 1"
_TASKS: Final = ("classification", "regression")
Array = NDArray[Any]


class VotingModel:
    """Keras models that decide together.

    Args:
        model_list: Keras models with the same inputs and outputs, the best first.
        voting: 'hard': each has one voice for the class it finds likeliest; of classes with equal votes that of the
            better model wins. 'soft': probabilities are averaged. A regression's outputs are averaged either way.
        weights: of the models' voices; equal by default.
        task: 'classification' or 'regression'; ``None`` finds out by the first model's loss or last activation. Of a
            classifier that gives logits (by its loss, or a last layer that is linear) probabilities are made.
        custom_objects: layers and functions of one's own in the models.

    The members are copied: later training of the given models changes nothing here. Raises ``ValueError`` for models
    that do not fit together. Thread-safe.
    """

    def __init__(
        self,
        model_list: Sequence[Any],
        voting: str = "hard",
        weights: Sequence[float] | None = None,
        task: str | None = None,
        *,
        custom_objects: Mapping[str, Any] | None = None,
    ) -> None:
        if not isinstance(model_list, Sequence):
            raise TypeError(f"model_list: expected a list of Keras models, got {type(model_list).__name__}")
        self.model_list = list(model_list)
        if not self.model_list:
            raise ValueError("model_list: expected at least one model, got none")
        check_voting(voting, len(self.model_list), weights, task)
        self.custom_objects = dict(custom_objects or {})
        known = None if task is None else task == "classification"
        self._joined, self._copies = joined(self.model_list, self.custom_objects, known)
        self.task = task or ("classification" if is_classifier(self.model_list[0]) else "regression")
        self.voting = voting
        self._vote = Vote.of(voting if self.task == _TASKS[0] else "mean", len(self.model_list), weights)

    @property
    def weights(self) -> list[float]:
        """The weight of each member's voice."""
        return list(self._vote.weights)

    def predict(self, data: Any, batch_size: int = 128, verbose: int = 0) -> Array:
        """The class of each row as int64[rows], or a regression's outputs. ``data``: an array (a list of arrays for
        several inputs) or an RDD of rows, which the workers predict."""
        return self._predicted(data, batch_size, self._vote.decide)

    def predict_proba(self, data: Any, batch_size: int = 128, verbose: int = 0) -> Array:
        """float64[rows, classes]: the mean of the members' probabilities, or for hard votes the share of votes that
        each class has. Raises ``ValueError`` for a regression."""
        self._check_classes("predict_proba")
        return self._predicted(data, batch_size, self._vote.outputs)

    def predict_classes(self, data: Any, batch_size: int = 128, verbose: int = 0) -> Array:
        """``predict``, of a classifier. Raises ``ValueError`` for a regression."""
        self._check_classes("predict_classes")
        return self.predict(data, batch_size)

    def evaluate(
        self, x: Any, y: Any, batch_size: int = 128, verbose: int = 0, return_dict: bool = False
    ) -> list[float] | dict[str, float]:
        """``[loss, accuracy]`` of a classifier, the loss being the cross-entropy of the mean probabilities;
        ``[mean squared error, mean absolute error]`` of a regression. ``y``: classes or one-hot, or targets."""
        members = self._members(x, batch_size)
        if self.task == "regression":
            found = self._vote.decide(members)
            error = found - np.asarray(y, np.float64).reshape(found.shape)
            logs = {"loss": float(np.mean(error**2)), "mae": float(np.mean(np.abs(error)))}
        else:
            soft = Vote("soft", self._vote.weights).outputs(members)
            classes = _classes(np.asarray(y), soft.shape)
            likely = np.take_along_axis(soft, classes[..., None], axis=-1)
            right = self._vote.decide(members) == classes
            logs = {"loss": float(-np.mean(np.log(np.maximum(likely, 1e-7)))), "accuracy": float(np.mean(right))}
        if verbose:
            print("  ".join(f"{name} {value:.4f}" for name, value in logs.items()))
        return logs if return_dict else list(logs.values())

    def transform(
        self, df: DataFrame, features_col: str | Sequence[str] = "features", output_col: str = "prediction"
    ) -> DataFrame:
        """``df`` with the class as a double, or a regression's output, in ``output_col``. Lazy.

        ``features_col``: a column of vectors, arrays or numbers, or a column for each input.
        """
        names = [features_col] if isinstance(features_col, str) else list(features_col)
        spec = describe(self._joined, self.custom_objects, update=None)
        weights = weights_of(self._joined, layout_of(self._joined))
        shape = self.model_list[0].outputs[0].shape
        form, axes = "array", len(shape) - 2
        if self.task == "regression":
            axes += 1
            form = "number" if axes == 1 and shape[-1] == 1 else "array"
        output = Output(output_col, axes, form)
        found = predictions(df, names, spec, weights, [output], 256, _finish(self._vote.decide))
        return df.withColumn(output_col, found)

    def save(self, path: str | os.PathLike[str], overwrite: bool = False) -> None:
        """Write all members, as they vote here, to one file, a zip of Keras' own files. Raises ``FileExistsError``
        unless ``overwrite``."""
        target = Path(path)
        if target.exists() and not overwrite:
            raise FileExistsError(f"path: {str(target)!r} is there already; pass overwrite=True")
        about = {
            "format": _FORMAT, "voting": self.voting, "task": self.task, "weights": self.weights,
            "members": len(self._copies),
        }  # fmt: skip
        with tempfile.TemporaryDirectory(prefix="elephas_fast-") as folder:
            unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
            try:
                with zipfile.ZipFile(unfinished, "w") as archive:
                    archive.writestr("voting.json", json.dumps(about))
                    for name, model in zip(_files(len(self._copies)), self._copies, strict=True):
                        save_model(model, str(Path(folder) / name))
                        archive.write(Path(folder) / name, name)
                unfinished.replace(target)
            finally:
                unfinished.unlink(missing_ok=True)

    @classmethod
    def load(cls, path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> VotingModel:
        """What ``save`` has written; no code in the file is run. Raises ``ValueError`` for another file."""
        wrong = ValueError(f"path: expected a file that VotingModel.save has written, got {os.fspath(path)!r}")
        try:
            with zipfile.ZipFile(path) as archive, tempfile.TemporaryDirectory(prefix="elephas_fast-") as folder:
                about = json.loads(archive.read("voting.json"))
                if about.get("format") != _FORMAT:
                    raise wrong
                names = _files(whole("members", about["members"], 1, 10_000))
                models = []
                for name in names:
                    local = Path(folder) / name
                    local.write_bytes(archive.read(name))
                    models.append(load_model(str(local), custom_objects))
        except (zipfile.BadZipFile, KeyError, TypeError, AttributeError, json.JSONDecodeError):
            raise wrong from None
        return cls(models, about["voting"], about["weights"], about["task"], custom_objects=custom_objects)

    def _predicted(self, data: Any, batch_size: int, decide: Callable[[Sequence[Array]], Array]) -> Array:
        if isinstance(data, RDD):
            rows = predict(
                self._joined,
                data,
                batch_size=batch_size,
                custom_objects=self.custom_objects,
                finish=_finish(decide),
            )
            return np.asarray(rows)
        return decide(self._members(data, batch_size))

    def _members(self, data: Any, batch_size: int) -> list[Array]:
        found = self._joined.predict(data, batch_size=batch_size, verbose=0)
        return list(found) if isinstance(found, list | tuple) else [found]

    def _check_classes(self, name: str) -> None:
        if self.task != "classification":
            raise ValueError(f"{name}: expected models that classify, got a regression; use predict, or task=")


def check_voting(voting: str, members: int, weights: Sequence[float] | None, task: str | None) -> None:
    """Raises ``ValueError`` for arguments that so many members cannot vote by."""
    if task not in (None, *_TASKS):
        raise ValueError(f"task: expected 'classification', 'regression' or None, got {task!r}")
    if voting not in ("hard", "soft"):
        raise ValueError(f"voting: expected 'hard' or 'soft', got {voting!r}")
    Vote.of(voting, members, weights)


def load_voting_model(path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None = None) -> VotingModel:
    """``VotingModel.load``."""
    return VotingModel.load(path, custom_objects)


def _finish(decide: Callable[[Sequence[Array]], Array]) -> Callable[[list[Array]], list[Array]]:
    return lambda outputs: [decide(outputs)]


def _files(members: int) -> list[str]:
    return [f"member_{place}.keras" for place in range(members)]


def _classes(y: Array, shape: tuple[int, ...]) -> Array:
    """Targets as classes: one-hot ones by their place, others as they are."""
    if y.shape == shape and shape[-1] > 1 and y.ndim > 1:
        return np.asarray(np.argmax(y, axis=-1))
    if y.size != int(np.prod(shape[:-1])):
        raise ValueError(
            f"y: expected classes or one-hot targets for outputs of shape {list(shape)}, got {list(y.shape)}"
        )
    return y.reshape(shape[:-1]).astype(np.int64)
