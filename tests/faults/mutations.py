"""``python -m tests.faults.mutations``: take the package's protections away one at a time, and see tests turn red.

A copy of package and tests is made in a folder that is thrown away. For each protection its lines are replaced there,
and a few tests that should notice are run on it. All of them are run once on the copy as it is, and must pass.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from elephas_fast import _core

ROOT: Final = Path(__file__).resolve().parents[2]
_LANES: Final = 2
_SECONDS: Final = 240.0

# The editable installation's finder comes before PYTHONPATH in every Python of this environment.
_SITE: Final = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if not type(finder).__name__.startswith("ScikitBuild")]
"""


@dataclass(frozen=True)
class Mutation:
    """``edits``: (file of the package, text, what stands there instead); ``tests``: those that should notice."""

    name: str
    edits: tuple[tuple[str, str, str], ...]
    tests: tuple[str, ...]


MUTATIONS: Final = (
    Mutation(
        "the key in a hello",
        (("server/sessions.py", "if not hmac.compare_digest(hello.key, self._key):", "if False:"),),
        ("tests/server/test_faults.py::test_whoever_does_not_know_the_key_can_do_nothing[inproc]",),
    ),
    Mutation(
        "the fence",
        (("store/ledger.py", "if self._words.load(at + _GENERATION) != generation:", "if False:"),),
        ("tests/server/test_local.py::test_rounds_are_applied_once_in_order_and_by_the_newest_attempt",),
    ),
    Mutation(
        "the end of the fit",
        (
            ("server/server.py", "if store.closed:", "if False:"),
            ("store/two_buffers.py", "if self._words.load(CLOSED):", "if False:"),
            ("store/in_place.py", "if words.load(CLOSED):", "if False:"),
        ),
        ("tests/server/test_store.py::test_a_closed_store_takes_no_push_and_still_reads",),
    ),
    Mutation(
        "the length of payloads",
        (("server/server.py", "if got != expected:", "if False:"),),
        ("tests/server/test_exactly_once.py::test_a_known_client_that_breaks_the_protocol_is_refused",),
    ),
    Mutation(
        "the check for numbers that are not finite",
        (
            ("store/two_buffers.py", "if nonfinite and self._check_finite:", "if False:"),
            ("store/in_place.py", "if self._check_finite and not is_finite(", "if False and not is_finite("),
        ),
        ("tests/server/test_store.py::test_an_update_that_is_not_finite_changes_nothing",),
    ),
    Mutation(
        "the end mark of Spark's rows",
        (("spark/strict.py", "if watched.cut:", "if False:"),),
        ("tests/faults/test_end_mark.py",),
    ),
    Mutation(
        "the admission of encrypted clients",
        (("transport/admission.py", '(b"200", b"") if known else', '(b"200", b"") if True else'),),
        ("tests/server/test_security.py::test_a_password_is_good_from_one_address_only",),
    ),
    Mutation(
        "the numbers of encrypted messages",
        (("transport/sealing.py", "if head.number <= hearer.heard:", "if False:"),),
        ("tests/server/test_sealing.py::test_what_is_said_again_is_not_heard",),
    ),
    Mutation(
        "the key of the shared memory",
        (
            (
                "transport/handover.py",
                'if not hmac.compare_digest(answer[:_NONCE], _proof(self._key, b"client", nonce)):',
                "if False:",
            ),
        ),
        ("tests/server/test_handover.py::test_a_proof_is_good_for_one_nonce_only",),
    ),
    Mutation(
        "the recognition of duplicates",
        (("store/ledger.py", "if clock == applied + 1:", "if True:"),),
        ("tests/server/test_exactly_once.py::test_a_push_sent_again_is_recognised[inproc-asynchronous]",),
    ),
    Mutation(
        "the bounds of message fields",
        (
            (
                "wire/codec.py",
                "if problem:\n        raise ProtocolError(problem)",
                "if False:\n        raise ProtocolError(problem)",
            ),
        ),
        ("tests/server/test_wire.py::test_a_field_out_of_its_bounds_is_refused_on_both_sides",),
    ),
)


@dataclass(frozen=True)
class Result:
    """How a mutation's tests went. ``noticed``: at least one failed, and not because pytest could not run them."""

    name: str
    noticed: bool
    told: str


class Copy:
    """Package and tests in a folder of their own. A context manager, which removes it."""

    def __enter__(self) -> Copy:
        self.folder = Path(tempfile.mkdtemp(prefix="mutations-"))
        for part in ("elephas_fast", "tests"):
            shutil.copytree(ROOT / part, self.folder / part, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        for file in ("pyproject.toml",):
            shutil.copy(ROOT / file, self.folder)
        compiled = Path(_core.__file__)
        (self.folder / "elephas_fast" / compiled.name).symlink_to(compiled)
        (self.folder / "sitecustomize.py").write_text(_SITE)
        return self

    def __exit__(self, *exc: object) -> None:
        shutil.rmtree(self.folder)

    def without(self, mutation: Mutation) -> Result:
        """Run the tests of a mutation with its protection taken away."""
        kept: dict[Path, str] = {}
        for name, text, instead in mutation.edits:
            file = self.folder / "elephas_fast" / name
            source = file.read_text()
            kept.setdefault(file, source)
            if source.count(text) != 1:
                raise ValueError(f"{name}: expected {text!r} once, found it {source.count(text)} times; see MUTATIONS")
            file.write_text(source.replace(text, instead))
        try:
            status, told = self.run(mutation.tests)
        finally:
            for file, source in kept.items():
                file.write_text(source)
        return Result(mutation.name, status == 1, told)

    def run(self, tests: Sequence[str]) -> tuple[int, str]:
        """pytest's exit status (0 all passed, 1 some failed, else they could not be run) and its last line."""
        path = os.pathsep.join([str(self.folder), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
        done = subprocess.run(
            [sys.executable, "-B", "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", "PYSPARK_PYTHON": sys.executable},
            capture_output=True,
            text=True,
            timeout=_SECONDS,
        )
        lines = (done.stdout.strip() or done.stderr.strip() or "nothing was printed").splitlines()
        return done.returncode, lines[-1].strip("= ")


def check(mutations: Iterable[Mutation]) -> list[Result]:
    """The results of mutations, and of the copy as it is, which counts as noticed if it is green."""
    chosen = list(mutations)
    lanes = [chosen[lane::_LANES] for lane in range(_LANES)]

    def lane(number: int) -> list[Result]:
        with Copy() as copy:
            results = [copy.without(mutation) for mutation in lanes[number]]
            status, told = copy.run([test for mutation in lanes[number] for test in mutation.tests])
            return [*results, Result(f"nothing ({number + 1} of {_LANES})", status == 0, told)]

    with ThreadPoolExecutor(_LANES) as threads:
        return [result for results in threads.map(lane, range(_LANES)) for result in results]


def main() -> int:
    """Print the table; the exit status is 0 if all was noticed."""
    results = check(MUTATIONS)
    print(f"{'taken away':<45} {'':<8} tests")
    for result in results:
        mark = "noticed" if result.noticed else "MISSED"
        print(f"{result.name:<45} {mark:<8} {result.told}")
    return 0 if all(result.noticed for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
