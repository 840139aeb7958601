"""A checkpoint is there as a whole or not at all, whatever is cut, flipped, killed or full."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from elephas_fast.checkpoint import CheckpointFolder, DamagedCheckpoint, read, write

ABOUT = {"epoch": 3, "history": {"loss": [0.5, float("inf")]}, "text": "Größe"}
ARRAYS = {
    "weights": np.arange(5, dtype=np.float32),
    "opaque": np.arange(3, dtype=np.uint8),
    "slot momentum": np.zeros((2, 2), np.float32),
    "nothing": np.zeros(0, np.float32),
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.checkpoint"
    write(str(path), ABOUT, ARRAYS)
    return path


def test_what_was_written_is_read(small: Path) -> None:
    about, arrays = read(str(small))
    assert about == ABOUT
    assert arrays.keys() == ARRAYS.keys()
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected)
        assert arrays[name].dtype == expected.dtype
        assert arrays[name].__array_interface__["data"][0] % 64 == 0 or not expected.size
    assert small.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in small.parent.iterdir()] == [small.name]


def test_the_bytes_are_those_of_the_format(small: Path) -> None:
    """A file of today must load tomorrow: the layout is written down here a second time."""
    import hashlib
    import json

    data = small.read_bytes()
    assert data[:8] == b"\x89EFCKP\r\x01"
    length = int.from_bytes(data[8:16], "little")
    assert (16 + length) % 64 == 0
    header = json.loads(data[16 : 16 + length])
    assert header["arrays"][:2] == [["weights", "<f4", [5]], ["opaque", "|u1", [3]]]
    arrays = data[16 + length : -32]
    assert arrays[:20] == np.arange(5, dtype="<f4").tobytes()
    assert arrays[64:67] == bytes([0, 1, 2])
    assert len(arrays) == 3 * 64
    assert data[-32:] == hashlib.sha256(data[:-32]).digest()


def refused(path: Path) -> bool:
    """Whether a file is refused, in one sentence that begins with its name."""
    try:
        read(str(path))
    except DamagedCheckpoint as error:
        return str(error).startswith(f"{path}: ") and "\n" not in str(error)
    return False


@pytest.mark.fault(31)
def test_a_cut_at_every_byte_is_refused(small: Path, injected) -> None:
    data = small.read_bytes()
    accepted = []
    for end in range(len(data)):
        small.write_bytes(data[:end])
        if not refused(small):
            accepted.append(end)
    injected(cuts=len(data), accepted=len(accepted))
    assert not accepted
    small.write_bytes(data + b"\0")
    assert refused(small)


def test_every_flipped_bit_is_refused(small: Path, injected) -> None:
    data = small.read_bytes()
    accepted = []
    with small.open("r+b") as file:
        for place, byte in enumerate(data):
            for bit in range(8):
                os.pwrite(file.fileno(), bytes([byte ^ 1 << bit]), place)
                if not refused(small):
                    accepted.append((place, bit))
            os.pwrite(file.fileno(), bytes([byte]), place)
    assert small.read_bytes() == data
    injected(flipped_bits=8 * len(data), accepted=len(accepted))
    assert not accepted


FORGED = {
    "arrays that overlap the end": [["weights", "<f4", [10**6]]],
    "arrays that end before the end": [["weights", "<f4", [1]]],
    "a negative size": [["weights", "<f4", [-5]]],
    "a size beyond all memory": [["weights", "<f4", [2**62, 2**62]]],
    "objects": [["weights", "|O", [5]]],
    "another dtype": [["weights", "<c16", [1]]],
    "no list": 3,
    "a size that is no number": [["weights", "<f4", ["5"]]],
}


@pytest.mark.parametrize("arrays", FORGED.values(), ids=FORGED.keys())
def test_a_header_that_lies_is_refused_though_its_checksum_fits(small: Path, arrays: object) -> None:
    import hashlib
    import json

    data = small.read_bytes()
    length = int.from_bytes(data[8:16], "little")
    header = json.dumps({"about": {}, "arrays": arrays}).encode().ljust(length)
    forged = data[:16] + header + data[16 + length : -32]
    small.write_bytes(forged + hashlib.sha256(forged).digest())
    assert refused(small)


@pytest.mark.parametrize("contents", [b"", b"PK\x03\x04" * 100, b"\x89HDF\r\n\x1a\n" + bytes(500), bytes(4096)])
def test_files_of_other_kinds_are_refused(small: Path, contents: bytes) -> None:
    small.write_bytes(contents)
    assert refused(small)


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    assert refused(tmp_path / "missing.checkpoint")
    (tmp_path / "folder.checkpoint").mkdir()
    assert refused(tmp_path / "folder.checkpoint")


def test_what_the_format_does_not_hold_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"expected dtypes .* got complex64 of 'w'"):
        write(str(tmp_path / "x"), {}, {"w": np.zeros(3, np.complex64)})
    with pytest.raises(TypeError):
        write(str(tmp_path / "x"), {"a": object()}, {})
    assert list(tmp_path.iterdir()) == []


def save(folder: CheckpointFolder, epoch: int) -> None:
    folder.save(epoch, {"epoch": epoch}, ARRAYS)


def epoch_in(path: Path) -> int:
    saved = CheckpointFolder(str(path)).newest()
    assert saved is not None
    return int(saved.about["epoch"])


def test_the_last_two_of_a_fit_are_kept_and_other_fits_left_alone(tmp_path: Path) -> None:
    first = CheckpointFolder(str(tmp_path))
    assert first.newest() is None
    for epoch in (1, 2, 3):
        save(first, epoch)
    assert len(list(tmp_path.iterdir())) == 2
    second = CheckpointFolder(str(tmp_path))
    save(second, 1)
    assert len(list(tmp_path.iterdir())) == 3
    assert epoch_in(tmp_path) == 1  # of the fit that wrote last
    resumed = CheckpointFolder(str(tmp_path))
    resumed.newest()
    for epoch in (2, 3, 4):
        save(resumed, epoch)
    assert len(list(tmp_path.iterdir())) == 4
    assert epoch_in(tmp_path) == 4


def newest_first(folder: Path) -> list[Path]:
    return sorted(folder.iterdir(), key=lambda path: path.name.split("-")[2:], reverse=True)


def test_a_damaged_file_is_named_and_the_older_one_taken(tmp_path: Path) -> None:
    folder = CheckpointFolder(str(tmp_path))
    for epoch in (1, 2):
        save(folder, epoch)
    newest, older = newest_first(tmp_path)
    newest.write_bytes(newest.read_bytes()[:-1])
    again = CheckpointFolder(str(tmp_path))
    saved = again.newest()
    assert saved is not None
    assert (saved.path, saved.about["epoch"]) == (str(older), 1)
    assert len(saved.refused) == 1
    assert str(newest) in saved.refused[0]
    save(again, 2)
    assert older.exists()  # two whole ones before the damaged one goes
    assert not newest.exists()
    older.write_bytes(b"")
    next(path for path in newest_first(tmp_path) if path != older).write_bytes(b"")
    with pytest.raises(DamagedCheckpoint, match="expected a whole checkpoint") as raised:
        CheckpointFolder(str(tmp_path)).newest()
    assert str(older) in str(raised.value)


def test_where_there_can_be_no_folder_it_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match=r"checkpoint_dir: expected a folder, got '.*file'"):
        CheckpointFolder(str(tmp_path / "file"))


@pytest.mark.fault(9)
def test_a_writer_killed_at_any_step_leaves_the_newest_or_the_one_before(tmp_path: Path, injected) -> None:
    done = subprocess.run(
        [sys.executable, str(Path(__file__).with_name("killed_writer.py")), str(tmp_path)],
        capture_output=True, text=True, timeout=120, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split() for line in done.stdout.splitlines()]
    injected(
        kills_of_the_writer=len(lines), checkpoints_lost=sum(int(first) not in (2, 3) for _, _, first, *_ in lines)
    )
    steps = {(call, moment) for call, moment, *_ in lines}
    assert {call for call, _ in steps} == {"open", "write", "fsync", "close", "replace", "unlink"}
    renamed = False
    for call, moment, first, then, files in lines:
        renamed = renamed or (call, moment) == ("replace", "after")
        assert int(first) == (3 if renamed else 2), (call, moment)
        assert int(then) == int(first) + 2
        assert int(files) == 2, (call, moment)


@pytest.mark.fault(31)
def test_a_full_disk_leaves_what_was_there(tmp_path: Path, injected) -> None:
    """On a real file system of 1 MiB, which is full before the second checkpoint is whole."""
    script = textwrap.dedent("""
        import os, sys
        import numpy as np
        from elephas_fast.checkpoint import CheckpointFolder
        folder = CheckpointFolder(sys.argv[1])
        weights = np.ones(200_000, np.float32)
        folder.save(1, {"epoch": 1}, {"weights": weights})
        for epoch in (2, 3):
            try:
                folder.save(epoch, {"epoch": epoch}, {"weights": weights})
            except OSError as error:
                print(error.strerror)
        print(CheckpointFolder(sys.argv[1]).newest().about["epoch"], len(os.listdir(sys.argv[1])))
    """)
    mount = f'mount -t tmpfs -o size=1m full "{tmp_path}" && exec "$@"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh"]
    if subprocess.run([*command, "true"], capture_output=True, timeout=30).returncode:
        pytest.skip("no right to mount a file system here")
    done = subprocess.run(
        [*command, sys.executable, "-c", script, str(tmp_path)],
        capture_output=True, text=True, timeout=60, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.splitlines() == ["No space left on device"] * 2 + ["1 1"], done.stdout + done.stderr
    injected(writes_to_a_full_disk=2, checkpoints_lost=0)
