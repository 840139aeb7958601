"""Elephas' ``ml.adapter``."""

from elephas_fast.spark.labeled_frames import df_to_simple_rdd, from_data_frame, to_data_frame

__all__ = ["df_to_simple_rdd", "from_data_frame", "to_data_frame"]
