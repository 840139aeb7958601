"""Whether a history was right, judged from what was written down of it and nothing else.

What must hold: each push is applied once, in order, by the attempt that owned the partition then; what was
acknowledged has been applied; nobody begins a round before it may; nothing changes after the end; the counters say what
the replies said; everything that was to be trained has been.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from elephas_fast.wire import Ack, Error, Hello, Pull, Push, Weights, Welcome
from tests.protocol import events
from tests.protocol.events import Event
from tests.protocol.plan import WHOLE, Plan, place

_ALLOWED = {"hello", "fenced", "finished", "gap", "closed"}


def judge(plan: Plan, history: list[Event]) -> list[str]:
    """What was wrong, in words; empty if nothing was."""
    judge = _Judge(plan)
    for event in history:
        judge.see(event)
    return judge.problems


class _Judge:
    def __init__(self, plan: Plan) -> None:
        self.problems: list[str] = []
        self._plan = plan
        self._applied: dict[tuple[int, int], float] = {}
        self._progress = [0] * len(plan.rounds)  # rounds over: applied, or refused because they were not finite
        self._owner: dict[int, int] = {}
        self._attempts: dict[int, int] = {}
        self._returned: set[int] = set()
        self._counted: Counter[str] = Counter()
        self._asked_in_vain: set[tuple[int, int]] = set()
        self._closed = self._ended = False
        self._released = not plan.held

    def wrong(self, event: Event, what: str) -> None:
        self.problems.append(f"{event.at:.3f} s: {what}")

    def see(self, event: Event) -> None:
        match event:
            case events.Launched():
                self._attempts[event.attempt] = event.partition
            case events.Returned():
                self._returned.add(event.partition)
                self._must_be_over(event, event.partition, self._plan.last(event.partition))
            case events.Replied():
                self._reply(event)
            case events.Near():
                self._outcome(event, event.outcome, event.clock)
                if event.outcome in ("closed", "fenced", "gap"):
                    self._error(event, event.outcome)
            case events.Applied():
                self._apply(event)
            case events.Killed():
                self._asked_in_vain.clear()
            case events.Released():
                self._released = True
            case events.Closed():
                self._closed = True
            case events.Wrong():
                self.wrong(event, event.what)
            case events.Ended():
                self._end(event)

    def _apply(self, event: events.Applied) -> None:
        """The weights have changed."""
        push = (event.partition, event.clock)
        if push not in self._plan.pushes or push in self._plan.poisoned:
            self.wrong(event, f"weights changed at {push}, where nothing is to be applied")
            return
        if push in self._applied:
            self.wrong(event, f"push {push} changed the weights again, from {event.before} to {event.value}")
        expected = -WHOLE / self._participants(push)
        if event.value != expected:
            self.wrong(event, f"push {push}: expected weights of {expected}, got {event.value}")
        if self._attempts.get(int(event.by)) != event.partition or event.by != int(event.by):
            self.wrong(event, f"push {push} was applied for attempt {event.by}, which is not one of its partition")
        if self._closed:
            self.wrong(event, f"push {push} was applied after the end")
        self._applied[push] = event.by
        self._over(event, *push)

    def _over(self, event: Event, partition: int, clock: int) -> None:
        """A round of a partition is over. Refused ones before it need not have been seen: they change nothing."""
        before = self._progress[partition]
        skipped = [n for n in range(before + 1, clock) if (partition, n) not in self._plan.poisoned]
        if clock <= before or skipped:
            self.wrong(event, f"round {clock} of partition {partition} came after {before}")
        self._progress[partition] = max(clock, before)

    def _reply(self, event: events.Replied) -> None:
        reply, asked = event.reply, event.asked
        if isinstance(reply, Error):
            if reply.code not in _ALLOWED or (event.partition < 0 and reply.code != "hello"):
                self.wrong(event, f"{asked} was answered {reply}")
            elif isinstance(asked, Hello):
                if reply.code != "closed" and (event.partition, event.attempt) not in self._asked_in_vain:
                    self._asked_in_vain.add((event.partition, event.attempt))
                    self._error(event, "fenced")
            else:
                self._error(event, reply.code)
        elif event.partition < 0:
            return
        elif isinstance(reply, Welcome):
            self._counted["retried"] += self._owner.get(event.partition, event.attempt) < event.attempt
            self._owner[event.partition] = event.attempt
            self._must_be_over(event, event.partition, reply.clock)
            if reply.clock < self._progress[event.partition]:
                self.wrong(event, f"partition {event.partition} was sent back to round {reply.clock}, "
                                  f"{self._progress[event.partition]} are over")  # fmt: skip
        elif isinstance(reply, (Ack, Weights)) and isinstance(asked, Push):
            self._outcome(event, reply.status, asked.clock)
            if isinstance(reply, Weights):
                self._grant(event, reply.clock, training=True)
        elif isinstance(reply, Weights) and isinstance(asked, Pull):
            self._grant(event, asked.clock, training=asked.purpose == "train")

    def _outcome(self, event: events.Replied | events.Near, status: str, clock: int) -> None:
        """What a push was answered."""
        partition, push = event.partition, (event.partition, clock)
        if status in ("applied", "accepted", "refused") and self._owner.get(partition) != event.attempt:
            self.wrong(event, f"push {push} of attempt {event.attempt} was {status}, "
                              f"the partition belonged to {self._owner.get(partition)}")  # fmt: skip
        if status in ("duplicate", "refused"):
            self._counted[status] += 1
        if status == "refused" and push not in self._plan.poisoned:
            self.wrong(event, f"push {push} was refused")
        if self._plan.mode == "synchronous":
            return
        if status == "refused":
            self._over(event, *push)
        if status in ("applied", "duplicate"):
            self._must_be_over(event, partition, clock)

    def _error(self, event: Event, code: str) -> None:
        if code in ("fenced", "closed"):
            self._counted[code] += 1

    def _must_be_over(self, event: Event, partition: int, clock: int) -> None:
        """A partition has been told that its rounds up to ``clock`` are done with."""
        for number in range(1, clock + 1):
            push = (partition, number)
            if push not in self._applied and push not in self._plan.poisoned:
                self.wrong(event, f"push {push} was acknowledged and not applied")

    def _grant(self, event: Event, clock: int, *, training: bool) -> None:
        """A partition may begin the round after ``clock``, or see the weights after it."""
        assert isinstance(event, events.Replied)
        plan, partition = self._plan, event.partition
        self._must_be_over(event, partition, clock)
        if training and not self._released and clock >= plan.rounds[partition]:
            self.wrong(event, f"partition {partition} began its second epoch before it was released")
        if plan.mode == "synchronous":
            reached = self._round(partition, clock)
            for push in plan.pushes:
                if self._round(push[0], push[1] - 1) < reached and not self._is_over(push):
                    self.wrong(event, f"partition {partition} went on after round {clock}, push {push} was missing")
        elif plan.mode == "bounded" and training:
            assert plan.staleness is not None
            slowest = min(self._progress)
            if clock - slowest > plan.staleness:
                self.wrong(event, f"partition {partition} began round {clock + 1}, the slowest had done {slowest}")

    def _is_over(self, push: tuple[int, int]) -> bool:
        return push in self._applied or push in self._plan.poisoned

    def _round(self, partition: int, clock: int) -> int:
        """The synchronous round that follows ``clock`` rounds of a partition: epochs are as long as the longest."""
        epoch, within = divmod(clock, max(1, self._plan.rounds[partition]))
        return epoch * max(1, *self._plan.rounds) + within

    def _participants(self, push: tuple[int, int]) -> int:
        """Over how many updates a push is averaged."""
        plan = self._plan
        if plan.mode != "synchronous":
            return 1
        number = self._round(push[0], push[1] - 1)
        return sum(self._round(p, c - 1) == number for p, c in plan.pushes if (p, c) not in plan.poisoned)

    def _end(self, event: events.Ended) -> None:
        plan = self._plan
        if not self._closed:
            self.wrong(event, "the end was never acknowledged")
        if event.result != event.weights:
            self.wrong(event, "the weights changed after the driver had taken them")
        expected = np.zeros(len(event.weights) // 4, np.float32)
        for push, by in self._applied.items():
            value = -WHOLE / self._participants(push)
            expected[place(*push)], expected[place(*push) + 1] = value, value * by
        if event.weights != (expected + 0.0).tobytes():
            self.wrong(event, "the weights are not the sum of what was applied")
        if not plan.interrupted:
            missing = [push for push in plan.pushes if not self._is_over(push)]
            if missing or len(self._returned) != len(plan.rounds):
                self.wrong(event, f"not everything was trained: {missing} missing, {sorted(self._returned)} returned")
        told = {
            "duplicate": self._counted["duplicate"],
            "fenced": self._counted["fenced"],
            "late": self._counted["closed"],
            "retried": self._counted["retried"],
            "nonfinite": self._counted["refused"],
        }
        counted = {name: number for name, number in event.faults.items() if number or name in told}
        if counted != told:
            self.wrong(event, f"replies told of {told}, the counters of {counted}")
