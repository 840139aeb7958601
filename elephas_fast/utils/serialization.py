"""Elephas' ``utils.serialization``."""

from elephas_fast.keras_bridge.serialization import dict_to_model, model_to_dict
from elephas_fast.wire import pack_arrays as weights_to_bytes
from elephas_fast.wire import unpack_arrays as bytes_to_weights

__all__ = ["bytes_to_weights", "dict_to_model", "model_to_dict", "weights_to_bytes"]
