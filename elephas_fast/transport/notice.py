"""How processes of one user find a server on their host by its TCP port alone, and with it the key that opens it.

The server writes a file that only its user can read, in a folder that only this user can enter, and holds a lock on it
as long as it lives. A file that nobody holds was left by a server that was killed; whoever meets it removes it. A peer
without the file has no key and is refused as ever.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import stat
from dataclasses import asdict
from typing import Final

from elephas_fast.transport.address import Address

_MAX_BYTES: Final = 64 * 1024
_PRIVATE: Final = stat.S_IRWXG | stat.S_IRWXO


class Notice:
    """The file of one server, which stands until ``remove`` or the end of this process."""

    def __init__(self, address: Address) -> None:
        """Write it. Raises ``ValueError`` for an address without a TCP port, ``PermissionError`` where the folder
        belongs to somebody else or others may enter it."""
        endpoint = address.endpoint("tcp")
        if endpoint is None:
            raise ValueError(f"address: expected one with a TCP port to be found by, got {address}")
        self._path = _path(_folder(make=True), int(endpoint.rpartition(":")[2]))
        text = json.dumps({**asdict(address), "key": address.key.hex()})
        unfinished = f"{self._path}.{secrets.token_hex(8)}"
        self._fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_EX)
        os.write(self._fd, text.encode())
        os.replace(unfinished, self._path)

    def remove(self) -> None:
        """Take the file away, unless another server's has taken its place. Safe to call twice."""
        if self._fd >= 0:
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(self._path, follow_symlinks=False), os.fstat(self._fd)):
                    os.unlink(self._path)
            os.close(self._fd)
            self._fd = -1


def find(port: int) -> Address:
    """The address of the server of this user that listens on a port of this host.

    Raises ``ConnectionError`` where there is none, ``PermissionError`` for files that others could have written.
    """
    missing = ConnectionError(
        f"port: no parameter server of this user has port {port} of this host; start it before its clients, and give "
        "clients on other hosts its address="
    )
    folder = _folder(make=False)
    path = _path(folder, port)
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        raise missing from None
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & _PRIVATE:
            raise PermissionError(f"{path}: expected a file that only this user can read, got another; remove it")
        if _nobody_holds(fd):
            with contextlib.suppress(OSError):
                if os.path.samestat(os.stat(path, follow_symlinks=False), status):
                    os.unlink(path)
            raise missing
        found = json.loads(os.read(fd, _MAX_BYTES))
        endpoints, key = tuple(map(str, found["endpoints"])), bytes.fromhex(found["key"])
        return Address(endpoints, key, str(found["security"]), str(found["place"]))
    except (KeyError, TypeError, ValueError):
        raise ConnectionError(f"{path}: expected what a parameter server wrote, got something else") from None
    finally:
        os.close(fd)


def _nobody_holds(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _path(folder: str, port: int) -> str:
    return os.path.join(folder, f"{port}.json")


def _folder(*, make: bool) -> str:
    """The folder of this user's notices. Not where the environment says: workers may have another environment."""
    user = os.getuid()
    runtime = f"/run/user/{user}"
    folder = f"{runtime}/elephas_fast" if _is_own(runtime) else f"/tmp/elephas_fast-{user}"
    if make:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, 0o700)
    if os.path.lexists(folder) and not _is_own(folder):
        raise PermissionError(f"{folder}: expected a folder that only this user can enter, got another; remove it")
    return folder


def _is_own(folder: str) -> bool:
    try:
        status = os.stat(folder, follow_symlinks=False)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & _PRIVATE
