"""One Keras process, one thread, plain `Model.fit` of the same rows: what no cluster at all gives."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.conversation import serve
from benchmarks.peers.task import Rows, network, peak_memory, synthetic


class Session:
    """TensorFlow with one thread, and the rows of one file."""

    def open(self, data: str, workers: int = 1, rows: int | None = None) -> dict[str, Any]:
        import tensorflow as tf

        tf.config.threading.set_intra_op_parallelism_threads(workers)
        tf.config.threading.set_inter_op_parallelism_threads(workers)
        self.rows = Rows(data)
        self.count = rows or len(self.rows.x_train)
        network([8], "adam", seed=0).fit(self.rows.x_train[:640], self.rows.y_train[:640], verbose=0)
        return {"rows": self.count}

    def fit(
        self, mode: str, frequency: str, epochs: int, batch_size: int, units: list[int],
        optimizer: str = "adam", seed: int = 0,
    ) -> dict[str, Any]:  # fmt: skip
        """One fit of a new network; `mode` and `frequency` are asked of every contender and mean nothing
        here.
        """
        model = network(units, optimizer, seed)
        x, y = self.rows.x_train[: self.count], self.rows.y_train[: self.count]
        begin = time.perf_counter()
        model.fit(x, y, epochs=epochs, batch_size=batch_size, verbose=0)
        seconds = time.perf_counter() - begin
        return {
            "seconds": seconds,
            "rows_per_second": self.count * epochs / seconds,
            "accuracy": self.rows.accuracy(model),
        }


def memory(units: list[int]) -> dict[str, Any]:
    """The peak memory, MiB, of a process that has trained one batch of the network and nothing else."""
    model = network(units, "adam", seed=0)
    model.train_on_batch(*synthetic(32))
    return {"peak": peak_memory(), "weights": 4 * model.count_params() / 2**20}


def versions() -> dict[str, Any]:
    from importlib.metadata import version

    return {name: version(name) for name in ("tensorflow", "keras", "numpy")}


if __name__ == "__main__":
    session = Session()
    serve({"open": session.open, "fit": session.fit, "memory": memory, "versions": versions})
