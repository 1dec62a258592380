"""What is compared with the memory, and how."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from pyspark.sql import DataFrame, SparkSession

from cortex_spark.config import Settings
from cortex_spark.errors import CortexError
from cortex_spark.schema import FORGOTTEN
from cortex_spark.sources.urls import image_id
from cortex_spark.table import Warehouse
from cortex_spark.table.forgotten import REMOVED, Memory, hashed, recall, refused_hashes, without_forgotten

CAT = "ab" * 32
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


def remember(tables: Warehouse, *entries: tuple[str, str], at: datetime = NOW) -> None:
    rows = tables.spark.createDataFrame([(kind, value, at, None) for kind, value in entries], FORGOTTEN)
    tables.append_once(rows, "forgotten", app_id=str(entries), version=0)


def frame(tables: Warehouse, schema: str, *rows: tuple[str | None, ...]) -> DataFrame:
    return tables.spark.createDataFrame(list(rows), schema)


def left(rows: DataFrame, tables: Warehouse) -> list[str]:
    kept = without_forgotten(rows, tables)
    assert kept.columns == rows.columns
    return sorted(row["_id"] for row in kept.collect())


def test_nothing_forgotten_costs_nothing(tables: Warehouse, warehouse: Path) -> None:
    rows = frame(tables, "_id string", ("a",))
    assert without_forgotten(rows, tables) is rows
    assert refused_hashes(tables, Settings()) == frozenset()
    assert not warehouse.exists()


def test_every_column_is_compared(tables: Warehouse) -> None:
    url = "http://a.example/1.jpg"
    page = "http://news.example/today"
    remember(
        tables,
        ("url", image_id(url)),
        ("host", hashed("bad.example")),
        ("domain", hashed("*.worse.example")),
        ("hash", CAT),
        ("page", hashed(page)),
    )
    rows = frame(
        tables,
        "_id string, host string, hash string, page_url string, final_url string, other string",
        (image_id(url), None, None, None, None, "url"),
        ("kept: all unknown", None, None, None, None, None),
        ("kept: below a host", "www.bad.example", "cd" * 32, page + "/2", "http://good.example/", url),
        ("kept: the domain itself", "worse.example", None, None, "no URL", None),
        ("kept: no host name", "localhost", None, None, "http://[::1]/", None),
        ("host", "Bad.example", None, None, None, None),
        ("host with the root's dot", "bad.example.", None, None, None, None),
        ("domain", "a.worse.example", None, None, None, None),
        ("domain with the root's dot", "a.worse.example.", None, None, None, None),
        ("domain, deep", "a.b.c.worse.example", None, None, None, None),
        ("hash", None, CAT, None, None, None),
        ("page", None, None, page, None, None),
        ("to the url", "good.example", None, None, "HTTP://A.example:80/1.jpg#top", None),
        ("to the host", "good.example", None, None, "https://user@bad.example:8443/x y", None),
        ("to the domain", "good.example", None, None, "https://a.worse.example/", None),
    )
    assert [name.partition(":")[0] for name in left(rows, tables)] == ["kept"] * 4
    assert len(left(rows.select("_id", "other"), tables)) == rows.count() - 1
    assert refused_hashes(tables, Settings()) == {CAT}


def test_a_memory_is_settled_when_it_is_removed_and_old(tables: Warehouse) -> None:
    remember(tables, ("hash", CAT), at=datetime.now(UTC) - timedelta(hours=2))
    memory = recall(tables)
    assert memory.values["hash"] == {CAT}
    assert (memory.is_removed, memory.is_settled) == (False, False)
    remember(tables, (REMOVED, memory.digest))
    assert (recall(tables).is_removed, recall(tables).is_settled) == (True, True)
    remember(tables, ("url", "x"))
    assert not recall(tables).is_removed
    remember(tables, (REMOVED, recall(tables).digest))
    remember(tables, ("url", "x"), ("hash", CAT), at=datetime.now(UTC))
    assert (recall(tables).is_removed, recall(tables).is_settled) == (True, False)
    assert Memory().is_settled


def test_the_configured_list(tables: Warehouse, tmp_path: Path) -> None:
    path = tmp_path / "refused.txt"
    path.write_text(f"# a list\n\n{CAT.upper()}  # a cat\n{'0' * 64}\n")
    assert refused_hashes(tables, Settings(refused_hashes=str(path))) == {CAT, "0" * 64}
    path.write_text(f"{CAT}\n{CAT[1:]}\n")
    with pytest.raises(CortexError, match=r"line 2: 'bab.*' is not a sha256"):
        refused_hashes(tables, Settings(refused_hashes=str(path)))
    with pytest.raises(CortexError, match="cannot be read"):
        refused_hashes(tables, Settings(refused_hashes=str(tmp_path / "none")))
