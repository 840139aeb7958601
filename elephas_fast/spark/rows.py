"""RDDs of rows: making them from arrays, and reading them partition by partition in a task.

``to_simple_rdd`` moves rows in blocks. The RDD it returns still yields ``(x, y)`` pairs to whoever maps over it, but
carries the RDD of blocks along, which ``fit``, ``predict`` and ``evaluate`` read instead, and what the driver knows of
the rows (their number and the first one), so that bad input is refused without a Spark job. Where the tasks run on the
driver's machine the rows do not travel at all: they are mapped from files (``spark.mapped``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Final

import numpy as np
from pyspark import RDD, SparkContext

from elephas_fast.batches import Block
from elephas_fast.spark.interpreter import is_local
from elephas_fast.spark.mapped import save
from elephas_fast.spark.strict import strictly

_BLOCK_BYTES: Final = 1 << 20
_BLOCK_ROWS: Final = 1000
_ATTRIBUTE: Final = "_elephas_fast_blocks"


@dataclass(frozen=True)
class Blocks:
    """The RDD of ``Block`` behind an RDD of pairs; ``rows`` of it in all; ``first``: the first row, if there is one;
    ``remade``: the same rows in another number of partitions, evenly and in order, without a shuffle."""

    rdd: RDD[Any]
    rows: int
    first: Any
    remade: Callable[[int], RDD[Any]]


@dataclass(frozen=True)
class _Begin:
    """Stands before the rows of a partition where several partitions are read by one task."""

    partition: int


def to_simple_rdd(sc: SparkContext, features: Any, labels: Any) -> RDD[tuple[Any, Any]]:
    """An RDD of ``(x, y)`` pairs from arrays whose first axis is the rows.

    ``features`` and ``labels``: an array, a list of numbers or rows, a pandas DataFrame or Series, or, for models with
    several inputs or outputs, a tuple or list of arrays in their order. Raises ``ValueError`` where the numbers of rows
    differ.

    With a local master the rows are written to files once, which the tasks map; Spark removes them when the context
    stops. Otherwise the arrays are kept, not copied, as long as the RDD object lives, and Spark sends each task its
    rows.
    """
    x, y = _columns("features", features, labels), _columns("labels", labels, features)
    lengths = {len(column) for column in (*x.values(), *y.values())}
    if len(lengths) != 1:
        raise ValueError(
            "features and labels: expected the same number of rows in each, got "
            + ", ".join(f"{name}: {len(column)}" for name, column in (*x.items(), *y.items()))
        )
    rows = lengths.pop()
    columns = [*x.values(), *y.values()]

    def sent(partitions: int) -> RDD[Any]:
        bounds = _block_bounds(rows, partitions, columns)
        blocks = [Block(_cut(x.values(), *bound), _cut(y.values(), *bound)) for bound in bounds]
        return sc.parallelize(blocks, partitions)

    make = _mapped(sc, rows, x.values(), y.values()) if is_local(sc) else sent
    block_rdd = make(sc.defaultParallelism)
    pairs = block_rdd.flatMap(_rows_of)
    first = next(Block(_cut(x.values(), 0, 1), _cut(y.values(), 0, 1)).rows()) if rows else None
    setattr(pairs, _ATTRIBUTE, Blocks(block_rdd, rows, first, make))
    return pairs


def blocks_of(rdd: RDD[Any]) -> Blocks | None:
    """The blocks behind an RDD made by ``to_simple_rdd``; ``None`` for any other."""
    return getattr(rdd, _ATTRIBUTE, None)


def first_row(rdd: RDD[Any]) -> Any:
    """The first row, or ``None`` if there is none. Runs a small Spark job unless ``to_simple_rdd`` made the RDD."""
    blocks = blocks_of(rdd)
    if blocks is not None:
        return blocks.first
    head = rdd.take(1)
    return head[0] if head else None


def spread(rdd: RDD[Any], partitions: int | None) -> RDD[Any]:
    """The RDD to read, with ``partitions`` partitions (``None``: as many as it has)."""
    blocks = blocks_of(rdd)
    source = rdd if blocks is None else blocks.rdd
    if partitions is None or source.getNumPartitions() == partitions:
        return source
    return source.repartition(partitions) if blocks is None else blocks.remade(partitions)


def tagged(rdd: RDD[Any], tasks: int) -> RDD[Any]:
    """The rows with a mark before each partition, in at most ``tasks`` tasks."""
    marked = strictly(rdd.mapPartitionsWithIndex(_mark))
    return marked if rdd.getNumPartitions() <= tasks else marked.coalesce(tasks)


def split_tagged(items: Iterable[Any]) -> Iterator[tuple[int, Iterator[Any]]]:
    """The partitions of one task of a ``tagged`` RDD: (index, its rows). Read each to its end before the next."""
    stream = iter(items)
    following: _Begin | None = next(stream, None)

    def rows() -> Iterator[Any]:
        nonlocal following
        following = None
        for item in stream:
            if isinstance(item, _Begin):
                following = item
                return
            yield item

    while following is not None:
        partition = following.partition
        part = rows()
        yield partition, part
        for _ in part:  # a reader that stopped early must not shift rows into the next partition
            pass


def _cut(columns: Iterable[np.ndarray[Any, Any]], begin: int, end: int) -> tuple[np.ndarray[Any, Any], ...]:
    return tuple(column[begin:end] for column in columns)


def _mark(index: int, rows: Iterable[Any]) -> Iterator[Any]:
    return chain([_Begin(index)], rows)


def _mapped(sc: SparkContext, rows: int, x: Iterable[Any], y: Iterable[Any]) -> Callable[[int], RDD[Any]]:
    """Makes RDDs of one block for each partition, which maps its rows from files."""
    files_x, files_y = save(sc, x), save(sc, y)

    def open_block(bounds: tuple[int, int]) -> Block:
        return Block(tuple(f.rows(*bounds) for f in files_x), tuple(f.rows(*bounds) for f in files_y))

    def make(partitions: int) -> RDD[Any]:
        bounds = [(rows * i // partitions, rows * (i + 1) // partitions) for i in range(partitions)]
        return sc.parallelize([(begin, end) for begin, end in bounds if begin < end], partitions).map(open_block)

    return make


def _rows_of(block: Block) -> Iterator[Any]:
    return block.rows()


def _columns(label: str, data: Any, other: Any) -> dict[str, np.ndarray[Any, Any]]:
    """The arrays in ``data`` by name; ``other`` helps to tell a list of rows from a list of inputs."""
    if isinstance(data, Mapping):
        raise TypeError(
            f"{label}: expected an array or a tuple of arrays in the order of the model's inputs, got a dict"
        )
    if isinstance(data, tuple) or (isinstance(data, list) and _is_list_of_columns(data, other)):
        return {f"{label}[{i}]": _array(f"{label}[{i}]", part) for i, part in enumerate(data)}
    return {label: _array(label, data)}


def _is_list_of_columns(data: list[Any], other: Any) -> bool:
    """Whether a list holds one array per input (as Keras takes it) and not one item per row."""
    if not data or not all(isinstance(part, np.ndarray) and part.ndim for part in data):
        return False
    rows = _possible_rows(other)
    return len(data) not in rows and len(data[0]) in rows


def _possible_rows(data: Any) -> set[int]:
    if isinstance(data, tuple) and data:
        return {len(data[0])}
    if isinstance(data, list) and data and np.ndim(data[0]):
        return {len(data), len(data[0])}
    return {len(data)}


def _array(label: str, data: Any) -> np.ndarray[Any, Any]:
    values = data.to_numpy() if hasattr(data, "to_numpy") else np.asarray(data)
    if values.ndim == 0:
        raise ValueError(f"{label}: expected rows on the first axis, got a single value")
    if values.dtype == object:
        raise ValueError(f"{label}: expected numbers in rows of one shape, got dtype object (ragged or text)")
    return values


def _block_bounds(rows: int, partitions: int, columns: Sequence[np.ndarray[Any, Any]]) -> list[tuple[int, int]]:
    """Even blocks: at most 1,000 rows or about 1 MiB each, and the same number for each partition."""
    if rows == 0:
        return []
    row_bytes = max(1, sum(column.nbytes for column in columns) // rows)
    most = max(1, min(_BLOCK_ROWS, _BLOCK_BYTES // row_bytes))
    count = -(-rows // most)
    count = min(rows, -(-count // partitions) * partitions)
    return [(rows * i // count, rows * (i + 1) // count) for i in range(count)]
