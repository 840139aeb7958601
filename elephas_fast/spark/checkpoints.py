"""A fit's checkpoints: when one is due, what goes into it, and whether a fit may go on from one."""

from __future__ import annotations

import hashlib
import json
import random
import re
import threading
import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from elephas_fast.checkpoint import CheckpointFolder, Saved
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import ModelSpec
from elephas_fast.layout import Layout
from elephas_fast.store import Line, Snapshot

_SLOT: Final = "slot "
_DECISIVE: Final = ("mode", "update", "frequency", "batch_size", "validation_split", "shuffle")
_SHOWN: Final = 200
_NUMBER: Final = re.compile(r"_\d+(?=/|$)")


@dataclass
class Reached:
    """How far a fit has come by what its driver knows; all zero at its beginning.

    ``first_version``: of the server when the fit began; ``rates``: learning rate as the model was compiled and as
    callbacks have left it; ``history``, ``histories``: metrics by epoch, of all and of each partition; ``faults``: by
    kind, of earlier runs too; ``rows``: (trained, validated) of each partition, ``None`` where it has not told yet.
    """

    epochs: int = 0
    first_version: int = 0
    seed: int = 0
    rates: tuple[float, float] = (0.0, 0.0)
    history: dict[str, list[float]] = field(default_factory=dict)
    histories: list[dict[str, list[float]]] = field(default_factory=list)
    staleness: list[float] = field(default_factory=list)
    faults: dict[str, int] = field(default_factory=dict)
    rows: list[tuple[int, int] | None] = field(default_factory=list)


