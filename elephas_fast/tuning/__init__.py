"""Hyper-parameter search without Spark: spaces, the adaptive loop, early stopping, records, and what people see.

Nothing is imported here, so that a worker, which needs ``trial`` and ``reporting`` alone, starts without hyperopt.
"""
