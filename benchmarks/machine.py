"""What a figure depends on: machine, versions, compiler flags, commit."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("elephas_fast", "numpy", "pyzmq", "msgpack", "cython", "keras", "tensorflow", "pyspark")


def _first(path: str, key: str) -> str:
    for line in Path(path).read_text().splitlines() if Path(path).exists() else ():
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return "unknown"


def _output(*command: str) -> str:
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=10)
    except FileNotFoundError:
        return "unknown"
    return done.stdout.strip() if done.returncode == 0 else "unknown"


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def compiler_flags() -> str:
    """The optimisation flags of the compiled kernels, from their build file."""
    build = ROOT / "CMakeLists.txt"
    text = build.read_text() if build.exists() else ""
    found = re.findall(r"set\((?:arithmetic_flags|isa_flags_(\w+)) ([^)\n]*)\)", text)
    return "; ".join(f"{isa or 'all'}: {flags}" for isa, flags in found)


def facts() -> dict[str, Any]:
    """The header of a run. The congestion control is the system's; libzmq cannot choose another."""
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control")
    changes = _output("git", "status", "--porcelain", "--untracked-files=no")
    commit = _output("git", "rev-parse", "HEAD")
    return {
        "machine": {
            "cpu": _first("/proc/cpuinfo", "model name"),
            "cores": os.cpu_count(),
            "memory": _first("/proc/meminfo", "MemTotal"),
            "kernel": platform.release(),
            "tcp_congestion_control": congestion.read_text().strip() if congestion.exists() else "unknown",
            "load_average": round(os.getloadavg()[0], 2),
        },
        "python": sys.version.split()[0],
        "versions": {package: _version(package) for package in PACKAGES},
        "compiler": {"compiler": _output("c++", "--version").split("\n")[0], "flags": compiler_flags()},
        "commit": f"{commit} and changes" if changes not in ("", "unknown") else commit,
    }
