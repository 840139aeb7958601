"""Who is here: hellos, lines of the ledger, outboxes, and the lifelines of clients on this host."""

from __future__ import annotations

import hmac
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from elephas_fast.config import ServerSettings
from elephas_fast.server.gate import Gate
from elephas_fast.store import MOST_OUTBOXES, Counter, ParameterStore
from elephas_fast.transport import Handover, Lifeline, Listener
from elephas_fast.wire import PROTOCOL_VERSION, Hello, Welcome

LEASE_SECONDS: Final = 30.0  # of silence, after which a parked attempt may go on in the owner's place
RETURN_SECONDS: Final = 30.0  # for clients of a server that was killed to come to the one that follows it


@dataclass
class Session:
    """A client that has said hello."""

    peer: Any
    line: int
    generation: int
    outbox: int
    is_partition: bool


class Refused(Exception):
    """A request that is answered with an ``Error``."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class Sessions:
    """The clients of one server, by peer.

    Args:
        key: what a client must show in its hello.
        handover: gives the store's segment to clients on this host; ``None`` if the store is not shared.
        when_lost: called with the session of a client on this host that has died.
    """

    def __init__(
        self,
        store: ParameterStore,
        settings: ServerSettings,
        gate: Gate,
        listener: Listener,
        key: bytes,
        handover: Handover | None,
        when_lost: Callable[[Session], None],
    ) -> None:
        self._store, self._settings, self._gate, self._listener = store, settings, gate, listener
        self._key = key
        self._handover = handover
        self._layout, self._told = store.layout.to_json(), settings.to_json()
        self._when_lost = when_lost
        self._of: dict[Any, Session] = {}
        self._outboxes = min(store.segment.shape.outboxes, MOST_OUTBOXES)
        self._free_outboxes = [box for box in range(self._outboxes - 1, -1, -1) if not store.header.taken(box)]
        self._lifelines: dict[int, Lifeline] = {}
        store.ledger.reserve(settings.partitions)
        self._awaited = set(store.ledger.open_lines())
        self._began = time.monotonic()
        self._heard: dict[int, float] = {}
        self._fenced: set[tuple[int, int]] = set()
        if handover is not None:
            listener.watch(handover.fileno(), self._hand_over)

    def find(self, peer: Any) -> Session | None:
        """The session of a peer, or ``None`` before its hello."""
        return self._of.get(peer)

    def heard(self, session: Session) -> None:
        """Extend the lease of a line whose owner has sent something."""
        if session.generation == self._store.ledger.generation(session.line):
            self._heard[session.line] = time.monotonic()

    def hello(self, peer: Any, hello: Hello) -> Welcome:
        """Admit a client, or raise ``Refused``."""
        if hello.protocol != PROTOCOL_VERSION:
            raise Refused("protocol", f"expected protocol {PROTOCOL_VERSION}, got {hello.protocol}: update the peer")
        if not hmac.compare_digest(hello.key, self._key):
            self._store.count(Counter.DAMAGED)
            raise Refused("key", "the key does not belong to this fit")
        is_partition, ledger = hello.partition >= 0, self._store.ledger
        old = self._of.get(peer)
        if old is not None and hello.partition != (old.line if old.is_partition else -1):
            raise Refused("protocol", "expected the same partition in every hello of a connection; open another for it")
        if is_partition:
            line, generation, clock = self._partition(hello, old)
            newcomer = False
        else:
            line, generation, clock, newcomer = self._client(hello, old)
        self._heard[line] = time.monotonic()
        if self._settings.mode == "hogwild" and ledger.abandon(line):
            self._store.count(Counter.PARTIAL)
            clock = ledger.applied(line)
        outbox = self._outbox(hello, old)
        self._of[peer] = Session(peer, line, generation, outbox, is_partition)
        if hello.rounds or is_partition:
            self._gate.join(line, hello.rounds, newcomer=newcomer)
            ledger.join(line, hello.rounds, self._gate.came_at(line))
        return Welcome(
            line=line,
            generation=generation,
            clock=clock,
            version=self._store.version,
            outbox=outbox,
            fingerprint=self._store.layout.fingerprint,
            layout=self._layout,
            settings=self._told,
        )

    def _partition(self, hello: Hello, old: Session | None) -> tuple[int, int, int]:
        """Line, generation and clock of a Spark partition. The newest attempt owns it, until its lease has run out."""
        line, ledger = hello.partition, self._store.ledger
        if line >= self._settings.partitions:
            raise Refused("protocol", f"expected a partition below {self._settings.partitions}")
        if self._store.closed:
            raise Refused("closed", "the fit has ended and takes no more updates")
        lapsed = time.monotonic() - self._heard.get(line, self._began) > LEASE_SECONDS
        follows = 0 <= ledger.attempt(line) < hello.attempt
        admitted = ledger.hello(
            line,
            hello.attempt,
            lapsed=lapsed and not ledger.finished(line),
            held=None if old is None else old.generation,
        )
        if admitted is not None:
            if follows:
                self._store.count(Counter.RETRIED)
            return line, *admitted
        if (line, hello.attempt) not in self._fenced:
            self._fenced.add((line, hello.attempt))
            self._store.count(Counter.FENCED)
        if ledger.finished(line):
            raise Refused("finished", f"a newer attempt of partition {line} has trained it to the end")
        raise Refused("fenced", f"a newer attempt of partition {line} has taken over")

    def _client(self, hello: Hello, old: Session | None) -> tuple[int, int, int, bool]:
        """Line, generation and clock of another client, and whether it is new here. It goes on where it was, if it was
        here before, or with a server that this one follows."""
        ledger = self._store.ledger
        held = hello.line if old is None else old.line
        goes_on = held >= 0 and (old is not None or ledger.is_open_at(held, hello.generation))
        line = held if goes_on else ledger.open_line()
        if line is None:
            raise Refused("full", "all lines of the ledger are taken, no more clients are admitted")
        self._awaited.discard(line)
        admitted = ledger.hello(line, 0, held=None if old is None else old.generation)
        assert admitted is not None
        return line, *admitted, not goes_on

    def _outbox(self, hello: Hello, old: Session | None) -> int:
        """The outbox of a client, -1 for none."""
        if not hello.outbox:
            return -1
        if old is not None and old.outbox >= 0:
            return old.outbox
        owners = {session.outbox for session in self._of.values()}
        header = self._store.header
        if 0 <= hello.held < self._outboxes and hello.held not in owners and header.taken(hello.held):
            return hello.held
        if not self._free_outboxes:
            return -1
        outbox = self._free_outboxes.pop()
        header.take(outbox, True)
        return outbox

    def lost(self) -> list[int]:
        """Lines of clients of the server before this one that have not come back in time; told once."""
        if not self._awaited or time.monotonic() - self._began < RETURN_SECONDS:
            return []
        lost, self._awaited = sorted(self._awaited), set()
        return lost

    def drop(self, session: Session) -> None:
        """Forget a session; its outbox is free again. Its line is the caller's to give back."""
        self._of.pop(session.peer, None)
        if session.outbox >= 0:
            self._store.header.take(session.outbox, False)
            self._free_outboxes.append(session.outbox)

    def _hand_over(self) -> None:
        assert self._handover is not None
        try:
            lifeline = self._handover.accept()
        except PermissionError:
            self._store.count(Counter.DAMAGED)
            return
        if lifeline is None:
            return
        self._lifelines[lifeline.fileno()] = lifeline
        self._listener.watch(lifeline.fileno(), lambda: self._look_after(lifeline))

    def _look_after(self, lifeline: Lifeline) -> None:
        """Notice a client on this host that has died."""
        if lifeline.still_there():
            return
        self._listener.unwatch(lifeline.fileno())
        del self._lifelines[lifeline.fileno()]
        lifeline.close()
        for session in [s for s in self._of.values() if (s.line, s.generation) == lifeline.owner]:
            self._heard[session.line] = -math.inf
            if self._settings.mode == "hogwild" and self._store.ledger.abandon(session.line):
                self._store.count(Counter.PARTIAL)
            self._when_lost(session)

    def close(self) -> None:
        """Close the connections this room opened itself."""
        for fd, lifeline in self._lifelines.items():
            self._listener.unwatch(fd)
            lifeline.close()
        self._lifelines.clear()
