"""The first stage: a task's URLs to bytes, from the web or from the warehouse's store."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from cortex_spark import outcomes
from cortex_spark.config import Settings
from cortex_spark.engine.queues import Closed, WeightedQueue
from cortex_spark.fetch import Fetched, Fetcher, HostState, Request
from cortex_spark.sources import store

Row = dict[str, Any]

#: Downloaded bytes that wait for the next stage.
WAITING_BYTES = 64 << 20
#: Seconds that a host's delay may take where no later batch does what is left.
EVER = 1e9


async def download(
    rows: Sequence[Row],
    settings: Settings,
    root: str,
    sink: Callable[[Row, Fetched], Awaitable[None]],
    seconds: float,
    hosts: Mapping[str, HostState] | None = None,
    *,
    across_hosts: bool = False,
    retried: bool = False,
    canaries: Sequence[str] = (),
) -> None:
    """Fetch what each row of PLANS asks for and give the row to ``sink``; for the other options see Fetcher.

    What has not begun after ``seconds`` is deferred.
    """
    until = time.monotonic() + seconds
    public = []
    for row in rows:
        if store.is_stored(row["url"]):
            await sink(row, await asyncio.to_thread(_from_store, root, row["url"]))
        else:
            public.append((row, _request(row)))
    async with Fetcher(settings, hosts, across_hosts=across_hosts, retried=retried, canaries=canaries) as fetcher:
        await fetcher.fetch_all(public, sink, until=until)


def _request(row: Row) -> Request:
    return Request(
        row.get("location") or row["url"],
        directives=row.get("directives") or (),
        etag=row.get("etag"),
        last_modified=row.get("last_modified"),
    )


def into(queue: WeightedQueue[tuple[Row, Fetched]]) -> Callable[[Row, Fetched], Awaitable[None]]:
    """A sink that waits while ``queue`` is full."""

    async def sink(row: Row, fetched: Fetched) -> None:
        loop, room = asyncio.get_running_loop(), asyncio.Event()

        def roomy() -> None:
            with contextlib.suppress(RuntimeError):  # nobody waits any more, the loop is closed
                loop.call_soon_threadsafe(room.set)

        while not queue.try_put((row, fetched), fetched.size or 0, roomy):
            await room.wait()
            room.clear()

    return sink


def fetch_same(
    rows: Sequence[Row],
    settings: Settings,
    root: str,
    hosts: Mapping[str, HostState] | None = None,
    *,
    retried: bool = False,
) -> Iterator[tuple[Row, Fetched]]:
    """The bytes of pictures that were labelled before, in any order; ``rows`` have ``url`` and ``hash``.

    Where the bytes have another sha256 by now the outcome is ``changed`` and there is no body. There is no later batch:
    a host's delay may take as long as it takes.
    """
    settings = settings.model_copy(update={"host_seconds": EVER})
    queue: WeightedQueue[tuple[Row, Fetched]] = WeightedQueue(WAITING_BYTES)
    failed: list[BaseException] = []

    def run() -> None:
        try:
            work = download(rows, settings, root, into(queue), float("inf"), hosts, across_hosts=True, retried=retried)
            asyncio.run(work)
        except BaseException as error:
            failed.append(error)
        finally:
            queue.close()

    threading.Thread(target=run, name="fetch", daemon=True).start()
    try:
        while True:
            try:
                ((row, fetched),) = queue.get()
            except Closed:
                break
            if fetched.body is not None and hashlib.sha256(fetched.body).hexdigest() != row["hash"]:
                fetched = replace(fetched, outcome="changed", body=None)
            yield row, fetched
    finally:
        queue.close(discard=True)
    if failed:
        raise failed[0]


def _from_store(root: str, url: str) -> Fetched:
    try:
        body = store.read(root, url)
    except FileNotFoundError:
        return Fetched("not_in_store", detail="the warehouse's store does not hold it")
    except OSError as error:
        return Fetched("store_error", detail=str(error))
    return Fetched(outcomes.OK, body=body, size=len(body))
