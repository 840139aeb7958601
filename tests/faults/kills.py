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


def at_random(kills):
    """``kills`` kills, each of a worker that trains or is about to, in one fit that ends when they have been done."""
    fault = Fault(tempfile.mkdtemp())
    done = []

    def kill(partition):
        moments = random.Random(partition)
        last = -1
        while len(done) < kills:
            attempts = fault.attempts(partition)
            if not attempts or attempts[-1].pid == last:
                time.sleep(0.01)
                continue
            last = attempts[-1].pid
            time.sleep(moments.uniform(0.0, 0.5))
            if len(done) < kills:
                done.append(last)
                os.kill(last, signal.SIGKILL)

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
