"""Who goes first where there is not enough for all."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from cortex_spark.fetch.turnstile import Turnstile


async def waiting(turnstile: Turnstile, lefts: Iterable[float], order: list[float]) -> list[asyncio.Task[None]]:
    """Callers that wait for a place, and write down when they have had it."""

    async def caller(left: float) -> None:
        await turnstile.acquire(left)
        order.append(left)
        turnstile.release()

    tasks = [asyncio.create_task(caller(left)) for left in lefts]
    await asyncio.sleep(0)
    return tasks


def test_the_most_left_first() -> None:
    async def run() -> list[float]:
        turnstile, order = Turnstile(1), list[float]()
        await turnstile.acquire(0)
        tasks = await waiting(turnstile, [1, 3, 2, float("inf")], order)
        turnstile.release()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == [float("inf"), 3, 2, 1]


def test_the_same_left_in_the_order_of_arrival() -> None:
    async def run() -> list[str]:
        turnstile, order = Turnstile(1), list[str]()

        async def caller(name: str) -> None:
            await turnstile.acquire(1)
            order.append(name)
            turnstile.release()

        await turnstile.acquire(0)
        tasks = [asyncio.create_task(caller(name)) for name in "abc"]
        await asyncio.sleep(0)
        turnstile.release()
        await asyncio.gather(*tasks)
        return order

    assert asyncio.run(run()) == list("abc")


def test_as_many_places_as_there_are() -> None:
    async def run() -> int:
        turnstile = Turnstile(2)
        await turnstile.acquire(0)
        await turnstile.acquire(0)
        order: list[float] = []
        tasks = await waiting(turnstile, [1, 2], order)
        inside = len(order)
        turnstile.release()
        turnstile.release()
        await asyncio.gather(*tasks)
        return inside

    assert asyncio.run(run()) == 0


def test_who_gives_up_waiting_takes_no_place() -> None:
    """Neither while it waits, nor where it is let in at the moment in which it gives up."""

    async def run() -> list[float]:
        turnstile, order = Turnstile(1), list[float]()
        await turnstile.acquire(0)
        first, second, third = await waiting(turnstile, [3, 2, 1], order)
        first.cancel()
        await asyncio.sleep(0)
        turnstile.release()  # to the second
        second.cancel()
        await asyncio.wait_for(third, 1)
        await asyncio.wait_for(turnstile.acquire(0), 1)
        return order

    assert asyncio.run(run()) == [1]
