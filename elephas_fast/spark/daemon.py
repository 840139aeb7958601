"""PySpark's daemon with Keras imported before it forks: ``spark.python.daemon.module=elephas_fast.spark.daemon``.

Spark starts Python workers by forking a process that has imported next to nothing, so that each imports TensorFlow
for itself, which takes some seconds of a core. With this module the import happens once on each executor. TensorFlow
is imported and not used before the fork: its threads start in the workers.
"""

from pyspark.daemon import manager

from elephas_fast.keras_bridge import runtime

if __name__ == "__main__":
    runtime.import_quietly(lean=True)
    import elephas_fast.spark.frames
    import elephas_fast.spark.source  # noqa: F401

    manager()
