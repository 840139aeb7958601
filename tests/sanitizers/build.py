"""Builds of the compiled core with sanitizers, by the project's own CMakeLists.txt.

They are kept in ``build/``, so that only the first use after a change takes long.
"""

from __future__ import annotations

import fcntl
import importlib.metadata
import importlib.resources
import importlib.util
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
MEMORY: Final = "address,undefined"
THREADS: Final = "thread"
_LIBRARIES: Final = {MEMORY: ("libasan.so", "libubsan.so"), THREADS: ("libtsan.so",)}
_BUILD_SECONDS: Final = 900


def program(kind: str) -> Path:
    """The native program of this folder, built with a kind of sanitizers. Skips the test where there are none."""
    return _built(kind, "exercise") / "exercise"


def extension() -> Path:
    """``elephas_fast._core``, built with AddressSanitizer and UndefinedBehaviorSanitizer."""
    (found,) = _built(MEMORY, "_core").glob("_core.*.so")
    return found


def preloaded(*, own_blocks: bool) -> dict[str, str]:
    """The environment in which an uninstrumented Python can import ``extension()``.

    ``own_blocks``: AddressSanitizer knows where every object ends, and not only those of more than 512 bytes, which
    takes twice the time. Blocks are used again soon, so that memory stays comparable.
    """
    libraries = [_library("libasan.so"), _library("libstdc++.so")]
    return {
        **os.environ,
        "LD_PRELOAD": os.pathsep.join(libraries),
        "PYTHONMALLOC": "malloc" if own_blocks else "pymalloc",
        "ASAN_OPTIONS": "detect_leaks=0:quarantine_size_mb=1:thread_local_quarantine_size_kb=64:malloc_context_size=2",
        "UBSAN_OPTIONS": "print_stacktrace=1",
    }


@cache
def _built(kind: str, target: str) -> Path:
    tools = {name: _tool(name) for name in ("cmake", "ninja", "cython", "g++")}
    missing = [name for name, path in tools.items() if path is None]
    missing += [] if importlib.util.find_spec("cython_cmake") else ["cython-cmake"]
    if not missing:
        missing = [name for name in _LIBRARIES[kind] if not os.path.isabs(_library(name))]
    if missing:
        pytest.skip(f"sanitizers need what is not installed here: {', '.join(missing)}")
    folder = ROOT / "build" / f"sanitized-{kind.replace(',', '-')}"
    configure = [
        tools["cmake"], "-S", ROOT, "-B", folder, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={tools['ninja']}",
        f"-DPython_EXECUTABLE={sys.executable}", f"-DCYTHON_EXECUTABLE={tools['cython']}",
        f"-DCMAKE_MODULE_PATH={importlib.resources.files('cython_cmake') / 'cmake'}", f"-DELEPHAS_SANITIZE={kind}",
    ]  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # processes of pytest-xdist would write the same files at once
        for command in (configure, [tools["cmake"], "--build", folder, "--target", target]):
            done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=_BUILD_SECONDS)
            assert done.returncode == 0, done.stdout + done.stderr
    return folder


def _tool(name: str) -> str | None:
    """The path of a program: beside this Python, among the programs of the package of that name, or anywhere."""
    beside = shutil.which(name, path=os.path.dirname(sys.executable))
    if beside is not None:
        return beside
    try:
        files = importlib.metadata.files(name) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    own = [str(file.locate()) for file in files if file.name == name and os.access(file.locate(), os.X_OK)]
    return own[0] if own else shutil.which(name)


def _library(name: str) -> str:
    """The path of one of the compiler's libraries; without a folder where it has none."""
    found = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, timeout=60, check=True)
    return os.path.realpath(found.stdout.strip()) if os.path.isabs(found.stdout.strip()) else found.stdout.strip()
