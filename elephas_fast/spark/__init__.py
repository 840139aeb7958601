"""Everything that touches Spark: rows in, workers as tasks, the driver's side of a fit, prediction, files."""
