"""What is written down of a history, for the checker and for people."""

from __future__ import annotations

from typing import NamedTuple

from elephas_fast.wire import Message


class Launched(NamedTuple):
    """Spark has started an attempt."""

    at: float
    partition: int
    attempt: int


class Returned(NamedTuple):
    """An attempt has returned from its task: the partition is complete."""

    at: float
    partition: int
    attempt: int


class Replied(NamedTuple):
    """The server has answered ``asked`` (partition -1: of the driver); the answer may have been lost."""

    at: float
    partition: int
    attempt: int
    asked: Message
    reply: Message


class Near(NamedTuple):
    """A worker on the server's host has tried to apply a push itself; ``outcome``: a push's status or an error code."""

    at: float
    partition: int
    attempt: int
    clock: int
    outcome: str


class Applied(NamedTuple):
    """The weights have changed at the place of a push; ``by``: the attempt they name."""

    at: float
    partition: int
    clock: int
    by: float
    before: float
    value: float


class Killed(NamedTuple):
    """The server has been killed; another goes on in its place."""

    at: float


class Released(NamedTuple):
    """The driver lets all epochs begin."""

    at: float


class Closed(NamedTuple):
    """The server has acknowledged the end of the fit."""

    at: float


class Wrong(NamedTuple):
    """Somebody was answered what the protocol does not allow, or time ran out."""

    at: float
    what: str


class Ended(NamedTuple):
    """Nothing can happen any more. ``result``: float32 bytes the driver took home, ``weights``: those in memory now."""

    at: float
    result: bytes
    weights: bytes
    faults: dict[str, int]


Event = Launched | Returned | Replied | Near | Applied | Killed | Released | Closed | Wrong | Ended
