"""The driver's loop: one adaptive search that every free worker is fed from."""

from __future__ import annotations

import math
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import numpy as np

from elephas_fast.tuning.record import Record
from elephas_fast.tuning.space import Space
from elephas_fast.tuning.stopping import StopRule
from elephas_fast.tuning.trial import Order, failed

_TICK: Final = 0.1
_CANCEL_SECONDS: Final = 30.0
_BEGINNING_SECONDS: Final = 120.0
_MOST_LOST: Final = 3
_SPARK: Final = re.compile(r"(org\.apache|java|py4j)\.")


class Run(Protocol):
    """A trial under way, wherever that is."""

    @property
    def running(self) -> bool:
        """Whether it is."""

    def result(self) -> dict[str, Any]:
        """What ``trial.run`` made of it. Raises what kept it from ending."""

    def cancel(self, timeout: float) -> None:
        """End it, waiting up to ``timeout`` seconds."""


class Place(Protocol):
    """Where trials run."""

    def start(self, order: Order, done: Callable[[], None]) -> Run:
        """Start a trial and return at once; ``done`` is called when it has ended."""


@dataclass
class Live:
    """A trial that has been handed out, as people and rules see it."""

    document: dict[str, Any]
    run: Run | None
    submitted: float
    attempt: int = -1
    begun: float | None = None
    worker: str = ""
    losses: list[tuple[int, float]] = field(default_factory=list)


@dataclass(frozen=True)
class Limits:
    """When to stop: the whole search, and a trial. ``None``: never."""

    max_evals: int
    parallelism: int
    timeout: float | None = None
    trial_timeout: float | None = None
    loss_threshold: float | None = None


class Screen(Protocol):
    """Shows the search to people."""

    def show(self, loop: Loop, *, last: bool = False) -> None:
        """Called often; and once at the end with ``last``."""


