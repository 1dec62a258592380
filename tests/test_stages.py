from __future__ import annotations

import io
import time
from collections.abc import Iterable

import pytest
from pyspark.sql import SparkSession
from rich.console import Console
from rich.status import Status

from cortex_spark import stages
from cortex_spark.stages import stage_status, step

TASKS = 6


@pytest.mark.parametrize(
    ("done", "tasks", "seconds", "said"),
    [
        (0, 0, 1.0, ""),
        (1, 2, 1.0, ""),
        (0, 100, 3.0, " · step: 0 of 100 tasks"),
        (50, 100, 10.0, " · step: 50 of 100 tasks, 5.0/s, 10 s left"),
        (100, 100, 10.0, " · step: 100 of 100 tasks, 10.0/s, 0 s left"),
    ],
)
def test_a_step(done: int, tasks: int, seconds: float, said: str) -> None:
    assert step(done, tasks, seconds) == said


@pytest.mark.parametrize("terminal", [True, False])
def test_what_is_done_and_how_far_it_is(spark: SparkSession, monkeypatch: pytest.MonkeyPatch, terminal: bool) -> None:
    printed = io.StringIO()
    console = Console(file=printed, force_terminal=terminal, width=200)
    monkeypatch.setattr(stages, "err", console)
    monkeypatch.setattr(stages, "_POLL_SECONDS", 0.05)
    status = Status("starting", console=console)
    said: list[str] = []
    show = status.update

    def update(what: str) -> None:
        said.append(what)
        show(what)

    monkeypatch.setattr(status, "update", update)

    def slowly(rows: Iterable[int]) -> Iterable[int]:
        time.sleep(0.3)
        return rows

    with stage_status(spark, status) as say:
        say("samples: putting files together")
        assert spark.sparkContext.parallelize(range(TASKS), TASKS).mapPartitions(slowly).count() == TASKS
    steps = [one for one in said if f"of {TASKS} tasks" in one]
    assert steps
    assert all(one.startswith("samples: putting files together · step: ") for one in steps)
    assert any(one.endswith(" s left") for one in steps)
    assert ("samples: putting files together\n" in printed.getvalue()) is not terminal
