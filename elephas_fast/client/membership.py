"""``Membership``: who a client is to its server, on whatever connection, and the server's memory where it is near."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace

from elephas_fast.client.conversation import Conversation, PushRefused
from elephas_fast.client.road import find_road, follow
from elephas_fast.config import ServerSettings
from elephas_fast.layout import Layout
from elephas_fast.transport import Address, Lifeline
from elephas_fast.wire import PROTOCOL_VERSION, Ack, Hello, Message, Push, Welcome


class Membership:
    """The place of one attempt of a partition in a fit, taken with a hello and taken again whenever the server does not
    know the connection, because it was cut or because the server is another one on the same segment.

    Arguments as for ``connect``; ``resume`` is called after every hello but the first. Not thread-safe.

    ``line`` and ``generation``: the place and whose it is, as the server gave them; ``clock``: the last applied round,
    and ``version``: the last one seen, both also set by the client; ``transport``: the way taken. On the server's host:
    ``segment``: its memory, ``outbox``: the number of the client's own in it, or -1, and ``lifeline``: the connection
    by which the server sees a client end. Segment and lifeline are closed with the membership.
    """

    def __init__(
        self,
        address: Address,
        transport: str,
        partition: int,
        attempt: int,
        rounds: int | None,
        timeout: float,
        patience: float,
        while_silent: Callable[[], None] | None,
        resume: Callable[[], None],
    ) -> None:
        self._address = address
        self._partition, self._attempt = partition, attempt
        self._rounds = 1 if rounds is None and partition < 0 else int(rounds or 0)
        self._resume = resume
        self.line, self.generation, self.outbox = -1, 0, -1
        self.clock = self.version = 0
        road = find_road(address, transport, timeout)
        self.transport = road.scheme
        self.segment = road.segment
        self.lifeline: Lifeline | None = road.lifeline
        self._conversation: Conversation | None = None
        try:
            self._conversation = Conversation(
                address,
                road.endpoint,
                greet=self._greet_again,
                standing=lambda: f"last applied round of partition {partition}: {self.clock}",
                timeout=timeout,
                patience=patience,
                while_silent=while_silent,
            )
            self._hello()
            if self.lifeline is not None and not self.lifeline.introduce(self.line, self.generation):
                self._follow()
        except BaseException:
            self.close()
            raise

    def talk(self) -> Conversation:
        """The conversation with the server; ``RuntimeError`` once it is closed, or in a fork of the process that
        connected."""
        if self._conversation is None:
            raise RuntimeError("the client is closed")
        if self._conversation.inherited:
            raise RuntimeError(
                "the client: expected to be used in the process that connected, got a fork of it; connect again in "
                f"process {os.getpid()}"
            )
        return self._conversation

    def close(self) -> None:
        """Leave. Nobody may use the segment any more. Safe to call twice."""
        if self._conversation is not None:
            self._conversation.close()
            self._conversation = None
        if self.segment is not None:
            self.segment.close()
            self.segment = None
        if self.lifeline is not None:
            self.lifeline.close()
            self.lifeline = None

    def _hello(self) -> None:
        hello = Hello(
            protocol=PROTOCOL_VERSION,
            key=self._address.key,
            partition=self._partition,
            attempt=self._attempt,
            rounds=self._rounds,
            outbox=self.segment is not None,
            line=self.line,
            generation=self.generation,
            held=self.outbox,
        )
        welcome, _ = self.talk().ask(hello, expect=Welcome)
        self.line, self.generation, self.outbox = welcome.line, welcome.generation, welcome.outbox
        self.clock, self.version = welcome.clock, welcome.version
        self.layout = Layout.from_json(welcome.layout)
        self.settings = ServerSettings.from_json(welcome.settings)

    def _follow(self) -> None:
        self.lifeline = follow(self._address, self.lifeline, self.line, self.generation)

    def _greet_again(self, message: Message) -> Message:
        """Say hello again and give back the request that was refused, as it is to be repeated: a push with its renewed
        generation, or instead of one that had been applied before, the reply to it."""
        if isinstance(message, Hello):
            raise PushRefused("protocol", "the server refuses to know this connection")
        self._hello()
        self._follow()
        self._resume()
        if not isinstance(message, Push):
            return message
        if message.clock <= self.clock:
            return Ack(status="duplicate", clock=message.clock, version=self.version)
        return replace(message, generation=self.generation)
