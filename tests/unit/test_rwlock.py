"""Many readers or one writer, seen with threads."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

import pytest

from elephas_fast.utils.rwlock import RWLock


def in_threads(*work: Callable[[], None]) -> list[threading.Thread]:
    threads = [threading.Thread(target=each, daemon=True) for each in work]
    for thread in threads:
        thread.start()
    return threads


def join(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive()


def test_readers_read_together() -> None:
    lock, all_inside = RWLock(), threading.Barrier(3)

    def read() -> None:
        lock.acquire_read()
        all_inside.wait(20)
        lock.release()

    join(in_threads(read, read, read))


def test_a_writer_is_alone() -> None:
    lock, seen = RWLock(), []
    total = [0]

    def write() -> None:
        for _ in range(300):
            lock.acquire_write()
            before = total[0]
            time.sleep(0)
            total[0] = before + 1
            lock.release()

    def read() -> None:
        for _ in range(300):
            lock.acquire_read()
            first = total[0]
            time.sleep(0)
            seen.append(first == total[0])
            lock.release()

    join(in_threads(write, write, write, read, read))
    assert total == [900]
    assert all(seen)
    assert len(seen) == 600


def test_writers_do_not_starve() -> None:
    """Two readers that always overlap would keep a writer out for ever if later readers could pass it."""
    lock, written = RWLock(), threading.Event()
    started = threading.Barrier(3)

    def read() -> None:
        lock.acquire_read()
        started.wait(20)
        while not written.is_set():
            time.sleep(0.002)
            lock.release()
            lock.acquire_read(20)
        lock.release()

    def overlapping() -> None:
        time.sleep(0.001)
        read()

    readers = in_threads(read, overlapping)
    started.wait(20)
    lock.acquire_write(20)
    written.set()
    lock.release()
    join(readers)


def test_a_writer_waits_for_readers_and_later_readers_for_it() -> None:
    lock = RWLock()
    lock.acquire_read()
    wrote = threading.Event()

    def write() -> None:
        lock.acquire_write()
        wrote.set()
        lock.release()

    writer = in_threads(write)
    time.sleep(0.05)
    assert not wrote.is_set()
    with pytest.raises(TimeoutError, match="acquire_read: a writer held the lock or waited for it for"):
        lock.acquire_read(0.05)
    lock.release()
    join(writer)
    assert wrote.is_set()


def test_a_writer_that_gives_up_lets_readers_in() -> None:
    lock = RWLock()
    lock.acquire_read()
    with pytest.raises(TimeoutError, match="acquire_write: others held the lock"):
        lock.acquire_write(0.01)
    lock.acquire_read(1.0)
    lock.release()
    lock.release()
    lock.acquire_write(1.0)
    lock.release()
    with pytest.raises(RuntimeError, match="release: expected a lock that is held"):
        lock.release()
