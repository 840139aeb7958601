"""Run by ``test_worker_kills``: Python workers are killed at random moments, then at every push of small fits."""

import json
import logging
import os
import random
import signal
import sys
import tempfile
import threading
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from tests.faults.clusters import context, failed_tasks  # noqa: E402
from tests.faults.injection import Fault, KillAtEachPush, OneHotRows, applied, die, watch_pushes  # noqa: E402
from tests.spark.conftest import own_leftovers  # noqa: E402

KILLS, PUSHES = map(int, sys.argv[1:])
MOMENTS = {
    ("asynchronous", "auto"): ("before", "after"),
    ("asynchronous", "tcp"): ("before", "sent", "after"),
    ("synchronous", "auto"): ("before", "sent", "after"),
}
BEGAN = time.monotonic()
sc = context("local[3,100000]")


def fit(rows, epochs, **options):
    """The driver's model and history after a fit on ``rows``, a round for each row."""
    callbacks = options.pop("callbacks", None)
    options = {"mode": "asynchronous", "frequency": "batch", "update": "gradient", **options}
    model = rows.model
    history = SparkModel(model, **options).fit(
        rows.rdd(sc), epochs=epochs, batch_size=1, verbose=0, callbacks=callbacks
    )
    return model, history


def say(*words):
    """How far it is, for whoever reads the output of a child that took too long."""
    print(f"{time.monotonic() - BEGAN:.1f} s:", *words, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class SayWhenPushing(Fault):
    """No fault; an attempt leaves word when its first push has been acknowledged."""

    def begin(self, partition):
        task = self.attempts(partition)[-1].task
        watch_pushes(partition, lambda moment, *_: moment == "after" and self.once(f"pushing-{task}"))

    def pushes(self, attempt):
        return Path(self.folder, f"once-pushing-{attempt.task}").exists()


def at_random(kills):
    """``kills`` kills in one fit that ends when they have been done: in turn of a worker that has just begun, to push
    or to build its model, and of one that pushes."""
    fault = SayWhenPushing(tempfile.mkdtemp())
    done = []
    pushing = []

    def kill(partition):
        moments = random.Random(partition)
        last = -1
        while len(done) < kills:
            attempts = fault.attempts(partition)
            if not attempts or attempts[-1].pid == last:
                time.sleep(0.01)
                continue
            last = attempts[-1].pid
            deadline = time.monotonic() + 60.0
            while len(done) % 2 and not fault.pushes(attempts[-1]) and time.monotonic() < deadline:
                time.sleep(0.001)
            time.sleep(moments.uniform(0.0, 0.1))
            if len(done) < kills:
                done.append(last)
                pushing.append(fault.pushes(attempts[-1]))
                os.kill(last, signal.SIGKILL)
                say("kill", len(done))

    killers = [threading.Thread(target=kill, args=(partition,), daemon=True) for partition in range(2)]

    class Until(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            for killer in killers:
                killer.start()

        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = not any(killer.is_alive() for killer in killers)

    model, history = fit(OneHotRows(2, 16, fault), 1_000_000, callbacks=[Until()])
    return {
        "kills": len(done),
        "workers": len(set(done)),
        "pushing": sum(pushing),
        "epochs": len(history.epoch),
        "updates": history.updates,
        "applied": sorted(set(applied(model))),
        "faults": history.faults,
    }


def at_each_push(pushes):
    """Each push of each partition is met by a kill, at a moment of the partition's own."""
    found = []
    for (mode, transport), moments in MOMENTS.items():
        fault = KillAtEachPush(tempfile.mkdtemp(), moments)
        rows = OneHotRows(len(moments), pushes, fault)
        model, history = fit(rows, 1, mode=mode, transport=transport)
        say(mode, transport)
        found.append(
            {
                "fit": f"{mode}, {transport}",
                "kills": len(list(Path(fault.folder).glob("once-*"))),
                "expected kills": len(moments) * pushes,
                "updates": history.updates,
                "expected updates": pushes if mode == "synchronous" else pushes * len(moments),
                "applied": [value * (len(moments) if mode == "synchronous" else 1) for value in applied(model)],
                "faults": history.faults,
            }
        )
    return found


@dataclass(frozen=True)
class KillOnce(Fault):
    """The first attempt of partition 1 is killed at its third push."""

    def begin(self, partition):
        def strike(moment, line, clock):
            if (moment, line, clock) == ("before", 1, 3) and self.once("kill"):
                die()

        watch_pushes(partition, strike)


def reordered(turned):
    """A killed worker's rows come back in the opposite order, or in the same."""
    words = []
    handler = logging.Handler()
    handler.emit = lambda record: words.append(record.getMessage())
    logging.getLogger("elephas_fast").addHandler(handler)
    model, history = fit(OneHotRows(2, 6, KillOnce(tempfile.mkdtemp()), turned), 2)
    logging.getLogger("elephas_fast").removeHandler(handler)
    return {"words": words, "updates": history.updates, "sum": sum(applied(model))}


result = {
    "random": at_random(KILLS),
    "each push": at_each_push(PUSHES),
    "reordered": reordered(True),
    "same order": reordered(False),
    "failed": failed_tasks(sc),
    "left": {kind: sorted(names) for kind, names in own_leftovers().items()},
}
sc.stop()
print(json.dumps(result))
