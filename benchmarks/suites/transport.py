"""How long does one push with pull take, and how many a second do several clients get?

Ours over shared memory and TCP with SGD and Adam on the server, against Elephas 7.3.0's HTTP and socket
servers, plain pyzmq and bare sockets. Every block starts its own server and checks a push and a pull before it is
timed.
"""

from __future__ import annotations

import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contender import Contender
from benchmarks.measure import Figure, Settings, figures, goal, interleave
from benchmarks.peers.install import interpreter

SIZES = {1_000: "1e3", 100_000: "1e5", 1_000_000: "1e6", 10_000_000: "1e7", 100_000_000: "1e8"}
ENCRYPTED, ENCRYPTED_FROM = "tcp encrypted asynchronous SGD", 1_000_000
LARGE = 100_000_000  # over TCP with SGD only: everything else is known at 1e7
MODES = ("hogwild", "asynchronous")
RULES = ("SGD", "Adam")
HTTP, SOCKET = "elephas 7.3.0 http", "elephas 7.3.0 socket"
RAW, RAW_EXCHANGE, ZMQ = "raw tcp socket", "raw tcp socket, one turn", "plain pyzmq tcp"
SHM_TARGETS = {("1e5", "SGD"): 200.0, ("1e5", "Adam"): 70.0, ("1e6", "SGD"): 100.0, ("1e6", "Adam"): 40.0}
RAW_TARGETS = {"1e3": 0.5, "1e5": 0.55, "1e6": 0.55, "1e7": 0.8, "1e8": 0.8}


# The way the workers of a fit go: hogwild ones compute on the server's own memory and pull nothing.
LIVE = "shm live"


def name_of(transport: str, mode: str, rule: str) -> str:
    return f"{transport} {mode} {rule}"


def worker_way(mode: str) -> str:
    return LIVE if mode == "hogwild" else "shm"


class Processes:
    """The contender processes of this suite; every call runs one block in one of them."""

    def __init__(self, stack: ExitStack):
        here = Path(sys.executable)
        elephas = interpreter("elephas-7.3.0")
        start = stack.enter_context
        self.ours = start(Contender("ours transport", here, "benchmarks.ours.transport"))
        self.raw = start(Contender("raw tcp", here, "benchmarks.peers.raw_tcp"))
        self.zmq = start(Contender("plain pyzmq", here, "benchmarks.peers.plain_pyzmq"))
        self.elephas = start(Contender("elephas transport", elephas, "benchmarks.peers.elephas_transport"))

    def block(self, who: Contender, call: str, **arguments: Any) -> float:
        """Median seconds of one operation in a block."""
        return float(statistics.median(who.ask(call, **arguments)["seconds"]))

    def rate(self, who: Contender, slowest: list[float], **arguments: Any) -> float:
        """Operations per second of all clients together; notes the slowest client's share of the mean."""
        rates = who.ask("throughput", **arguments)["rates"]
        slowest.append(min(rates) / statistics.mean(rates))
        return float(sum(rates))


def versions(processes: Processes) -> dict[str, Any]:
    return {"versions": {"elephas environment": processes.elephas.ask("versions")}}


def latency(processes: Processes, n: int, seconds: float) -> dict[str, Callable[[], float]]:
    """One block of each contender for vectors of n floats."""
    common = {"n": n, "seconds": seconds}
    raw = partial(processes.block, processes.raw, "measure", **common)
    tcp = partial(processes.block, processes.ours, "measure", **common, transport="tcp", mode="asynchronous")
    blocks: dict[str, Callable[[], float]] = {
        RAW: raw,
        RAW_EXCHANGE: partial(raw, turns=1),
        HTTP: partial(processes.block, processes.elephas, "measure", **common, kind="http"),
        name_of("tcp", "asynchronous", "SGD"): partial(tcp, optimizer="SGD"),
    }
    if n >= ENCRYPTED_FROM:
        blocks[ENCRYPTED] = partial(tcp, optimizer="SGD", security="curve")
    if n == LARGE:
        return blocks
    blocks[name_of("tcp", "asynchronous", "Adam")] = partial(tcp, optimizer="Adam")
    blocks[ZMQ] = partial(processes.block, processes.zmq, "measure", **common)
    blocks[SOCKET] = partial(processes.block, processes.elephas, "measure", **common, kind="socket")
    for rule in RULES:
        ours = partial(processes.block, processes.ours, "measure", **common, optimizer=rule)
        for mode in MODES:
            blocks[name_of("shm", mode, rule)] = partial(ours, transport="shm", mode=mode)
        blocks[name_of(LIVE, "hogwild", rule)] = partial(ours, transport="shm", mode="hogwild", live=True)
        bare = partial(processes.block, processes.ours, "bare", **common)
        blocks[f"kernel and copy {rule}"] = partial(bare, optimizer=rule)
    return blocks


