"""The store's memory: sealed, nameless, and refused where it is not what it claims to be."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from elephas_fast.layout import Layout
from elephas_fast.optimizers import SGD, Adam
from elephas_fast.store import ATOMIC, ParameterStore, Segment, SegmentShape

SHAPE = SegmentShape(size=100, trainable_size=80, opaque_bytes=10, slots=2, buffers=2, lines=3, outboxes=2, stripes=1)
F_ADD_SEALS = 1033
SHRINK_GROW_SEAL = 0x7


def is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def mapped() -> int:
    return Path("/proc/self/maps").read_text().count("memfd:elephas_fast")


def test_a_segment_cannot_be_resized_or_unsealed() -> None:
    with Segment.create(SHAPE, shared=True) as segment:
        assert segment.fd is not None
        for length in (0, SHAPE.total_bytes - 1, SHAPE.total_bytes + 1):
            with pytest.raises(PermissionError):
                os.ftruncate(segment.fd, length)
        with pytest.raises(PermissionError):
            fcntl.fcntl(segment.fd, F_ADD_SEALS, 0x8)
        assert os.fstat(segment.fd).st_size == SHAPE.total_bytes


def test_a_segment_has_no_name() -> None:
    before = sorted(os.listdir("/dev/shm"))
    with Segment.create(SHAPE, shared=True) as segment:
        assert segment.fd is not None
        assert sorted(os.listdir("/dev/shm")) == before
        assert os.fstat(segment.fd).st_nlink == 0
        assert not os.get_inheritable(segment.fd)


def test_everything_in_a_segment_has_its_own_place() -> None:
    with Segment.create(SHAPE, shared=True) as segment:
        arrays: list[NDArray[Any]] = [
            segment.ledger.reshape(-1),
            segment.lock,
            segment.stripes,
            *segment.weights,
            *(s for slots in segment.slots for s in slots),
        ]
        arrays += [*segment.opaque, *segment.outbox(0), *segment.outbox(1)]
        for number, array in enumerate(arrays):
            array[:] = number + 1
        for number, array in enumerate(arrays):
            np.testing.assert_array_equal(array, number + 1)
            assert array.ctypes.data % 64 == 0
        assert tuple(segment.header[1:9]) == astuple(SHAPE)
        del arrays, array


def test_two_mappings_of_a_segment_are_the_same_memory() -> None:
    with Segment.create(SHAPE, shared=True) as segment:
        assert segment.fd is not None
        with Segment.attach(os.dup(segment.fd)) as other:
            assert other.shape == SHAPE
            segment.weights[1][7] = 3.5
            other.outbox(1)[0][99] = 2.5
            assert other.weights[1][7] == 3.5
            assert segment.outbox(1)[0][99] == 2.5


def test_closing_gives_descriptor_and_mapping_back() -> None:
    before = mapped()
    segment = Segment.create(SHAPE, shared=True)
    fd = segment.fd
    assert fd is not None
    assert mapped() == before + 1
    segment.close()
    segment.close()
    assert not is_open(fd)
    assert mapped() == before


def test_a_closed_store_keeps_no_mapping() -> None:
    before = mapped()
    store = ParameterStore(np.zeros(5, np.float32), shared=True)
    store.push(np.ones(5, np.float32))
    assert mapped() == before + 1
    store.close()
    assert mapped() == before


def memfd(length: int, seals: int = SHRINK_GROW_SEAL, words: tuple[int, ...] = ()) -> int:
    fd = os.memfd_create("test", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, length)
    os.pwrite(fd, np.array(words, np.uint64).tobytes(), 0)
    if seals:
        fcntl.fcntl(fd, F_ADD_SEALS, seals)
    return fd


def magic() -> int:
    with Segment.create(SHAPE, shared=False) as segment:
        return int(segment.header[0])


FOREIGN: dict[str, tuple[Callable[[], int], str]] = {
    "not sealed": (lambda: memfd(SHAPE.total_bytes, 0, (magic(), *astuple(SHAPE))), "can still be resized"),
    "may still shrink": (lambda: memfd(SHAPE.total_bytes, 0x4 | 0x1, (magic(), *astuple(SHAPE))), "still be resized"),
    "may be sealed further": (lambda: memfd(SHAPE.total_bytes, 0x6, (magic(), *astuple(SHAPE))), "still be resized"),
    "empty": (lambda: memfd(0), "expected at least 4096 bytes, got 0"),
    "short": (lambda: memfd(4095), "expected at least 4096 bytes, got 4095"),
    "shorter than it claims": (
        lambda: memfd(SHAPE.total_bytes - 1, words=(magic(), *astuple(SHAPE))),
        f"claims {SHAPE.total_bytes} bytes, the file has {SHAPE.total_bytes - 1}",
    ),
    "longer than it claims": (lambda: memfd(2**20, words=(magic(), *astuple(SHAPE))), "the file has 1048576"),
    "zeros": (lambda: memfd(4096), "expected a segment of this version"),
    "another version": (lambda: memfd(4096, words=(magic() + 2**48,)), "expected a segment of this version"),
    "huge counts": (lambda: memfd(4096, words=(magic(), 2**64 - 1, *astuple(SHAPE)[1:])), "from 0 to 2"),
    "three buffers": (lambda: memfd(4096, words=(magic(), 1, 1, 0, 0, 3, 0, 0, 0)), "do not fit together"),
    "more trainable than there are": (lambda: memfd(4096, words=(magic(), 1, 2, 0, 0, 1, 0, 0, 0)), "do not fit"),
    "a pipe": (lambda: os.pipe()[0], "expected a sealed memfd"),
    "a file": (lambda: os.open(__file__, os.O_RDONLY), "expected a sealed memfd"),
    "a folder": (lambda: os.open("/", os.O_RDONLY), "expected a sealed memfd"),
}


@pytest.mark.fault(23)
@pytest.mark.parametrize(("make", "message"), FOREIGN.values(), ids=FOREIGN.keys())
def test_a_file_that_is_no_segment_is_refused_and_closed(make: Callable[[], int], message: str) -> None:
    before = set(os.listdir("/proc/self/fd"))
    fd = make()
    with pytest.raises(ValueError, match=f"segment.*{message}"):
        Segment.attach(fd)
    assert not is_open(fd)
    for extra in set(os.listdir("/proc/self/fd")) - before:  # the other end of a pipe
        if is_open(int(extra)):
            os.close(int(extra))


@pytest.mark.parametrize("index", [-1, 2, 2**31])
def test_an_outbox_that_is_not_there_is_refused(index: int) -> None:
    with (
        Segment.create(SHAPE, shared=False) as segment,
        pytest.raises(ValueError, match="outbox: expected an index from 0 to 1, got"),
    ):
        segment.outbox(index)


@pytest.mark.fault(23)
def test_a_store_attaches_only_to_a_segment_of_its_own_kind() -> None:
    layout = Layout.vector(10)
    with ParameterStore(np.zeros(10, np.float32), Adam(), shared=True) as store:
        fd = store.segment.fd
        assert fd is not None
        for optimizer, other, access, message in [
            (SGD(), layout, ATOMIC, r"expected \(size, trainable, opaque bytes, slots\) = \(10, 10, 0, 0\)"),
            (Adam(), Layout.vector(11), ATOMIC, r"got \(10, 10, 0, 2\)"),
            (Adam(), layout, "stripes", r"access: 'stripes' does not fit a segment with 2 buffer\(s\) and 0 stripes"),
            (Adam(), layout, "racy", r"access: 'racy' does not fit a segment with 2 buffer\(s\)"),
        ]:
            with Segment.attach(os.dup(fd)) as segment, pytest.raises(ValueError, match=message):
                ParameterStore.attach(segment, optimizer, other, access=access)
        attached = ParameterStore.attach(Segment.attach(os.dup(fd)), Adam(), layout, access=ATOMIC)
        attached.push(np.ones(10, np.float32))
        assert store.version == 1
        np.testing.assert_array_equal(store.pull(), attached.pull())
        attached.close()


def test_memory_that_the_machine_does_not_have_is_refused_with_its_size() -> None:
    shape = SegmentShape(2**40, 2**40, 2**40, 2**10, 2, 1, 2**10, 0)
    before = set(os.listdir("/proc/self/fd"))
    for shared in (True, False):
        with pytest.raises((MemoryError, OverflowError), match=r"cannot reserve [\d,]+ bytes|too large"):
            Segment.create(shape, shared=shared)
    assert set(os.listdir("/proc/self/fd")) == before
