"""What the arguments of estimators and transformers of all releases mean in today's Params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyspark.ml.param import Params

from elephas_fast.config import refuse_unknown
from elephas_fast.keras_bridge.configured import is_compiled, output_axes

_RENAMED: Final = {
    "nb_epoch": "epochs",
    "elephas_optimizer_config": "server_optimizer",
    "verbosity": "verbose",
    "categorical_labels": "categorical",
    "labelsCol": "labelCol",
}
_COLUMNS: Final = ("featuresCol", "labelCol", "outputCol")
_EARLY: Final = ("nb_epoch", "elephas_optimizer_config")


def given_params(owner: str, known: Sequence[str], given: Mapping[str, Any]) -> tuple[dict[str, Any], bool]:
    """Params by today's names, and whether they are given in a form that only releases before 0.4.2 had.

    Lists for ``featuresCol`` and ``labelCol`` go to ``featuresCols`` and ``labelCols``. An ``optimizer_config`` as the
    optimizers of Elephas 0.3 gave it is the server's. Raises ``TypeError`` for an unknown name, for one given twice and
    for a column that is ``None``, ``ValueError`` for no columns.
    """
    params: dict[str, Any] = {}
    early = any(given.get(name) is not None for name in _EARLY)
    for name, value in given.items():
        new = _RENAMED.get(name, name) if name not in known else name
        if new in ("featuresCol", "labelCol") and isinstance(value, list | tuple):
            new, value = f"{new}s", list(value)
            if not value:
                raise ValueError(f"{owner}: expected at least one column in '{name}', got an empty list")
        if value is None and new in _COLUMNS:
            raise TypeError(f"{owner}: expected a column's name as '{new}', got None; leave it out for the default")
        if new == "optimizer_config" and _of_the_server(value):
            new, early = "server_optimizer", True
        if new in params:
            raise TypeError(f"{owner}: expected '{new}' once, got it as '{name}' too")
        params[new] = value
    refuse_unknown(params, list(known), f"keyword of {owner}")
    return params, early


def _of_the_server(value: Any) -> bool:
    """Whether this is what ``elephas.optimizers`` gave as its configuration, which Keras' never looked like."""
    return isinstance(value, Mapping) and "lr" in value and "class_name" not in value


def columns_of(stage: Params, name: str) -> tuple[str, ...]:
    """The columns that ``featuresCol`` or ``labelCol``, or their plural, name."""
    several = f"{name}s"
    return tuple(stage.getOrDefault(several)) if stage.isDefined(several) else (str(stage.getOrDefault(name)),)


def early_loss(estimator: Any) -> str | None:
    """The loss that an estimator in the form before 0.4.2, of a model that was not compiled, has where none is given:
    that of the ``SparkModel`` it trained with. ``None`` for every other estimator."""
    early = estimator._defaultParamMap[estimator.predict_classes] and estimator.get_categorical_labels()
    if not early or estimator.get_loss() is not None or not estimator.isDefined("keras_model_config"):
        return None
    return None if is_compiled(estimator.get_keras_model_config()) else "categorical_crossentropy"


def held_classes(estimator: Any, model: Any) -> int | None:
    """How many classes number labels are made one-hot for; ``None``: they are left as they are.

    ``nb_classes`` where it was set, else the width of the model's output, which is the same in every model that fits.
    Where that is one, as of a binary classifier, labels are what the model is to give.
    """
    if not estimator.get_categorical_labels() or _takes_indices(model.loss):
        return None
    widths = [last for _, _, last in output_axes(model)]
    if widths == [1]:
        return None
    given = estimator.get_nb_classes()
    default = estimator._defaultParamMap[estimator.nb_classes]  # files hold it as if it had been set
    if given not in (None, default):
        return int(given)
    return widths[0] if len(widths) == 1 and widths[0] > 1 else None


def _takes_indices(loss: Any) -> bool:
    """Whether a loss takes class indices as they are."""
    if isinstance(loss, Mapping):
        loss = loss.get("class_name") if "class_name" in loss else list(loss.values())
    if isinstance(loss, list | tuple):
        return any(_takes_indices(each) for each in loss)
    name = loss if isinstance(loss, str) else getattr(loss, "__name__", None) or type(loss).__name__
    return str(name).lower().startswith("sparse")
