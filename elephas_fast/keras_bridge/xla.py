"""Whether XLA makes a model's batches faster, by trying."""

from __future__ import annotations

import logging
import statistics
import time
from collections.abc import Callable
from typing import Final

from elephas_fast.keras_bridge import runtime
from elephas_fast.keras_bridge.steps import StepFunction

_REPEATS: Final = 5
_WORTH: Final = 0.9  # of the time without; what is gained less may be noise

log = logging.getLogger("elephas_fast")


def is_faster(function: StepFunction, run: Callable[[], object]) -> bool:
    """Whether ``run()``, which calls ``function``, takes less time with XLA than without: the medians of some runs in
    turn, after one of each that traces and compiles. ``False`` where XLA cannot compile the model. The function is left
    as the model says."""
    took: dict[bool, list[float]] = {False: [], True: []}
    try:
        for repeat in range(1 + _REPEATS):
            for on, seconds in took.items():
                function.use_xla(on)
                began = time.perf_counter()
                run()
                if repeat:
                    seconds.append(time.perf_counter() - began)
    except (runtime.tensorflow().errors.OpError, NotImplementedError) as error:
        log.info("XLA cannot compile this model: %.300s", error)
        return False
    finally:
        function.use_xla(None)
    without, with_xla = (statistics.median(seconds) for seconds in took.values())
    log.info("some batches took %.2f ms without XLA and %.2f ms with it", 1e3 * without, 1e3 * with_xla)
    return with_xla < _WORTH * without