class Checkpoints:
    """The checkpoints that a fit writes and may go on from.

    Args:
        config: of the fit; its ``checkpoint_dir`` is made where it is missing.
        subject: what is trained, by names for people: with some options what must be the same for a fit to go on.
        model_json: the architecture, for whoever wants to make the model from a file.
        say: takes a line for people.
    """

    def __init__(
        self, config: TrainingConfig, subject: Mapping[str, Any], model_json: str, say: Callable[[str], None]
    ) -> None:
        assert config.checkpoint_dir is not None
        self._config = config
        self._folder = CheckpointFolder(config.checkpoint_dir)
        self._subject = _plain({**subject, **{name: getattr(config, name) for name in _DECISIVE}})
        self._model_json = model_json
        self._say = say
        self._writer: threading.Thread | None = None
        self._failure: Exception | None = None
        self._warned = False

    def newest(self) -> tuple[Reached, Snapshot] | None:
        """Where to go on; ``None`` where nothing has been saved yet.

        Raises ``ValueError`` where the checkpoint is of another fit than this, or all are damaged.
        """
        saved = self._folder.newest()
        if saved is None:
            self._say(f"elephas_fast: no checkpoint in {self._folder.path} yet, training from scratch")
            return None
        for sentence in saved.refused:
            warnings.warn(f"resume: {sentence}; the one before it is taken", stacklevel=2)
        try:
            self._check(saved)
            found = _unpacked(saved)
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(
                f"resume: expected a fit of this version of elephas_fast in {saved.path}, got another ({error!r})"
            ) from error
        self._say(f"elephas_fast: going on after epoch {found[0].epochs}, from {saved.path}")
        return found

    def next_after(self, epochs: int) -> int:
        """After how many epochs to save again."""
        return epochs + self._config.checkpoint_every - epochs % self._config.checkpoint_every

    def save(self, reached: Reached, snapshot: Snapshot) -> None:
        """Write a checkpoint in a thread of its own, after the one before it. Nothing of ``snapshot`` may change."""
        self.finish()
        about = {
            "subject": self._subject,
            "reached": _plain(asdict(reached)),
            "version": snapshot.version,
            "lines": snapshot.lines,
            "model": self._model_json,
        }
        arrays: dict[str, NDArray[Any]] = {
            "weights": snapshot.weights,
            "opaque": snapshot.opaque,
            **{_SLOT + name: values for name, values in snapshot.slots.items()},
        }

        def write() -> None:
            try:
                self._folder.save(reached.epochs, about, arrays)
            except Exception as error:
                self._failure = error

        self._writer = threading.Thread(target=write, name="elephas_fast-checkpoint", daemon=True)
        self._writer.start()

    def finish(self) -> None:
        """Wait until the last checkpoint has been written, or has failed to be."""
        if self._writer is not None:
            self._writer.join()
            self._writer = None
        if self._failure is not None:
            failure, self._failure = self._failure, None
            self.warn(failure)

    def warn(self, error: Exception) -> None:
        """Say, once, that a checkpoint could not be written. The training goes on."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"checkpoint_dir: a checkpoint could not be written ({error}); the training goes on, and the last "
                f"whole one in {self._folder.path} stays",
                stacklevel=2,
            )

    def _check(self, saved: Saved) -> None:
        """Raise ``ValueError`` where the checkpoint is of another fit."""
        subject, seed = saved.about["subject"], saved.about["reached"]["seed"]
        for name, ours in {**self._subject, "seed": seed if self._config.seed is None else self._config.seed}.items():
            theirs = seed if name == "seed" else subject.get(name)
            if ours != theirs:
                raise ValueError(
                    f"resume: expected {name} {_shown(theirs)} as in {saved.path}, got {_shown(ours)}; "
                    "give what it was begun with, or name another checkpoint_dir"
                )


def checkpoints_of(
    config: TrainingConfig,
    spec: ModelSpec,
    partitions: int,
    server_optimizer: Mapping[str, Any],
    say: Callable[[str], None],
) -> Checkpoints | None:
    """The checkpoints that ``config`` asks for, if any. ``server_optimizer``: ``Optimizer.to_config()``."""
    if config.checkpoint_dir is None:
        return None
    subject = {
        "layout of the model's weights": _fingerprint(Layout.from_json(spec.layout_json)),
        "partitions": partitions,
        "server optimizer": _without_rate(server_optimizer),
        "optimizer": _without_rate((spec.compile_config or {}).get("optimizer")),
    }
    return Checkpoints(config, subject, spec.json, say)


def begin(config: TrainingConfig, checkpoints: Checkpoints | None) -> tuple[Reached, Snapshot | None]:
    """Where a fit begins: at its beginning, or with ``resume`` where the newest checkpoint says.

    A seed that was not given comes from Python's generator, as Keras' own do: ``keras.utils.set_random_seed`` sets it.
    """
    if checkpoints is not None and config.resume:
        found = checkpoints.newest()
        if found is not None:
            return found
    seed = config.seed if config.seed is not None else random.getrandbits(31)
    return Reached(seed=seed), None


def refuse_other_rows(error: BaseException) -> None:
    """Raise as ``ValueError`` what a worker found wrong with its rows, where ``error`` of a Spark job tells of it."""
    found = re.search(r"ValueError: (resume: [^\r\n]+)", str(error))
    if found:
        raise ValueError(found[1]) from error


def _fingerprint(layout: Layout) -> str:
    """Equal for layouts that differ in the numbers alone that Keras gives layers without a name, one more for each that
    a process has made."""
    places = [(_NUMBER.sub("", t.name), t.shape, t.dtype, t.role, t.offset) for t in layout.tensors]
    return hashlib.blake2b(json.dumps(places).encode(), digest_size=16).hexdigest()


def _without_rate(optimizer: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """A serialized optimizer without its name and, where that is a number, its learning rate, which may be changed."""
    if optimizer is None:
        return None
    config = optimizer.get("config", {})
    kept = {
        name: value
        for name, value in config.items()
        if name != "name" and (name != "learning_rate" or isinstance(value, Mapping))
    }
    return {"class_name": optimizer.get("class_name"), "config": kept}


def _unpacked(saved: Saved) -> tuple[Reached, Snapshot]:
    about, arrays = saved.about, saved.arrays
    reached = Reached(**about["reached"])
    reached.rates = (float(reached.rates[0]), float(reached.rates[1]))
    reached.rows = [None if rows is None else (int(rows[0]), int(rows[1])) for rows in reached.rows]
    snapshot = Snapshot(
        int(about["version"]),
        arrays["weights"],
        arrays["opaque"],
        {name.removeprefix(_SLOT): values for name, values in arrays.items() if name.startswith(_SLOT)},
        [Line(int(clock), int(rounds)) for clock, rounds in about["lines"]],
    )
    return reached, snapshot


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    """As JSON gives it back: a copy that nobody changes."""
    plain: dict[str, Any] = json.loads(json.dumps(value, default=_number))
    return plain


def _number(value: Any) -> float | str:
    try:
        return float(np.asarray(value))
    except (TypeError, ValueError):
        return str(value)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "..."
