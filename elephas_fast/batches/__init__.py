"""Rows become arrays, once: one block per model input, cast to the model's dtype, in the order the rows came.

Knows neither Keras nor Spark. Nothing is dropped: a partition smaller than a batch is a short batch, an empty one is
empty arrays of the right rank.
"""

from elephas_fast.batches.arrays import Arrays, Block
from elephas_fast.batches.collect import collect
from elephas_fast.batches.rounds import Frequency, order, rounds
from elephas_fast.input_spec import InputSpec

__all__ = ["Arrays", "Block", "Frequency", "InputSpec", "collect", "order", "rounds"]
