"""Run by ``test_lost_executor``: an executor dies amid a push, and with it the shuffled rows it had to offer."""

import json
import os
import signal
import tempfile
import warnings
from dataclasses import dataclass

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

from elephas_fast import SparkModel  # noqa: E402
from tests.faults.clusters import await_executors, context  # noqa: E402
from tests.faults.injection import Fault, OneHotRows, applied, watch_pushes  # noqa: E402

EPOCHS, EACH = 3, 8


@dataclass(frozen=True)
class KillExecutor(Fault):
    """The executor of partition 1 is killed once, at the third push of its worker."""

    def begin(self, partition):
        def strike(moment, line, clock):
            if (moment, line, clock) == ("before", 1, 3) and self.once("kill"):
                os.kill(self.attempts(1)[-1].jvm, signal.SIGKILL)

        watch_pushes(partition, strike)


sc = context("local-cluster[2,1,1024]")
await_executors(sc, 2)
rows = OneHotRows(2, EACH, KillExecutor(tempfile.mkdtemp()))


def train(partition, items):
    """The rows, once what comes out of the shuffle has been read."""
    assert sum(1 for _ in items) == 10
    return rows(partition, items)


# Rows that come out of a shuffle: what the lost executor had written of it is lost too, and its stage is run again.
shuffled = sc.parallelize([(i % 2, i) for i in range(20)], 4).partitionBy(2, int).mapPartitionsWithIndex(train)
model = rows.model
history = SparkModel(model, mode="asynchronous", frequency="batch", update="gradient").fit(
    shuffled, epochs=EPOCHS, batch_size=1, verbose=0
)
print(
    json.dumps(
        {
            "applied": applied(model),
            "updates": history.updates,
            "faults": history.faults,
            "attempts": [vars(attempt) for attempt in rows.fault.attempts(1)],
        }
    )
)
sc.stop()
