"""How a plan is cut into batches and tasks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import ada_url
import pyarrow as pa
import pytest
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as F
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.config import Settings
from cortex_spark.engine.plan import LANES, Batching, forbidden, in_batches, latest_hosts, place, url_states
from cortex_spark.schema import ATTEMPTS, HOSTS, IMAGE_URLS, PLANS
from cortex_spark.table import Warehouse
from tests.web import discover


def _wanted(spark: SparkSession, hosts: Sequence[str | None], delays: dict[str, float] | None = None) -> DataFrame:
    rows: list[tuple[Any, ...]] = [
        (f"{n:032x}", f"http://{host}/{n}", host, "public", "list", None, None, None, datetime(2026, 1, 1), [], 1)
        for n, host in enumerate(hosts)
    ]
    delay = F.lit(None).cast("double")
    for host, seconds in (delays or {}).items():
        delay = F.when(F.col("host") == host, F.lit(seconds)).otherwise(delay)
    columns = {
        "tries": F.lit(0),
        "hops": F.lit(0),
        "labelled_hash": F.lit(None).cast("string"),
        "location": F.lit(None).cast("string"),
        "etag": F.lit(None).cast("string"),
        "last_modified": F.lit(None).cast("string"),
        "place": F.col("host"),
        "delay": delay,
    }
    return spark.createDataFrame(rows, IMAGE_URLS).withColumns(columns)


def test_batches_tasks_and_caps(spark: SparkSession) -> None:
    """A skewed web: one host with half of all URLs, some with a few, many with one; and private pictures."""
    hosts = ["big"] * 100 + [f"middle{n}" for n in range(5) for _ in range(12)] + [f"small{n}" for n in range(30)]
    everything = [*hosts, *[None] * 10]
    batching = Batching(tasks=3, batch_urls=45, host_urls=15, host_delay=0.5)
    planned = in_batches(_wanted(spark, everything), batching, "r", len(everything)).collect()
    assert planned[0].__fields__ == PLANS.names
    assert sorted(row["_id"] for row in planned) == [f"{n:032x}" for n in range(len(everything))]  # each once

    batches = Counter(row["batch"] for row in planned)
    for lane in range(LANES):  # numbered without gaps
        numbers = sorted(batch for batch in batches if batch % LANES == lane)
        assert numbers == list(range(lane, lane + LANES * len(numbers), LANES))
    assert max(batches.values()) < 45 + 15
    per_host: defaultdict[tuple[int, str], set[int]] = defaultdict(set)
    counts: Counter[tuple[int, str]] = Counter()
    loads: defaultdict[int, Counter[int]] = defaultdict(Counter)
    lanes: defaultdict[str, set[int]] = defaultdict(set)
    for row in planned:
        assert 0 <= row["task"] < 3
        loads[row["batch"]][row["task"]] += 1
        if row["host"] is not None:
            per_host[row["batch"], row["host"]].add(row["task"])
            counts[row["batch"], row["host"]] += 1
            lanes[row["host"]].add(row["batch"] % LANES)
    assert all(len(tasks) == 1 for tasks in per_host.values())  # a host is one task's business
    assert all(len(of_host) == 1 for of_host in lanes.values())  # and never in two batches that run at once
    assert max(counts.values()) == 15
    # A batch with hosts enough to deal out keeps all tasks busy.
    first = loads[0]
    assert set(first) == {0, 1, 2}
    assert max(first.values()) <= min(first.values()) + 15


@pytest.mark.parametrize(
    "location",
    [
        "https://new.example/x.jpg",
        "HTTPS://New.Example:8443/x.jpg",
        "https://new.example/x.jpg?x=a|b&at=10:30/",
        "http://my_pictures.new.example?x",
        "http://my_pictures.new.example:81/x^y.jpg",
        "http://bücher.example/ä.jpg",
        "http://[2001:db8::1]:81/x.jpg",
        "http://[2001:db8::1]/x.jpg",
    ],
)
def test_what_has_moved_is_at_its_new_host(spark: SparkSession, location: str) -> None:
    url = ada_url.URL(location)
    moved = _wanted(spark, ["old.example"]).withColumn("location", F.lit(url.href))
    assert [row[0] for row in moved.select(place()).collect()] == [url.hostname]


def test_what_has_not_moved_is_at_its_own_host_or_nowhere(spark: SparkSession) -> None:
    assert [row[0] for row in _wanted(spark, ["old.example", None]).select(place()).collect()] == ["old.example", None]


def test_who_may_be_asked_is_asked_by_the_whole_name(spark: SparkSession) -> None:
    """As the workers do it, which refuse what the plan lets pass."""
    names = [
        "example.org",
        "www.example.org",
        "notexample.org",
        "EXAMPLE.org",
        "example.org.",
        "[fd00::1]",
        "[fd00::2]",
    ]
    settings = Settings(allow_private_hosts=("example.org", "fd00::1", "*.corp"))
    hosts = spark.createDataFrame([(name,) for name in [*names, "a.corp", "corp"]], "host string")
    found = {row[0] for row in hosts.select(forbidden(F.col("host"), settings)).collect()} - {None}
    assert found == {row[0] for row in hosts.collect() if not settings.may_visit(row[0])}
    assert found == {"www.example.org", "notexample.org", "[fd00::2]", "corp"}


class History:
    """Attempts at one URL, by hand."""

    def __init__(self, tables: Warehouse) -> None:
        self.tables = tables
        discover(tables.spark, tables, ["http://h.localhost/1.jpg"])
        self.id = tables.read("image_urls").collect()[0]["_id"]
        self.days = 0

    def ends(self, outcome: str, model: str | None = "a", *, final: bool = False, at: str | None = None) -> None:
        """A day later."""
        self.days += 1
        when = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(days=self.days)
        row = {
            "_id": self.id,
            "model": model,
            "outcome": outcome,
            "final": final,
            "attempted_at": when,
            "final_url": at,
        }
        arrow = pa.Table.from_pylist([row], to_arrow_schema(ATTEMPTS, timezone="UTC"))
        frame = self.tables.spark.createDataFrame(arrow)
        self.tables.append_once(frame, "attempts", app_id="test", version=self.days)

    def state(self, model: str | None = "a", **options: Any) -> tuple[str | None, int, int, str | None]:
        row = url_states(self.tables, model, **options).collect()[0]
        return row["outcome"], row["tries"], row["hops"], row["location"]


def test_states_of_a_url_over_its_history(spark: SparkSession, warehouse: Path) -> None:
    url = History(Warehouse(spark, str(warehouse)))
    assert url.state() == (None, 0, 0, None)
    url.ends("moved", at="http://there.localhost/1.jpg")
    url.ends("timeout")
    assert url.state() == (None, 1, 0, None)  # where it had moved to may have been good for a minute
    url.ends("ok", final=True)
    assert url.state() == ("ok", 0, 0, None)
    assert url.state("b") == (None, 0, 0, None)
    assert url.state(None) == ("ok", 0, 0, None)
    assert url.state(revisit=0) == (None, 0, 0, None)
    # Another model's visits: what it did not get done is not the first one's business, nor is how they end.
    url.ends("deferred", "b")
    assert (url.state(), url.state("b")) == (("ok", 0, 0, None), (None, 0, 0, None))
    for _ in range(3):
        url.ends("timeout", "b")
    url.ends("timeout", "b", final=True)
    assert (url.state(), url.state("b")) == (("ok", 4, 0, None), ("timeout", 4, 0, None))
    assert url.state("b", retry=True) == (None, 4, 0, None)  # once more, and that is final again
    # A visit that was put off, or has moved, is done whether or not one asks for visits again.
    url.ends("moved", at="http://here.localhost/1.jpg")
    assert url.state() == (None, 4, 1, "http://here.localhost/1.jpg")
    url.ends("not_modified", final=True)
    assert url.state() == ("not_modified", 0, 0, None)


def test_what_was_before_a_picture_was_seen_is_over(spark: SparkSession, warehouse: Path) -> None:
    url = History(Warehouse(spark, str(warehouse)))
    for number in range(4):
        url.ends("timeout", final=number == 3)
    assert (url.state(), url.state("b")) == (("timeout", 4, 0, None), ("timeout", 4, 0, None))
    url.ends("ok", final=True)
    assert (url.state(revisit=0), url.state("b")) == ((None, 0, 0, None), (None, 0, 0, None))
    # What was put off is done, unless somebody else finds out meanwhile that it may not be.
    url.ends("deferred")
    assert url.state(revisit=10_000) == (None, 0, 0, None)
    url.ends("robots", "b", final=True)
    assert (url.state(), url.state("b"), url.state("c")) == (("ok", 0, 0, None), *[("robots", 0, 0, None)] * 2)


def test_a_slow_host_gets_few_urls_into_a_batch(spark: SparkSession) -> None:
    hosts = ["slow"] * 20 + ["usual"] * 20
    batching = Batching(tasks=1, batch_urls=1000, host_urls=12, host_delay=0.5)
    planned = in_batches(_wanted(spark, hosts, {"slow": 2.0, "usual": 0.1}), batching, "r", len(hosts)).collect()
    most = {host: max(Counter(row["batch"] for row in planned if row["host"] == host).values()) for host in set(hosts)}
    assert most == {"slow": 3, "usual": 12}
    assert {row["batch"] % LANES for row in planned} == {0}  # what fits into one batch does not become two at once


def test_a_plan_has_a_few_rounds_of_a_host(spark: SparkSession) -> None:
    """One that is asked once a minute would have a batch for each of its URLs."""
    hosts = ["slow"] * 40 + [f"h{number}" for number in range(20)]
    batching = Batching(tasks=1, batch_urls=50, host_urls=250, host_delay=0.5)
    rounds = batching.rounds(len(hosts))
    planned = in_batches(_wanted(spark, hosts, {"slow": 90.0}), batching, "r", len(hosts), rounds).collect()
    assert Counter(row["host"] == "slow" for row in planned) == {True: rounds, False: 20}
    assert len({row["batch"] for row in planned}) <= rounds + 1
    assert batching.rounds(50 * 100) == 100


def test_of_plans_made_at_the_same_time_one_stands(spark: SparkSession, warehouse: Path) -> None:
    """Whatever else is committed to the table between what the two have read."""
    tables = Warehouse(spark, str(warehouse))
    row = in_batches(_wanted(spark, ["h"]), Batching(1, 10, 10, 0.5), "one", 1)
    before = tables.transaction("plans", "plan")
    tables.set_properties("plans", {"user.note": "between"})
    assert tables.transaction("plans", "plan") == before == 0
    for run in ("one", "two"):
        tables.append_once(row.withColumn("run", F.lit(run)), "plans", app_id="plan", version=before + 1)
    assert [found["run"] for found in tables.read("plans").collect()] == ["one"]
    assert tables.transaction("plans", "plan") == 1


def test_what_is_known_of_hosts_that_do_not_answer_outlasts_their_time_of_peace(
    spark: SparkSession, warehouse: Path
) -> None:
    """Else the first visit after a day would be asked for again after ten minutes, as if it were the first failure."""
    now = datetime.now(UTC)
    states = [
        ("answers", 1, 0, None),
        ("answered", 3, 0, None),
        ("asks for peace", 3, 0, now + timedelta(hours=1)),
        ("silent", 2.1, 9, now - timedelta(minutes=1)),
        ("silent long ago", 9, 9, None),
        ("silent before", 5, 9, None),
        ("silent before", 3, 0, None),
    ]
    rows = [
        dict.fromkeys(HOSTS.names)
        | {"host": host, "at": now - timedelta(days=days), "failures": failures, "not_before": not_before}
        for host, days, failures, not_before in states
    ]
    tables = Warehouse(spark, str(warehouse))
    arrow = pa.Table.from_pylist(rows, to_arrow_schema(HOSTS, timezone="UTC"))
    tables.append_once(spark.createDataFrame(arrow), "hosts", app_id="test", version=0)
    known = {row["host"]: row["failures"] for row in latest_hosts(tables).collect()}
    assert known == {"answers": 0, "asks for peace": 0, "silent": 9}
