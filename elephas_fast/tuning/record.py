"""What has been tried: hyperopt's own ``Trials``, which its plots and tools read, and its file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import hyperopt
from hyperopt.base import JOB_STATE_DONE
from hyperopt.utils import coarse_utcnow

from elephas_fast.wire import ProtocolError
from elephas_fast.wire.objects import pack_object, unpack_object

_FORMAT: Final = "elephas_fast trials 1"
_TIMES: Final = ("book_time", "refresh_time")
_HEAVY: Final = ("weights", "model")


class Record:
    """The trials of a search.

    ``trials``: to go on from, ``None`` for none: a ``hyperopt.Trials``, which is added to (what it holds stays as it
    is), or the path of a file, which is read if it is there and written after each trial. ``keep``: of so many of the
    best trials the models are kept, ``None``: of all. Not thread-safe.
    """

    def __init__(self, trials: Any, labels: list[str], keep: int | None) -> None:
        self.path: Path | None = None
        self.seed: int | None = None
        self._keep = keep
        self._labels = labels
        self._own: set[int] = set()
        if trials is None:
            self.trials = hyperopt.Trials()
        elif isinstance(trials, hyperopt.Trials):
            self.trials = trials
            self.trials.refresh()
        elif isinstance(trials, str | os.PathLike):
            self.path = Path(trials)
            self.trials, self.seed = load_trials(self.path) if self.path.exists() else (hyperopt.Trials(), None)
            self._own.update(int(document["tid"]) for document in self.trials.trials)
        else:
            raise TypeError(f"trials: expected a hyperopt.Trials or the path of a file, got {type(trials).__name__}")
        for document in self.trials.trials:
            known = sorted(document["misc"]["vals"])
            if known != labels:
                raise ValueError(
                    f"trials: expected those of this space ({', '.join(labels)}), got trial {document['tid']} with "
                    f"{', '.join(known)}; give another file, or the space they were made with"
                )

    @property
    def finished(self) -> list[dict[str, Any]]:
        """The documents that have ended, in the order of their numbers."""
        found = [document for document in self.trials.trials if document["state"] == JOB_STATE_DONE]
        return sorted(found, key=lambda document: int(document["tid"]))

    def claim(self) -> int:
        """The number of the next trial of this search: the least that is free, so that one that was cancelled is made
        up for."""
        taken = {int(document["tid"]) for document in self.trials._dynamic_trials}
        number = next(number for number in range(len(taken) + 1) if number not in taken)
        self._own.add(number)
        return number

    def best(self) -> list[dict[str, Any]]:
        """The documents with a loss, the least first; of equal ones the earlier."""
        found = [document for document in self.finished if _has_loss(document["result"])]
        return sorted(found, key=lambda document: (float(document["result"]["loss"]), int(document["tid"])))

    def begin(self, document: dict[str, Any]) -> None:
        """Note when a trial was handed out."""
        document["book_time"] = coarse_utcnow()

    def finish(self, document: dict[str, Any], result: Mapping[str, Any], losses: list[tuple[int, float]]) -> None:
        """Note how it ended, with the losses it reported; and save."""
        document["result"] = {**result, "losses": losses}
        document["owner"] = result.get("worker")
        document["refresh_time"] = coarse_utcnow()
        document["state"] = JOB_STATE_DONE
        self._lighten()
        self.trials.refresh()
        self.save()

    def forget_unfinished(self) -> None:
        """As if those of this search that have not ended had never been begun; and save."""
        known = self.trials._dynamic_trials
        gone = {int(d["tid"]) for d in known if d["state"] != JOB_STATE_DONE and int(d["tid"]) in self._own}
        known[:] = [document for document in known if int(document["tid"]) not in gone]
        self.trials._ids.difference_update(gone)
        self.trials.refresh()
        if self.finished:
            self.save()

    def save(self) -> None:
        """Write the file, if there is one: whole, or not at all."""
        if self.path is not None:
            save_trials(self.trials, self.path, self.seed)

    def _lighten(self) -> None:
        if self._keep is None:
            return
        kept = {int(document["tid"]) for document in self.best()[: self._keep]}
        for document in self.finished:
            if int(document["tid"]) in self._own - kept:
                for name in _HEAVY:
                    document["result"].pop(name, None)


def save_trials(trials: hyperopt.Trials, path: str | os.PathLike[str], seed: int | None = None) -> None:
    """Write the finished trials, with the models that were kept, to a file of plain data."""
    target = Path(path)
    data = pack_object({"format": _FORMAT, "seed": seed, "trials": list(_written(trials))})
    unfinished = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(target)
    finally:
        unfinished.unlink(missing_ok=True)


def load_trials(path: str | os.PathLike[str]) -> tuple[hyperopt.Trials, int | None]:
    """The trials of a file and the seed of their search. Nothing in it is run.

    Raises ``ValueError`` for a file that ``save_trials`` has not written.
    """
    wrong = ValueError(f"trials: expected a file that a search has written, got {os.fspath(path)!r}; give another path")
    try:
        found = unpack_object(Path(path).read_bytes())
    except ProtocolError:
        raise wrong from None
    if not isinstance(found, dict) or found.get("format") != _FORMAT:
        raise wrong
    trials = hyperopt.Trials()
    try:
        documents = [_read(entry) for entry in found["trials"]]
        seed = found["seed"]
    except (KeyError, TypeError, ValueError):
        raise wrong from None
    trials._dynamic_trials.extend(documents)
    trials.refresh()
    return trials, seed


def _has_loss(result: Mapping[str, Any]) -> bool:
    """Whether it is a number; hyperopt's own ``fmin`` records others as well."""
    loss = result.get("loss")
    return result.get("status") == "ok" and loss is not None and not math.isnan(float(loss))


def _written(trials: hyperopt.Trials) -> Iterator[dict[str, Any]]:
    for document in trials.trials:
        if document["state"] == JOB_STATE_DONE:
            times = {name: document[name].isoformat() if document[name] else None for name in _TIMES}
            vals = {label: list(values) for label, values in document["misc"]["vals"].items()}
            yield {"tid": document["tid"], "vals": vals, "result": dict(document["result"]), **times}


def _read(entry: dict[str, Any]) -> dict[str, Any]:
    number, vals, result = int(entry["tid"]), entry["vals"], entry["result"]
    idxs = {label: [number] if len(values) else [] for label, values in vals.items()}
    command = ("domain_attachment", "FMinIter_Domain")
    return {
        "tid": number, "state": JOB_STATE_DONE, "spec": None, "result": dict(result), "exp_key": None, "version": 0,
        "misc": {"tid": number, "cmd": command, "workdir": None, "idxs": idxs, "vals": dict(vals)},
        "owner": result.get("worker"),
        **{name: datetime.fromisoformat(entry[name]) if entry[name] else None for name in _TIMES},
    }  # fmt: skip
