"""Tables that were taken care of have the same rows, and what is derived is right after all that may happen to them."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path
from typing import Any

import duckdb
import pytest
from pyspark.sql import SparkSession
from typer import Typer
from typer.testing import CliRunner

from cortex_spark.engine.runs import Runs
from cortex_spark.errors import CortexError
from cortex_spark.forget.takedown import forget
from cortex_spark.schema import DERIVED, SAMPLE
from cortex_spark.sources.store import local_path
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import is_complete
from cortex_spark.table.samples import commit_samples
from cortex_spark.upkeep import derive
from cortex_spark.upkeep import optimize as optimize_module
from cortex_spark.upkeep.cli import verify as verify_command
from cortex_spark.upkeep.optimize import LEAST_RETENTION, optimize
from cortex_spark.upkeep.verify import VerifyReport, verify
from tests.table.boxes import box, make_old, oracle, record, sample, some_rows, to_frame


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


def stored(tables: Warehouse) -> str:
    """All rows, as a text: there are NaNs in them."""
    return repr(tables.read("samples").select(*SAMPLE.names, "landed_at").orderBy("_id").toArrow().to_pylist())


def is_sound(report: VerifyReport) -> bool:
    return report.is_derived and report.differences == 0 and len(report.checks) >= 1 + len(DERIVED)


def data(tables: Warehouse) -> list[str]:
    return tables.read("samples").inputFiles()


def has_bloom_filters(tables: Warehouse) -> set[str]:
    """The columns of which every row group has one."""
    found = duckdb.execute(
        "SELECT path_in_schema FROM parquet_metadata($1) GROUP BY ALL HAVING bool_and(bloom_filter_offset IS NOT NULL)",
        [[str(local_path(path)) for path in data(tables)]],
    )
    return {name for (name,) in found.fetchall()}


def test_a_table_made_before_is_brought_up_to_date(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, by rows of all kinds; then it is relabelled, taken down from, and optimised again."""
    make_old(tables)
    rows = some_rows(60, seed=3)
    old = to_frame(tables.spark, rows).drop(*DERIVED)
    for number in range(2):
        part = old.where(f"conv(right(_id, 2), 16, 10) % 2 = {number}")
        late = part.selectExpr(*SAMPLE.names, f"timestamp_seconds({number}) AS landed_at")
        tables.append_once(late.coalesce(1), "samples", app_id="old", version=number)
    before = stored(tables)
    report = verify(tables)
    assert (report.is_derived, report.differences) == (False, 0)

    monkeypatch.setattr(derive, "_ROWS_AT_ONCE", 20)
    said: list[str] = []
    done = optimize(tables, say=said.append)
    assert done.derived == sum(row["object_analysis"] is not None for row in rows)
    assert "derived columns of samples: part 3 of 4" in said
    (care,) = done.tables
    assert (care.table, care.files_before, care.files, care.vacuumed) == ("samples", 2, 1, 0)
    assert stored(tables) == before
    assert has_bloom_filters(tables) == {"_id", "label_quality_estimation"}
    assert is_sound(verify(tables))
    newest = tables.version("samples")
    properties = tables.properties("samples")
    assert is_complete(properties, newest)
    assert not is_complete(properties, 2)
    found = tables.read("samples").orderBy("_id").toArrow().to_pylist()
    assert [{name: row[name] for name in DERIVED} for row in found] == [oracle(row) for row in rows]
    assert optimize(tables).derived == 0
    assert stored(tables) == before

    new = [sample(number, "a", [box("cat")]) for number in range(100, 103)]
    record(tables, "first", new)
    record(tables, "second", [sample(100, "b", [box("cat"), box("cat")])])
    assert [commit_samples(tables, run, [0]) for run in ("first", "second")] == [3, 0]
    assert tables.read("samples").where("objects.cat.count = 2 AND size(annotators) = 2").count() == 1
    assert is_sound(verify(tables))
    forget(tables, [("url", new[1]["_id"])])
    assert is_sound(verify(tables))
    care = next(one for one in optimize(tables).tables if one.table == "samples")
    assert (care.files, len(data(tables))) == (1, 1)
    assert is_sound(verify(tables))
    assert tables.read("samples").count() == len(rows) + 2


