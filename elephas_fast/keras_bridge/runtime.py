"""The only place that imports Keras and TensorFlow: late, quietly, and with the number of threads asked for."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

_starting = threading.RLock()


def start(threads: int | None = None) -> None:
    """Import TensorFlow and Keras if this process has not, and set TensorFlow's thread pools.

    ``threads`` (intra-op and inter-op) only has an effect before TensorFlow's first operation in this process; later
    calls leave the running pools alone. TensorFlow's start-up messages on stderr are dropped unless the import fails.

    Raises ``RuntimeError`` where Keras runs on another backend.
    """
    with _starting:
        first = "tensorflow" not in sys.modules
        with _quiet_stderr() if first else contextlib.nullcontext():
            import keras
            import tensorflow as tf

            if threads is not None:
                with contextlib.suppress(RuntimeError):  # TensorFlow already runs with other values
                    tf.config.threading.set_intra_op_parallelism_threads(threads)
                    tf.config.threading.set_inter_op_parallelism_threads(threads)
            if first:
                tf.constant(0)
    if keras.backend.backend() != "tensorflow":
        raise RuntimeError(
            f"Keras: expected the TensorFlow backend, got '{keras.backend.backend()}'; "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )


def keras() -> Any:
    """The ``keras`` module."""
    start()
    return sys.modules["keras"]


def tensorflow() -> Any:
    """The ``tensorflow`` module."""
    start()
    return sys.modules["tensorflow"]


@contextlib.contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Keep what C++ libraries write to file descriptor 2; pass it on only if an exception leaves the block."""
    try:
        saved = os.dup(2)
    except OSError:  # the process runs without stderr
        yield
        return
    with tempfile.TemporaryFile() as kept:
        sys.stderr.flush()
        os.dup2(kept.fileno(), 2)
        try:
            yield
        except BaseException:
            kept.seek(0)
            os.write(saved, kept.read())
            raise
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
