"""A fit whose driver is killed goes on from its last checkpoint: no step missing, none done twice."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.faults.resumable import EPOCHS, MODES, ROUNDS, WORKERS, epoch_in
from tests.spark.conftest import assert_nothing_left

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0


def start(folder: Path, then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.resumable", str(folder), then],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill_after(driver: subprocess.Popen[str], folder: Path, epoch: int, pause: float) -> bool:
    """kill -9 of a driver once the checkpoint of an epoch is there; whether it was still training."""
    deadline = time.monotonic() + PATIENCE
    while epoch_in(folder) < epoch and driver.poll() is None:
        assert time.monotonic() < deadline, f"no checkpoint of epoch {epoch} in {PATIENCE} s"
        time.sleep(0.005)
    time.sleep(pause)
    driver.send_signal(signal.SIGKILL)
    driver.communicate(timeout=PATIENCE)
    return driver.returncode == -signal.SIGKILL


@pytest.mark.fault(9)
@pytest.mark.fault(20)
def test_a_driver_killed_again_and_again_comes_to_the_same_end(tmp_path, how_many, injected):
    """Fits in all three modes, one after the other, with kills spread over them. The synchronous one has the very
    weights of a fit that nobody killed; the others have made as many steps."""
    rng = random.Random(0)
    kills = how_many(2, 50)
    done = 0
    for number in range(kills):
        mode, epoch = divmod(int((number + 0.5) / kills * len(MODES) * EPOCHS), EPOCHS)
        before = {name: epoch_in(tmp_path / name) for name in MODES}
        driver = start(tmp_path, "-")
        done += kill_after(driver, tmp_path / list(MODES)[mode], epoch, rng.random() * 0.1)
        assert all(epoch_in(tmp_path / name) >= before[name] for name in MODES)
    assert done == kills
    assert_nothing_left(within=20.0)
    last = start(tmp_path, "compare")
    output, _ = last.communicate(timeout=PATIENCE)
    assert last.returncode == 0, output
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    resumed = {result["mode"]: result for result in found if result["resumed"]}
    (undisturbed,) = (result for result in found if not result["resumed"])
    steps = {mode: EPOCHS * ROUNDS * (1 if mode == "synchronous" else WORKERS) for mode in MODES}
    lost = {mode: steps[mode] - resumed[mode]["updates"] for mode in MODES}
    injected(kills_of_the_driver=done, steps_lost_or_doubled=sum(map(abs, lost.values())))
    assert not any(lost.values()), lost
    for result in resumed.values():
        assert result["epochs"] == list(range(EPOCHS))
        assert len(result["losses"]) == EPOCHS
        assert result["accuracy"] > undisturbed["accuracy"] - 0.05
    assert resumed["synchronous"]["weights"] == undisturbed["weights"]
    assert undisturbed["accuracy"] > 0.85
