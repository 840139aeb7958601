"""Run by ``test_doubles`` on a standalone cluster: speculative copies, a zombie, and a worker that is taken away."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass
from pathlib import Path

warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

from pyspark import TaskContext  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from elephas_fast.client import PushRefused  # noqa: E402
from elephas_fast.client.local import LocalPath  # noqa: E402
from tests.faults.clusters import Standalone, await_executors, context, failed_tasks  # noqa: E402
from tests.faults.injection import Fault, OneHotRows, applied, parent_of, watch_pushes  # noqa: E402

COPIES, ZOMBIE_SECONDS = map(int, sys.argv[1:])
WORKERS, EACH, STRUCK = 3, 6, 3
ELEPHAS_SCRIPT = """
import sys
from pyspark import SparkConf, SparkContext
conf = SparkConf().setMaster(sys.argv[1]).set("spark.driver.host", "127.0.0.1").set("spark.ui.enabled", "false")
sc = SparkContext(conf=conf)
def name(_):
    from elephas.enums import modes
    return modes.__name__
print(sc.parallelize([0], 1).map(name).first())
sc.stop()
"""


def await_file(file):
    """Wait until another process has made it."""
    while not file.exists():
        time.sleep(0.01)


@dataclass(frozen=True)
class Wait(Fault):
    """The first attempt of partition 0 stands still before its third push until a copy has pushed, and then goes on
    while the copy has rounds to train."""

    def begin(self, partition):
        stands, pushed, goes_on = (Path(self.folder, name) for name in ("stands", "pushed", "goes on"))
        is_copy = TaskContext.get().attemptNumber() > 0

        def strike(moment, line, clock):
            if partition == 0 and (moment, clock, is_copy) == ("before", STRUCK, False):
                stands.touch()
                await_file(pushed)
                goes_on.touch()
            elif moment == "after" and is_copy:
                pushed.touch()
                await_file(goes_on)
                time.sleep(0.1)

        if is_copy:
            await_file(stands)
        watch_pushes(partition, strike)


@dataclass(frozen=True)
class Freeze(Fault):
    """The first attempt of partition 0 freezes its executor and that one's worker before its third push, so that Spark
    can neither reach nor end it. Once another owns the partition, it pushes a hundred times a second for ``seconds``,
    whatever it is told. The other takes somewhat longer for its rounds. Partition 1 waits for the freezing: where it
    came to its end before, Spark would start a copy of partition 0, and who is fenced earlier freezes nothing."""

    seconds: float = 0.0

    def begin(self, partition):
        if partition == 1:
            watch_pushes(partition, lambda moment, *_: moment == "before" and await_file(Path(self.folder, "frozen")))
        elif self.once("freeze"):
            self._be_a_zombie()
        else:
            pause = (self.seconds + 10.0) / (EACH - STRUCK + 1)
            watch_pushes(partition, lambda moment, *_: moment == "before" and time.sleep(pause))

    def _be_a_zombie(self):
        honest = LocalPath.push

        def push(path, clock, *arguments, **options):
            if clock != STRUCK or not self.once("zombie"):
                return honest(path, clock, *arguments, **options)
            executor = self.attempts(0)[0].jvm
            for process in (executor, parent_of(executor)):
                os.kill(process, signal.SIGSTOP)
            Path(self.folder, "frozen").touch()
            deadline = time.monotonic() + 120.0
            while path._store.ledger.generation(path.line) == path.generation and time.monotonic() < deadline:
                time.sleep(0.01)
            refused, until = 0, time.monotonic() + self.seconds
            while time.monotonic() < until:
                try:
                    honest(path, clock, *arguments, **options)
                except PushRefused:
                    refused += 1
                time.sleep(0.01)
            Path(self.folder, "refused").write_text(str(refused))
            return honest(path, clock, *arguments, **options)

        LocalPath.push = push


@dataclass(frozen=True)
class TakeAway(Fault):
    """The worker of partition 1's executor is told to end, once, before that partition's third push. Partition 0 waits
    for that: where it came to its end before, Spark would start a copy of partition 1, which might be first."""

    def begin(self, partition):
        struck = Path(self.folder, "struck")

        def strike(moment, line, clock):
            if (moment, clock) != ("before", STRUCK):
                return
            if line == 0:
                await_file(struck)
            elif self.once("term"):
                os.kill(parent_of(self.attempts(1)[0].jvm), signal.SIGTERM)
                struck.touch()
                time.sleep(60.0)

        watch_pushes(partition, strike)


def fit(sc, fault):
    """What a fit of one epoch, two partitions and a round for each row has come to, and which attempts there were."""
    rows = OneHotRows(2, EACH, fault)
    model = rows.model
    history = SparkModel(model, mode="asynchronous", frequency="batch", update="gradient").fit(
        rows.rdd(sc), epochs=1, batch_size=1, verbose=0
    )
    return {
        "applied": sorted(set(applied(model))),
        "updates": history.updates,
        "faults": history.faults,
        "attempts": [len(fault.attempts(partition)) for partition in range(2)],
        "executors": len({attempt.jvm for attempt in fault.attempts()}),
    }


def name_in_workers(url, folder):
    """What a script of Elephas finds as ``elephas`` in the workers of a cluster that knows nothing of its driver's
    environment."""
    script = Path(folder, "script.py")
    script.write_text(ELEPHAS_SCRIPT)
    command = [sys.executable, "-W", "ignore", "-m", "elephas_fast", str(script), url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.stdout.strip().splitlines()[-1:] if done.returncode == 0 else done.stderr


with tempfile.TemporaryDirectory() as place, Standalone(Path(place), WORKERS, 2) as cluster:
    named = name_in_workers(cluster.url, place)
    sc = context(
        cluster.url,
        executor__memory="1g",
        executor__heartbeatInterval="1s",
        network__timeout="6s",
        network__timeoutInterval="1s",
        speculation="true",
        speculation__quantile="0.25",
        speculation__multiplier="1.1",
        speculation__interval="50ms",
    )
    await_executors(sc, WORKERS)
    result = {"named": named, "copies": [fit(sc, Wait(tempfile.mkdtemp(dir=place))) for _ in range(COPIES)]}
    result["failed by copies"] = failed_tasks(sc)
    zombie = Freeze(tempfile.mkdtemp(dir=place), ZOMBIE_SECONDS)
    result["zombie"] = fit(sc, zombie)
    word = Path(zombie.folder, "refused")
    deadline = time.monotonic() + 30.0
    while not word.exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    result["zombie"]["refused"] = int(word.read_text()) if word.exists() else 0
    result["taken away"] = fit(sc, TakeAway(tempfile.mkdtemp(dir=place)))
    sc.stop()
print(json.dumps(result))
