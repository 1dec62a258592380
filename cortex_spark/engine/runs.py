"""Who works on which run. A run whose process is gone is taken over by the next job that labels with the same model."""

from __future__ import annotations

import os
import socket
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
    urls: int | None
    alive: bool


class Runs:
    """The table ``runs``: an event per row."""

    def __init__(self, warehouse: Warehouse) -> None:
        self._warehouse = warehouse

    def open(self) -> list[Run]:
        """The runs that are not closed, oldest first."""
        latest = F.max_by(F.struct("event", "owner_host", "owner_pid", "owner_started", "urls"), "at")
        rows = (
            self._warehouse.read("runs")
            .groupBy("run", "model")
            .agg(latest.alias("latest"), F.max("at").alias("at"), F.count("*").alias("events"))
            .where("latest.event != 'closed'")
            .orderBy("run")
            .collect()
        )
        return [self._run(row) for row in rows]

    def _run(self, row: Row) -> Run:
        latest = row["latest"]
        owner = Owner(latest["owner_host"], latest["owner_pid"], latest["owner_started"])
        alive = not owner.is_known_dead()
        if alive and owner.host != socket.gethostname():
            alive = self._last_sign(row["run"], row["at"]) > datetime.now(UTC) - SILENT
        return Run(row["run"], row["model"], owner, row["events"], latest["urls"], alive)

    def _last_sign(self, run: str, opened: datetime) -> datetime:
        last = self._warehouse.read("attempts").where(F.col("run") == run).agg(F.max("attempted_at")).first()
        times = [opened, last[0] if last is not None and last[0] is not None else opened]
        return max(times).replace(tzinfo=UTC)

    def record(
        self, run: str, event: str, *, model: str, number: int, urls: int | None = None, batches: int | None = None
    ) -> bool:
        """Write the ``number``-th event of ``run``; False if another process was faster."""
        me = Owner.me()
        values = {
            "run": run,
            "at": datetime.now(UTC),
            "event": event,
            "owner_host": me.host,
            "owner_pid": me.pid,
            "owner_started": me.started,
            "model": model,
            "urls": urls,
            "batches": batches,
        }
        rows = self._warehouse.spark.createDataFrame([tuple(values[name] for name in RUNS.names)], RUNS)
        self._warehouse.append_once(rows, "runs", app_id=f"{run}/owner", version=number)
        return self._latest_owner(run) == me

    def _latest_owner(self, run: str) -> Owner:
        newest = self._warehouse.read("runs").where(F.col("run") == run).orderBy(F.desc("at")).first()
        assert newest is not None  # we or somebody else just wrote it
        return Owner(newest["owner_host"], newest["owner_pid"], newest["owner_started"])


def claimed(warehouse: Warehouse, runs: list[Run]) -> DataFrame:
    """The plan rows of ``runs`` that have no attempt yet: somebody is at work on them."""
    names = [run.run for run in runs]
    plans = warehouse.read("plans").where(F.col("run").isin(names) if names else F.lit(False))
    attempts = warehouse.read("attempts").where(F.col("run").isin(names) if names else F.lit(False))
    return plans.join(attempts.select("run", "_id"), ["run", "_id"], "left_anti")
