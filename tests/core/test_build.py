"""What the build promises: a helpful error without it, separate instruction sets, a stub that tells the truth."""

from __future__ import annotations

import ast
import inspect
import platform
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import elephas_fast
from elephas_fast import _core

ROOT = Path(__file__).parents[2]
PACKAGE = Path(elephas_fast.__file__).parent


def test_without_the_compiled_module_the_error_names_the_command(tmp_path: Path) -> None:
    package = tmp_path / "elephas_fast"
    package.mkdir()
    for name in ("__init__.py", "_core.py"):
        shutil.copy(PACKAGE / name, package / name)
    code = f"import sys; sys.meta_path[:] = sys.meta_path[-3:]; sys.path[:0] = [{str(tmp_path)!r}]; "
    result = subprocess.run(
        [sys.executable, "-S", "-c", code + "import elephas_fast._core"], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    last = result.stderr.strip().splitlines()[-1]
    assert last.startswith("ImportError: elephas_fast._core: the compiled kernels are missing")
    assert "pip install ." in last


def test_the_compiled_module_is_the_one_in_use() -> None:
    assert not _core.__file__.endswith(".py")


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="other processors have one build")
@pytest.mark.skipif(shutil.which("g++") is None or shutil.which("nm") is None, reason="needs g++ and nm")
def test_an_instruction_set_exports_its_table_and_nothing_else(tmp_path: Path) -> None:
    """A weak symbol could replace another instruction set's function of the same name at link time."""
    flags = (ROOT / "CMakeLists.txt").read_text().split("set(isa_flags_avx512 ")[1].split(")")[0].split()
    output = tmp_path / "kernels.o"
    subprocess.run(
        [
            *["g++", "-std=c++17", "-O1", "-fno-exceptions", "-DELEPHAS_ISA=avx512", "-c", "csrc/kernels.cpp", "-o"],
            str(output),
            *flags,
        ],
        cwd=ROOT,
        check=True,
        timeout=120,
    )
    listed = subprocess.run(["nm", "-C", str(output)], capture_output=True, text=True, check=True, timeout=30)
    symbols = re.findall(r"^[0-9a-f]+ ([A-Za-z]) (.*)$", listed.stdout, re.MULTILINE)
    assert [name for kind, name in symbols if kind.isupper() or kind in "uvw"] == ["elephas::avx512"]
    assert len(symbols) > 30


def test_the_stub_matches_the_module() -> None:
    stub = ast.parse((PACKAGE / "_core.pyi").read_text())
    described = {"__doc__", "__file__", "__name__", "__loader__", "__spec__", "__package__", "__test__"}
    for node in stub.body:
        if isinstance(node, ast.AnnAssign) and not node.target.id.startswith("_"):
            described.add(node.target.id)
        elif isinstance(node, ast.FunctionDef):
            described.add(node.name)
            assert parameters(node) == signature(getattr(_core, node.name)), node.name
        elif isinstance(node, ast.ClassDef):
            described.add(node.name)
            kind = getattr(_core, node.name)
            members = [n for n in node.body if isinstance(n, ast.FunctionDef)]
            public = {n for n in vars(kind) if not n.startswith("_")}
            assert public == {n.name for n in members if not n.name.startswith("_")}, node.name
            for member in members:
                if member.name not in ("__init__", "__call__", "__len__") and not member.decorator_list:
                    assert parameters(member) == signature(getattr(kind, member.name)), member.name
    hidden = {n for n in dir(_core) if n.startswith("_")} | {"math"}
    assert set(dir(_core)) - hidden == described - hidden


def parameters(node: ast.FunctionDef) -> list[tuple[str, bool]]:
    """Names and whether they have defaults."""
    arguments = node.args
    required = len(arguments.args) - len(arguments.defaults)
    listed = [(a.arg, k >= required) for k, a in enumerate(arguments.args)]
    return listed + [(a.arg, d is not None) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)]


def signature(function: object) -> list[tuple[str, bool]]:
    found = inspect.signature(function).parameters.values()
    return [(p.name, p.default is not p.empty) for p in found]
