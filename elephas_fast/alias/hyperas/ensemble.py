"""``VotingModel``, which votes by majority here."""

from elephas_fast.spark.voting import VotingModel

__all__ = ["VotingModel"]
