"""What workers tell the driver while they work."""

import time
from dataclasses import replace

from cortex_spark.engine.progress import ProgressClient, ProgressServer


def test_counts_arrive_from_many_workers() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        clients = [ProgressClient(server.address) for _ in range(3)]
        for client in clients:
            for outcome in ("ok", "ok", "http_404"):
                client.add(outcome)
            client.close()
        _wait_for(server, {"ok": 6, "http_404": 3})
        server.reset()
        assert not server.counts


def test_a_stranger_is_not_counted() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        stranger = ProgressClient(replace(server.address, token="guessed"))
        stranger.add("ok")
        stranger.close()
        known = ProgressClient(server.address)
        known.add("http_404")
        known.close()
        _wait_for(server, {"http_404": 1})


def test_nobody_listens() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        address = server.address
    client = ProgressClient(address)
    client.add("ok")
    client.close()
    ProgressClient(None).add("ok")


def _wait_for(server: ProgressServer, counts: dict[str, int]) -> None:
    until = time.monotonic() + 10
    while server.counts != counts and time.monotonic() < until:
        time.sleep(0.01)
    assert server.counts == counts
