"""Run by ``test_secrets``: a fit with event log and UI, and a search for its keys wherever others could read them."""

import base64
import json
import os
import subprocess
import sys
import tempfile
import urllib.request
import warnings
from pathlib import Path

# Before anything makes a temporary file, in a folder that is searched.
ROOM = Path(tempfile.mkdtemp())
tempfile.tempdir = os.environ["TMPDIR"] = str(ROOM)
os.chdir(ROOM)
warnings.filterwarnings("ignore", message="PySpark does not yet fully support pandas")

import keras  # noqa: E402
import numpy as np  # noqa: E402
from zmq.utils import z85  # noqa: E402

from elephas_fast import SparkModel  # noqa: E402
from elephas_fast.cluster import ParameterCluster  # noqa: E402
from tests.faults.clusters import context  # noqa: E402
from tests.spark.conftest import tiny_model  # noqa: E402

PLANTED = os.urandom(32)
keys: list[bytes] = []
servers: list[int] = []
endpoints: list[str] = []
places: dict[str, set[str]] = {}


def forms(secret):
    """A secret of 32 bytes as it might be written."""
    return {secret, secret.hex().encode(), secret.hex().upper().encode(), base64.b64encode(secret).rstrip(b"="),
            base64.urlsafe_b64encode(secret).rstrip(b"="), z85.encode(secret)}  # fmt: skip


def look(kind, name, text):
    """Enter a place that holds a form of a key, or of what was planted."""
    for whose, secrets in (("fit", keys), ("planted", [PLANTED])):
        if any(form in text for secret in secrets for form in forms(secret)):
            places.setdefault(f"{whose}: {kind}", set()).add(name)


def look_everywhere(url):
    """Files of this process, its Spark and its workers; what the UI is fed with; command lines and environments."""
    for file in ROOM.rglob("*"):
        if file.is_file():
            look("file", str(file.relative_to(ROOM)), file.read_bytes())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for name in ("cmdline", "environ"):
            try:
                look(name, pid, Path(f"/proc/{pid}/{name}").read_bytes())
            except OSError:
                continue
    api = f"{url}/api/v1/applications"
    (application,) = json.loads(fetch(api))
    for page in ("jobs", "stages", "stages?details=true", "executors", "environment", "storage/rdd", "allexecutors"):
        look("rest", page, fetch(f"{api}/{application['id']}/{page}"))


def fetch(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return answer.read()


def listening(pid):
    """The TCP addresses that a process listens on, as /proc/net/tcp writes them."""
    inodes = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        try:
            inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}"))
        except OSError:
            continue
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    return [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in inodes]


started = ParameterCluster.start


def start(cluster):
    started(cluster)
    keys.append(cluster.address.key)
    servers.append(cluster.pid)
    endpoints.extend(cluster.address.endpoints)
    return cluster


ParameterCluster.start = start
(ROOM / "log").mkdir()
sc = context(
    "local[2,4]",
    ui__enabled="true",
    ui__port="0",
    eventLog__enabled="true",
    eventLog__dir=f"file://{ROOM}/log",
    eventLog__compress="false",
    local__dir=str(ROOM / "local"),
    planted=PLANTED.hex(),
)
heard = []


def amid(epoch, logs):
    if epoch == 1:
        look_everywhere(sc.uiWebUrl)
        heard.extend(listening(servers[0]))


rng = np.random.default_rng(0)
rows = [(rng.normal(size=4).astype(np.float32), np.float32(0)) for _ in range(16)]
(ROOM / "planted").write_bytes(b"..." + base64.b64encode(PLANTED) + b"...")
with subprocess.Popen(
    [sys.executable, "-c", "import sys; sys.stdin.read()", PLANTED.hex()],
    stdin=subprocess.PIPE,
    env={"PLANTED": z85.encode(PLANTED).decode()},
):
    SparkModel(tiny_model(), mode="asynchronous", frequency="batch").fit(
        sc.parallelize(rows, 2),
        epochs=3,
        batch_size=4,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=amid)],
    )
    look_everywhere(sc.uiWebUrl)
sc.stop()
for log in (ROOM / "log").rglob("*"):
    if log.is_file():
        look("event log", log.name, log.read_bytes())
print(
    json.dumps(
        {
            "keys": len(keys),
            "places": {kind: sorted(names) for kind, names in places.items()},
            "listening": heard,
            "endpoints": endpoints,
        }
    )
)
