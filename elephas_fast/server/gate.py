"""Whose turn it is: one gate for all modes, a bound on how far workers may drift apart.

BSP is a bound of 0 with a mean over each round, SSP(s) (Ho et al., NIPS 2013) a bound of s, ASP none. No I/O and no
arithmetic here: the server asks the gate and acts.

A member is a ledger line. Members may have different numbers of rounds in an epoch (their partitions differ in size);
the synchronous rounds of an epoch are counted up to the largest, and in each of them take part those members that
still have a round to give. A bounded gate counts the same way, so that a member that has finished a short epoch does
not hold back those with a longer one.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from typing import Final

FOREVER: Final = 2**62


@dataclass
class Orders:
    """What the driver allows: epochs below ``released`` may begin, those from ``stop_at`` on must not."""

    released: int = FOREVER
    stop_at: int = FOREVER
    learning_rate: float = 0.0
    server_learning_rate: float = 0.0


@dataclass
class Gate:
    """Decides for each member whether it may begin a round.

    Args:
        workers: how many members there will be; nobody passes a synchronous or bounded gate before all are there.
        synchronous: rounds are averaged over their participants.
        staleness: how many rounds a member may be ahead of the slowest; ``None``: any number.
        applied: the rounds of a member that have been applied (from the ledger).
    """

    workers: int
    synchronous: bool
    staleness: int | None
    applied: Callable[[int], int]
    orders: Orders = field(default_factory=Orders)
    round: int = 0
    _rounds: dict[int, int] = field(default_factory=dict)
    _left: set[int] = field(default_factory=set)
    _came_at: dict[int, int] = field(default_factory=dict)

    def join(self, member: int, rounds: int, *, newcomer: bool = False) -> None:
        """A member says how many rounds it has in an epoch (0: an empty partition).

        A ``newcomer`` counts its rounds from the current one on instead of from the first.
        """
        self._rounds[member] = rounds
        self._left.discard(member)
        if newcomer:
            self._came_at[member] = self.round

    def restore(self, members: Iterable[tuple[int, int, int, bool]]) -> None:
        """Go on with the members another gate had: (line, rounds, the round it came at, whether it has left).

        The current round is the first that a member still has to push for, or the last there was if all have left.
        """
        for member, rounds, came_at, left in members:
            self._rounds[member] = rounds
            self._came_at[member] = came_at
            if left:
                self._left.add(member)
        reached = {m: self._global_round(m, self.applied(m)) for m, rounds in self._rounds.items() if rounds}
        behind = [number for m, number in reached.items() if m not in self._left]
        self.round = min(behind, default=max(reached.values(), default=0))

    def came_at(self, member: int) -> int:
        """The round from which on a member counts its own."""
        return self._came_at.get(member, 0)

    def leave(self, member: int) -> None:
        """A member has no more rounds to give; nobody waits for it any more."""
        self._left.add(member)

    def participants(self) -> list[int]:
        """The members whose pushes complete the current synchronous round, ascending; empty before all are there."""
        if not self._complete():
            return []
        within = self.round % self._longest()
        return sorted(
            m
            for m, rounds in self._rounds.items()
            if rounds > within and m not in self._left and self._global_round(m, self.applied(m)) <= self.round
        )

    def round_complete(self, pushed: Collection[int]) -> bool:
        """Whether the current synchronous round has all the pushes it waits for; those who left need not push."""
        return bool(pushed) and self._complete() and all(member in pushed for member in self.participants())

    def advance(self) -> None:
        """The current synchronous round has been applied."""
        self.round += 1

    def epoch(self, member: int, clock: int) -> int:
        """The epoch in which a member is that has finished ``clock`` rounds."""
        return clock // max(1, self._rounds.get(member, 1))

    def must_stop(self, member: int, clock: int) -> bool:
        """Whether the driver has ended the training before this round."""
        return self.epoch(member, clock) >= self.orders.stop_at

    def why_wait(self, member: int, clock: int, *, training: bool) -> str:
        """Why a member that has finished ``clock`` rounds may not go on now; empty if it may."""
        if training and self.epoch(member, clock) >= self.orders.released:
            return f"the driver has not released epoch {self.epoch(member, clock) + 1}"
        gated = self.synchronous or self.staleness is not None
        if training and gated and not self._complete():
            return f"{len(self._rounds)} of {self.workers} workers have come"
        if self.synchronous and self.round < self._global_round(member, clock):
            return f"round {self.round + 1} is not complete"
        if self.staleness is not None and training:
            active = [m for m, rounds in self._rounds.items() if rounds and m not in self._left]
            slowest = min((self._global_round(m, self.applied(m)) for m in active), default=FOREVER)
            ahead = self._global_round(member, clock) - slowest
            if ahead > self.staleness:
                return f"the slowest worker is {ahead} rounds behind, {self.staleness} are allowed"
        return ""

    def _complete(self) -> bool:
        return bool(self._rounds) and len(self._rounds) >= self.workers

    def _longest(self) -> int:
        return max(1, *self._rounds.values()) if self._rounds else 1

    def _global_round(self, member: int, clock: int) -> int:
        epoch, within = divmod(clock, max(1, self._rounds.get(member, 1)))
        return self.came_at(member) + epoch * self._longest() + within
