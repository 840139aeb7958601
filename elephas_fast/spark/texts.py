"""Training, prediction and generation on texts: what ``SparkHFModel`` adds to ``SparkModel``."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from importlib import import_module
from typing import Any

import numpy as np
from pyspark import RDD, SparkContext

from elephas_fast.keras_bridge import ModelSpec, describe, layout_of, trainer_for, weights_of
from elephas_fast.keras_bridge.generation import sampler_of
from elephas_fast.spark.interpreter import use_driver_python
from elephas_fast.spark.rows import spread
from elephas_fast.spark.tokens import Tokens


def check_model(model: Any) -> None:
    """Raise ``ValueError`` for a model of the transformers library, which Keras 3 cannot train."""
    if any(base.__module__.partition(".")[0] == "transformers" for base in type(model).__mro__):
        raise ValueError(
            f"model: expected a keras.Model, for instance of keras_hub, got {type(model).__name__} of transformers, "
            "whose TensorFlow models are for Keras 2 and have been given up"
        )


def tokenizer_of(tokenizer: Any) -> Any:
    """The tokenizer, loaded by transformers where it is only a name. Raises ``ImportError`` without transformers."""
    if not isinstance(tokenizer, str):
        return tokenizer
    try:
        library = import_module("transformers")
    except ImportError:
        raise ImportError(
            f"tokenizer: expected transformers to be installed to load {tokenizer!r} by its name; install it or pass a "
            "callable that makes arrays of a list of texts"
        ) from None
    return library.AutoTokenizer.from_pretrained(tokenizer)


class TextCalls:
    """The calls of a model whose rows are texts, tokenized in the workers. Beside ``SparkModel``, before it."""

    tokenizer: Any
    tokenizer_kwargs: Mapping[str, Any]
    num_workers: int | None
    batch_size: int
    custom_objects: dict[str, Any]
    _master_network: Any

    def fit(self, rdd: Any, **options: Any) -> Any:
        """``SparkModel.fit`` on an RDD of ``(text, label)`` rows, or of texts, which the model learns to continue.

        The texts of a partition are tokenized together, in its worker. Where the model says something of each token,
        labels are filled up with -100.
        """
        if self.tokenizer is not None and isinstance(rdd, RDD):
            num_workers = options.get("num_workers", self.num_workers)
            rdd = spread(rdd, num_workers).mapPartitions(self._tokens.blocks)
        return super().fit(rdd, **options)  # type: ignore[misc]

    def predict(self, data: Any, *, batch_size: int | None = None) -> list[Any]:
        """The output for each text of a list, an array or an RDD (of texts or pairs), in order."""
        if self.tokenizer is not None:
            tokens = self._tokens
            if isinstance(data, RDD):
                data = data.mapPartitions(lambda rows: tokens.blocks(rows, targets=False))
            else:
                data = _unpacked(tokens.features(list(data)))
        found: list[Any] = super().predict(data, batch_size=batch_size)  # type: ignore[misc]
        return found

    def evaluate(self, x_test: Any, y_test: Any = None, **options: Any) -> Any:
        """``SparkModel.evaluate`` on texts with ``y_test``, or on an RDD as for ``fit``."""
        if self.tokenizer is not None:
            if isinstance(x_test, RDD):
                x_test = x_test.mapPartitions(self._tokens.blocks)
            else:
                rows = list(x_test) if y_test is None else list(zip(x_test, y_test, strict=True))
                (block,) = self._tokens.blocks(rows, at_most=None)
                x_test, y_test = _unpacked(block.x), _unpacked(block.y)
        return super().evaluate(x_test, y_test, **options)  # type: ignore[misc]

    def generate(self, data: Any, **options: Any) -> list[Any]:
        """What the model's own ``generate(inputs, **options)`` makes of each row, in the order of the rows.

        ``data``: an RDD, list or array of texts, or of the model's inputs where there is no tokenizer. ``batch_size``
        rows at a time are given to the model, in the workers. Raises ``ValueError`` for a model without ``generate``.
        """
        if not callable(getattr(self._master_network, "generate", None)):
            raise ValueError(
                f"model: expected one with generate(inputs, ...), got {type(self._master_network).__name__} without"
            )
        if not isinstance(data, RDD):
            sc = SparkContext.getOrCreate()
            rows = list(data)
            data = sc.parallelize(rows, min(self.num_workers or sc.defaultParallelism, max(1, len(rows))))
        use_driver_python(data.context)
        weights = data.context.broadcast(weights_of(self._master_network, layout_of(self._master_network)))
        try:
            sampler = sampler_of(self._master_network)
            run = _generate_function(self._spec, self._tokens, self.batch_size, sampler, options)
            found: list[Any] = data.mapPartitions(lambda rows: run(rows, weights)).collect()
            return found
        finally:
            weights.destroy()

    def __call__(self, *inputs: Any, **named: Any) -> Any:
        """The outputs of the driver's model for a batch of its inputs, which may be given by their names."""
        if named and not inputs and {spec.name for spec in self._spec.inputs} <= set(named):
            values = {name: named.pop(name) for name in (spec.name for spec in self._spec.inputs)}
            given = getattr(self._master_network, "input", None)
            inputs = (values if isinstance(given, Mapping) else _unpacked(tuple(values.values())),)
        return self._master_network(*inputs, **named)

    @cached_property
    def _spec(self) -> ModelSpec:
        return describe(self._master_network, self.custom_objects, update=None)

    @property
    def _tokens(self) -> Tokens:
        inputs = tuple(spec.name for spec in self._spec.inputs)
        shape = getattr(self._master_network, "output_shape", None)
        several = isinstance(shape, tuple) and len(shape) == 3
        return Tokens(self.tokenizer, dict(self.tokenizer_kwargs), inputs, several)


def _generate_function(
    spec: ModelSpec, tokens: Tokens, batch_size: int, sampler: dict[str, Any] | None, options: Mapping[str, Any]
) -> Any:
    def run(rows: Iterable[Any], weights: Any) -> Iterator[Any]:
        flat, opaque = weights.value
        trainer = None
        for x in tokens.batches(rows, batch_size):
            trainer = trainer or trainer_for(spec, 1)
            yield from _by_row(trainer.generate(x, flat, opaque, sampler, options))

    return run


def _by_row(made: Any) -> Iterator[Any]:
    """What was generated for each row: text, array, or dict of arrays."""
    if isinstance(made, Mapping):
        columns = {name: np.asarray(column) for name, column in made.items()}
        for values in zip(*columns.values(), strict=True):
            yield dict(zip(columns, values, strict=True))
    elif isinstance(made, str):
        yield made
    elif isinstance(made, list | tuple):
        yield from made
    else:
        yield from np.asarray(made)


def _unpacked(arrays: tuple[Any, ...]) -> Any:
    return arrays[0] if len(arrays) == 1 else list(arrays)
