"""Estimators and transformers in files: Elephas' own (one HDF5 file) and Spark ML's (a folder on any file system)."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from pyspark.ml.util import DefaultParamsReader, DefaultParamsWriter, MLReader, MLWriter
from pyspark.sql import SparkSession

from elephas_fast.keras_bridge.model_type import ModelType, ModelTypeEncoder, as_enum

_ATTRIBUTE: Final = "distributed_config"
_WEIGHTS: Final = "weights"
_CHUNK: Final = 32 << 20
_UNSAVED: Final = ("custom_objects",)
_IGNORED: Final = ("trainable",)
_NONE_IS_SAID: Final = ("metrics",)
"""Params whose ``None`` in a file is not what they are without it."""


def config_of(stage: Any) -> dict[str, Any]:
    """The Params of a stage that are set or have a default, by name, except those no file can hold."""
    return {p.name: v for p, v in stage.extractParamMap().items() if p.name not in _UNSAVED}


def save(stage: Any, path: str | os.PathLike[str], more: Mapping[str, Any]) -> None:
    """Write a stage to an ``.h5`` file, or by its own Spark ML writer where the name ends in something else.

    ``more``: its ``weights`` and ``model_type``. Raises ``TypeError`` for a Param that JSON does not know, and
    ``ValueError`` for an ``.h5`` file on another file system.
    """
    if os.path.splitext(os.fspath(path))[1] != ".h5":
        stage.write().save(path)
        return
    if "://" in os.fspath(path):
        raise ValueError(
            f"path: expected a file of this machine where the name ends in .h5, got {os.fspath(path)}; leave out .h5, "
            "and the stage is saved there as Spark ML's folder"
        )
    import h5py

    weights = more.get("weights")
    parts = {name: value for name, value in more.items() if name != "weights"}
    text = _text({"class_name": type(stage).__name__, "config": {**config_of(stage), **parts}})
    with h5py.File(path, "w") as file:
        file.attrs[_ATTRIBUTE] = text.encode()
        for number, weight in enumerate(weights or []):
            file.create_dataset(f"{_WEIGHTS}/{number}", data=weight)


def load(kind: Any, path: str | os.PathLike[str], custom_objects: Mapping[str, Any] | None) -> Any:
    """The stage of class ``kind`` in a file of ours or of Elephas, or in a folder of Spark ML.

    Raises ``FileNotFoundError``, or ``ValueError`` where there is something else.
    """
    path = os.fspath(path)
    if os.path.isdir(path) or "://" in path:
        stage = Reader(kind).load(path)
        return stage if custom_objects is None else stage.set_custom_objects(dict(custom_objects))
    if not os.path.exists(path):
        raise FileNotFoundError(
            f"file_name: expected a saved {kind.__name__}, there is no file or folder {path} on this machine; where it "
            "is on another file system give its whole name, such as hdfs:///folder"
        )
    return kind(**_keywords(path, kind.__name__, custom_objects))


def _keywords(path: str, class_name: str, custom_objects: Mapping[str, Any] | None) -> dict[str, Any]:
    """The keywords that make the stage in an HDF5 file."""
    import h5py

    if not h5py.is_hdf5(path):
        raise ValueError(f"file_name: expected a saved {class_name}, but {path} is no HDF5 file")
    with h5py.File(path, "r") as file:
        text = file.attrs.get(_ATTRIBUTE)
        group = file.get(_WEIGHTS)
        saved = [np.asarray(group[str(number)]) for number in range(len(group))] if group is not None else None
    content = {} if text is None else json.loads(text, object_hook=as_enum)
    if content.get("class_name") != class_name:
        raise ValueError(f"file_name: expected a saved {class_name} in {path}, got {content.get('class_name')!r}")
    config = dict(content["config"])
    if class_name == "ElephasTransformer":
        lists = config.pop("weights", None)
        config["weights"] = saved if saved is not None or lists is None else [np.array(w, np.float32) for w in lists]
    if custom_objects is not None:
        config["custom_objects"] = dict(custom_objects)
    kept = {name: value for name, value in config.items() if value is not None or name in _NONE_IS_SAID}
    return {name: value for name, value in kept.items() if name not in _IGNORED}


class Writer(MLWriter):
    """Spark ML's form: ``metadata`` as Spark writes it, and ``weights`` as Parquet beside it."""

    def __init__(
        self, stage: Any, *, weights: Any = None, model_type: ModelType | None = None, history: Any = None
    ) -> None:
        super().__init__()
        self._stage = stage
        self._weights = weights
        self._more = {} if weights is None else {"modelType": model_type and str(model_type), "history": history}

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the folder, over an old one only after ``overwrite()``."""
        super().save(os.fspath(path))

    def saveImpl(self, path: str) -> None:
        """Write the folder. Raises ``TypeError`` for a Param that JSON does not know."""
        spark, stage = self.sparkSession, self._stage
        given = {p.name: value for p, value in stage._paramMap.items() if p.name not in _UNSAVED}
        _text(given)
        kept = stage.copy()
        for name in _UNSAVED:
            kept._defaultParamMap.pop(kept.getParam(name), None)
        sc = spark if hasattr(DefaultParamsWriter(stage), "sparkSession") else spark.sparkContext
        DefaultParamsWriter.saveMetadata(kept, path, sc, extraMetadata=self._more, paramMap=given)
        if self._weights is not None:
            rows = list(_rows(self._weights))
            schema = "number int, part int, dtype string, shape array<long>, data binary"
            spark.createDataFrame(rows, schema).coalesce(1).write.parquet(os.path.join(path, _WEIGHTS))


class Reader(MLReader[Any]):
    """Reads what ``Writer`` wrote."""

    def __init__(self, kind: Any) -> None:
        super().__init__()
        self._kind = kind

    def load(self, path: str | os.PathLike[str]) -> Any:
        """The stage, with the uid it had. Raises ``ValueError`` where the folder holds one of another class."""
        spark, path = self.sparkSession, os.fspath(path)
        metadata = DefaultParamsReader.loadMetadata(path, spark)
        saved = metadata["class"].rpartition(".")[2]
        if saved != self._kind.__name__:
            raise ValueError(f"path: expected a saved {self._kind.__name__} in {path}, got {saved!r}")
        stage = self._kind()
        stage._resetUid(metadata["uid"])
        known = {p.name for p in stage.params}
        unknown = sorted({*metadata["paramMap"]} - known)
        if unknown:
            raise ValueError(f"path: {path} holds Params this release does not know: {', '.join(unknown)}")
        DefaultParamsReader.getAndSetParams(stage, metadata)
        if "modelType" in metadata:
            kind = metadata["modelType"]
            stage.model_type = None if kind is None else as_enum({"__enum__": kind})
            stage.history = metadata["history"]
            stage.weights = _weights(spark, os.path.join(path, _WEIGHTS))
        return stage


def _rows(weights: Any) -> Any:
    for number, weight in enumerate(weights):
        data = np.ascontiguousarray(weight).tobytes()
        for part, begin in enumerate(range(0, max(1, len(data)), _CHUNK)):
            shape = [int(axis) for axis in weight.shape]
            yield number, part, str(weight.dtype), shape, bytearray(data[begin : begin + _CHUNK])


def _weights(spark: SparkSession, path: str) -> list[Any]:
    found: dict[int, list[Any]] = {}
    for row in sorted(spark.read.parquet(path).collect(), key=lambda row: (row.number, row.part)):
        found.setdefault(row.number, []).append(row)
    weights = []
    for number in range(len(found)):
        rows = found[number]
        data = b"".join(bytes(row.data) for row in rows)
        weights.append(np.frombuffer(data, _dtype(rows[0].dtype)).reshape(rows[0].shape).copy())
    return weights


def _dtype(name: str) -> Any:
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def _text(content: Any) -> str:
    try:
        return json.dumps(content, cls=ModelTypeEncoder)
    except TypeError:
        parts = content.get("config", content)
        wrong = next(name for name, value in parts.items() if not _is_json(value))
        raise TypeError(
            f"{wrong}: expected what JSON can hold, got {parts[wrong]!r}; register functions and classes of your own "
            "with keras.saving.register_keras_serializable(), and they can be saved"
        ) from None


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, cls=ModelTypeEncoder)
    except TypeError:
        return False
    return True