def latency_goals(size: str, found: dict[str, Figure]) -> Iterator[dict[str, Any]]:
    for rule in RULES:
        for mode in MODES:
            if (size, rule) in SHM_TARGETS:
                worker = name_of(worker_way(mode), mode, rule)
                shm, bare = name_of("shm", mode, rule), f"kernel and copy {rule}"
                limit = bare if worker == shm else ""
                yield from goal(f"{worker}, {size}, against http", found, worker, HTTP, SHM_TARGETS[size, rule], limit)
                yield from goal(f"{shm}, {size}, within 1.3x of kernel and copy", found, shm, bare, 1 / 1.3)
        tcp = name_of("tcp", "asynchronous", rule)
        yield from goal(f"{tcp}, {size}, against http", found, tcp, HTTP, 8.0, RAW_EXCHANGE)
    tcp = name_of("tcp", "asynchronous", "SGD")
    yield from goal(f"{tcp}, {size}, share of the raw rate", found, tcp, RAW, RAW_TARGETS[size])
    if ENCRYPTED in found:
        yield from goal(f"{ENCRYPTED}, {size}, share of the plain rate", found, ENCRYPTED, tcp, 0.5)


def crowd(processes: Processes, n: int, clients: int, seconds: float) -> dict[str, Callable[[], float]]:
    """One throughput block of each contender: several clients at once."""
    rate = partial(processes.rate, n=n, clients=clients, seconds=seconds)
    blocks: dict[str, Callable[[], float]] = {}
    for rule in RULES:
        ours = partial(rate, processes.ours, [], optimizer=rule)
        for mode in MODES:
            way = worker_way(mode)
            blocks[name_of(way, mode, rule)] = partial(ours, transport="shm", mode=mode, live=way == LIVE)
        blocks[name_of("tcp", "asynchronous", rule)] = partial(ours, transport="tcp", mode="asynchronous")
    blocks[HTTP] = partial(rate, processes.elephas, [], kind="http")
    return blocks


CROWDS = {
    (100_000, 2): {"SGD": 250.0, "Adam": 90.0},
    (100_000, 4): {"SGD": 100.0, "Adam": 100.0},
    (10_000_000, 2): {"SGD": 60.0, "Adam": 40.0},
}


def throughput_lines(processes: Processes, settings: Settings, rounds: int) -> Iterator[dict[str, Any]]:
    for (n, clients), targets in CROWDS.items():
        case = f"{clients} clients, {SIZES[n]}"
        if not settings.wants(case) or (settings.quick and n > 1_000_000):
            continue
        blocks = crowd(processes, n, clients, 4.0 if n > 1_000_000 else 1.0)
        found = figures("transport", case, "1/s", interleave(blocks, rounds))
        yield from (figure.line() for figure in found.values())
        for rule, target in targets.items():
            for mode in MODES:
                shm = name_of(worker_way(mode), mode, rule)
                yield from goal(f"{shm}, {case}, against http", found, shm, HTTP, target)


def label(clients: int) -> str:
    return "1 client" if clients == 1 else f"{clients} clients"


def fairness_lines(processes: Processes, settings: Settings, rounds: int) -> Iterator[dict[str, Any]]:
    """Do 4, 16 and 64 clients over TCP hold the throughput of one, and does nobody starve?"""
    n, counts = 100_000, (1, 4) if settings.quick else (1, 4, 16, 64)
    if not settings.wants("crowd over tcp"):
        return
    tcp = partial(processes.rate, processes.ours, n=n, seconds=2.0)
    tcp = partial(tcp, transport="tcp", mode="asynchronous", optimizer="SGD")
    shares: dict[str, list[float]] = {label(count): [] for count in counts}
    blocks = {label(count): partial(tcp, slowest=shares[label(count)], clients=count) for count in counts}
    found = figures("transport", "crowd over tcp, 1e5", "1/s", interleave(blocks, rounds))
    yield from (figure.line() for figure in found.values())
    slowest = figures("transport", "crowd over tcp, 1e5: slowest client", "of mean", shares)
    yield from (figure.line() for figure in slowest.values())
    for count in counts[1:]:
        name = label(count)
        yield from goal(f"{name} over tcp hold the throughput of one", found, name, "1 client", 0.8)
        yield from goal(f"{name} over tcp: slowest against mean", slowest, name, "1 client", 0.5)


def run(settings: Settings) -> Iterator[dict[str, Any]]:
    """Lines of the suite: versions, figures, goals."""
    rounds, seconds = (2, 0.2) if settings.quick else (5, 0.5)
    with ExitStack() as stack:
        processes = Processes(stack)
        yield versions(processes)
        for n, size in SIZES.items():
            if not settings.wants(f"push + pull, {size}") or (settings.quick and n > 1_000_000):
                continue
            results = interleave(latency(processes, n, seconds), 2 if n == LARGE else rounds)
            found = figures("transport", f"push + pull, {size}", "ms", results)
            yield from (figure.line() for figure in found.values())
            yield from latency_goals(size, found)
        yield from throughput_lines(processes, settings, min(rounds, 3))
        yield from fairness_lines(processes, settings, min(rounds, 3))
