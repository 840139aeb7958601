"""The parameter store: weights, slots, version and push ledger, in this process's memory or in a shared segment.

Only this room takes locks. ``access='atomic'`` applies one push at a time from one buffer into the other and then
flips, so a reader always finds whole pushes, and an update that turns out not to be finite is dropped by not flipping.
The other accesses are hogwild: writers share one buffer and wait for nobody.
"""

from __future__ import annotations

from elephas_fast.store.header import MOST_OUTBOXES, Counter, Header
from elephas_fast.store.ledger import Ledger, Mark, Member
from elephas_fast.store.segment import Segment, SegmentShape
from elephas_fast.store.snapshot import Line, Snapshot
from elephas_fast.store.store import ATOMIC, ParameterStore
from elephas_fast.store.update import PushOutcome, check_opaque, check_vector

__all__ = [
    "ATOMIC",
    "MOST_OUTBOXES",
    "Counter",
    "Header",
    "Ledger",
    "Line",
    "Mark",
    "Member",
    "ParameterStore",
    "PushOutcome",
    "Segment",
    "SegmentShape",
    "Snapshot",
    "check_opaque",
    "check_vector",
]
