"""Who is here: hellos, lines of the ledger, outboxes, and the lifelines of clients on this host."""

from __future__ import annotations

import hmac
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from elephas_fast.config import ServerSettings
from elephas_fast.server.gate import Gate
from elephas_fast.store import Counter, ParameterStore
from elephas_fast.transport import Handover, Lifeline, Listener
from elephas_fast.wire import PROTOCOL_VERSION, Hello, Welcome


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
        self._when_lost = when_lost
        self._of: dict[Any, Session] = {}
        self._free_outboxes = list(range(store.segment.shape.outboxes - 1, -1, -1))
        self._lifelines: dict[int, Lifeline] = {}
        store.ledger.reserve(settings.partitions)
        if handover is not None:
            listener.watch(handover.fileno(), self._hand_over)

    def find(self, peer: Any) -> Session | None:
        """The session of a peer, or ``None`` before its hello."""
        return self._of.get(peer)

    def hello(self, peer: Any, hello: Hello) -> Welcome:
        """Admit a client, or raise ``Refused``."""
        if hello.protocol != PROTOCOL_VERSION:
            raise Refused("protocol", f"expected protocol {PROTOCOL_VERSION}, got {hello.protocol}: update the peer")
        if not hmac.compare_digest(hello.key, self._key):
            self._store.count(Counter.DAMAGED)
            raise Refused("key", "the key does not belong to this fit")
        ledger = self._store.ledger
        old = self._of.get(peer)
        is_partition = hello.partition >= 0
        if old is not None and hello.partition != (old.line if old.is_partition else -1):
            raise Refused("protocol", "expected the same partition in every hello of a connection; open another for it")
        if is_partition:
            if hello.partition >= self._settings.partitions:
                raise Refused("protocol", f"expected a partition below {self._settings.partitions}")
            line = hello.partition
            admitted = ledger.hello(line, hello.attempt)
            if admitted is None:
                self._store.count(Counter.FENCED)
                raise Refused("fenced", f"a newer attempt of partition {line} has taken over")
        else:
            opened = old.line if old is not None else ledger.open_line()
            if opened is None:
                raise Refused("full", "all lines of the ledger are taken, no more clients are admitted")
            line = opened
            admitted = ledger.hello(line, 0)
            assert admitted is not None
        if ledger.abandon(line):
            self._store.count(Counter.PARTIAL)
            admitted = (admitted[0], ledger.applied(line))
        outbox = old.outbox if old is not None else -1
        if hello.outbox and outbox < 0 and self._free_outboxes:
            outbox = self._free_outboxes.pop()
        self._of[peer] = Session(peer, line, admitted[0], outbox, is_partition)
        if hello.rounds or is_partition:
            self._gate.join(line, hello.rounds, newcomer=not is_partition and old is None)
        return Welcome(
            line=line,
            generation=admitted[0],
            clock=admitted[1],
            version=self._store.version,
            outbox=outbox,
            fingerprint=self._store.layout.fingerprint,
            layout=self._store.layout.to_json(),
            settings=self._settings.to_json(),
        )

    def drop(self, session: Session) -> None:
        """Forget a session; its outbox is free again. Its line is the caller's to give back."""
        self._of.pop(session.peer, None)
        if session.outbox >= 0:
            self._free_outboxes.append(session.outbox)

    def _hand_over(self) -> None:
        assert self._handover is not None
        lifeline = self._handover.accept()
        if lifeline is None:
            self._store.count(Counter.DAMAGED)
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
            if self._settings.mode == "hogwild" and self._store.ledger.abandon(session.line):
                self._store.count(Counter.PARTIAL)
            self._when_lost(session)

    def close(self) -> None:
        """Close the connections this room opened itself."""
        for fd, lifeline in self._lifelines.items():
            self._listener.unwatch(fd)
            lifeline.close()
        self._lifelines.clear()
