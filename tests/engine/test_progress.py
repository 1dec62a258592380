"""What workers tell the driver while they work."""

import random
import time
from dataclasses import replace

import pytest

from cortex_spark.detect.base import Meter
from cortex_spark.engine.progress import BusyTime, ProgressClient, ProgressServer


def test_counts_arrive_from_many_workers() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        clients = [ProgressClient(server.address, batch) for batch in (0, 0, 1)]
        for client in clients:
            for outcome in ("ok", "ok", "http_404"):
                client.add(outcome)
            client.close()
        _wait_for(server, {"ok": 6, "http_404": 3})
        server.drop(0)
        assert server.counts == {"ok": 2, "http_404": 1}


def test_detectors_at_work_at_once_are_busy_once() -> None:
    busy = BusyTime()
    busy.add([(10.0, 12.0), (15.0, 16.0)])
    busy.add([(11.0, 13.0), (15.5, 15.6), (9.0, 9.5)])
    assert busy.seconds == pytest.approx(3 + 1 + 0.5)


def test_busy_time_is_the_same_however_much_of_it_is_settled() -> None:
    chance = random.Random(1)
    starts = [chance.uniform(0, 5) + second for second in range(12_000)]
    periods = [(start, start + chance.uniform(0, 2)) for start in starts]
    whole, piecewise = BusyTime(), BusyTime()
    whole.add(periods)
    for first in range(0, len(periods), 100):
        piecewise.add(periods[first : first + 100])
    # By counting hundredths of a second:
    covered = len({step for start, end in periods for step in range(int(start * 100), int(end * 100))})
    assert piecewise.seconds == pytest.approx(whole.seconds)
    assert whole.seconds == pytest.approx(covered / 100, rel=0.01)


def test_the_detectors_meter_tells_when_it_was_busy() -> None:
    meter = Meter(2)
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        client = ProgressClient(server.address, 0, meter)
        with meter, meter:
            time.sleep(0.05)
        time.sleep(0.05)
        with meter:
            time.sleep(0.05)
            client.add("ok")
            client.flush()  # in the middle of a period: its rest comes with the next message
            time.sleep(0.05)
        client.add("ok")
        client.close()
        _wait_for(server, {"ok": 2})
        assert 0.15 <= server.busy_seconds < 0.2


def test_a_stranger_is_not_counted() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        stranger = ProgressClient(replace(server.address, token="guessed"), 0)
        stranger.add("ok")
        stranger.close()
        known = ProgressClient(server.address, 0)
        known.add("http_404")
        known.close()
        _wait_for(server, {"http_404": 1})


def test_nobody_listens() -> None:
    with ProgressServer("127.0.0.1", "127.0.0.1") as server:
        address = server.address
    client = ProgressClient(address, 0)
    client.add("ok")
    client.close()
    ProgressClient(None, 0).add("ok")


def _wait_for(server: ProgressServer, counts: dict[str, int]) -> None:
    until = time.monotonic() + 10
    while server.counts != counts and time.monotonic() < until:
        time.sleep(0.01)
    assert server.counts == counts


def test_a_meter_that_nobody_reads_does_not_grow() -> None:
    meter = Meter()
    for _ in range(5000):
        with meter:
            pass
    unheard = ProgressClient(None, 0, meter)
    assert len(meter.take()) < 5000
    with meter:
        unheard.add("ok")
    unheard.close()
    assert meter.take() == []
