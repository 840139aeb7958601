"""Settings all tests need before Spark or TensorFlow starts; one Spark context for the whole suite (starting one costs
seconds) and rows for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pytest

if TYPE_CHECKING:
    from pyspark import SparkContext

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
# A driver of these tests lives for seconds: compiling its code thoroughly does not pay.
os.environ.setdefault("SPARK_SUBMIT_OPTS", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")

_SOAK_SECONDS = 7200


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="tests of faults: the long form (make soak)")
    parser.addoption("--injected", metavar="FILE", help="tests of faults: write the numbers of injected faults as JSON")


def pytest_configure(config: pytest.Config) -> None:
    from tests.faults.counting import Counting

    config.pluginmanager.register(Counting())


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> object:
    from tests import scheduling

    return scheduling.make(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--soak"):
        for item in items:
            item.add_marker(pytest.mark.timeout(_SOAK_SECONDS), append=False)
    if hasattr(config, "workerinput"):
        from tests import scheduling

        scheduling.put_in_order(items)


@pytest.fixture
def how_many(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """``how_many(short, soak)``: how often a fault is injected in this form."""
    soak = bool(request.config.getoption("--soak"))
    return lambda short, long: long if soak else short


@pytest.fixture
def injected(request: pytest.FixtureRequest) -> Callable[..., None]:
    """``injected(kills=100, lost=0, doubled=0)``: numbers for the table, added up over a test's parameters."""
    from tests.faults.counting import SAID

    def add(**numbers: int) -> None:
        request.node.user_properties.append((SAID, {what: int(number) for what, number in numbers.items()}))

    return add


@pytest.fixture(scope="session")
def sc() -> Iterator[SparkContext]:
    from pyspark import SparkConf, SparkContext

    conf = (
        SparkConf()
        .setMaster("local[2]")
        .setAppName("elephas_fast tests")
        .set("spark.ui.enabled", "false")
        .set("spark.ui.showConsoleProgress", "false")
        .set("spark.driver.memory", "2g")
        .set("spark.driver.host", "127.0.0.1")
        .set("spark.python.daemon.module", "elephas_fast.spark.daemon")
    )
    context = SparkContext(conf=conf)
    context.setLogLevel("ERROR")
    yield context
    context.stop()


@pytest.fixture(scope="session")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """scikit-learn's digits: 1,437 rows to train on and 360 to test, 64 pixels in [0, 1], one-hot targets."""
    from sklearn.datasets import load_digits

    data = load_digits()
    order = np.random.default_rng(0).permutation(len(data.target))
    x = (data.data[order] / 16.0).astype(np.float32)
    y = np.eye(10, dtype=np.float32)[data.target[order]]
    return x[:1437], y[:1437], x[1437:], y[1437:]
