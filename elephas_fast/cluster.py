"""Start, reach and stop the server process, as one context manager."""

from __future__ import annotations

import os
import secrets
import threading
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from elephas_fast.config import MODES, SECURITIES, TRANSPORTS, ServerSettings, refuse_unknown
from elephas_fast.layout import ByteArray, Float32Array, Layout
from elephas_fast.optimizers import SGD
from elephas_fast.optimizers import get as get_optimizer
from elephas_fast.server import ParameterServer, ServerLost, ServerProcess
from elephas_fast.store import Counter, Line, ParameterStore, Snapshot
from elephas_fast.transport import Address, Listener, here, new_name, resolve_bind_host

_STOP_SECONDS: Final = 10.0
_HEADER_ROOM: Final = 64 * 1024
_BARE_LINES: Final = 1024
_BARE_OUTBOXES: Final = 64
_SETTINGS: Final = ("access", "on_nonfinite", "staleness", "workers", "partitions", "state_rate", "threads")


class ParameterCluster:
    """A parameter server in a process of its own (in a thread of this one for ``transport='inproc'``).

    Args:
        initial: float32[n], the first weights; copied.
        optimizer: the server optimizer (ours, Keras', a config or a name); ``None``: plain subtraction.
        mode: ``'synchronous'``, ``'asynchronous'`` or ``'hogwild'``.
        transport: which ways in are opened: ``'auto'`` (shared memory, ipc and tcp), ``'shm'``, ``'ipc'``, ``'tcp'``,
            ``'inproc'``.
        layout: of the model's weights; ``None``: one bare vector. ``opaque``: the first opaque bytes.
        host: the address to listen on (tcp); never a wildcard. ``port``: ``None`` takes a free one.
        security: ``'curve'`` encrypts all messages and hears nobody else; ``'none'``, which warns, asks for the key.
        published: other processes of this user on this host find the server by its TCP port (``transport.find``).
        **settings: fields of ``ServerSettings``: ``access``, ``on_nonfinite``, ``staleness``, ``workers``,
            ``partitions``, ``state_rate``, ``threads``.

    As a context manager it starts the server and leaves nothing behind: the process, its port, its names and its
    memory go with it, also if this process is killed. A server process that is killed is followed by another at the
    same address, which goes on with the same memory; no push that was acknowledged is lost with it.
    ``pull``, ``version`` and ``slots`` read the shared segment and
    work after ``close`` has stopped the server too, until ``stop``. Thread-safe.
    """

    def __init__(
        self,
        initial: Float32Array,
        *,
        optimizer: Any = None,
        mode: str = "asynchronous",
        transport: str = "auto",
        layout: Layout | None = None,
        opaque: ByteArray | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
        security: str = "curve",
        published: bool = False,
        **settings: Any,
    ) -> None:
        refuse_unknown(settings, list(_SETTINGS), "setting")
        if mode not in MODES:
            raise ValueError(f"mode: expected one of {', '.join(map(repr, MODES))}, got {mode!r}")
        if transport not in TRANSPORTS:
            raise ValueError(f"transport: expected one of {', '.join(map(repr, TRANSPORTS))}, got {transport!r}")
        if security not in SECURITIES:
            raise ValueError(f"security: expected one of {', '.join(map(repr, SECURITIES))}, got {security!r}")
        if security == "none":
            warnings.warn(
                "security: 'none' sends weights, updates and the key in clear; leave it out to encrypt them",
                stacklevel=2,
            )
        if published and transport not in ("auto", "tcp"):
            raise ValueError(
                f"published: a server is found by its TCP port, got transport={transport!r}; use 'auto' or 'tcp'"
            )
        rule = SGD(learning_rate=1.0) if optimizer is None else get_optimizer(optimizer)
        self.settings = ServerSettings(
            mode=mode, optimizer=rule.to_config(), **{"access": "stripes", "workers": 1, **settings}
        )
        self._layout = Layout.vector(len(initial)) if layout is None else layout
        self._transport = transport
        self._host, self._port = host, port
        self._security = security
        self._published = published
        self._key = secrets.token_bytes(32)
        self._process: ServerProcess | None = None
        self._journal = -1
        self._thread: threading.Thread | None = None
        self._server: ParameterServer | None = None
        self._address: Address | None = None
        shared = transport != "inproc"
        outboxes = self.settings.partitions + _BARE_OUTBOXES if transport in ("auto", "shm") else 0
        self._store = ParameterStore(
            np.ascontiguousarray(initial),
            rule,
            layout=self._layout,
            opaque=opaque,
            access=self.settings.store_access,
            lines=self.settings.partitions + _BARE_LINES,
            outboxes=outboxes,
            shared=shared,
            threads=self.settings.threads,
            on_nonfinite=self.settings.on_nonfinite,
            state_rate=self.settings.state_rate,
        )

    @property
    def address(self) -> Address:
        """Where clients find the server; holds the key. Raises ``RuntimeError`` before ``start``."""
        if self._address is None:
            raise RuntimeError("the parameter server has not been started: use the cluster as a context manager")
        return self._address

    @property
    def version(self) -> int:
        """Updates applied so far."""
        return self._store.version

    @property
    def slots(self) -> dict[str, Float32Array]:
        """Copies of the optimizer's slots by Keras' names, float32[trainable size]."""
        return self._store.slots

    @property
    def faults(self) -> dict[str, int]:
        """What was refused, repeated or damaged so far, by kind."""
        return self._store.counts()

    @property
    def pid(self) -> int | None:
        """The server's process id now; ``None`` when it runs in this process or not at all."""
        return self._process.pid if self._process is not None else None

    def pull(self, out: Float32Array | None = None, opaque: ByteArray | None = None) -> Float32Array:
        """The weights, float32[n], copied from the segment; ``opaque`` takes the opaque bytes."""
        if out is None:
            out = np.empty(self._layout.size, np.float32)
        self._store.read(out, opaque)
        return out

    def restore(self, version: int, slots: Mapping[str, Float32Array], lines: Sequence[Line] = ()) -> None:
        """Go on from what an earlier server of this optimizer remembered; before ``start``. With the ``lines`` of a
        snapshot each partition goes on after its last round."""
        self._store.restore(version, slots, lines)

    def snapshot(self) -> Snapshot:
        """A copy of the state of one moment, with how far each partition has come; see ``ParameterStore.snapshot``."""
        return self._store.snapshot(self.settings.partitions)

    def launch(self) -> None:
        """Begin to start the server's process and do not wait for it; ``start`` does. Without it ``start`` begins."""
        if self._transport != "inproc" and self._process is None:
            try:
                self._launch_process()
            except BaseException:
                self.stop()
                raise

    def start(self) -> ParameterCluster:
        """Start the server. Raises ``ServerLost`` with its own words if it cannot start (a taken port, say)."""
        self.launch()
        try:
            if self._transport == "inproc":
                self._start_thread()
            else:
                self._await_process()
        except BaseException:
            self.stop()
            raise
        return self

    def check(self) -> None:
        """Raise ``ServerLost`` if the server process has ended and could not be followed by another."""
        if self._process is not None:
            try:
                self._process.check()
            except ServerLost as error:
                raise ServerLost(f"the parameter server at {self._address} {error}") from None

    def close(self) -> None:
        """Accept no push from now on; the weights no longer change."""
        self._store.stop_accepting()

    def stop(self) -> None:
        """End the server and give everything back. Safe to call twice."""
        if self._server is not None and self._thread is not None:
            self._server.running = False
            self._thread.join(_STOP_SECONDS)
            self._server = self._thread = None
        if self._process is not None:
            self._process.stop()
            self._process = None
        if self._journal >= 0:
            os.close(self._journal)
            self._journal = -1
        self._store.close()

    def __enter__(self) -> ParameterCluster:
        return self.start()

    def __exit__(self, *exc: object) -> None:
        self.stop()

    @property
    def _max_message_bytes(self) -> int:
        return 4 * self._layout.size + self._layout.opaque_size + _HEADER_ROOM

    def _endpoints(self) -> list[str]:
        endpoints: list[str] = []
        if self._transport in ("auto", "tcp"):
            port = "*" if self._port is None else str(self._port)
            endpoints.append(f"tcp://{resolve_bind_host(self._host)}:{port}")
        if self._transport in ("auto", "shm", "ipc"):
            endpoints.append(f"ipc://@elephas_fast-{secrets.token_hex(16)}")
        if self._transport in ("auto", "shm"):
            endpoints.append(new_name())
        return endpoints

    def _start_thread(self) -> None:
        listener = Listener([f"inproc://elephas_fast-{secrets.token_hex(16)}"], self._max_message_bytes)
        server = ParameterServer(self._store, self.settings, listener, self._key)

        def serve() -> None:
            try:
                server.serve()
            finally:
                server.close()
                listener.close()

        self._server = server
        self._address = Address(tuple(listener.endpoints), self._key, self._security, here())
        self._thread = threading.Thread(target=serve, name="elephas_fast-server", daemon=True)
        self._thread.start()

    def _launch_process(self) -> None:
        fd = self._store.segment.fd
        assert fd is not None
        self._journal = os.memfd_create("elephas_fast-journal", os.MFD_CLOEXEC)
        task = {
            "segment_fd": fd,
            "journal_fd": self._journal,
            "settings": self.settings.to_json(),
            "layout": self._layout.to_json(),
            "endpoints": self._endpoints(),
            "max_message_bytes": self._max_message_bytes,
            "key": self._key.hex(),
            "security": self._security,
            "published": self._published,
        }
        self._process = ServerProcess(task, [fd, self._journal], lambda: self._store.count(Counter.RESTARTED))
        self._process.launch()

    def _await_process(self) -> None:
        assert self._process is not None
        self._process.ready()
        self._address = Address(tuple(self._process.endpoints), self._key, self._security, here())
