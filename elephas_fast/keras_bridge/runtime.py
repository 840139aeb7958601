"""The only place that imports Keras and TensorFlow: late, quietly, and with the number of threads asked for."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from typing import Any, Final

_OPTIONAL: Final = ("sklearn", "matplotlib")  # Keras does without: it tries to import them
_starting = threading.RLock()
_started = False


def start(threads: int | None = None, *, lean: bool = False) -> None:
    """Import TensorFlow and Keras and set TensorFlow's thread pools, once in a process.

    ``threads`` (intra-op and inter-op) only has an effect before TensorFlow's first operation in this process; later
    calls leave the running pools alone. ``lean``: for a worker, without what Keras imports for its plots and its
    scikit-learn wrappers, which takes a third of the time. TensorFlow's start-up messages on stderr are dropped unless
    it fails.

    Raises ``RuntimeError`` where Keras runs on another backend.
    """
    global _started
    if _started:
        return
    with _starting:
        import_quietly(lean=lean)
        tf = sys.modules["tensorflow"]
        if threads is not None:
            with contextlib.suppress(RuntimeError):  # TensorFlow already runs with other values
                tf.config.threading.set_intra_op_parallelism_threads(threads)
                tf.config.threading.set_inter_op_parallelism_threads(threads)
        with _quiet_stderr():
            tf.constant(0)
        _started = True


def import_quietly(*, lean: bool = False) -> None:
    """Import TensorFlow and Keras without TensorFlow's messages on stderr, and leave its settings open; ``lean`` as for
    ``start``."""
    wanted = os.environ.get("KERAS_BACKEND") or "tensorflow"
    _check_backend(sys.modules["keras"].backend.backend() if "keras" in sys.modules else wanted)
    with _starting, contextlib.ExitStack() as stack:
        if "tensorflow" not in sys.modules:
            stack.enter_context(_quiet_stderr())
        if lean and "keras" not in sys.modules:
            stack.enter_context(_hidden(*_OPTIONAL))
        import keras
        import tensorflow  # noqa: F401
    _check_backend(keras.backend.backend())


def keras() -> Any:
    """The ``keras`` module."""
    start()
    return sys.modules["keras"]


def tensorflow() -> Any:
    """The ``tensorflow`` module."""
    start()
    return sys.modules["tensorflow"]


def _check_backend(name: str) -> None:
    if name != "tensorflow":
        raise RuntimeError(
            f"Keras: expected the TensorFlow backend, got '{name}'; "
            "set KERAS_BACKEND=tensorflow before Keras is imported"
        )


@contextlib.contextmanager
def _hidden(*names: str) -> Iterator[None]:
    """Let the named modules look as if they were not installed, unless they have been imported already."""
    absent = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None is how Python marks it
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]


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
