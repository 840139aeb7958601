"""A ``SparkModel`` as one file that Keras can read too: the model, and beside it the distributed configuration."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import describe
from elephas_fast.keras_bridge.files import load_model, save_model
from elephas_fast.optimizers import SGD, Optimizer
from elephas_fast.optimizers import get as get_optimizer

_ATTRIBUTE: Final = "distributed_config"
_MEMBER: Final = "elephas_fast.json"
_CLASSES: Final = ("SparkModel", "AsynchronousSparkModel", "SparkMLlibModel", "SparkHFModel")
_SAVED: Final = ("mode", "frequency", "sync_every", "batch_size", "update", "access", "staleness", "on_nonfinite")
_RULES: Final = {name.lower() for name in Optimizer.registry}
_LOADED: Final = (*_SAVED, "parameter_server_mode", "num_workers", "port")


def check_trainable(model: Any, update: str, custom_objects: Mapping[str, Any] | None) -> None:
    """Raise one sentence for a model that workers could not train."""
    describe(model, custom_objects, update=update)  # type: ignore[arg-type]


def config_of(
    config: TrainingConfig, parameter_server_mode: str, num_workers: int | None, server_optimizer: Any
) -> dict[str, Any]:
    """The configuration that is saved with a model; the server's optimizer as ``Optimizer.to_config`` gives it."""
    saved = {name: getattr(config, name) for name in _SAVED}
    rule = None if server_optimizer is None else get_optimizer(server_optimizer).to_config()
    return {
        "parameter_server_mode": parameter_server_mode, "num_workers": num_workers, **saved, "server_optimizer": rule
    }  # fmt: skip


def save(model: Any, file_name: str, class_name: str, config: Mapping[str, Any], *, overwrite: bool) -> None:
    """Write ``model`` and ``config``. Raises ``ValueError`` for another suffix, ``FileExistsError`` for a file that is
    there unless ``overwrite``."""
    path = os.fspath(file_name)
    suffix = _suffix(path)
    if os.path.exists(path) and not overwrite:
        raise FileExistsError(f"file_name: {path} exists; pass overwrite=True to replace it")
    text = json.dumps({"class_name": class_name, "config": dict(config)})
    save_model(model, path)
    if suffix == ".h5":
        import h5py

        with h5py.File(path, "r+") as file:
            file.attrs[_ATTRIBUTE] = text.encode()
    else:
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr(_MEMBER, text)


@contextmanager
def beside(file_name: str) -> Iterator[str]:
    """A name for a file of this machine with the suffix of ``file_name``, in a folder that is then removed."""
    with tempfile.TemporaryDirectory(prefix="elephas_fast-") as folder:
        yield os.path.join(folder, f"model{_suffix(file_name)}")


def load(file_name: str, custom_objects: Mapping[str, Any] | None = None) -> tuple[Any, str, dict[str, Any]]:
    """The model, the name of the class and its keywords in a file, of this package or of Elephas 0.4 to 7.

    Keywords that Elephas kept and saved without knowing them are left out with one warning. Raises ``ValueError`` where
    the file holds no SparkModel.
    """
    path = os.fspath(file_name)
    if not os.path.exists(path):
        raise FileNotFoundError(f"file_name: expected a saved model, there is no file {path}")
    suffix = _content(path)
    text: Any = None
    if suffix == ".h5":
        import h5py

        with h5py.File(path, "r") as file:
            text = file.attrs.get(_ATTRIBUTE)
    else:
        with zipfile.ZipFile(path) as archive:
            text = archive.read(_MEMBER) if _MEMBER in archive.namelist() else None
    if text is None:
        raise ValueError(
            f"file_name: {path} holds a Keras model but no SparkModel; load it with keras.models.load_model"
        )
    saved = json.loads(text)
    if saved.get("class_name") not in _CLASSES:
        raise ValueError(f"file_name: expected one of {', '.join(_CLASSES)} in {path}, got {saved.get('class_name')!r}")
    config, unknown = _keywords(saved["config"])
    if unknown:
        warnings.warn(
            f"file_name: left out of the configuration in {path} what {saved['class_name']} does not know: "
            f"{', '.join(unknown)}",
            stacklevel=3,
        )
    if os.path.splitext(path)[1] == suffix:
        return load_model(path, custom_objects), str(saved["class_name"]), config
    with beside(f"model{suffix}") as named:  # Keras goes by the name
        os.symlink(os.path.abspath(path), named)
        return load_model(named, custom_objects), str(saved["class_name"]), config


def _keywords(saved: Mapping[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Today's keywords in a saved configuration, and the names of the others that had a value."""
    config = {name: saved[name] for name in saved if name in _LOADED}
    rule = saved.get("elephas_optimizer")
    if isinstance(rule, Mapping) and str(rule.get("name")).lower() in _RULES:
        config["elephas_optimizer"] = _server_optimizer(rule)
    if saved.get("server_optimizer") is not None:
        config["server_optimizer"] = get_optimizer(saved["server_optimizer"])
    return config, sorted(name for name in saved if name not in config and saved[name] is not None)


def _server_optimizer(saved: Mapping[str, Any]) -> Optimizer | None:
    """The server's optimizer of Elephas 0.4. Its default, which took a hundredth of each change, was saved where none
    was given: it means none."""
    rule = get_optimizer(saved)
    return None if rule == SGD(learning_rate=0.01) else rule


def _content(path: str) -> str:
    """The suffix for what a file holds."""
    import h5py

    if h5py.is_hdf5(path):
        return ".h5"
    if zipfile.is_zipfile(path):
        return ".keras"
    raise ValueError(f"file_name: expected a model that Keras saved, as HDF5 or as a zip archive, got {path}")


def _suffix(path: str) -> str:
    suffix = os.path.splitext(path)[1]
    if suffix not in (".h5", ".keras"):
        raise ValueError(f"file_name: expected a name ending in .keras or .h5, got {path!r}")
    return suffix
