"""The only room that knows Keras: models to descriptions, weights to flat buffers, rounds of training.

Importing it imports neither Keras nor TensorFlow; the first call does.
"""

from elephas_fast.input_spec import InputSpec
from elephas_fast.keras_bridge.local_state import LaneState
from elephas_fast.keras_bridge.metrics import MetricState, check_rows, merge_metrics
from elephas_fast.keras_bridge.model_spec import ModelSpec, describe
from elephas_fast.keras_bridge.trainer import RoundLogs, Trainer, Update, trainer_for
from elephas_fast.keras_bridge.weights import layout_of, set_weights, weights_of

__all__ = [
    "InputSpec",
    "LaneState",
    "MetricState",
    "ModelSpec",
    "RoundLogs",
    "Trainer",
    "Update",
    "check_rows",
    "describe",
    "layout_of",
    "merge_metrics",
    "set_weights",
    "trainer_for",
    "weights_of",
]
