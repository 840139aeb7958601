"""The messages of the wire protocol, as frozen values. What they mean and how they are laid out: docs/PROTOCOL.md.

A message is a header (the fields below) and, where ``PAYLOAD`` names it, raw payload frames. Every request carries a
``request`` number chosen by the sender, which its reply repeats. Fields are declared with their bounds; the codec
checks them on both sides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, ClassVar, Final

PROTOCOL_VERSION: Final = 3
MAX_TEXT: Final = 1024
MAX_LAYOUT: Final = 16 * 2**20
MAX_FAULTS: Final = 64
_U63: Final = 2**63 - 1


def bounded(least: float, most: float, *, nan: bool = False, **options: Any) -> Any:
    """A number field with inclusive bounds; NaN only where ``nan`` allows it."""
    return field(metadata={"least": least, "most": most, "nan": nan}, **options)


def sized(most: int, **options: Any) -> Any:
    """A text or bytes field of at most ``most`` bytes."""
    return field(metadata={"most": most}, **options)


@dataclass(frozen=True, kw_only=True)
class Message:
    """Base of all messages. ``CODE`` is the first element of the header; ``PAYLOAD`` the most payload frames."""

    CODE: ClassVar[int] = 0
    PAYLOAD: ClassVar[int] = 0

    request: int = bounded(0, _U63, default=0)


@dataclass(frozen=True, kw_only=True)
class Hello(Message):
    """First message of a connection. ``partition`` -1: a client that is no Spark partition; ``attempt`` orders the
    attempts of one partition; ``rounds``: rounds of one epoch; ``outbox``: asks for the shared-memory path. ``line``,
    ``generation``, ``held`` (its outbox): what the last welcome gave a client that goes on; -1, 0, -1 at first."""

    CODE = 1
    protocol: int = bounded(0, 2**16)
    key: bytes = sized(64)
    partition: int = bounded(-1, 2**31)
    attempt: int = bounded(0, _U63)
    rounds: int = bounded(0, 2**40)
    outbox: bool
    line: int = bounded(-1, 2**31, default=-1)
    generation: int = bounded(0, _U63, default=0)
    held: int = bounded(-1, 2**31, default=-1)


@dataclass(frozen=True, kw_only=True)
class Welcome(Message):
    """``clock``: rounds of this partition already applied; ``outbox`` -1: none, payloads travel in frames."""

    CODE = 2
    line: int = bounded(0, 2**31)
    generation: int = bounded(0, _U63)
    clock: int = bounded(0, _U63)
    version: int = bounded(0, _U63)
    outbox: int = bounded(-1, 2**31)
    fingerprint: str = sized(32)
    layout: str = sized(MAX_LAYOUT)
    settings: str = sized(2**16)


@dataclass(frozen=True, kw_only=True)
class Push(Message):
    """One update; the flat vector, and the opaque bytes where ``opaque`` says that they change too, follow as frames
    or stand in the sender's outbox. ``pull``: answer with ``Weights`` for the next round where it may begin at once,
    else with ``Ack``."""

    CODE = 3
    PAYLOAD = 2
    generation: int = bounded(0, _U63)
    clock: int = bounded(1, _U63)
    base_version: int = bounded(0, _U63)
    rows: int = bounded(0, _U63)
    outbox: bool
    opaque: bool = False
    pull: bool = False


@dataclass(frozen=True, kw_only=True)
class Ack(Message):
    """``status``: applied, accepted (kept until the round is complete), duplicate, refused (not finite)."""

    CODE = 4
    status: str = sized(16)
    clock: int = bounded(0, _U63)
    version: int = bounded(0, _U63)


@dataclass(frozen=True, kw_only=True)
class Pull(Message):
    """Ask for weights. ``purpose``: 'train' (wait for this clock's turn), 'evaluate' (wait for the version that
    includes ``clock`` rounds, but not for permission to go on), 'observe' (as they are). ``weights`` False: only ask
    whether it is one's turn."""

    CODE = 5
    purpose: str = sized(16)
    clock: int = bounded(0, _U63)
    weights: bool


@dataclass(frozen=True, kw_only=True)
class Weights(Message):
    """The reply to ``Pull``, and to a ``Push`` with ``pull``: then ``status`` and ``clock`` are those of its ``Ack``,
    and ``pushed`` its version. ``stop``: the driver ends the training before this round. ``learning_rate`` (of the
    worker's local optimizer) and ``server_learning_rate`` (of the server optimizer): 0 leaves them as they are.

    The flat vector and the opaque bytes follow as frames; ``in_parts``: the flat vector in messages of its own.
    """

    CODE = 6
    PAYLOAD = 2
    version: int = bounded(0, _U63)
    stop: bool
    learning_rate: float = bounded(0.0, 3e38)
    server_learning_rate: float = bounded(0.0, 3e38)
    status: str = sized(16, default="")
    clock: int = bounded(0, _U63, default=0)
    pushed: int = bounded(0, _U63, default=0)
    in_parts: bool = False


