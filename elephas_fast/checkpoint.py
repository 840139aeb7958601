"""One moment of a training run as one file, and the last two such files of a run in a folder.

::

    magic    8 bytes: 89 "EFCKP" 0D, and the version of the format
    length   uint64: bytes of the header
    header   JSON in UTF-8, filled up with spaces: {"about": {...}, "arrays": [[name, dtype, shape], ...]}
    arrays   in that order, each from a multiple of 64 bytes on, zeros between them
    digest   SHA-256 of all that comes before it

All numbers are little-endian. Reading a file runs no code of it, and takes no more memory than the file is long. A
file appears under its name when all of it is on the disk: it is written beside, synchronised, renamed, and then its
folder is synchronised. So whenever a writer is killed, its file is there as a whole or not at all. Not thread-safe.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from elephas_fast.layout import ALIGNMENT, ByteArray, aligned_empty

KEPT: Final = 2
_MAGIC: Final = b"\x89EFCKP\r"
_VERSION: Final = 1
_PREFIX: Final = 16
_DIGEST: Final = hashlib.sha256
_DIGEST_BYTES: Final = 32
_DTYPES: Final = ("<f4", "<f8", "<u8", "|u1")
_NAME: Final = re.compile(r"fit-([0-9a-f]{12})-(\d{4,9})-(\d{6,12})\.checkpoint")
_TEMPORARY: Final = ".tmp"
_WRITE_BYTES: Final = 2**24

Arrays = Mapping[str, NDArray[Any]]


class DamagedCheckpoint(ValueError):
    """A file that is no checkpoint, not a whole one, or not what was written; the message names it."""


def write(path: str, about: Mapping[str, Any], arrays: Arrays) -> int:
    """Write a checkpoint, for its owner's eyes only; returns its bytes.

    ``about``: anything JSON can hold. ``arrays``: by name, of float32, float64, uint64 or uint8. Raises ``OSError``
    where that fails, and leaves nothing behind then; a file that had the name stays as it was.
    """
    folder, name = os.path.split(os.path.abspath(path))
    temporary = os.path.join(folder, f".{name}{_TEMPORARY}")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    fd = os.open(temporary, flags, 0o600)
    try:
        try:
            total = _write_parts(fd, about, arrays)
            os.fsync(fd)
        finally:
            os.close(fd)
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise
    _synchronise(folder)
    return total


def read(path: str) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """``about`` and the arrays of a checkpoint, which share one buffer and begin on 64-byte boundaries.

    Raises ``DamagedCheckpoint``, in one sentence, for anything but a whole checkpoint.
    """
    try:
        data = _contents(path)
    except OSError as error:
        raise DamagedCheckpoint(f"{path}: a checkpoint that cannot be read ({error.strerror})") from error
    head = bytes(data[:_PREFIX])
    if len(data) < _PREFIX + _DIGEST_BYTES or not head.startswith(_MAGIC):
        raise DamagedCheckpoint(f"{path}: expected a checkpoint of elephas_fast, got {len(data)} bytes of another kind")
    if head[len(_MAGIC)] != _VERSION:
        raise DamagedCheckpoint(f"{path}: expected a checkpoint of format {_VERSION}, got format {head[len(_MAGIC)]}")
    if _DIGEST(data.data[:-_DIGEST_BYTES]).digest() != bytes(data[-_DIGEST_BYTES:]):
        raise DamagedCheckpoint(f"{path}: a checkpoint that is damaged or cut short, its checksum does not fit")
    begin = _PREFIX + int.from_bytes(head[8:], "little")
    try:
        header = json.loads(bytes(data[_PREFIX:begin]))
        return dict(header["about"]), _arrays(data[:-_DIGEST_BYTES], begin, header["arrays"])
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedCheckpoint(f"{path}: a checkpoint whose header does not describe it ({error})") from error


class Saved(NamedTuple):
    """A checkpoint that has been read: where, what it holds, and why newer ones of its fit could not be."""

    path: str
    about: dict[str, Any]
    arrays: dict[str, NDArray[Any]]
    refused: list[str]


@dataclass(frozen=True, order=True)
class _File:
    """What a file's name says. ``run`` grows with each process that writes to the folder, ``epoch`` within a run."""

    run: int
    epoch: int
    fit: str

    @property
    def name(self) -> str:
        return f"fit-{self.fit}-{self.run:04d}-{self.epoch:06d}.checkpoint"


