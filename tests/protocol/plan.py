"""What one history is about; all of it follows from its seed."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Final

MODES: Final = ("synchronous", "asynchronous", "bounded", "hogwild")
MAX_PARTITIONS: Final = 3
MAX_CLOCK: Final = 6  # rounds of a partition in all its epochs
SIZE: Final = 2 * MAX_PARTITIONS * MAX_CLOCK
WHOLE: Final = 12.0  # divisible by any number of participants

Push = tuple[int, int]  # partition, clock


@dataclass(frozen=True)
class Plan:
    """One history.

    ``rounds``: of one epoch, for each partition; ``poisoned``: pushes that are not finite; ``crashes``: how often the
    server is killed; ``near``: workers apply their updates themselves; ``interrupted``: the driver closes early;
    ``held``: the driver releases the first epoch only, and the rest later.
    """

    seed: int
    mode: str
    staleness: int | None
    rounds: tuple[int, ...]
    epochs: int
    poisoned: frozenset[Push]
    crashes: int
    near: bool
    interrupted: bool
    held: bool

    @classmethod
    def of(cls, seed: int) -> Plan:
        """The plan of a seed; modes take turns."""
        draw = random.Random(seed)
        mode = MODES[seed % len(MODES)]
        epochs = draw.choice((1, 1, 2))
        partitions = draw.choice((1, 2, 2, MAX_PARTITIONS))
        longest = draw.randint(1, 2 if epochs == 2 or partitions > 2 else 3)
        even = mode == "bounded" or draw.random() < 0.5
        rounds = tuple(longest if even else draw.randint(0, longest) for _ in range(partitions))
        pushes = [(p, c) for p in range(partitions) for c in range(1, rounds[p] * epochs + 1)]
        return cls(
            seed=seed,
            mode=mode,
            staleness=draw.randint(0, 2) if mode == "bounded" else None,
            rounds=rounds,
            epochs=epochs,
            poisoned=frozenset(push for push in pushes if draw.random() < 0.04),
            crashes=draw.choice((0, 0, 1, 2)),
            near=mode != "synchronous" and draw.random() < 0.25,
            interrupted=draw.random() < 0.1,
            held=epochs == 2 and draw.random() < 0.5,
        )

    def last(self, partition: int) -> int:
        """The clock of a partition's last push."""
        return self.rounds[partition] * self.epochs

    @property
    def pushes(self) -> list[Push]:
        """All pushes there are to be."""
        return [(p, c) for p in range(len(self.rounds)) for c in range(1, self.last(p) + 1)]


def place(partition: int, clock: int) -> int:
    """The element that tells of a push; the one after it tells whose attempt it came from."""
    return 2 * (partition * MAX_CLOCK + clock - 1)
