"""The labelling job: plan, then batch by batch one append to ``attempts`` and one commit to ``samples``.

The tables are the state. Killed at any moment and started again, the unfinished plan goes on; what has an outcome is
not fetched again.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Final

from pyspark import Broadcast
from pyspark.errors import AnalysisException
from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as F
from pyspark.sql.types import BooleanType
from rich.table import Table

from cortex_spark.config import NO_CONTACT
from cortex_spark.detect import Model
from cortex_spark.engine.display import LabelDisplay, outcome_table
from cortex_spark.engine.pipeline import EngineConfig
from cortex_spark.engine.plan import (
    LANES,
    Batching,
    forbidden,
    in_batches,
    latest_hosts,
    place,
    sorted_by_batch,
    url_states,
    wanted,
)
from cortex_spark.engine.progress import ProgressServer
from cortex_spark.engine.runs import AT_WORK, Owner, Run, Runs, claimed
from cortex_spark.engine.worker import labeller
from cortex_spark.errors import CortexError, OutageError
from cortex_spark.outcomes import OK
from cortex_spark.schema import ATTEMPTS, HOST
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import refused_hashes, without_forgotten
from cortex_spark.table.samples import commit_samples

#: Seconds between two looks for new work with ``follow``.
_FOLLOW_SECONDS: Final = 10.0
_PLAN_TRIES: Final = 10
#: A few minutes' work on a CPU.
_BATCH_URLS_PER_SLOT: Final = 4000
#: Hosts that answered lately: a task asks a few of them whether an outage is ours or the web's.
_CANARIES: Final = 50
#: The transaction identifier of all plans: they are made one after the other.
_PLANNING: Final = "plan"
#: What stands in place of a model's identity where there is none.
MEASURED: Final = "no detector"


@dataclass(frozen=True)
class _Planned:
    """A run that was written down, and its batches."""

    run: Run
    batches: list[Row]
    is_part: bool  # whether more is wanted than it has


@dataclass
class LabelReport:
    """What a job did, and where every URL of the warehouse stands after it."""

    model: str
    runs: list[str] = field(default_factory=list)
    urls: int = 0  # that went in
    outcomes: Counter[str] = field(default_factory=Counter)  # that came out, of this job
    added: int = 0  # rows of samples
    seconds: float = 0.0  # of the batches, without Spark's start and planning
    busy: float = 0.0  # seconds in which a detector was at work, of a machine on average
    known: int | None = None  # rows of image_urls; None, as what follows is unknown: the job did not come to its end
    final: Counter[str] = field(default_factory=Counter)  # of all of them, by final outcome
    waiting: int = 0  # of all of them: not tried yet, or to be tried again

    @property
    def rate(self) -> float:
        """URLs per second."""
        return self.urls / self.seconds if self.seconds else 0.0

    @property
    def idle(self) -> float:
        """The share of the time in which no detector of a machine was at work."""
        return max(1.0 - self.busy / self.seconds, 0.0) if self.seconds else 0.0

    def as_json(self) -> dict[str, object]:
        """For machines."""
        stands = {"known": self.known, "final": dict(self.final), "waiting": self.waiting}
        return {
            "model": self.model,
            "runs": self.runs,
            "urls": self.urls,
            "outcomes": dict(self.outcomes),
            "samples_added": self.added,
            "seconds": round(self.seconds, 3),
            "urls_per_second": round(self.rate, 2),
            "detector_idle": round(self.idle, 3),
            **(stands if self.known is not None else {}),
        }

    def __rich__(self) -> Table:
        idle = f", detector idle {self.idle:.0%} of the time" if self.busy else ""
        stands = ""
        if self.known is not None:
            final = sum(self.final.values())
            stands = f"\nwarehouse: {self.known:,} URLs = {final:,} final + {self.waiting:,} waiting"
        return outcome_table(
            self.outcomes,
            self.final,
            f"{self.urls:,} URLs in, {sum(self.outcomes.values()):,} outcomes, {self.added:,} samples added, "
            f"{self.rate:.1f} URLs/s{idle}{stands}",
        )


class LabelJob:
    """Labels what is in ``image_urls`` and not labelled yet by ``model``; without a model, measures it."""

    def __init__(
        self,
        warehouse: Warehouse,
        model: Model | None,
        config: EngineConfig,
        *,
        batch_urls: int | None = None,
        host_urls: int = 250,
        show: bool = True,
    ) -> None:
        context = warehouse.spark.sparkContext
        slots = max(context.defaultParallelism // int(context.getConf().get("spark.task.cpus", "1") or 1), 1)
        # Two batches are at work at once, and share the slots.
        tasks = max(slots // LANES, 1)
        self._warehouse = warehouse
        self._identity = model.identity if model is not None else MEASURED
        self._by = model.identity if model is not None else None
        self._config = config
        size = batch_urls or _BATCH_URLS_PER_SLOT * slots
        # A host is one task's business: more of it than a task's share would leave the other tasks waiting.
        self._batching = Batching(tasks, size, min(host_urls, -(-size // tasks)), config.settings.host_delay)
        self._runs = Runs(warehouse)
        self._broadcast: Broadcast[Model | None] = context.broadcast(model)
        self._refused: Broadcast[frozenset[str]] = context.broadcast(refused_hashes(warehouse, config.settings))
        self._show = show
        #: What was done so far; complete once ``run`` has returned it.
        self.report = self._report = LabelReport(self._identity)
        self._committing = threading.Lock()
        self._stopping = threading.Event()
        self._canaries: tuple[str, ...] = ()
        self._after_death = False  # whether what a dead process left is planned anew
        #: Runs of which some rows may have been in ``samples`` before.
        self._unproven: list[str] = []

    def run(
        self,
        *,
        where: str | None = None,
        limit: int | None = None,
        retry: bool = False,
        revisit: int | None = None,
        follow: bool = False,
    ) -> LabelReport:
        """Work off what is wanted; with ``follow``, for ever.

        Unfinished runs of processes that are gone come first; ``limit`` counts their URLs, too. ``where`` is a
        condition in SQL on the columns of ``image_urls``. ``retry`` does not wait for the time of what failed for a
        passing reason; ``revisit`` asks again for pictures that were last seen so many days ago. Raises OutageError if
        our own network is down, and CortexError if not every URL that went in came out, the public web is to be visited
        without a contact address, or ``where`` is no such condition.
        """
        if where is not None:
            self._check_condition(where)
        conf = self._warehouse.spark.sparkContext.getConf()
        host = conf.get("spark.driver.host", "127.0.0.1") or "127.0.0.1"
        server = ProgressServer(host, conf.get("spark.driver.bindAddress", host) or host)
        ahead = _looked_at_ahead(self._warehouse)
        with server as progress, LabelDisplay(progress, show=self._show) as display, ahead:
            taken: list[Run] = []
            try:
                self._take_over(taken, display)
                for run in taken:
                    self._work(run, self._batches(run.run), progress, display)
            finally:
                AT_WORK.difference_update(run.run for run in taken)
            is_first = True
            while True:
                left = None if limit is None else limit - self._report.urls
                # What is asked for once more is so once: else a host that goes on failing would be asked for ever.
                again = retry and is_first
                days = revisit if is_first or (follow and revisit) else None
                # What is asked for once more is so once: it cannot be left for the next plan.
                whole = again or (days is not None and not follow)
                planned = None
                if left is None or left > 0:
                    planned = self._plan(where, left, again, days, display, whole=whole)
                is_first = False
                outcomes: Counter[str] = Counter()
                if planned is not None:
                    outcomes = self._work(planned.run, planned.batches, progress, display)
                    self._after_death = False
                # What was put off or has moved comes next, as long as that leads anywhere; so do later rounds.
                leads_on = outcomes["deferred"] < outcomes.total()
                if outcomes["moved"] or (leads_on and (outcomes["deferred"] or (planned and planned.is_part))):
                    continue
                if not follow:
                    break
                if outcomes["deferred"] == outcomes.total():  # or nothing was wanted
                    time.sleep(_FOLLOW_SECONDS)
        return self._warehouse.retried(self._accounted)

    def _take_over(self, taken: list[Run], display: LabelDisplay) -> None:
        """Runs whose owner is gone: ours now (``taken``), or closed, so that a job plans anew what they left.

        Closed are another model's, and those of whose hosts somebody has planned since they died.
        """
        runs = self._runs.open()
        others = [run for run in runs if run.alive]
        for run in runs:
            if run.alive:
                continue
            is_planned = bool(others) and self._warehouse.retried(partial(self._meet, run, others))
            if run.model != self._identity or is_planned:
                self._commit_done(run.run)  # what it labelled is not lost
                self._runs.record(run.run, "closed", model=run.model, number=run.events + 1)
                self._after_death = True
                why = "another job has its hosts now" if run.model == self._identity else "it is another model's"
                display.say(f"run {run.run} was left unfinished by {run.owner}: closed ({why}), to be planned anew")
            elif (mine := self._runs.take_over(run)) is not None:
                display.say(f"run {run.run} was left unfinished by {run.owner}: going on with it")
                taken.append(mine)
                others.append(mine)

    def _meet(self, run: Run, others: list[Run]) -> bool:
        """Whether a host of ``run`` (or a picture of the store) is one of ``others``, too."""
        by = F.coalesce(place(), F.col("_id")).alias("by")
        left, theirs = (claimed(self._warehouse, runs).select(by).distinct() for runs in ([run], others))
        return not left.join(theirs, "by", "left_semi").isEmpty()

    def _check_condition(self, where: str) -> None:
        urls = self._warehouse.read("image_urls")
        try:
            kind = urls.select(F.expr(where)).schema[0].dataType
            if isinstance(kind, BooleanType):
                urls.where(F.expr(where)).schema  # noqa: B018  # asks Spark whether it may stand there
        except AnalysisException as error:
            said = str(error).strip().splitlines()[0]
            raise CortexError(f"--where {where}: {said}; image_urls has {', '.join(urls.columns)}") from None
        if not isinstance(kind, BooleanType):
            raise CortexError(f"--where {where}: a condition is true or false, this is {kind.simpleString()}")

    def _plan(
        self,
        where: str | None,
        limit: int | None,
        retry: bool,
        revisit: int | None,
        display: LabelDisplay,
        *,
        whole: bool,
    ) -> _Planned | None:
        """Write down the next run, with all that is wanted if ``whole``; None if nothing is."""
        warehouse = self._warehouse
        display.phase("planning")
        for _ in range(_PLAN_TRIES):
            # What is planned after this is not in our claims, and makes our commit fail.
            planned_before = warehouse.transaction("plans", _PLANNING)
            others = [run for run in self._runs.open() if run.alive]
            rows, urls = warehouse.retried(partial(self._wanted, others, where, limit, retry, revisit))
            try:
                if urls == 0:
                    for other in others:
                        display.say(f"run {other.run} of {other.owner} is at work, and has its hosts to itself")
                    return None
                run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{secrets.token_hex(3)}"
                AT_WORK.add(run)
                try:
                    self._runs.record(run, "open", model=self._identity, number=1)
                    rounds = None if whole else self._batching.rounds(urls)
                    plan = sorted_by_batch(in_batches(rows, self._batching, run, urls, rounds), urls)
                    warehouse.append_once(plan, "plans", app_id=_PLANNING, version=planned_before + 1)
                    if batches := self._batches(run):
                        is_part = sum(row["urls"] for row in batches) < urls
                        return _Planned(Run(run, self._identity, Owner.me(), 1, alive=True), batches, is_part)
                except BaseException:
                    AT_WORK.discard(run)
                    raise
            finally:
                rows.unpersist()
            # Another job planned at the same moment: its URLs are not ours.
            AT_WORK.discard(run)
            self._runs.record(run, "closed", model=self._identity, number=2)
        raise CortexError(f"{warehouse.root}: {_PLAN_TRIES} other jobs in a row planned first; start this one again")

    def _wanted(
        self, others: list[Run], where: str | None, limit: int | None, retry: bool, revisit: int | None
    ) -> tuple[DataFrame, int]:
        """The rows that a plan made now would have, kept for that, and how many there are."""
        warehouse = self._warehouse
        states = url_states(warehouse, self._by, where=where, retry=retry, revisit=revisit, alone=not others)
        hosts = None if warehouse.is_empty("hosts") else latest_hosts(warehouse)
        claims = claimed(warehouse, others) if others else None
        rows = wanted(without_forgotten(states, warehouse), hosts, claims, limit).persist()
        try:
            return rows, self._counted(rows)
        except BaseException:
            rows.unpersist()
            raise

    def _counted(self, rows: DataFrame) -> int:
        """How many ``rows`` there are; raises CortexError where they visit the public web, and nobody may."""
        public = forbidden(F.col("place"), self._config.settings)
        found = rows.agg(F.count("*").alias("urls"), F.first(public, ignorenulls=True).alias("public")).first()
        assert found is not None
        if found["public"] is not None:
            raise CortexError(f"{found['public']} is on the public web: {NO_CONTACT}")
        return int(found["urls"])

    def _batches(self, run: str) -> list[Row]:
        """The batches of the plan of ``run``: number, URLs, tasks, and how many URLs were labelled before."""

        def read() -> list[Row]:
            plan = self._warehouse.read("plans").where(F.col("run") == run)
            counted = plan.groupBy("batch").agg(
                F.count("*").alias("urls"),
                (F.max("task") + 1).alias("tasks"),
                F.count("expected_hash").alias("labelled"),
            )
            return counted.collect()

        return self._warehouse.retried(read)

    def _work(self, run: Run, batches: Sequence[Row], progress: ProgressServer, display: LabelDisplay) -> Counter[str]:
        """Do what is not done of ``batches``, bring what is done into ``samples``; the outcomes."""
        AT_WORK.add(run.run)
        try:
            return self._work_off(run, batches, progress, display)
        finally:
            AT_WORK.discard(run.run)

    def _work_off(
        self, run: Run, batches: Sequence[Row], progress: ProgressServer, display: LabelDisplay
    ) -> Counter[str]:
        # Somebody may have worked on it before.
        done = self._commit_done(run.run) if run.events > 1 else []
        left = sorted((row for row in batches if row["batch"] not in done), key=lambda row: row["batch"])
        display.begin(run.run, sum(row["urls"] for row in left), len(left))
        self._report.runs.append(run.run)
        started = time.monotonic()
        total: Counter[str] = Counter()
        self._stopping.clear()

        def lane(batches: Sequence[Row]) -> None:
            context = self._warehouse.spark.sparkContext
            context.addJobTag(run.run)
            for row in batches:
                if self._stopping.is_set():
                    return
                outcomes = self._batch(run, row, progress, display)
                total.update(outcomes)
                if outcomes["outage"]:
                    self._stopping.set()

        display.phase("labelling")
        with ThreadPoolExecutor(LANES, thread_name_prefix="lane") as pool:
            lanes = [[row for row in left if row["batch"] % LANES == number] for number in range(LANES)]
            working = [pool.submit(lane, batches) for batches in lanes if batches]
            try:
                for future in as_completed(working):
                    future.result()
            except BaseException:
                # Interrupted, or an error in one lane: the other's batch is abandoned, too, and done again later.
                self._stopping.set()
                self._warehouse.spark.sparkContext.cancelJobsWithTag(run.run)
                raise
            finally:
                self._report.seconds += time.monotonic() - started
                self._report.busy = progress.busy_seconds
        if total["outage"]:
            raise OutageError(
                f"{total['outage']:,} URLs were not asked for: one host after the other gave no answer, nor did hosts "
                "that had answered before, so it is our own network that is down. Nothing was written off: the same "
                "command goes on where this one stopped"
            )
        self._runs.record(run.run, "closed", model=run.model, number=run.events + 1)
        return total

    def _batch(self, run: Run, row: Row, progress: ProgressServer, display: LabelDisplay) -> Counter[str]:
        """One batch: attempts, what politeness has to remember, samples; its outcomes."""
        batch, urls = row["batch"], row["urls"]
        self._attempt(run, batch, row["tasks"], progress)
        outcomes = self._warehouse.retried(partial(self._checked, run.run, batch, urls))
        with self._committing:
            self._remember_hosts(run.run, batch)
            # Without a picture, too: what was taken down meanwhile goes by this door.
            new = None if row["labelled"] else outcomes[OK]
            added = commit_samples(self._warehouse, run.run, [batch], new=new)
            if added != outcomes[OK]:
                self._unproven.append(run.run)
            self._report.added += added
            self._report.urls += urls
            self._report.outcomes.update(outcomes)
            display.batch_done(batch, outcomes)
        return outcomes

    def _commit_done(self, run: str) -> list[int]:
        """The batches of ``run`` that have their attempts, brought into ``samples``: it may have died in between."""

        def read() -> list[Row]:
            attempted = self._warehouse.read("attempts").where(F.col("run") == run)
            return attempted.select("batch").distinct().collect()

        done = sorted(row["batch"] for row in self._warehouse.retried(read))
        for lane in range(LANES):
            if latest := [batch for batch in done if batch % LANES == lane][-1:]:
                self._remember_hosts(run, latest[0])
        if done:
            self._report.added += commit_samples(self._warehouse, run, done, again=True)
            self._unproven.append(run)
        return done

    def _attempt(self, run: Run, batch: int, tasks: int, progress: ProgressServer) -> None:
        rows = self._warehouse.read("plans").where((F.col("run") == run.run) & (F.col("batch") == batch))
        self._canaries = self._canaries or self._answering_hosts()  # those of the first batch, by now
        if not self._warehouse.is_empty("hosts"):
            places = rows.select("run", "batch", "task", place().alias("host")).distinct()
            known = latest_hosts(self._warehouse).join(places, "host")
            known = known.select("run", "batch", "task", F.struct(*HOST.names).alias("host_state"))
            rows = rows.unionByName(known, allowMissingColumns=True)
        else:
            rows = rows.withColumn("host_state", F.lit(None).cast(HOST))
        # A run whose process died may have asked a host a moment before.
        task = labeller(
            self._broadcast,
            self._refused,
            self._config,
            progress.address,
            self._canaries,
            retried=run.events > 1 or self._after_death,
        )
        # Nothing may shuffle after the engine: downloads differ from one try to the next.
        attempts = rows.repartitionById(tasks, "task").mapInArrow(task, ATTEMPTS)
        self._warehouse.append_once(attempts, "attempts", app_id=_lane(run.run, batch), version=batch)

    def _remember_hosts(self, run: str, batch: int) -> None:
        attempts = self._warehouse.read("attempts").where((F.col("run") == run) & (F.col("batch") == batch))
        visited = attempts.where(F.col("host_state").isNotNull()).select("host_state.*", "run", "batch")
        self._warehouse.append_once(visited.coalesce(1), "hosts", app_id=_lane(run, batch), version=batch)

    def _answering_hosts(self) -> tuple[str, ...]:
        """Origins that answered lately; none in a warehouse that has seen no host yet."""
        if self._warehouse.is_empty("hosts"):
            return ()
        visit = F.struct("answered_at", "not_before", F.get("robots", F.lit(0))["origin"].alias("origin"))
        latest = self._warehouse.read("hosts").groupBy("host").agg(F.max_by(visit, "at").alias("latest"))
        may_be_asked = F.col("not_before").isNull() | (F.col("not_before") <= F.current_timestamp())
        answered = latest.select("latest.*").where(F.col("answered_at").isNotNull() & may_be_asked)
        rows = answered.where(F.col("origin").isNotNull()).orderBy(F.desc("answered_at")).limit(_CANARIES).collect()
        return tuple(row["origin"] for row in rows)

    def _checked(self, run: str, batch: int, urls: int) -> Counter[str]:
        """Outcomes of a batch; raises CortexError unless each URL has exactly one."""
        of_batch = (F.col("run") == run) & (F.col("batch") == batch)
        attempts = self._warehouse.read("attempts").where(of_batch)
        rows = (
            attempts.groupBy("outcome").agg(F.count("*").alias("rows"), F.count_distinct("_id").alias("ids")).collect()
        )
        outcomes = Counter({row["outcome"]: row["rows"] for row in rows})
        if sum(outcomes.values()) != urls or sum(row["ids"] for row in rows) != urls:
            # A take-down may have removed rows of both tables meanwhile, or of the first of them.
            planned = without_forgotten(self._warehouse.read("plans").where(of_batch), self._warehouse)
            missing = planned.join(attempts, "_id", "left_anti").count()
            doubled = attempts.groupBy("_id").count().where("count > 1").count()
            if missing or doubled:
                raise CortexError(
                    f"run {run}, batch {batch}: of {urls:,} URLs that went in {missing:,} have no outcome and "
                    f"{doubled:,} have several; what came out stands in the table 'attempts'"
                )
        return outcomes

    def _accounted(self) -> LabelReport:
        report = self._report
        rows = url_states(self._warehouse, self._by).groupBy("outcome").count().collect()
        report.final = Counter({row["outcome"]: row["count"] for row in rows if row["outcome"] is not None})
        report.waiting = sum(row["count"] for row in rows if row["outcome"] is None)
        report.known = report.final.total() + report.waiting
        if self._unproven:
            ours = self._warehouse.read("attempts").where(F.col("run").isin(self._unproven) & (F.col("outcome") == OK))
            missing = ours.join(self._warehouse.read("samples").select("_id"), "_id", "left_anti").count()
            if missing:
                raise CortexError(f"{missing:,} URLs that this job labelled are missing in the table 'samples'")
        return report


@contextmanager
def _looked_at_ahead(warehouse: Warehouse) -> Iterator[None]:
    """To make a table, or to read its log for the first time, takes a second: the first plan does not wait for it."""
    ahead = ThreadPoolExecutor(1, thread_name_prefix="ahead")
    ahead.map(warehouse.is_empty, ("attempts", "hosts", "samples"))
    try:
        yield
    finally:
        ahead.shutdown(wait=False, cancel_futures=True)


def _lane(run: str, batch: int) -> str:
    """The transaction identifier of a lane: within it batches are committed in order."""
    return f"{run}/{batch % LANES}"
