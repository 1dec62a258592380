"""Who works on which run.

A run whose process is gone is taken over by the next job that labels with the same model, unless another has planned
its hosts since.
"""

from __future__ import annotations

import os
import socket
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Self

import psutil
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F

from cortex_spark.schema import RUNS
from cortex_spark.table import Warehouse

#: A run of another machine that committed nothing for so long is taken for dead. If it is not, URLs are fetched twice,
#: and still no row is doubled.
SILENT: Final = timedelta(minutes=45)
#: Process starts as different clocks of one machine see them.
_START_TOLERANCE_SECONDS: Final = 2.0


#: The runs that jobs of this process are at work on.
AT_WORK: Final[set[str]] = set()


@dataclass(frozen=True)
class Owner:
    """A process on a machine."""

    host: str
    pid: int
    started: float  # seconds since the epoch

    @classmethod
    def me(cls) -> Self:
        """This process."""
        return cls(socket.gethostname(), os.getpid(), psutil.Process().create_time())

    def is_known_dead(self) -> bool:
        """Whether this process ran on this machine and does not any more."""
        if self.host != socket.gethostname():
            return False
        try:
            if psutil.Process(self.pid).status() == psutil.STATUS_ZOMBIE:
                return True
            return abs(psutil.Process(self.pid).create_time() - self.started) > _START_TOLERANCE_SECONDS
        except psutil.NoSuchProcess:
            return True

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


@dataclass(frozen=True)
class Run:
    """A run as its latest event tells it."""

    run: str
    model: str
    owner: Owner
    events: int
    alive: bool


class Runs:
    """The table ``runs``: an event per row."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse
        self._read: tuple[int, list[Row]] | None = None  # at which version of the table, and what

    def open(self) -> list[Run]:
        """The runs that are not closed, oldest first."""
        events: defaultdict[str, list[Row]] = defaultdict(list)
        for row in self._events():
            events[row["run"]].append(row)
        latest = {run: max(rows, key=lambda row: row["at"]) for run, rows in events.items()}
        return [self._run(row, len(events[run])) for run, row in sorted(latest.items()) if row["event"] != "closed"]

    def _events(self) -> list[Row]:
        """All rows, a few per run; asked again, without a Spark job where nothing has been added."""
        version = self._warehouse.version("runs")
        if self._read is None or self._read[0] != version:
            empty = self._warehouse.is_empty("runs")
            self._read = version, [] if empty else self._warehouse.read("runs").collect()
        return self._read[1]

    def _run(self, latest: Row, events: int) -> Run:
        owner = Owner(latest["owner_host"], latest["owner_pid"], latest["owner_started"])
        # What an interrupted job of this very process left behind, in a notebook say, nobody works on.
        alive = latest["run"] in AT_WORK if owner == Owner.me() else not owner.is_known_dead()
        if alive and owner.host != socket.gethostname():
            alive = self._last_sign(latest["run"], latest["at"]) > datetime.now(UTC) - SILENT
        return Run(latest["run"], latest["model"], owner, events, alive)

    def _last_sign(self, run: str, opened: datetime) -> datetime:
        last = self._warehouse.read("attempts").where(F.col("run") == run).agg(F.max("attempted_at")).first()
        times = [opened, last[0] if last is not None and last[0] is not None else opened]
        return max(time.astimezone(UTC) for time in times)  # Spark gives local times without a zone

    def record(self, run: str, event: str, *, model: str, number: int) -> None:
        """Write the ``number``-th event of ``run``, unless another process was faster."""
        me = Owner.me()
        values = {
            "run": run,
            "at": datetime.now(UTC),
            "event": event,
            "owner_host": me.host,
            "owner_pid": me.pid,
            "owner_started": me.started,
            "model": model,
        }
        rows = self._warehouse.spark.createDataFrame([tuple(values[name] for name in RUNS.names)], RUNS).coalesce(1)
        self._warehouse.append_once(rows, "runs", app_id=f"{run}/owner", version=number)

    def take_over(self, run: Run) -> Run | None:
        """Make a dead process's run ours; None if another process was faster."""
        mine: list[Run] = []
        AT_WORK.add(run.run)
        try:
            self.record(run.run, "taken_over", model=run.model, number=run.events + 1)
            mine = [now for now in self.open() if now.run == run.run and now.owner == Owner.me()]
        finally:
            if not mine:
                AT_WORK.discard(run.run)
        return mine[0] if mine else None


def claimed(warehouse: Warehouse, runs: list[Run]) -> DataFrame:
    """The plan rows of ``runs`` that somebody is at work on, or will be.

    A batch is done when what is known of its hosts stands in ``hosts``: before that another job would not know when
    they were asked last.
    """
    of_runs = F.col("run").isin([run.run for run in runs]) if runs else F.lit(False)
    done = warehouse.read("hosts").where(of_runs).select("run", "batch").distinct()
    return warehouse.read("plans").where(of_runs).join(done, ["run", "batch"], "left_anti")
