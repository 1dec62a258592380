"""Queues bounded by weight."""

import threading

import pytest

from cortex_spark.engine.queues import Closed, WeightedQueue


def test_full_by_weight_not_by_count() -> None:
    queue: WeightedQueue[str] = WeightedQueue(10)
    assert all(queue.try_put("light", 1) for _ in range(9))
    assert queue.try_put("heavy", 100)  # below its capacity a queue takes anything: no item is too large for ever
    assert not queue.try_put("light", 1)
    assert queue.try_put("nothing", 0)
    assert queue.get(most=9) == ["light"] * 9
    assert not queue.try_put("light", 1)
    assert queue.get(most=5) == ["heavy", "nothing"]
    assert queue.try_put("light", 1)


def test_put_waits_for_room() -> None:
    queue: WeightedQueue[int] = WeightedQueue(1)
    queue.put(1, 1)
    done = threading.Event()

    def put() -> None:
        queue.put(2, 1)
        done.set()

    thread = threading.Thread(target=put)
    thread.start()
    assert not done.wait(0.05)
    assert queue.get() == [1]
    assert done.wait(5)
    assert queue.get() == [2]
    thread.join()


def test_closed_lets_out_what_is_in() -> None:
    queue: WeightedQueue[int] = WeightedQueue(10)
    queue.put(1, 1)
    queue.close()
    with pytest.raises(Closed):
        queue.put(2, 1)
    assert queue.get() == [1]
    with pytest.raises(Closed):
        queue.get()


def test_close_wakes_who_waits() -> None:
    queue: WeightedQueue[int] = WeightedQueue(10)
    ended = threading.Event()

    def get() -> None:
        with pytest.raises(Closed):
            queue.get()
        ended.set()

    thread = threading.Thread(target=get)
    thread.start()
    queue.close(discard=True)
    assert ended.wait(5)
    thread.join()
