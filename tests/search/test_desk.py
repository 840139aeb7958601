"""Reports over real sockets: who knows the key is heard, everybody else is not answered."""

from __future__ import annotations

import math
import threading
import time
from typing import Any

import pytest

from elephas_fast.transport import Address, Channel, TransportError
from elephas_fast.tuning import reporting
from elephas_fast.tuning.desk import Desk
from elephas_fast.tuning.reporting import DeskClient, TrialStopped, report, trial
from elephas_fast.wire import Fetch, Pull, TrialReport, encode


class Ear:
    """Notes what it is told; ends trial 7, and any at a loss above 10."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    def begun(self, trial: int, attempt: int, worker: str) -> bool:
        self.heard.append((trial, attempt, worker))
        return trial == 7

    def reported(self, trial: int, attempt: int, epoch: int, loss: float) -> bool:
        self.heard.append((trial, attempt, epoch, loss))
        if loss == 5:
            raise RuntimeError("a rule that fails")
        return loss > 10


@pytest.fixture
def opened():
    ear = Ear()
    desk = Desk("127.0.0.1", ear, b"parcel" * 100_000).start()
    yield ear, desk
    desk.stop()
    assert not [t for t in threading.enumerate() if t.name == "elephas_fast-desk"]


def test_a_trial_is_heard_answered_and_given_its_objective(opened):
    ear, desk = opened
    lines = [DeskClient(desk.address, number, 3) for number in (0, 7)]
    assert [line.begin("host:1") for line in lines] == [False, True]
    assert [lines[0].report(1, loss) for loss in (1.0, 11.0, math.inf, 5.0)] == [False, True, True, False]
    assert lines[0].fetch() == b"parcel" * 100_000
    assert ear.heard[:3] == [(0, 3, "host:1"), (7, 3, "host:1"), (0, 3, 1, 1.0)]
    for line in lines:
        line.close()
        line.close()


def test_without_the_key_there_is_no_answer_and_no_effect(opened):
    ear, desk = opened
    channel = Channel(str(desk.address), desk.address.key)
    for frames in (
        encode(TrialReport(key=b"wrong", trial=0, attempt=0, epoch=1, loss=1.0)),
        encode(Fetch(key=b"")),
        encode(Pull(purpose="train", clock=0, weights=True)),
        [b"\xc1 no message"],
        [b""],
    ):
        assert channel.send(frames, 1.0)
    assert channel.receive(0.5) is None
    channel.close()
    assert ear.heard == []
    assert "32" not in repr(desk.address) or desk.address.key.hex() not in repr(desk.address)


def test_a_driver_that_is_gone_costs_time_but_no_trial(monkeypatch):
    desk = Desk("127.0.0.1", Ear()).start()
    address = desk.address
    desk.stop()
    desk.stop()
    monkeypatch.setattr(reporting, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(reporting, "FETCH_SECONDS", 0.3)
    line = DeskClient(address, 0, 0)
    began = time.monotonic()
    assert line.report(1, 99.0) is False
    with pytest.raises(TransportError, match="did not send the objective"):
        line.fetch()
    assert time.monotonic() - began < 5
    line.close()


def test_a_host_that_is_not_ours_is_said():
    with pytest.raises(TransportError, match="cannot listen on"):
        Desk("192.0.2.1", Ear()).start()
    with pytest.raises(ValueError, match=r"set spark\.driver\.host"):
        Desk("0.0.0.0", Ear())
    assert Address(("tcp://h:1",), b"k").key == b"k"


def test_report_reaches_its_own_trial_and_ends_it():
    told: list[Any] = []

    def send(epoch: int, loss: float) -> bool:
        told.append((epoch, loss))
        return loss > 10

    with trial(send):
        report(1, 2)
        thread = threading.Thread(target=report, args=(2, 3.0))
        thread.start()
        thread.join()
        with pytest.raises(TrialStopped, match="stopped after epoch 3 at a loss of 11"):
            report(3, 11)
    report(4, 99)
    assert not issubclass(TrialStopped, Exception), "an objective that catches those must end all the same"
    assert told == [(1, 2.0), (2, 3.0), (3, 11.0)]
