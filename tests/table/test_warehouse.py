"""The doors by which rows get into tables, under races."""

from __future__ import annotations

import shutil
import threading
from pathlib import Path

import pytest
from pyspark.errors import AnalysisException
from pyspark.sql import SparkSession

from cortex_spark.errors import CortexError
from cortex_spark.schema import RUNS
from cortex_spark.table import Warehouse
from tests.web import discover


@pytest.fixture
def tables(spark: SparkSession, warehouse: Path) -> Warehouse:
    return Warehouse(spark, str(warehouse))


def test_insert_new_races_for_a_table_that_is_not_there(tables: Warehouse) -> None:
    added: list[int] = []
    errors: list[BaseException] = []

    def insert(first: int) -> None:
        try:
            found = [f"http://h/{number}.jpg" for number in range(first, first + 4)]
            added.append(discover(tables.spark, tables, found))
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=insert, args=(first,)) for first in (0, 2, 4)]  # 0 to 7, some twice
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert sum(added) == 8
    rows = tables.read("image_urls")
    assert rows.count() == rows.select("_id").distinct().count() == 8


def test_a_table_that_another_process_is_making_is_waited_for(tables: Warehouse, tmp_path: Path) -> None:
    elsewhere = Warehouse(tables.spark, str(tmp_path / "elsewhere"))
    elsewhere.delta("runs")
    (commit,) = Path(elsewhere.path("runs"), "_delta_log").glob("*.json")
    log = Path(tables.path("runs"), "_delta_log")
    log.mkdir(parents=True)
    committed = threading.Timer(1.5, shutil.copyfile, (commit, log / commit.name))
    committed.start()
    assert tables.read("runs").count() == 0
    committed.join()


def test_append_once_has_one_effect(tables: Warehouse) -> None:
    rows = tables.spark.createDataFrame([("r", None, "open", "h", 1, 0.0, "m")], RUNS)
    for version in (1, 1, 2, 1):
        tables.append_once(rows, "runs", app_id="a", version=version)
    tables.append_once(rows, "runs", app_id="b", version=1)
    assert tables.read("runs").count() == 3


def test_deletion_vectors_stay_off(tables: Warehouse) -> None:
    properties = tables.delta("samples").detail().select("properties").collect()[0][0]
    assert properties["delta.enableDeletionVectors"] == "false"


def test_what_the_log_says_is_what_spark_says(tables: Warehouse) -> None:
    """Looked up without a Spark job, also after another session has committed."""
    other = Warehouse(tables.spark.newSession(), tables.root)
    rows = tables.spark.createDataFrame([("r", None, "open", "h", 1, 0.0, "m")], RUNS)
    for number in range(3):
        table = tables.delta("runs")
        assert tables.version("runs") == table.history(1).collect()[0]["version"] == number
        assert tables.properties("runs") == table.detail().select("properties").collect()[0][0]
        assert tables.is_empty("runs") == (number == 0)
        other.append_once(rows, "runs", app_id="a", version=number)


def test_a_relative_folder_is_one_of_the_working_directory(
    spark: SparkSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    tables = Warehouse(spark, "warehouse")
    assert tables.read("samples").count() == 0
    assert (tmp_path / "warehouse" / "samples" / "_delta_log").is_dir()


def test_backtick_in_path_is_refused(spark: SparkSession) -> None:
    with pytest.raises(CortexError, match="backtick"):
        Warehouse(spark, "a`b")


def test_what_reads_a_file_that_goes_meanwhile_is_tried_again(tables: Warehouse, tmp_path: Path) -> None:
    tables.spark.range(1).write.parquet(str(tmp_path / "there"))
    left = ["nowhere", "there"]
    read = tables.retried(lambda: tables.spark.read.parquet(str(tmp_path / left.pop(0))).count())
    assert (read, left) == (1, [])
    with pytest.raises(AnalysisException, match="PATH_NOT_FOUND"):
        tables.retried(lambda: tables.spark.read.parquet(str(tmp_path / "nowhere")).count())