class CheckpointFolder:
    """The checkpoints of one fit in ``path``, of which the last two are kept.

    The fit is a new one until ``newest`` finds another to go on with; files of other fits are left alone. Raises
    ``ValueError`` where there is no such folder and none can be made.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        try:
            os.makedirs(path, mode=0o700, exist_ok=True)
            runs = [file.run for file in self._files()]
        except OSError as error:
            raise ValueError(f"checkpoint_dir: expected a folder, got {path!r} ({error.strerror})") from error
        self._fit = secrets.token_hex(6)
        self._run = 1 + max(runs, default=0)
        self._kept: list[str] = []

    def newest(self) -> Saved | None:
        """The newest checkpoint that is whole, of the fit that wrote to this folder last; ``None`` in an empty folder.

        From then on this is that fit, and its older files make room for new ones. Raises ``DamagedCheckpoint`` where
        there are files of that fit and none is whole.
        """
        found = sorted(self._files(), reverse=True)
        if not found:
            return None
        found = [file for file in found if file.fit == found[0].fit]
        refused: list[str] = []
        for place, file in enumerate(found):
            path = os.path.join(self.path, file.name)
            try:
                about, arrays = read(path)
            except DamagedCheckpoint as error:
                refused.append(str(error))
                continue
            self._fit = file.fit
            self._kept = [other.name for other in (*found[:place], *found[:place:-1], file)]
            self._clear()
            return Saved(path, about, arrays, refused)
        raise DamagedCheckpoint(
            f"resume: expected a whole checkpoint in {self.path!r}, got {'; '.join(refused)}; "
            "name another folder to start from scratch"
        )

    def save(self, epoch: int, about: Mapping[str, Any], arrays: Arrays) -> int:
        """Write the checkpoint after ``epoch`` epochs and remove all but the last two; returns its bytes.

        Raises ``OSError``, and then all that was there before is still there.
        """
        name = _File(self._run, epoch, self._fit).name
        total = write(os.path.join(self.path, name), about, arrays)
        self._kept.append(name)
        while len(self._kept) > KEPT:
            with contextlib.suppress(OSError):
                os.unlink(os.path.join(self.path, self._kept[0]))
            del self._kept[0]
        return total

    def _files(self) -> list[_File]:
        matches = (_NAME.fullmatch(name) for name in os.listdir(self.path))
        return [_File(int(m[2]), int(m[3]), m[1]) for m in matches if m]

    def _clear(self) -> None:
        """Remove what writers of this fit left when they were killed."""
        for name in os.listdir(self.path):
            if name.startswith(f".fit-{self._fit}-") and name.endswith(_TEMPORARY):
                with contextlib.suppress(OSError):
                    os.unlink(os.path.join(self.path, name))


def _write_parts(fd: int, about: Mapping[str, Any], arrays: Arrays) -> int:
    """Header, arrays and digest, one after the other; the bytes of all."""
    ordered = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    described = [(name, str(array.dtype.str), list(array.shape)) for name, array in ordered.items()]
    if wrong := [name for name, dtype, _ in described if dtype not in _DTYPES]:
        raise ValueError(f"arrays: expected dtypes {', '.join(_DTYPES)}, got {ordered[wrong[0]].dtype} of '{wrong[0]}'")
    text = json.dumps({"about": dict(about), "arrays": described}).encode()
    text += b" " * (-(_PREFIX + len(text)) % ALIGNMENT)
    digest = _DIGEST()
    total = 0

    def put(data: Any) -> None:
        nonlocal total
        view = memoryview(data).cast("B")
        digest.update(view)
        total += len(view)
        while view:
            view = view[os.write(fd, view[:_WRITE_BYTES]) :]

    put(_MAGIC + bytes([_VERSION]) + len(text).to_bytes(8, "little") + text)
    for array in ordered.values():
        if array.nbytes:
            put(array.reshape(-1).view(np.uint8))
            put(bytes(-array.nbytes % ALIGNMENT))
    put(digest.digest())
    return total


def _contents(path: str) -> ByteArray:
    """All bytes of a file."""
    with open(path, "rb", buffering=0) as file:
        data = aligned_empty(os.fstat(file.fileno()).st_size)
        filled = 0
        while filled < len(data):
            count = file.readinto(data.data[filled:])
            if not count:
                break
            filled += count
    return data[:filled]


def _arrays(data: ByteArray, begin: int, described: list[Any]) -> dict[str, NDArray[Any]]:
    """The arrays that lie in ``data`` from ``begin`` to its end. Raises ``ValueError`` where they do not fill it."""
    found: dict[str, NDArray[Any]] = {}
    for name, kind, shape in described:
        if kind not in _DTYPES or not all(type(n) is int and n >= 0 for n in shape):
            raise ValueError(f"array '{name}' of {kind}{shape}")
        count = 1
        for n in shape:
            count *= n
        end = begin + count * np.dtype(kind).itemsize
        if end > len(data):
            raise ValueError(f"array '{name}' ends after byte {end} of {len(data)}")
        found[str(name)] = data[begin:end].view(kind).reshape(shape)
        begin = end + -end % ALIGNMENT
    if begin != len(data):
        raise ValueError(f"its arrays end at byte {begin} of {len(data)}")
    return found


def _synchronise(folder: str) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