@dataclass(frozen=True, kw_only=True)
class Part(Message):
    """A piece of the flat vector that ``Weights`` announced, from element ``offset`` on. They follow in order, under
    the same request number."""

    CODE = 15
    PAYLOAD = 1
    offset: int = bounded(0, 2**48)


@dataclass(frozen=True, kw_only=True)
class Wait(Message):
    """Not yet; the server is alive and says why. Ask again."""

    CODE = 7
    reason: str = sized(MAX_TEXT)


@dataclass(frozen=True, kw_only=True)
class Report(Message):
    """What a partition did. ``kind`` 'progress' (a sample), 'epoch' (with the packed metric states of training and
    validation as payload, see ``wire.arrays``), 'done'."""

    CODE = 8
    PAYLOAD = 2
    kind: str = sized(16)
    partition: int = bounded(0, 2**31)
    attempt: int = bounded(0, _U63)
    epoch: int = bounded(0, 2**40)
    rows: int = bounded(0, _U63)
    validation_rows: int = bounded(0, _U63)
    rounds: int = bounded(0, _U63)
    staleness: int = bounded(0, _U63)
    seconds: float = bounded(0.0, 3e38)
    loss: float = bounded(-math.inf, math.inf, nan=True)
    host: str = sized(256)
    transport: str = sized(16)


@dataclass(frozen=True, kw_only=True)
class Observe(Message):
    """The driver asks for what has been reported after the first ``seen`` reports."""

    CODE = 9
    seen: int = bounded(0, _U63)


@dataclass(frozen=True, kw_only=True)
class Observed(Message):
    """One report, forwarded with its payload, or none. ``more``: ask again at once."""

    CODE = 10
    PAYLOAD = 3
    seen: int = bounded(0, _U63)
    more: bool
    version: int = bounded(0, _U63)
    faults: tuple[int, ...] = sized(MAX_FAULTS)


@dataclass(frozen=True, kw_only=True)
class Steer(Message):
    """The driver's orders: epochs below ``released`` may begin, those from ``stop_at`` on must not. The learning
    rates as in ``Weights``."""

    CODE = 11
    released: int = bounded(0, _U63)
    stop_at: int = bounded(0, _U63)
    learning_rate: float = bounded(0.0, 3e38)
    server_learning_rate: float = bounded(0.0, 3e38)


@dataclass(frozen=True, kw_only=True)
class Close(Message):
    """The driver ends the fit: from the acknowledgement on no push is applied."""

    CODE = 12


@dataclass(frozen=True, kw_only=True)
class Goodbye(Message):
    """A client leaves and gives its line and outbox back."""

    CODE = 13


@dataclass(frozen=True, kw_only=True)
class Error(Message):
    """A request that was refused. ``code``: hello, protocol, key, fenced, finished, gap, closed, full,
    internal."""

    CODE = 14
    code: str = sized(16)
    text: str = sized(MAX_TEXT)


@dataclass(frozen=True, kw_only=True)
class TrialBegin(Message):
    """A trial of a hyper-parameter search begins on a worker. Answered with ``TrialAnswer``."""

    CODE = 16
    key: bytes = sized(64)
    trial: int = bounded(0, 2**31)
    attempt: int = bounded(0, _U63)
    worker: str = sized(256)


@dataclass(frozen=True, kw_only=True)
class TrialReport(Message):
    """The loss of a trial after an epoch. Answered with ``TrialAnswer``."""

    CODE = 17
    key: bytes = sized(64)
    trial: int = bounded(0, 2**31)
    attempt: int = bounded(0, _U63)
    epoch: int = bounded(0, 2**40)
    loss: float = bounded(-math.inf, math.inf, nan=True)


@dataclass(frozen=True, kw_only=True)
class TrialAnswer(Message):
    """``stop``: the trial is to end."""

    CODE = 18
    stop: bool


@dataclass(frozen=True, kw_only=True)
class Fetch(Message):
    """A worker that has no broadcast asks for the objective. Answered with ``Fetched``."""

    CODE = 19
    key: bytes = sized(64)


@dataclass(frozen=True, kw_only=True)
class Fetched(Message):
    """The objective, whose digest the task knows, as one frame."""

    CODE = 20
    PAYLOAD = 1


MESSAGES: Final[dict[int, type[Message]]] = {
    cls.CODE: cls
    for cls in (
        Hello, Welcome, Push, Ack, Pull, Weights, Wait, Report, Observe, Observed, Steer, Close, Goodbye, Error,
        Part, TrialBegin, TrialReport, TrialAnswer, Fetch, Fetched,
    )
}  # fmt: skip
