"""Elephas' import paths for helpers; they re-export and hold nothing of their own."""

from elephas_fast.utils.functional_utils import (
    add_params,
    average_and_subtract,
    divide_by,
    get_neutral,
    subtract_params,
)
from elephas_fast.utils.rdd_utils import (
    encode_label,
    from_labeled_point,
    lp_to_simple_rdd,
    to_labeled_point,
    to_simple_rdd,
)
from elephas_fast.utils.sockets import determine_master

__all__ = [
    "add_params",
    "average_and_subtract",
    "determine_master",
    "divide_by",
    "encode_label",
    "from_labeled_point",
    "get_neutral",
    "lp_to_simple_rdd",
    "subtract_params",
    "to_labeled_point",
    "to_simple_rdd",
]
