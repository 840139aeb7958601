"""Every option of a training run, checked in one place.

``TrainingConfig`` is the only list of a user's options: what ``SparkModel`` accepts and what a worker receives are made
from its fields. ``ServerSettings`` is what one server process is told.
"""

from __future__ import annotations

import difflib
import json
import math
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import Enum
from typing import Any

MODES = ("synchronous", "asynchronous", "hogwild")
FREQUENCIES = ("batch", "epoch")
SYNC_EVERY = ("epoch", "fit")
UPDATES = ("delta", "gradient")
HOGWILD_ACCESS = ("stripes", "racy", "relaxed", "compare_exchange")
TRANSPORTS = ("auto", "shm", "ipc", "tcp", "inproc")
SECURITIES = ("curve", "none")
ON_NONFINITE = ("reject", "raise", "apply")
VERBOSITY = (0, 1, 2)
XLA = ("compiled", "measure")


def _option(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"meaning": meaning})


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """The options of one ``fit``; immutable, picklable, safe to share.

    Raises ``ValueError`` or ``TypeError`` on construction, in one sentence that names the option, what is expected and
    what was given. Use ``TrainingConfig.of`` to have unknown names refused with a suggestion.
    """

    mode: str = _option("asynchronous", "'synchronous', 'asynchronous' or 'hogwild'")
    frequency: str | int = _option("epoch", "length of a round: 'batch', 'epoch', or a number of batches")
    sync_every: str = _option(
        "epoch", "synchronous workers are averaged after each 'epoch', or once for the whole 'fit'"
    )
    update: str = _option("delta", "what a worker sends: 'delta' (before - after) or 'gradient' (of the loss)")
    prefetch: int = _option(0, "1: begin the next round while the last push is under way, one update staler")
    staleness: int | None = _option(None, "rounds a worker may be ahead of the slowest; only asynchronous and hogwild")
    access: str = _option("stripes", "how hogwild writes: 'stripes', 'racy', 'relaxed' or 'compare_exchange'")
    on_nonfinite: str = _option("reject", "an update that is not finite: 'reject' it, 'raise', or 'apply' it")
    transport: str = _option("auto", "'auto', 'shm', 'ipc' or 'tcp'")
    security: str = _option("curve", "'curve' encrypts what crosses sockets; 'none' does not, and warns")
    port: int | None = _option(None, "TCP port of the server; None takes a free one")
    epochs: int = _option(1, "passes over the rows")
    batch_size: int = _option(32, "rows per batch; the last batch of a partition may be shorter")
    validation_split: float = _option(0.0, "fraction of each partition's last rows kept for validation, in [0, 1)")
    shuffle: bool = _option(True, "shuffle the rows of a partition before each epoch")
    class_weight: Mapping[int, float] | None = _option(None, "weight of each class in the loss")
    seed: int | None = _option(None, "seed of shuffling and dropout; None draws one from Python's random")
    xla: str = _option(
        "compiled", "'compiled': as compile(jit_compile=) says; 'measure': each worker takes what is faster"
    )
    verbose: int = _option(1, "0 nothing, 1 a live progress bar, 2 one line per epoch")
    server_timeout: float = _option(120.0, "seconds without an answer after which the server counts as lost")
    straggler_timeout: float = _option(1800.0, "seconds a worker waits for others at a round's gate before it fails")
    checkpoint_dir: str | None = _option(None, "folder of the driver for checkpoints, one for each fit")
    checkpoint_every: int = _option(1, "epochs from one checkpoint to the next")
    resume: bool = _option(False, "go on from the newest checkpoint in checkpoint_dir, if there is one")

    def __post_init__(self) -> None:
        for name in (
            "mode",
            "frequency",
            "sync_every",
            "update",
            "access",
            "on_nonfinite",
            "transport",
            "security",
            "xla",
        ):
            value = getattr(self, name)
            if isinstance(value, Enum):
                object.__setattr__(self, name, value.value)
        _one_of("mode", self.mode, MODES)
        _one_of("update", self.update, UPDATES)
        _one_of("access", self.access, HOGWILD_ACCESS)
        _one_of("on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        _one_of("sync_every", self.sync_every, SYNC_EVERY)
        _one_of("transport", self.transport, TRANSPORTS)
        _one_of("security", self.security, SECURITIES)
        _one_of("xla", self.xla, XLA)
        if isinstance(self.frequency, str):
            _one_of("frequency", self.frequency, FREQUENCIES, "or a number of batches per round, such as 16")
        else:
            self._normalise("frequency", 1)
        self._normalise("epochs", 1)
        self._normalise("batch_size", 1)
        if self.sync_every == "fit" and (self.mode, self.frequency, self.update) != ("synchronous", "epoch", "delta"):
            raise ValueError(
                "sync_every: 'fit' is for mode='synchronous', frequency='epoch' and update='delta'; got it with "
                f"mode={self.mode!r}, frequency={self.frequency!r} and update={self.update!r}; leave it out"
            )
        if self.staleness is not None:
            self._normalise("staleness", 0)
            if self.mode == "synchronous":
                raise ValueError(
                    f"staleness: a bound is for mode='asynchronous' or 'hogwild', got {self.staleness} with "
                    "mode='synchronous'; leave it out"
                )
        self._normalise("prefetch", 0, 1)
        if self.prefetch and (self.mode == "synchronous" or self.transport == "shm"):
            raise ValueError(
                "prefetch: hides the way to a server on another host, for mode='asynchronous' or 'hogwild'; got "
                f"{self.prefetch} with mode={self.mode!r} and transport={self.transport!r}; leave it out"
            )
        if self.access != "stripes" and self.mode != "hogwild":
            raise ValueError(
                f"access: says how mode='hogwild' writes, got {self.access!r} with mode={self.mode!r}; leave it out"
            )
        if self.port is not None:
            self._normalise("port", 1, 65535)
            if self.transport not in ("auto", "tcp"):
                raise ValueError(
                    f"port: a TCP port needs transport='auto' or 'tcp', got {self.port} with "
                    f"transport={self.transport!r}; leave it out"
                )
        if self.seed is not None:
            self._normalise("seed", 0, 2**31 - 1)
        _real("validation_split", self.validation_split, "a fraction in [0, 1)", lambda v: 0.0 <= v < 1.0)
        _real("server_timeout", self.server_timeout, "seconds > 0", lambda v: v > 0)
        _real("straggler_timeout", self.straggler_timeout, "seconds > 0", lambda v: v > 0)
        if not isinstance(self.shuffle, bool):
            raise TypeError(f"shuffle: expected True or False, got {self.shuffle!r}")
        verbose: object = self.verbose
        if verbose == "auto":
            object.__setattr__(self, "verbose", 1)
        elif isinstance(verbose, bool):
            object.__setattr__(self, "verbose", int(verbose))
        _one_of("verbose", self.verbose, VERBOSITY)
        if self.class_weight is not None:
            _check_class_weight(self.class_weight)
        self._check_checkpoints()

    def _check_checkpoints(self) -> None:
        self._normalise("checkpoint_every", 1)
        if not isinstance(self.resume, bool):
            raise TypeError(f"resume: expected True or False, got {self.resume!r}")
        if self.checkpoint_dir is None:
            if self.resume or self.checkpoint_every != 1:
                name = "resume" if self.resume else "checkpoint_every"
                raise ValueError(f"{name}: expected a checkpoint_dir with it, got {getattr(self, name)!r} without one")
            return
        folder: Any = self.checkpoint_dir
        if not isinstance(folder, str | os.PathLike) or not isinstance(os.fspath(folder), str):
            raise TypeError(f"checkpoint_dir: expected a path, got {folder!r}")
        object.__setattr__(self, "checkpoint_dir", os.fspath(folder))
        if not self.checkpoint_dir or "://" in self.checkpoint_dir:
            raise ValueError(f"checkpoint_dir: expected a folder of the driver's machine, got {folder!r}")
        if self.sync_every == "fit":
            raise ValueError(
                f"checkpoint_dir: expected sync_every='epoch', got {folder!r} with sync_every='fit', which has no "
                "weights to save before its end"
            )

    def _normalise(self, name: str, least: int, most: int | None = None) -> None:
        object.__setattr__(self, name, whole(name, getattr(self, name), least, most))

    @classmethod
    def of(cls, **options: Any) -> TrainingConfig:
        """A configuration from keywords; an unknown name raises ``TypeError`` and says which name was meant."""
        refuse_unknown(options, [f.name for f in fields(cls)], "option")
        return cls(**options)

    @property
    def single_batches(self) -> bool:
        """Whether every round is one batch."""
        return self.frequency in ("batch", 1)

    def with_options(self, **options: Any) -> TrainingConfig:
        """A copy with some options changed, checked again."""
        refuse_unknown(options, [f.name for f in fields(self)], "option")
        return replace(self, **options)

    def to_dict(self) -> dict[str, Any]:
        """All options by name."""
        return asdict(self)

    @classmethod
    def table(cls) -> list[tuple[str, Any, str]]:
        """(name, default, meaning) of every option, in order, for documentation."""
        return [(f.name, f.default, f.metadata["meaning"]) for f in fields(cls)]


@dataclass(frozen=True)
class ServerSettings:
    """How one server behaves: given to it at its start, and by it to its clients.

    ``workers``: members of a synchronous or bounded group; ``partitions``: ledger lines kept for Spark partitions;
    ``optimizer``: ``Optimizer.to_config()``.
    """

    mode: str
    access: str
    optimizer: dict[str, Any]
    on_nonfinite: str = "reject"
    staleness: int | None = None
    workers: int = 1
    partitions: int = 0
    state_rate: float = 1.0
    threads: int = 1

    @property
    def store_access(self) -> str:
        """The access the store is opened with."""
        return self.access if self.mode == "hogwild" else "atomic"

    @property
    def gated_each_round(self) -> bool:
        """Whether a worker has to ask before each round, not only before each epoch."""
        return self.mode == "synchronous" or self.staleness is not None

    def to_json(self) -> str:
        """As text; ``from_json`` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerSettings:
        """What ``to_json`` wrote. Raises ``ValueError`` for a text that it cannot have written."""
        try:
            settings = cls(**json.loads(text))
            settings._check()
        except (TypeError, RecursionError, ValueError) as error:
            raise ValueError(f"settings: expected a text that to_json wrote, got another ({error!r:.200})") from None
        return settings

    def _check(self) -> None:
        _one_of("mode", self.mode, MODES)
        _one_of("access", self.access, HOGWILD_ACCESS)
        _one_of("on_nonfinite", self.on_nonfinite, ON_NONFINITE)
        if not isinstance(self.optimizer, dict):
            raise ValueError(f"optimizer: expected a dict, got {self.optimizer!r}")
        if self.staleness is not None:
            whole("staleness", self.staleness, 0)
        whole("workers", self.workers, 0)
        whole("partitions", self.partitions, 0)
        whole("threads", self.threads, 1, 1024)
        if type(self.state_rate) not in (int, float) or not 0.0 < self.state_rate <= 1.0:
            raise ValueError(f"state_rate: expected a rate in (0, 1], got {self.state_rate!r}")


def refuse_unknown(given: Mapping[str, Any], known: list[str], what: str) -> None:
    """Raise ``TypeError`` for the first name in ``given`` that is not in ``known``, suggesting the nearest one."""
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean '{near[0]}'?" if near else f"known are {', '.join(sorted(known))}."
            raise TypeError(f"unknown {what} '{name}': {hint}")


def _one_of(name: str, value: Any, choices: tuple[Any, ...], more: str = "") -> None:
    if value not in choices or isinstance(value, bool):
        expected = ", ".join(repr(choice) for choice in choices)
        raise ValueError(f"{name}: expected one of {expected}{' ' + more if more else ''}, got {value!r}")


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """``value`` as an ``int`` within the bounds; otherwise one sentence that names ``name``."""
    if type(value) is int and value >= least and most is None:
        return value
    bound = f"a whole number >= {least}" if most is None else f"a whole number from {least} to {most}"
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name}: expected {bound}, got {value!r}")
    number: int = value.__index__()
    if number < least or (most is not None and number > most):
        raise ValueError(f"{name}: expected {bound}, got {value!r}")
    return number


def _real(name: str, value: Any, expected: str, holds: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected {expected}, got {value!r}")
    if math.isnan(value) or not holds(value):
        raise ValueError(f"{name}: expected {expected}, got {value!r}")


def _check_class_weight(weights: Any) -> None:
    if not isinstance(weights, Mapping):
        raise TypeError(f"class_weight: expected a dict from class index to weight, got {type(weights).__name__}")
    for label, weight in weights.items():
        if isinstance(label, bool) or not hasattr(label, "__index__"):
            raise TypeError(f"class_weight: expected whole numbers as class indices, got {label!r}")
        _real(f"class_weight[{label}]", weight, "a weight >= 0", lambda v: v >= 0)
