"""Expressions over the columns of a DataFrame, evaluated by Spark itself."""

from __future__ import annotations

from pyspark.sql import Column
from pyspark.sql import functions as F


def argmax(col: Column | str) -> Column:
    """The place of the largest entry of an array column as a double: the class, where the entries are its scores.

    Of equal ones the first; null for a null or empty array. ``col``: a column or its name.
    """
    column = F.col(col) if isinstance(col, str) else col
    return (F.call_function("array_position", column, F.array_max(column)) - 1).cast("double")
