"""What a server process is told at its start, as JSON over its standard input."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class ServerSettings:
    """How one server behaves. The same in the server, and (read-only, over the wire) in its clients.

    ``workers``: members of a synchronous or bounded group; ``partitions``: ledger lines kept for Spark partitions;
    ``optimizer``: ``Optimizer.to_config()``.
    """

    mode: str
    access: str
    optimizer: dict[str, Any]
    on_nonfinite: str = "reject"
    staleness: int | None = None
    workers: int = 1
    partitions: int = 0
    state_rate: float = 1.0
    threads: int = 1

    @property
    def store_access(self) -> str:
        """The access the store is opened with."""
        return self.access if self.mode == "hogwild" else "atomic"

    @property
    def gated_each_round(self) -> bool:
        """Whether a worker has to ask before each round, not only before each epoch."""
        return self.mode == "synchronous" or self.staleness is not None

    def to_json(self) -> str:
        """As text; ``from_json`` reads it back."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> ServerSettings:
        """What ``to_json`` wrote."""
        return cls(**json.loads(text))