def test_what_a_job_appends_to_for_minutes_has_no_conflict(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """A batch whose append is refused would be downloaded and labelled once more."""
    record(tables, "first", [sample(1, "a", [box("cat")])])
    commit_samples(tables, "first", [0])
    before = tables.properties("attempts")
    optimize(tables)
    assert tables.properties("attempts") == before  # what it keeps is what Delta keeps
    said: list[str] = []
    Runs(tables).record("second", "open", model="m", number=1)
    with monkeypatch.context() as patch:
        patch.setattr("cortex_spark.engine.runs.AT_WORK", {"second"})
        optimize(tables, retain=timedelta(hours=48), say=said.append)
    assert tables.properties("attempts") == before
    assert "attempts: a job is at work, what is set for the table stays as it was" in said
    kept = "delta.deletedFileRetentionDuration"
    assert tables.properties("samples")[kept] == "interval 172800 seconds"
    optimize(tables, retain=timedelta(hours=48))
    assert tables.properties("attempts")[kept] == "interval 172800 seconds"


def test_rows_lie_by_class_and_moment(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """In each file; those of one class and moment in the order they came in. No file is much larger than others."""
    monkeypatch.setattr(optimize_module, "_ROWS_PER_FILE", 30)
    rows: list[dict[str, Any]] = []
    for number in range(240):
        row = {"_id": f"{number:032x}", "object_analysis": [[box(("cat", "person", "dog")[number % 3])]]}
        landed = datetime(2026, 1, 1 + number // 120, tzinfo=UTC)
        rows.append(row | oracle(row) | {"host": f"host-{number:03}.example", "landed_at": landed})
    for batch in range(2):
        part = to_frame(tables.spark, rows[120 * batch : 120 * batch + 120]).coalesce(1)
        tables.append_once(part, "samples", app_id="rows", version=batch)
    optimize(tables)
    lengths = []
    for path in data(tables):
        found = duckdb.execute(
            "SELECT rarest_class, landed_at, host FROM read_parquet($1, file_row_number = true)"
            " ORDER BY file_row_number",
            [str(local_path(path))],
        ).fetchall()
        lengths.append(len(found))
        groups = [list(hosts) for _, hosts in groupby(found, key=lambda row: row[:2])]
        assert len(groups) == len({hosts[0][:2] for hosts in groups})
        assert all(hosts == sorted(hosts, key=lambda row: row[2]) for hosts in groups)
    assert sum(lengths) == 240
    assert max(lengths) <= 60


def test_what_is_clustered_already_stays(tables: Warehouse, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each part is a commit of its own, and later calls begin behind the full ones."""

    def land(number: int) -> None:
        rows = [sample(10 * number + one, "a", [box("cat")]) | {"landed_at": None} for one in range(10)]
        tables.append_once(to_frame(tables.spark, rows).coalesce(1), "samples", app_id="rows", version=number)

    def commits() -> int:
        return tables.delta("samples").history().where("operation = 'OPTIMIZE'").count()

    for number in range(4):
        land(number)
    size = max(local_path(path).stat().st_size for path in data(tables))
    monkeypatch.setattr(optimize_module, "_PART_BYTES", 5 * size // 2)  # two files as they land
    optimize(tables)
    full = set(data(tables))
    assert commits() == len(full) == 2
    optimize(tables)
    assert (commits(), set(data(tables))) == (2, full)
    land(4)
    optimize(tables)
    assert commits() == 3
    assert full < set(data(tables))
    assert tables.read("samples").count() == 50


@pytest.mark.soak
def test_beside_a_committer_nothing_is_lost(tables: Warehouse) -> None:
    """While batches land and boxes are added to rows that are there, tables are optimised again and again."""
    batches = 4
    for batch in range(batches):
        record(tables, "a", [sample(number, "a", [box("cat")]) for number in range(9 * batch, 9 * batch + 9)], batch)
    record(tables, "b", [sample(number, "b", [box("dog")]) for number in range(9)])
    commit_samples(tables, "a", [0])
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for batch in range(1, batches):
                commit_samples(tables, "a", [batch])
            commit_samples(tables, "b", [0])
        except BaseException as error:
            errors.append(error)

    committer = threading.Thread(target=work)
    committer.start()
    rounds = 0
    while committer.is_alive() or not rounds:
        optimize(tables)
        rounds += 1
    committer.join()
    optimize(tables)
    assert errors == []
    samples = tables.read("samples")
    assert samples.count() == 9 * batches
    assert samples.where("objects.cat.count = 1").count() == 9 * batches
    assert samples.where("objects.dog.count = 1 AND size(annotators) = 2").count() == 9
    assert is_sound(verify(tables))
    assert len(data(tables)) == 1


def planted(tables: Warehouse, what: str) -> VerifyReport:
    tables.sql(f"UPDATE {{samples}} SET {what}")
    return verify(tables)


def test_differences_are_found(tables: Warehouse) -> None:
    record(tables, "a", [sample(1, "a", [box("cat")]), sample(2, "a", [])])
    commit_samples(tables, "a", [0])
    sound = verify(tables)
    assert is_sound(sound)
    assert planted(tables, "objects.cat.count = 2 WHERE objects.cat.count = 1").differences == 1
    assert planted(tables, "objects = NULL WHERE objects.cat.count = 0").differences == 2
    assert planted(tables, "rarest_class = NULL WHERE rarest_class = 80").differences == 3
    tables.append_once(tables.read("samples").limit(1), "samples", app_id="twice", version=0)
    app = Typer()
    app.command()(verify_command)
    told = CliRunner().invoke(app, ["--warehouse", tables.root, "--json"])
    assert told.exit_code == 1
    report: dict[str, Any] = json.loads(told.stdout)
    assert len(report["checks"]) == len(sound.checks)
    assert report["differences"] > 3
    assert {check["what"]: check["differences"] > 0 for check in report["checks"]} == {
        "_id stands once": True,
        "objects follows from the boxes": True,
        "rarest_class follows from the boxes": True,
    }


def test_old_files_go_and_young_ones_stay(tables: Warehouse) -> None:
    record(tables, "a", [sample(1, "a", [box("cat")])])
    commit_samples(tables, "a", [0])
    folder = Path(tables.path("samples"))
    old, young = folder / "part-old.parquet", folder / "part-young.parquet"
    for path, days in ((old, 8), (young, 2)):
        path.write_bytes(b"")
        os.utime(path, (time.time() - 86400 * days,) * 2)
    first = tables.version("samples")
    done = {one.table: one.vacuumed for one in optimize(tables).tables}
    assert (done["samples"], old.exists(), young.exists()) == (1, False, True)
    assert {one.table: one.vacuumed for one in optimize(tables, retain=LEAST_RETENTION).tables}["samples"] == 1
    assert not young.exists()
    assert tables.read("samples", first).count() == 1
    assert len(list(Path(tables.root, "_index", "samples").glob("*.ids"))) >= 1


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda tables: optimize(tables, retain=timedelta(hours=23)), "--retain 23: at least 25 hours"),
        (optimize, "is not a warehouse"),
        (verify, "has no tables to look at"),
    ],
)
def test_refusals(tables: Warehouse, call: Callable[[Warehouse], Any], says: str) -> None:
    with pytest.raises(CortexError, match=says):
        call(tables)
    assert not Path(tables.root).exists()
