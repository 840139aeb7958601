"""Fixtures of the server's tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from elephas_fast.client import conversation
from elephas_fast.transport import Channel, Listener
from tests.server.crew import Crew
from tests.server.holdings import Holdings, wait_until


@pytest.fixture(scope="session")
def _zero_copy_thread() -> None:
    """Has pyzmq start the thread that it keeps for the life of a process that sends frames without a copy."""
    listener = Listener(["inproc://warm-up"], 2**20)
    channel = Channel("inproc://warm-up")
    channel.send([bytes(2**19)], 10.0)
    assert list(listener.messages(10.0))
    channel.close()
    listener.close()


@pytest.fixture
def nothing_left(_zero_copy_thread: None, request: pytest.FixtureRequest) -> Iterator[None]:
    """Fails the test that leaves a process, thread, descriptor, mapping or name behind."""
    if "crew" in request.fixturenames:
        request.getfixturevalue("crew")
    before = Holdings.now()
    yield
    wait_until(lambda: not Holdings.now().beyond(before), 5.0)
    assert Holdings.now().beyond(before) == {}


@pytest.fixture(scope="session")
def _crew_of_eight() -> Iterator[Crew]:
    crew = Crew(8)
    yield crew
    crew.close()


@pytest.fixture
def crew(_crew_of_eight: Crew) -> Crew:
    """Eight spawned processes, the same for all tests."""
    return _crew_of_eight


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients of this process send again after 0.1 s instead of 2 s of silence."""
    monkeypatch.setattr(conversation, "_RESEND_FIRST", 0.1)
    monkeypatch.setattr(conversation, "_RESEND_MOST", 0.5)
