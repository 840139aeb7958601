"""Where a program's server listens that is a client of Spark Connect."""

from __future__ import annotations

from typing import Any

import pytest

from elephas_fast.spark.surroundings import Surroundings, far_server
from elephas_fast.transport import own_address_towards

SERVERS_OWN = {"spark.driver.host": "192.0.2.7", "spark.driver.bindAddress": "0.0.0.0"}


def around(far: str) -> Surroundings:
    return Surroundings("app", "local[2]", SERVERS_OWN.get, lambda: 2, far)


def session(host: str) -> Any:
    pytest.importorskip("grpc_status", reason="Spark Connect needs pyspark[connect]")
    from pyspark.sql.connect.session import SparkSession

    return SparkSession(connection=f"sc://{host}:15002")  # connects at its first request


def test_a_server_on_another_machine_is_told_by_its_address() -> None:
    assert far_server(session("192.0.2.1")) == "192.0.2.1"
    assert far_server(session("localhost")) == far_server(session("127.0.0.1")) == ""
    assert far_server(object()) == "", "a classic session has no client"  # type: ignore[arg-type]


def test_a_far_servers_workers_are_not_here_whatever_its_master_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    assert (around("").is_local, around("").host) == (True, "127.0.0.1")
    assert not around("127.0.0.1").is_local
    assert around("127.0.0.1").host == own_address_towards("127.0.0.1") == "127.0.0.1"
    monkeypatch.setenv("SPARK_LOCAL_IP", "192.0.2.9")
    assert around("192.0.2.1").host == "192.0.2.9"
    monkeypatch.delenv("SPARK_LOCAL_IP")
    with pytest.raises(
        ValueError, match=r"by which no\.such\.host\.invalid sees this machine .*; set .* SPARK_LOCAL_IP"
    ):
        _ = around("no.such.host.invalid").host
