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
PATIENCE = 300.0


def start(folder: Path, then: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.faults.resumable", str(folder), then],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def kill_after(driver: subprocess.Popen[str], folder: Path, epoch: int, pause: float) -> None:
    """kill -9 of a driver, which must still be training, once the checkpoint of an epoch is there."""
    deadline = time.monotonic() + PATIENCE
    try:
        while epoch_in(folder) < epoch and driver.poll() is None:
            assert time.monotonic() < deadline, f"no checkpoint of epoch {epoch} in {PATIENCE} s"
            time.sleep(0.005)
        time.sleep(pause)
    finally:
        driver.kill()
        output, _ = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == -signal.SIGKILL, output


def result(driver: subprocess.Popen[str]) -> str:
    """What a driver prints until its successful end."""
    try:
        output, _ = driver.communicate(timeout=PATIENCE)
    finally:
        driver.kill()
    assert driver.returncode == 0, output
    return output


@pytest.mark.fault(9)
@pytest.mark.fault(20)
def test_a_driver_killed_again_and_again_comes_to_the_same_end(tmp_path, how_many, injected):
    """Fits in all three modes, one after the other, with kills spread over them. The synchronous one has the very
    weights of a fit that nobody killed; the others have made as many steps."""
    rng = random.Random(0)
    kills = how_many(2, 50)
    for number in range(kills):
        mode, epoch = divmod(int((number + 0.5) / kills * len(MODES) * EPOCHS), EPOCHS)
        before = {name: epoch_in(tmp_path / name) for name in MODES}
        driver = start(tmp_path, "-")
        kill_after(driver, tmp_path / list(MODES)[mode], epoch, rng.random() * 0.1)
        assert all(epoch_in(tmp_path / name) >= before[name] for name in MODES)
    assert_nothing_left(within=20.0)
    output = result(start(tmp_path, "compare"))
    found = [json.loads(line) for line in output.splitlines() if line.startswith("{")]
    resumed = {fit["mode"]: fit for fit in found if fit["resumed"]}
    (undisturbed,) = (fit for fit in found if not fit["resumed"])
    steps = {mode: EPOCHS * ROUNDS * (1 if mode == "synchronous" else WORKERS) for mode in MODES}
    lost = {mode: steps[mode] - resumed[mode]["updates"] for mode in MODES}
    injected(kills_of_the_driver=kills, steps_lost_or_doubled=sum(map(abs, lost.values())))
    assert not any(lost.values()), lost
    for fit in resumed.values():
        assert fit["epochs"] == list(range(EPOCHS))
        assert len(fit["losses"]) == EPOCHS
        assert fit["accuracy"] > undisturbed["accuracy"] - 0.05
    assert resumed["synchronous"]["weights"] == undisturbed["weights"]
    assert undisturbed["accuracy"] > 0.85
