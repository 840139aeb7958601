"""What a worker is told, what it says at the end, and its connections to the server, one for each partition."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from elephas_fast.batches import Arrays, rounds
from elephas_fast.client import Client, Receipt, Turn, connect
from elephas_fast.config import TrainingConfig
from elephas_fast.keras_bridge import LaneState, ModelSpec
from elephas_fast.layout import Layout
from elephas_fast.transport import Address


@dataclass(frozen=True)
class WorkerTask:
    """What a worker needs to know; travels in the closure of the Spark task, with the key that opens the server.

    Of a resumed fit ``first_epoch`` is the first that has to be reported, and ``rows`` what each partition has to train
    and to validate on, ``None`` where that is not known.
    """

    address: Address
    spec: ModelSpec
    config: TrainingConfig
    seed: int
    threads: int
    first_epoch: int = 0
    rows: tuple[tuple[int, int] | None, ...] = ()


@dataclass(frozen=True)
class PartitionSummary:
    """What became of one partition: rows it trains each epoch, rows it validates on, where that happened, how it
    reached the server, and whether XLA compiled its training steps."""

    partition: int
    rows: int
    validation_rows: int
    host: str
    pid: int
    transport: str
    xla: bool


@dataclass
class Lane:
    """One partition of the rows and its connection to the server.

    ``turn``: of the next round, where it is known already; ``in_flight``: the version that the round under way was
    computed on.
    """

    partition: int
    train: Arrays
    validation: Arrays
    rounds: list[list[tuple[int, int]]]
    client: Client
    resume_at: int
    state: LaneState | None = None
    indices: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    turn: Turn | None = None
    in_flight: int | None = None
    rows_done: int = 0
    rounds_done: int = 0
    staleness: int = 0
    began: float = 0.0

    def count(self, receipt: Receipt, base_version: int) -> None:
        """Note how stale a push was when it was applied: updates since the version it was computed on."""
        if receipt.status == "applied":
            self.staleness += max(0, receipt.version - 1 - base_version)


def open_lane(task: WorkerTask, partition: int, train: Arrays, validation: Arrays, attempt: int) -> Lane:
    """Introduce a partition to the server; the caller closes the lane's client.

    Raises ``ValueError`` where it has other rows than the fit that is resumed.
    """
    config = task.config
    expected = task.rows[partition] if task.rows else None
    if expected is not None and expected != (train.rows, validation.rows):
        raise ValueError(
            f"resume: expected {expected[0]} rows to train on and {expected[1]} to validate on in partition "
            f"{partition}, got {train.rows} and {validation.rows}; give the rows that the fit was begun with, or name "
            "another checkpoint_dir"
        )
    plan = rounds(train.rows, config.batch_size, config.frequency)  # type: ignore[arg-type]
    client = connect(
        task.address,
        transport=config.transport,
        partition=partition,
        attempt=attempt,
        rounds=len(plan),
        timeout=config.server_timeout,
        patience=config.straggler_timeout,
    )
    if client.layout.fingerprint != Layout.from_json(task.spec.layout_json).fingerprint:
        client.close()
        raise ValueError(f"the server at {task.address} holds another model's weights than this worker was given")
    return Lane(partition, train, validation, plan, client, client.clock)
