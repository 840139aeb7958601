"""Searches over `benchmarks.ours.digits` on local[2], in a process of their own."""

from __future__ import annotations

import os
import time
from functools import partial
from typing import Any

os.environ["SPARK_LOCAL_IP"] = "127.0.0.1"

import numpy as np
from pyspark import SparkConf, SparkContext

from benchmarks.conversation import serve
from benchmarks.ours import digits
from elephas_fast.hyperparam import SearchResult, VotingModel, search

MEMBERS = 5


class Session:
    """One Spark context; its workers are warm after `open`."""

    def open(self, workers: int) -> dict[str, Any]:
        conf = SparkConf().setAppName("search").setMaster(f"local[{workers}]").set("spark.ui.enabled", "false")
        self.context = SparkContext.getOrCreate(conf)
        self.context.setLogLevel("ERROR")
        self.data = digits.rows()
        self.workers = workers
        self._search("MLP", algo="random", seed=0, max_evals=2 * workers, parallelism=workers)
        return {"rows": len(self.data["x_train"])}

    def search(
        self,
        algo: str,
        seed: int,
        max_evals: int,
        parallelism: int,
        stop: str | None = None,
        ensemble: bool = False,
        network: str = "MLP",
    ) -> dict[str, Any]:
        """One search. Returns its seconds, least loss and epochs trained; with `ensemble` the accuracy on the test
        rows of the best model and of the five best together, by hard and by soft votes.
        """
        begin = time.perf_counter()
        result = self._search(network, algo=algo, seed=seed, max_evals=max_evals, parallelism=parallelism, stop=stop)
        seconds = time.perf_counter() - begin
        table = result.to_pandas()
        found = {
            "seconds": seconds, "loss": result.best_loss, "epochs": int(table["epochs"].sum()),
            "states": table["state"].value_counts().to_dict(), "workers": table["worker"].nunique(),
        }  # fmt: skip
        return {**found, **self._accuracies(result)} if ensemble else found

    def _search(self, network: str, **options: Any) -> SearchResult:
        objective = partial(digits.objective, data=self.data, network=network)
        return search(objective, digits.space(), spark=self.context, keep_models=MEMBERS, verbose=0, **options)

    def _accuracies(self, result: SearchResult) -> dict[str, float]:
        models = result.models(MEMBERS)
        x, y = self.data["x_test"], self.data["y_test"]
        found = {"best": float(np.mean(models[0].predict(x, verbose=0).argmax(axis=1) == y))}
        for voting in ("hard", "soft"):
            found[voting] = float(np.mean(VotingModel(models, voting).predict(x) == y))
        return found


if __name__ == "__main__":
    session = Session()
    serve({"open": session.open, "search": session.search})
