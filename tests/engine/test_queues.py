"""Queues bounded by weight."""

import asyncio
import threading

import pytest

from cortex_spark.engine.download import into
from cortex_spark.engine.queues import Closed, WeightedQueue
from cortex_spark.fetch import Fetched


def _never() -> None:
    raise AssertionError("there was room")


def test_full_by_weight_not_by_count() -> None:
    queue: WeightedQueue[str] = WeightedQueue(10)
    told: list[str] = []
    assert all(queue.try_put("light", 1, _never) for _ in range(9))
    # Below its capacity a queue takes anything: no item is too large for ever.
    assert queue.try_put("heavy", 100, _never)
    assert not queue.try_put("light", 1, lambda: told.append("first"))
    assert queue.try_put("nothing", 0, _never)
    assert queue.get(most=9) == ["light"] * 9
    assert not queue.try_put("light", 1, lambda: told.append("second"))
    assert not told
    assert queue.get(most=5) == ["heavy", "nothing"]
    assert told == ["first", "second"]
    assert queue.try_put("light", 1, _never)
    queue.get()
    assert told == ["first", "second"]  # once


def test_who_waits_without_a_thread_is_told_of_some_room_not_of_any() -> None:
    queue: WeightedQueue[int] = WeightedQueue(640)
    assert all(queue.try_put(number, 1, _never) for number in range(640))
    told: list[bool] = []
    assert not queue.try_put(640, 1, lambda: told.append(True))
    queue.get(most=9)
    assert not told
    queue.get()
    assert told


def test_a_sink_waits_for_room_and_ends_with_its_queue() -> None:
    queue: WeightedQueue[tuple[dict[str, object], Fetched]] = WeightedQueue(2)
    sink = into(queue)

    async def put(number: int) -> None:
        await sink({"_id": number}, Fetched("ok", body=b"..", size=2))

    async def run() -> None:
        await put(1)
        second = asyncio.create_task(put(2))
        await asyncio.sleep(0.02)
        assert not second.done()
        assert (await asyncio.to_thread(queue.get))[0][0] == {"_id": 1}
        await asyncio.wait_for(second, 5)
        third = asyncio.create_task(put(3))
        await asyncio.sleep(0.02)
        queue.close()
        with pytest.raises(Closed):
            await asyncio.wait_for(third, 5)

    asyncio.run(run())


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
