"""Faults inside Python workers, and models by whose weights one can tell which rounds were applied how often.

The rows of a partition bring the fault along: what their function does when they have all been read happens in the
process that trains them, before its first push.
"""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pyspark import RDD, SparkContext, TaskContext

from elephas_fast.client.conversation import Conversation
from elephas_fast.client.local import LocalPath
from elephas_fast.wire import Push

_LOCAL_PUSH, _SEND, _WAIT_FOR = LocalPath.push, Conversation.send, Conversation.wait_for
Watcher = Callable[[str, int, int], None]


def counting_model(rounds: int) -> Any:
    """One weight for each round of an epoch. A row that is 1 at its own round's place and 0 elsewhere changes that
    weight by exactly -1: the loss' gradient is the sign of the error, the targets are far below and the rate is 1."""
    import keras

    model = keras.Sequential(
        [keras.Input((rounds,)), keras.layers.Dense(1, use_bias=False, kernel_initializer="zeros")]
    )
    model.compile(keras.optimizers.SGD(1.0), "mean_absolute_error")
    return model


def applied(model: Any) -> list[float]:
    """How often each round has been applied."""
    return [-float(value) for value in np.asarray(model.get_weights()[0]).ravel()]


@dataclass(frozen=True)
class Attempt:
    """A Spark task that began to train."""

    partition: int
    number: int
    task: int
    pid: int
    jvm: int


@dataclass(frozen=True)
class Fault:
    """No fault; others override ``begin``, called in the process that trains a partition. ``folder``: where the
    processes of one fit leave word for each other and for the driver."""

    folder: str

    def begin(self, partition: int) -> None:
        """Called before the first push of an attempt."""

    def once(self, name: str) -> bool:
        """Whether this is the first call with ``name`` in this folder, in any process."""
        try:
            os.close(os.open(f"{self.folder}/once-{name}", os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return False
        return True

    def note(self, partition: int) -> None:
        """Leave word of an attempt."""
        task = TaskContext.get()
        jvm = parent_of(os.getppid())
        attempt = Attempt(partition, task.attemptNumber(), task.taskAttemptId(), os.getpid(), jvm)
        said = Path(self.folder) / f"attempt-{partition}-{attempt.task:06}"
        said.with_suffix(".new").write_text(json.dumps(vars(attempt)))
        said.with_suffix(".new").rename(said)

    def attempts(self, partition: int | None = None) -> list[Attempt]:
        """Those that have begun so far, by task."""
        which = "*" if partition is None else str(partition)
        found = [Attempt(**json.loads(file.read_text())) for file in Path(self.folder).glob(f"attempt-{which}-??????")]
        return sorted(found, key=lambda attempt: attempt.task)


def parent_of(pid: int) -> int:
    """The process that started another."""
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


@dataclass(frozen=True)
class OneHotRows:
    """``partitions`` times ``each`` rows, each a 1 at its own place, and the fault that comes with them. ``reversed``:
    attempts after the first get them in the opposite order."""

    partitions: int
    each: int
    fault: Fault
    turned: bool = False

    @property
    def model(self) -> Any:
        """A ``counting_model`` for these rows."""
        return counting_model(self.partitions * self.each)

    def rdd(self, sc: SparkContext) -> RDD[Any]:
        """The rows."""
        return sc.parallelize(range(self.partitions), self.partitions).mapPartitionsWithIndex(self)

    def __call__(self, partition: int, _: object) -> Iterator[tuple[np.ndarray, np.float32]]:
        places = range(partition * self.each, (partition + 1) * self.each)
        again = bool(self.fault.attempts(partition))
        for place in reversed(places) if again and self.turned else places:
            row = np.zeros(self.partitions * self.each, np.float32)
            row[place] = 1.0
            yield row, np.float32(-1e9)
        self.fault.note(partition)
        watch_pushes(partition, lambda *_: None)
        self.fault.begin(partition)


def watch_pushes(partition: int, on: Watcher) -> None:
    """From now on ``on(moment, partition, clock)`` is called in this process 'before' each push, when it has been
    'sent' (not by a worker that applies it itself) and 'after' it has been acknowledged."""

    def push(path: LocalPath, clock: int, *arguments: Any, **options: Any) -> Any:
        on("before", path.line, clock)
        outcome = _LOCAL_PUSH(path, clock, *arguments, **options)
        on("after", path.line, clock)
        return outcome

    def send(talk: Conversation, message: Any, *arguments: Any) -> int:
        if not isinstance(message, Push):
            return _SEND(talk, message, *arguments)
        on("before", partition, message.clock)
        number = _SEND(talk, message, *arguments)
        on("sent", partition, message.clock)
        return number

    def wait_for(talk: Conversation, message: Any, *arguments: Any) -> Any:
        reply = _WAIT_FOR(talk, message, *arguments)
        if isinstance(message, Push):
            on("after", partition, message.clock)
        return reply

    LocalPath.push, Conversation.send, Conversation.wait_for = push, send, wait_for  # type: ignore[method-assign]


def die() -> None:
    """As the kernel's memory killer ends a process."""
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class KillAtEachPush(Fault):
    """Each partition is killed once at each of its pushes, at its own ``moments`` of it."""

    moments: tuple[str, ...] = ()

    def begin(self, partition: int) -> None:
        def strike(moment: str, line: int, clock: int) -> None:
            if moment == self.moments[partition] and self.once(f"{partition}-{clock}"):
                if moment == "sent":  # sometimes the server has it by now, sometimes it never gets it
                    time.sleep(random.uniform(0.0, 0.002))
                die()

        watch_pushes(partition, strike)
