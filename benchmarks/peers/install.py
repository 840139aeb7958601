"""Builds a peer's virtual environment: `python -m benchmarks.peers.install [elephas-7.3.0 | torch]`.

The environments lie under `benchmarks/.peers/`, or under the folder that ELEPHAS_FAST_PEERS names.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).resolve().parent
PEERS = {"elephas-7.3.0": HERE / "elephas-7.3.0.txt", "torch": HERE / "torch.txt"}


class PeerMissing(FileNotFoundError):
    """A peer's environment has not been installed; the text says which command does it."""


def folder() -> Path:
    """The folder that holds one environment per peer, and the logs of their processes."""
    return Path(os.environ.get("ELEPHAS_FAST_PEERS", HERE.parent / ".peers")).resolve()


def interpreter(peer: str) -> Path:
    """The Python of `peer`'s environment. Raises PeerMissing if it has not been installed."""
    python = folder() / peer / "bin" / "python"
    if not python.exists():
        raise PeerMissing(
            f"peer {peer!r}: expected its interpreter at {python}, found none; "
            f"run `python -m benchmarks.peers.install {peer}`"
        )
    return python


def install(peer: str) -> Path:
    """Creates the environment of `peer` if it is missing, installs its pins, returns its interpreter."""
    where = folder() / peer
    if not (where / "bin" / "python").exists():
        where.parent.mkdir(parents=True, exist_ok=True)
        venv.create(where, with_pip=True)
    python = interpreter(peer)
    pip = [str(python), "-m", "pip", "install", "--disable-pip-version-check"]
    subprocess.run([*pip, "setuptools<80", "wheel"], check=True)
    subprocess.run([*pip, "-r", str(PEERS[peer])], check=True)
    subprocess.run([str(python), "-m", "pip", "check"], check=True)
    return python


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", nargs="*", default=["elephas-7.3.0"], help=f"any of {', '.join(PEERS)}")
    names = parser.parse_args().peer
    unknown = [name for name in names if name not in PEERS]
    if unknown:
        parser.error(f"peer: expected one of {', '.join(PEERS)}, got {', '.join(unknown)}")
    if sys.version_info[:2] != (3, 11) and "elephas-7.3.0" in names:
        parser.error(f"elephas-7.3.0 needs Python 3.11 (its numpy pin), this is {sys.version.split()[0]}")
    os.nice(10)
    for name in names:
        print(f"{name}: {install(name)}")


if __name__ == "__main__":
    main()