class Loop:
    """Runs trials until a limit is reached. ``run`` in one thread; ``begun`` and ``reported`` from any."""

    def __init__(
        self, space: Space, record: Record, limits: Limits, rule: StopRule | None, seed: int, threads: int | None
    ) -> None:
        self.space, self.record, self.limits, self.seed = space, record, limits, seed
        self.interrupted = False
        self.began = time.monotonic()
        self.resumed = len(record.finished)
        self.live: dict[int, Live] = {}
        self._rule, self._threads = rule, threads
        self._losses: dict[int, list[tuple[int, float]]] = {
            int(d["tid"]): [(int(e), float(x)) for e, x in d["result"].get("losses", ())] for d in record.finished
        }
        self._lock = threading.Lock()
        self._woken = threading.Event()
        self._exhausted = False
        self._leaving: list[Run] = []
        self._lost_in_a_row = 0
        for document in record.finished:
            space.check(document)

    def interrupt(self) -> None:
        """End soon, as by Ctrl-C. Takes no lock, so that a signal's handler may call it."""
        self.interrupted = True

    def run(self, place: Place, screen: Screen) -> None:
        """Until ``max_evals`` trials have ended, or a limit, or Ctrl-C, which is no error: what was under way is then
        cancelled and forgotten. Raises ``RuntimeError`` where three in a row are lost before they begin, which is not
        the objective's doing."""
        try:
            while True:
                self._woken.clear()
                self._collect()
                if self._over():
                    break
                self._fill(place)
                if not self.live:
                    break
                screen.show(self)
                self._woken.wait(_TICK)
        except KeyboardInterrupt:
            self.interrupted = True
        finally:
            self._cancel_all()
            screen.show(self, last=True)

    def begun(self, trial: int, attempt: int, worker: str) -> bool:
        """See ``desk.Listening``. A new attempt of a task begins its losses anew."""
        with self._lock:
            live = self.live.get(trial)
            if live is None:
                return True
            if attempt >= live.attempt:
                live.attempt, live.worker, live.begun = attempt, worker, time.monotonic()
                live.losses.clear()
            return False

    def reported(self, trial: int, attempt: int, epoch: int, loss: float) -> bool:
        """See ``desk.Listening``."""
        with self._lock:
            live = self.live.get(trial)
            if live is None:
                return True
            if attempt < live.attempt:  # its successor is heard; which of the two ends first is up to Spark
                return False
            if attempt > live.attempt:  # what it said at its beginning was lost
                live.attempt, live.begun = attempt, time.monotonic()
                live.losses.clear()
            live.losses.append((epoch, loss if math.isfinite(loss) else math.inf))
            own = list(live.losses)
            others = {number: list(losses) for number, losses in self._losses.items() if losses}
            others.update({n: list(other.losses) for n, other in self.live.items() if n != trial and other.losses})
        return self._rule is not None and self._rule.hopeless(own, others)

    def _over(self) -> bool:
        limits, elapsed = self.limits, time.monotonic() - self.began
        if self.interrupted or len(self.record.finished) >= limits.max_evals:
            return True
        if limits.timeout is not None and elapsed >= limits.timeout:
            return True
        best = self.record.best()
        threshold = limits.loss_threshold
        return threshold is not None and bool(best) and float(best[0]["result"]["loss"]) <= threshold

    def _fill(self, place: Place) -> None:
        while (
            not (self._exhausted or self.interrupted)
            and len(self.live) < self.limits.parallelism
            and len(self.live) + len(self.record.finished) < self.limits.max_evals
        ):
            number = self.record.claim()
            suggestion, trial = (int(n) for n in np.random.SeedSequence([self.seed, number]).generate_state(2))
            document = self.space.suggest(self.record.trials, number, suggestion)
            if document is None:
                self._exhausted = True
                return
            self.record.begin(document)
            live = Live(document, None, time.monotonic())
            with self._lock:
                self.live[number] = live
            order = Order(number, self.space.values(document), trial % 2**31, self._threads)
            live.run = place.start(order, self._woken.set)

    def _collect(self) -> None:
        for number, live in list(self.live.items()):
            assert live.run is not None
            if live.run.running:
                if self._late(live):
                    live.run.cancel(_TICK)  # its end is waited for at the end of the search
                    self._leaving.append(live.run)
                    self._finish(number, failed(f"no end within {self.limits.trial_timeout:g} s"))
                continue
            try:
                result = live.run.result()
                self._lost_in_a_row = 0
            except Exception as error:
                result = failed(f"its task was lost: {_first_line(error)}")
                self._lost_in_a_row = self._lost_in_a_row + 1 if live.begun is None else 0
                if self._lost_in_a_row >= _MOST_LOST:
                    raise RuntimeError(
                        f"search: {_MOST_LOST} trials in a row were lost before they began ({_first_line(error)})"
                    ) from error
            self._finish(number, result)

    def _late(self, live: Live) -> bool:
        limit, now = self.limits.trial_timeout, time.monotonic()
        if limit is None:
            return False
        if live.begun is not None:
            return now - live.begun > limit
        # Queued behind others, or on a worker that cannot reach the driver: not for ever.
        return now - live.submitted > limit * (self.limits.parallelism + 1) + _BEGINNING_SECONDS

    def _finish(self, number: int, result: dict[str, Any]) -> None:
        with self._lock:
            live = self.live[number]
            losses = self._losses[number] = list(live.losses)
        began = live.begun or live.submitted
        result.setdefault("worker", live.worker)
        result.setdefault("seconds", time.monotonic() - began)
        self.record.finish(live.document, result, losses)
        with self._lock:
            del self.live[number]

    def _cancel_all(self) -> None:
        with self._lock:
            under_way, self.live = self.live, {}
        deadline = time.monotonic() + _CANCEL_SECONDS
        for live in under_way.values():
            if live.run is not None and live.run.running:
                live.run.cancel(max(0.1, deadline - time.monotonic()))
        self.record.forget_unfinished()
        for run in self._leaving:
            if run.running:
                run.cancel(max(0.1, deadline - time.monotonic()))


def _first_line(error: BaseException) -> str:
    """What went wrong, out of the pages that Spark makes of it."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if re.match(r"[\w.]*(Error|Exception|Exit)\b: ", line) and not _SPARK.match(line)]
    lost = [line for line in lines if "worker exited" in line or "ExecutorLost" in line or "cancelled" in line]
    text = (lost or named or lines or [type(error).__name__])[0]
    crashed = text.find("Python worker exited unexpectedly")
    return text[:300] if crashed < 0 else "the Python worker exited unexpectedly (killed, or out of memory)"
