"""A worker's training: the loop of a Spark task, and Elephas' workers by their names."""

from elephas_fast.worker.elephas import AsynchronousSparkWorker, SparkWorker
from elephas_fast.worker.lanes import PartitionSummary, WorkerTask
from elephas_fast.worker.run import run_worker

__all__ = ["AsynchronousSparkWorker", "PartitionSummary", "SparkWorker", "WorkerTask", "run_worker"]
