"""Whether a loss makes its model a classifier or a regression, and how that is written to JSON."""

from __future__ import annotations

import json
import types
from collections.abc import Iterator, Mapping
from enum import Enum
from typing import Any, ClassVar, Final


class ModelType(Enum):
    """What the outputs of a model are: scores of classes, or numbers."""

    CLASSIFICATION = 1
    REGRESSION = 2


# Names as Keras 3 and earlier spell classes, functions and short forms; case and underscores do not count.
_CLASSIFICATION: Final = (
    "binary_crossentropy", "bce", "binary_focal_crossentropy", "categorical_crossentropy",
    "categorical_focal_crossentropy", "categorical_generalized_cross_entropy", "categorical_hinge", "circle", "ctc",
    "dice", "hinge", "kl_divergence", "kld", "kullback_leibler_divergence", "sparse_categorical_crossentropy",
    "squared_hinge", "tversky",
)  # fmt: skip
_REGRESSION: Final = (
    "cosine_proximity", "cosine_similarity", "huber", "huber_loss", "log_cosh", "mean_absolute_error", "mae",
    "mean_absolute_percentage_error", "mape", "mean_squared_error", "mse", "mean_squared_logarithmic_error", "msle",
    "poisson",
)  # fmt: skip


class LossModelTypeMapper:
    """From losses to model types. There is one of it in a process: every call of the class gives the same object, so
    that a loss registered once is known everywhere. Thread-safe."""

    _one: ClassVar[LossModelTypeMapper | None] = None
    _registered: dict[str, ModelType]

    def __new__(cls) -> LossModelTypeMapper:
        if cls._one is None:
            made = super().__new__(cls)
            made._registered = {}
            cls._one = made
        return cls._one

    def get_model_type(self, loss: Any) -> ModelType | None:
        """The type of a model with this loss; ``None`` for a loss that nobody registered.

        ``loss``: a name, a function, a Keras loss or its class, its serialized form, or a list or dict of these by
        output, for which the answer is the type they share, or ``None`` where they share none.
        """
        if loss is None:
            return None
        outputs = _by_output(loss)
        if outputs is not None:
            kinds = {self.get_model_type(each) for each in outputs if each is not None}
            return kinds.pop() if len(kinds) == 1 else None
        names = list(_names(loss))
        for name in names:
            if name in self._registered:
                return self._registered[name]
        return next((_KNOWN[_plain(name)] for name in names if _plain(name) in _KNOWN), None)

    def register_loss(self, loss: Any, model_type: ModelType) -> None:
        """Say what a loss of one's own (a name, a function, a loss object or its class) is for; also overrules what is
        known of one of Keras. Raises ``TypeError`` for another value than a ``ModelType``."""
        if not isinstance(model_type, ModelType):
            raise TypeError(
                f"model_type: expected ModelType.CLASSIFICATION or ModelType.REGRESSION, got {model_type!r}"
            )
        name = None if loss is None or _by_output(loss) is not None else next(_names(loss), None)
        if name is None:
            raise TypeError(f"loss: expected the name of a loss, a function or a loss object, got {loss!r}")
        self._registered[name] = model_type


class ModelTypeEncoder(json.JSONEncoder):
    """Writes a ``ModelType`` as ``{"__enum__": "ModelType.CLASSIFICATION"}``, for ``json.dumps(..., cls=...)``."""

    def default(self, o: Any) -> Any:
        """The JSON form of a ``ModelType``; ``TypeError`` for what JSON does not know either."""
        return {"__enum__": str(o)} if isinstance(o, ModelType) else super().default(o)


def as_enum(d: Mapping[str, Any]) -> Any:
    """The ``ModelType`` that ``ModelTypeEncoder`` wrote, any other dict as it is; for
    ``json.loads(..., object_hook=...)``. Raises ``ValueError`` for another enum or member."""
    if "__enum__" not in d:
        return d
    for kind in ModelType:
        if d["__enum__"] == str(kind):
            return kind
    raise ValueError(f"__enum__: expected one of {', '.join(map(str, ModelType))}, got {d['__enum__']!r}")


def is_multiple_input_model(model: Any) -> bool:
    """Whether a Keras model has more than one input."""
    return _count(model, "inputs") > 1


def is_multiple_output_model(model: Any) -> bool:
    """Whether a Keras model has more than one output."""
    return _count(model, "outputs") > 1


def _count(model: Any, which: str) -> int:
    tensors = getattr(model, which, None)
    return len(tensors) if isinstance(tensors, list | tuple | dict) else 1


def _by_output(loss: Any) -> list[Any] | None:
    """The losses of several outputs; ``None`` for one loss."""
    if isinstance(loss, Mapping):
        return None if "class_name" in loss else list(loss.values())
    return list(loss) if isinstance(loss, list | tuple) else None


def _names(loss: Any) -> Iterator[str]:
    """What a loss may be known by, the most particular first."""
    if isinstance(loss, str):
        yield loss
    elif isinstance(loss, Mapping):
        config = loss.get("config")
        yield str(config if loss["class_name"] == "function" else loss["class_name"])
    elif isinstance(loss, types.FunctionType | types.BuiltinFunctionType | types.MethodType):
        yield loss.__name__
    else:
        kind = loss if isinstance(loss, type) else type(loss)
        yield from (base.__name__ for base in kind.__mro__ if base is not object)
        function = getattr(loss, "fn", None)
        if callable(function) and hasattr(function, "__name__"):
            yield function.__name__


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


_KNOWN: Final = {
    **{_plain(name): ModelType.CLASSIFICATION for name in _CLASSIFICATION},
    **{_plain(name): ModelType.REGRESSION for name in _REGRESSION},
}
