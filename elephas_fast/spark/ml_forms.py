"""What the arguments of estimators and transformers of all releases mean in today's Params."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from pyspark.ml.param import Params

from elephas_fast.config import refuse_unknown
from elephas_fast.keras_bridge.configured import output_axes

_RENAMED: Final = {
    "nb_epoch": "epochs",
    "elephas_optimizer_config": "server_optimizer",
    "verbosity": "verbose",
    "categorical_labels": "categorical",
    "labelsCol": "labelCol",
}
_EARLY: Final = ("nb_epoch", "elephas_optimizer_config")


def given_params(owner: str, known: Sequence[str], given: Mapping[str, Any]) -> dict[str, Any]:
    """Params by today's names.

    Lists for ``featuresCol`` and ``labelCol`` go to ``featuresCols`` and ``labelCols``. An ``optimizer_config`` as the
    optimizers of Elephas 0.3 gave it is the server's. The forms before 0.4.2 predict classes. Raises ``TypeError`` for
    an unknown name and for one given twice.
    """
    params: dict[str, Any] = {}
    for name, value in given.items():
        new = _RENAMED.get(name, name) if name not in known else name
        if new in ("featuresCol", "labelCol") and isinstance(value, list | tuple):
            new, value = f"{new}s", list(value)
        if new == "optimizer_config" and _of_the_server(value):
            new = "server_optimizer"
        if new in params:
            raise TypeError(f"{owner}: expected '{new}' once, got it as '{name}' too")
        params[new] = value
    early = any(name in given for name in _EARLY) or ("server_optimizer" in params and "optimizer_config" in given)
    if early and "predict_classes" in known:
        params.setdefault("predict_classes", True)
    refuse_unknown(params, list(known), f"keyword of {owner}")
    return params


def _of_the_server(value: Any) -> bool:
    """Whether this is what ``elephas.optimizers`` gave as its configuration, which Keras' never looked like."""
    return isinstance(value, Mapping) and "lr" in value and "class_name" not in value


def columns_of(stage: Params, name: str) -> tuple[str, ...]:
    """The columns that ``featuresCol`` or ``labelCol``, or their plural, name."""
    several = f"{name}s"
    return tuple(stage.getOrDefault(several)) if stage.isDefined(several) else (str(stage.getOrDefault(name)),)


def held_classes(estimator: Any, model: Any) -> int | None:
    """How many classes number labels are made one-hot for; ``None``: they are left as they are.

    ``nb_classes`` where it was set, else the width of the model's output, which is the same in every model that fits.
    """
    if not estimator.get_categorical_labels() or _takes_indices(model.loss):
        return None
    widths = [last for _, _, last in output_axes(model)]
    given = estimator.get_nb_classes()
    if given != estimator._defaultParamMap[estimator.nb_classes]:  # files hold the default as if it had been set
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
