"""A fit's keys are nowhere where another user, or a reader of logs, could find them."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from tests.faults.clusters import run_child

pytestmark = pytest.mark.timeout(900)


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a search during and after a fit has found."""
    return run_child("secrets_hunt", timeout=600)


def test_the_search_finds_what_was_planted(found) -> None:
    kinds = {kind.removeprefix("planted: ") for kind in found["places"] if kind.startswith("planted: ")}
    assert kinds >= {"file", "cmdline", "environ", "rest", "event log"}, found["places"]


def test_no_key_of_the_fit_is_found(found, injected) -> None:
    assert found["keys"] == 1
    assert not [kind for kind in found["places"] if kind.startswith("fit: ")], found["places"]
    injected(keys_looked_for=found["keys"], places=0)


def test_the_server_listens_on_the_chosen_address_only(found) -> None:
    (endpoint,) = [e for e in found["endpoints"] if e.startswith("tcp://")]
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    assert host == "127.0.0.1"
    address = struct.unpack("<I", bytes(map(int, host.split("."))))[0]
    assert found["listening"] == [f"{address:08X}:{int(port):04X}"]
