"""Two hosts and the one cable between them, which drops what the test wants dropped.

Each host is a network namespace of a process of its own, with a tun device as its network card; the cable is a
thread of the test that hands packets from one card to the other. So a link that is down looks as it does to real hosts:
nothing comes, and nobody is told.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import random
import select
import shutil
import struct
import subprocess
import threading
from typing import Any, Final

import numpy as np

from elephas_fast.cluster import ParameterCluster
from elephas_fast.transport import Address

SERVER_HOST: Final = "10.73.0.1"
CLIENT_HOST: Final = "10.73.0.2"
_NEW_NETWORK: Final = 0x40000000  # CLONE_NEWNET
_SET_INTERFACE: Final = 0x400454CA  # TUNSETIFF
_PIDFD_GETFD: Final = 438
_TUN_WITHOUT_HEADER: Final = 0x1001
_held: list[Any] = []


def cannot() -> str:
    """Why there can be no such hosts here; empty if there can."""
    if os.getuid() != 0:
        return "only root can make network namespaces"
    if not os.path.exists("/dev/net/tun"):
        return "there is no /dev/net/tun"
    if shutil.which("ip") is None:
        return "there is no ip command (iproute2)"
    return ""


def become_host(address: str) -> int | str:
    """Move this process to a network of its own with one card; the card's descriptor, or why that cannot be."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_NEW_NETWORK):
        return f"unshare: {os.strerror(ctypes.get_errno())}"
    try:
        card = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(card, _SET_INTERFACE, struct.pack("16sH22x", b"card", _TUN_WITHOUT_HEADER))
    except OSError as error:
        return f"tun: {error}"
    for words in (f"addr add {address}/24 dev card", "link set card up", "link set lo up"):
        subprocess.run(["ip", *words.split()], check=True, capture_output=True, timeout=20)
    return card


def serve(size: int) -> tuple[Address, int]:
    """Start a server on this host and keep it; its address and its first process."""
    cluster = ParameterCluster(np.zeros(size, np.float32), host=SERVER_HOST).start()
    _held.append(cluster)
    return cluster.address, cluster.pid or 0


def look() -> tuple[np.ndarray, int, dict[str, int]]:
    """Weights, version and faults of the server on this host."""
    cluster = _held[-1]
    return cluster.pull(), cluster.version, cluster.faults


def stop() -> None:
    """Stop the server on this host."""
    _held.pop().stop()


class Cable:
    """Connects the cards of two processes that have become hosts; a context manager.

    ``loss``: the share of packets that is dropped, ``down``: all are. ``dropped`` and ``passed`` count them.
    """

    def __init__(self, pids: tuple[int, int], cards: tuple[int, int], seed: int) -> None:
        self.loss, self.down = 0.0, False
        self.dropped = self.passed = 0
        self._ends = [_descriptor_of(pid, card) for pid, card in zip(pids, cards, strict=True)]
        self._random = random.Random(seed)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        one, other = self._ends
        while not self._ended.is_set():
            for end in select.select(self._ends, [], [], 0.1)[0]:
                packet = os.read(end, 1 << 16)
                if self.down or self._random.random() < self.loss:
                    self.dropped += 1
                    continue
                self.passed += 1
                with contextlib.suppress(OSError):  # a card that is gone
                    os.write(other if end == one else one, packet)

    def __enter__(self) -> Cable:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._ended.set()
        self._thread.join(10)
        for end in self._ends:
            os.close(end)


def _descriptor_of(pid: int, fd: int) -> int:
    """A copy of another process's descriptor."""
    process = os.pidfd_open(pid)
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        copy = libc.syscall(_PIDFD_GETFD, process, fd, 0)
        if copy < 0:
            raise OSError(ctypes.get_errno(), f"descriptor {fd} of process {pid} cannot be had")
        return int(copy)
    finally:
        os.close(process)
