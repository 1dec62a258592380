"""Our engine as a Spark task runs it, a process for each core, without Spark and without tables."""

from __future__ import annotations

import multiprocessing
import os
import tempfile
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from benchmarks.contenders.contender import Done, Task, Work, compete, unpickled


def _attempt(share: tuple[list[str], str | None]) -> tuple[Counter[str], list[float]]:
    from cortex_spark.config import Settings
    from cortex_spark.engine.pipeline import EngineConfig, Pipeline

    urls, model = share
    now = datetime.now(UTC)
    nothing = dict.fromkeys(
        ("page_url", "alt_text", "crawl", "expected_hash", "location", "etag", "last_modified"), None
    )
    rows: list[dict[str, Any]] = [
        {
            **nothing,
            "run": "run",
            "batch": 0,
            "task": 0,
            "_id": url,
            "url": url,
            "host": urlsplit(url).hostname,
            "source": "public",
            "discovered_at": now,
            "tries": 0,
            "directives": [],
        }
        for url in urls
    ]
    with tempfile.TemporaryDirectory() as root:
        pipeline = Pipeline(EngineConfig(Settings(), root), unpickled(model) if model is not None else None, None)
        attempts = list(pipeline.run(rows))
    return Counter(row["outcome"] for row in attempts), [row["attempted_at"].timestamp() for row in attempts]


def prepare(task: Task) -> Work:
    """Settings are those of ``cortex_spark.config.Settings``."""
    for name, value in task.settings.items():
        os.environ[f"CORTEX_{name.upper()}"] = str(value)
    pool = multiprocessing.get_context("spawn").Pool(task.cores)

    def run(urls: list[str]) -> Callable[[], Done]:
        # A host is one task's business.
        hosts = sorted({urlsplit(url).hostname or "" for url in urls})
        places = {host: place % task.cores for place, host in enumerate(hosts)}
        shares = [
            ([url for url in urls if places[urlsplit(url).hostname or ""] == core], task.model)
            for core in range(task.cores)
        ]
        done = pool.map(_attempt, shares, chunksize=1)
        outcomes = sum((counts for counts, _ in done), Counter[str]())
        return lambda: Done(outcomes["ok"], [at for _, times in done for at in times], said=dict(outcomes))

    run(task.warm_urls)
    return lambda: run(task.urls)


if __name__ == "__main__":
    compete(prepare)
