"""Arrays in files that the tasks of a local master map instead of receiving them.

Spark serialises the data of a parallelized collection into each task of every job. On the driver's own machine that is
two copies and two passes through sockets for each fit, where one file in the page cache serves all tasks of all jobs.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pyspark import SparkContext, SparkFiles


@dataclass(frozen=True)
class MappedArray:
    """An array in a file. Picklable; whoever has it on this machine can read the rows as long as the file exists."""

    path: str

    def rows(self, begin: int, end: int) -> NDArray[Any]:
        """Rows ``[begin, end)``: a read-only view of the file's pages."""
        array: NDArray[Any] = np.asarray(np.load(self.path, mmap_mode="r"))
        return array[begin:end]


def save(sc: SparkContext, arrays: Iterable[NDArray[Any]]) -> list[MappedArray]:
    """Write each array to a file of its own in the context's folder, which Spark removes when the context stops."""
    folder = Path(tempfile.mkdtemp(prefix="elephas_fast-rows-", dir=SparkFiles.getRootDirectory()))
    saved = []
    for number, array in enumerate(arrays):
        path = folder / f"{number}.npy"
        np.save(path, array)
        saved.append(MappedArray(str(path)))
    return saved
