"""Many histories, for processes of a crew, also with one of the package's protections taken away."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

from elephas_fast.server import Gate
from elephas_fast.store import Header, Ledger, Mark, ParameterStore
from tests.protocol.checker import judge
from tests.protocol.events import Killed, Launched
from tests.protocol.world import Grounds

_ENOUGH: Final = 3  # histories that went wrong, after which the rest is not run
_check = Ledger.check


def run(first: int, count: int, real: bool = False) -> tuple[list[tuple[int, list[str]]], Counter[str]]:
    """Run the histories of ``count`` seeds: those that went wrong, by seed, and what happened in all of them.

    ``real``: by the package's own clients.
    """
    wrong, happened = [], Counter[str]()
    with Grounds() as grounds:
        for seed in range(first, first + count):
            plan, history, network = grounds.history(seed, real=real)
            happened.update(network.injected)
            happened["histories"] += 1
            happened["attempts"] += sum(isinstance(event, Launched) for event in history)
            happened["server_kills"] += sum(isinstance(event, Killed) for event in history)
            happened["pushes"] += len(plan.pushes)
            problems = judge(plan, history)
            if problems:
                wrong.append((seed, problems))
                if len(wrong) == _ENOUGH:
                    break
    return wrong, happened


def _unfenced(ledger: Ledger, mark: Mark) -> str:
    return _check(ledger, mark._replace(generation=ledger.generation(mark.line)))


# Name of a protection: (class, method, what is done instead).
PROTECTIONS: Final[dict[str, tuple[type, str, Any]]] = {
    "recognition of duplicates": (Ledger, "check", lambda ledger, mark: "new"),
    "fence": (Ledger, "check", _unfenced),
    "end of the fit": (ParameterStore, "stop_accepting", lambda store: None),
    "gate": (Gate, "why_wait", lambda gate, member, clock, training: ""),
    "orders kept through a crash": (Header, "kept_orders", lambda header: None),
    "members kept through a crash": (Ledger, "members", lambda ledger: []),
}


def run_without(protection: str, first: int, count: int) -> tuple[list[tuple[int, list[str]]], Counter[str]]:
    """The same with one of ``PROTECTIONS`` taken away."""
    owner, name, instead = PROTECTIONS[protection]
    kept = getattr(owner, name)
    setattr(owner, name, instead)
    try:
        return run(first, count)
    finally:
        setattr(owner, name, kept)
