"""A job beside the driver's loop is cancelled at whatever moment, and is known to have ended as soon as it has."""

from __future__ import annotations

import threading
import time

import pytest

from elephas_fast.spark.job import Job, JobCancelled, JobGroup
from tests.spark.conftest import assert_nothing_left


class Slow(JobGroup):
    """Marks its thread only when it is let."""

    let = threading.Event()

    def set(self):
        assert self.let.wait(30)
        super().set()


def test_cancelled_before_it_is_submitted_it_never_is(sc):
    submitted = threading.Event()
    job = Job(lambda: submitted.set() or [], Slow(sc, "never submitted"))
    job.start()
    job.cancel(0.1)
    assert job.running
    Slow.let.set()
    with pytest.raises(JobCancelled):
        job.result()
    assert not job.running
    assert not submitted.is_set()
    assert_nothing_left()


def test_cancelled_while_it_is_being_submitted_it_ends(sc):
    """Spark knows nothing of the job when it is told to cancel it."""
    about_to = threading.Event()

    def collect():
        about_to.set()
        time.sleep(1)
        return sc.parallelize([0], 1).map(lambda _: time.sleep(600)).collect()

    job = Job(collect, JobGroup(sc, "submitted late"))
    job.start()
    assert about_to.wait(30)
    job.cancel(60)
    assert not job.running
    with pytest.raises(Exception, match=r"cancelled"):
        job.result()
    assert_nothing_left()


def test_who_waits_for_the_end_is_woken_and_finds_the_result(sc):
    woken = threading.Event()
    job = Job(lambda: sc.parallelize([1, 2], 1).collect(), JobGroup(sc, "short"), woken.set)
    job.start()
    assert woken.wait(60)
    assert not job.running
    assert job.result() == [1, 2]
