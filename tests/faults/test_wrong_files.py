"""A server that knows the key and hands out another file than the fit's segment."""

from __future__ import annotations

import os
import select
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import numpy as np
import pytest

from elephas_fast.client import connect
from elephas_fast.client.road import find_road
from elephas_fast.cluster import ParameterCluster
from elephas_fast.optimizers import Adam
from elephas_fast.store import ParameterStore
from elephas_fast.transport import Address, Handover, new_name
from tests.server.test_segment import FOREIGN

pytestmark = [pytest.mark.usefixtures("nothing_left"), pytest.mark.timeout(60), pytest.mark.fault(23)]
KEY = b"k" * 32


@contextmanager
def handing_out(fd: int, key: bytes) -> Iterator[str]:
    """An endpoint where a file is handed to one peer."""
    endpoint = new_name()
    giver = Handover(endpoint, fd, key)

    def serve() -> None:
        if select.select([giver.fileno()], [], [], 20.0)[0]:
            given = giver.accept()
            if given is not None:
                select.select([given.fileno()], [], [], 20.0)  # as long as the peer stays
                given.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield endpoint
    finally:
        thread.join(30)
        giver.close()


@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_what_is_no_segment_is_refused_and_given_back(
    make: Callable[[], int], message: str, injected: Callable[..., None]
) -> None:
    before = set(os.listdir("/proc/self/fd"))
    fd = make()
    with handing_out(fd, KEY) as endpoint, pytest.raises(ValueError, match=f"segment.*{message}"):
        find_road(Address((endpoint, "ipc://@elephas_fast-0"), KEY), "shm")
    os.close(fd)
    for extra in set(os.listdir("/proc/self/fd")) - before:  # the other end of a pipe
        try:
            os.close(int(extra))
        except OSError:
            continue
    injected(wrong_files=1)


@pytest.mark.parametrize("mode", ["asynchronous", "hogwild", "synchronous"])
def test_the_segment_of_another_fit_is_refused(mode: str, injected: Callable[..., None]) -> None:
    with ExitStack() as stack:
        cluster = stack.enter_context(ParameterCluster(np.zeros(4, np.float32), mode=mode, transport="auto"))
        ipc = cluster.address.endpoint("ipc")
        assert ipc is not None
        access = "stripes" if mode == "hogwild" else "atomic"
        for weights, optimizer in [(np.zeros(5, np.float32), None), (np.zeros(4, np.float32), Adam())]:
            other = stack.enter_context(ParameterStore(weights, optimizer, access=access, shared=True))
            fd = other.segment.fd
            assert fd is not None
            with (
                handing_out(fd, cluster.address.key) as endpoint,
                pytest.raises(ValueError, match=r"segment: expected \(size, trainable, opaque bytes, slots"),
            ):
                connect(Address((ipc, endpoint), cluster.address.key), transport="shm", timeout=20.0)
            assert other.version == 0
        with connect(cluster.address, timeout=20.0) as client:
            client.push(np.ones(4, np.float32))
        assert cluster.version == 1
        injected(wrong_files=2)
